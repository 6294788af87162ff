//! Mistakes in world and scenario files: each named with its line and the cure, all of them at
//! once.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}; {cure}")]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The problem.
    pub problem: String,
    /// The cure.
    pub cure: String,
}

/// All mistakes in a file, in the order of its lines; never empty. Printed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.0.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Collects mistakes.
#[derive(Debug, Default)]
pub struct Found(Vec<Mistake>);

impl Found {
    pub fn add(&mut self, line: usize, problem: impl Into<String>, cure: impl Into<String>) {
        self.0.push(Mistake { line, problem: problem.into(), cure: cure.into() });
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn into_mistakes(mut self) -> Mistakes {
        self.0.sort_by_key(|mistake| mistake.line);
        Mistakes(self.0)
    }
}

/// A value and the line it stands in.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// From 1.
    pub line: usize,
}

/// The whole file. None when it is not TOML: that is reported, and the rest would only be its echo.
pub fn root<'a>(text: &'a str, found: &mut Found) -> Option<Spanned<DeTable<'a>>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        found.add(
            line,
            format!("not TOML: {}", error.message()),
            "see https://toml.io for the syntax",
        );
    }
    errors.is_empty().then_some(root)
}

/// A finite number, written with or without a fraction.
#[must_use]
pub fn number(value: &DeValue<'_>) -> Option<f64> {
    let number: Option<f64> = match value {
        DeValue::Integer(n) if n.radix() == 10 => n.as_str().parse().ok(),
        DeValue::Float(n) => n.as_str().parse().ok(),
        _ => None,
    };
    number.filter(|n| n.is_finite())
}

/// A list of texts, which stands in this line.
///
/// # Errors
/// The line of a value that is no text, and what it should be.
pub fn names(
    text: &str,
    value: &DeValue<'_>,
    line: usize,
) -> Result<Vec<At<String>>, (usize, &'static str)> {
    let DeValue::Array(values) = value else { return Err((line, "a list of names")) };
    let name = |value: &Spanned<DeValue<'_>>| {
        let line = line_of(text, value.span().start);
        match value.get_ref() {
            DeValue::String(name) => Ok(At { value: name.to_string(), line }),
            _ => Err((line, "a list of names in quotes")),
        }
    };
    values.iter().map(name).collect()
}

/// The cure for an unknown name: the nearest known one, if it is at most two edits away.
pub fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let (edits, near) = known.into_iter().map(|known| (edits(name, known), known)).min()?;
    (edits <= 2 && edits < name.chars().count()).then(|| format!("did you mean \"{near}\"?"))
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
