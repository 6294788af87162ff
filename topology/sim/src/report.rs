//! Shows an [`Outcome`]: as one HTML file for readers, as one line of JSON for machines.
//!
//! The page stands alone. It asks the network for nothing, and everything essential is in it
//! without JavaScript. Every text that comes from the outcome passes through [`text::Escaped`];
//! nothing here decides whether a run was good.

mod axis;
mod basemap;
mod charts;
mod clients;
mod faults;
mod incidents;
mod labels;
mod lanes;
mod map;
mod page;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod totals;
mod verdict;

use crate::outcome::Outcome;

/// The report as one self-contained HTML file.
#[must_use]
pub fn html(outcome: &Outcome) -> String {
    page::html(outcome)
}

/// The outcome as one JSON object on one line, without a line break at its end. Numbers that are
/// not finite are `null`.
#[must_use]
pub fn json(outcome: &Outcome) -> String {
    serde_json::to_string(outcome).expect("plain structs with field names as keys always serialise")
}
