//! World files: TOML in which every mistake is named with its line and the cure, all of them at
//! once.
//!
//! Reading goes in three steps: the TOML itself (`toml`, which knows where everything stands), the
//! fields of each section by the table [`FIELDS`], then the rules that hold between sections.

mod check;
mod fields;
mod read;

use crate::mistakes::{Found, Mistakes};
use crate::world::World;
pub use fields::{FIELDS, Field, reference};

/// See [`World::parse`].
pub(crate) fn parse(text: &str) -> Result<World, Mistakes> {
    let mut found = Found::default();
    let world = read::file(text, &mut found).map(|file| check::world(file, &mut found));
    match world {
        Some(world) if found.is_empty() => Ok(world),
        _ => Err(found.into_mistakes()),
    }
}

#[cfg(test)]
mod tests;
