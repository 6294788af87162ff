//! World files: TOML in which every mistake is named with its line and the cure, all of them at once.
//!
//! Reading goes in three steps: the TOML itself (`toml`, which knows where everything stands), the fields of each
//! section by the table [`FIELDS`], then the rules that hold between sections.

mod check;
mod fields;
mod read;

use crate::world::World;
pub use fields::{FIELDS, Field, reference};

/// One thing that is wrong with a world file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}; {cure}")]
pub struct WorldError {
    /// Where, from 1.
    pub line: usize,
    /// What.
    pub problem: String,
    /// What to do about it.
    pub cure: String,
}

/// Everything that is wrong with a world file, in the order of its lines; never empty. Printed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldErrors(pub Vec<WorldError>);

impl std::fmt::Display for WorldErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for WorldErrors {}

/// Where errors are collected.
#[derive(Default)]
struct Found(Vec<WorldError>);

impl Found {
    fn add(&mut self, line: usize, problem: impl Into<String>, cure: impl Into<String>) {
        self.0.push(WorldError { line, problem: problem.into(), cure: cure.into() });
    }

    fn into_result<T>(mut self, value: T) -> Result<T, WorldErrors> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort_by_key(|error| error.line);
        Err(WorldErrors(self.0))
    }
}

/// See [`World::parse`].
pub(crate) fn parse(text: &str) -> Result<World, WorldErrors> {
    let mut found = Found::default();
    let Some(file) = read::file(text, &mut found) else { return Err(WorldErrors(found.0)) };
    let world = check::world(file, &mut found);
    found.into_result(world)
}

/// The nearest of some names to a mistyped one, if any is near: at most two edits away.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.into_iter().map(|known| (edits(name, known), known)).min()?;
    (near.0 <= 2 && near.0 < name.chars().count()).then_some(near.1)
}

/// The line, from 1, in which a byte of a text stands.
#[must_use]
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
