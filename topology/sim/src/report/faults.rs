//! The faults as a table: for those who cannot see the bars, and for copying.

use super::lanes;
use super::text::{Escaped, counted, exact, moment};
use crate::outcome::{FaultSpan, Outcome};

/// A run draws tens of faults, a bad file may plan any number.
const FAULTS_SHOWN_MAX: usize = 2_000;

/// All of them in the order of the run, folded away; nothing when there were none.
pub(super) fn table(outcome: &Outcome) -> String {
    if outcome.faults.is_empty() {
        return String::new();
    }
    let rows: String =
        outcome.faults.iter().take(FAULTS_SHOWN_MAX).map(|fault| row(outcome, fault)).collect();
    format!(
        "<details><summary>{} as a table</summary><div class=\"wide\"><table class=\"entries\"><thead><tr>\
         <th scope=\"col\" class=\"num\">From</th><th scope=\"col\" class=\"num\">To</th>\
         <th scope=\"col\" class=\"num\">For</th><th scope=\"col\" class=\"side\">Where</th><th scope=\"col\">What</th>\
         </tr></thead><tbody>{rows}</tbody></table></div></details>",
        counted(outcome.faults.len() as u64, "fault")
    )
}

fn row(outcome: &Outcome, fault: &FaultSpan) -> String {
    format!(
        "<tr><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"side\">{}</td>\
         <td class=\"words\">{}</td></tr>",
        moment(fault.from_ms),
        moment(fault.to_ms),
        exact(fault.to_ms.saturating_sub(fault.from_ms)),
        Escaped(&lanes::place_names(outcome, fault)),
        Escaped(&fault.what)
    )
}
