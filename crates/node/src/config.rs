//! Config files: TOML whose fields are declared once, each with its meaning and its default
//! ([`section!`](crate::section)). The reader, the refusal of what is unknown, and the example file
//! all come from that one declaration, so they cannot disagree.
//!
//! Every mistake of a file is told at once, with its line and the cure.

mod example;
mod reader;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use topology::mistakes::{Found, Mistakes};

pub use example::{Shape, example};
pub use reader::{File, Table};

/// A field of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its key.
    pub key: &'static str,
    /// TOML: the default, or how the value may look.
    pub toml: &'static str,
    /// Whether it may be left out.
    pub presence: Presence,
    /// What it means, a line of text a line.
    pub doc: &'static str,
}

/// Whether a field may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It may not.
    Must,
    /// It may, and then there is none.
    May,
    /// It may, and then its default holds.
    Or,
}

impl Field {
    /// One that must be there.
    #[must_use]
    pub const fn must(key: &'static str, example: &'static str, doc: &'static str) -> Self {
        Self { key, toml: example, presence: Presence::Must, doc }
    }

    /// One that need not be there.
    #[must_use]
    pub const fn may(key: &'static str, example: &'static str, doc: &'static str) -> Self {
        Self { key, toml: example, presence: Presence::May, doc }
    }

    /// One with a default.
    #[must_use]
    pub const fn or(key: &'static str, default: &'static str, doc: &'static str) -> Self {
        Self { key, toml: default, presence: Presence::Or, doc }
    }

    /// What to write instead.
    #[must_use]
    pub fn cure(&self) -> String {
        let meaning: Vec<_> = self.doc.lines().map(str::trim).collect();
        format!(
            "write for example {} = {} ({})",
            self.key,
            self.toml,
            meaning.join(" ").trim_end_matches('.')
        )
    }
}

/// A section of a config file; declared with [`section!`](crate::section).
pub trait Section: Sized {
    /// What it is about, a line of text a line.
    const ABOUT: &'static str;
    /// Its fields, in the order of the example.
    const FIELDS: &'static [Field];

    /// Reads it. None when a field is missing or malformed; that is reported.
    fn read(table: &mut Table<'_, '_>) -> Option<Self>;
}

/// Declares a section: a struct whose fields say what they mean, whether they `must` or `may` be
/// there `or` what their default is, in TOML.
///
/// ```
/// hearth_node::section! {
///     /// What operators ask of a node.
///     pub struct Admin {
///         /// Where it listens (TCP).
///         bind: std::net::SocketAddr = or(r#""127.0.0.1:9400""#),
///         /// Whoever shows what stands in this file may drain the node.
///         token_file: Option<std::path::PathBuf> = may(r#""admin.token""#),
///     }
/// }
/// ```
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $presence:ident($toml:literal), )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        $vis struct $name {
            $( $(#[doc = $doc])+ $vis $field: $type, )+
        }

        impl $crate::config::Section for $name {
            const ABOUT: &'static str = concat!($($about, "\n"),+);
            const FIELDS: &'static [$crate::config::Field] = &[
                $( $crate::config::Field::$presence(stringify!($field), $toml, concat!($($doc, "\n"),+)), )+
            ];

            fn read(table: &mut $crate::config::Table<'_, '_>) -> Option<Self> {
                // All of them first, so that every mistake is found.
                $( let $field = table.$presence::<$type>(stringify!($field)); )+
                Some(Self { $( $field: $field?, )+ })
            }
        }
    };
}

/// Why a file is no config.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// Which file.
    pub file: PathBuf,
    /// What is wrong.
    pub wrong: Wrong,
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum Wrong {
    /// It cannot be read.
    Unreadable(io::Error),
    /// What stands in it.
    Mistakes(Mistakes),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.wrong {
            Wrong::Unreadable(error) => write!(f, "cannot read {file}: {error}"),
            Wrong::Mistakes(mistakes) => {
                let all: Vec<_> = mistakes.0.iter().map(ToString::to_string).collect();
                write!(f, "{file}, {}", all.join("; also "))
            }
        }
    }
}

/// Reads a file: `read` takes the sections that it knows out of it. What it leaves is refused.
///
/// # Errors
/// When the file cannot be read, or anything in it is wrong.
pub fn read<T>(
    path: &Path,
    read: impl FnOnce(&mut File<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let failed = |wrong| ConfigError { file: path.to_owned(), wrong };
    let text = std::fs::read_to_string(path).map_err(|error| failed(Wrong::Unreadable(error)))?;
    parse(&text, read).map_err(|mistakes| failed(Wrong::Mistakes(mistakes)))
}

/// As [`read`], from the text of a file.
///
/// # Errors
/// When anything in it is wrong.
pub fn parse<T>(text: &str, read: impl FnOnce(&mut File<'_>) -> Option<T>) -> Result<T, Mistakes> {
    let mut found = Found::default();
    let config = File::open(text, &mut found).and_then(|mut file| {
        let config = read(&mut file);
        file.refuse_rest();
        config
    });
    match config {
        Some(config) if found.is_empty() => Ok(config),
        _ => Err(found.into_mistakes()),
    }
}

/// A path of a config file, which is relative to that file.
#[must_use]
pub fn beside(config: &Path, path: &Path) -> PathBuf {
    config.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
}

#[cfg(test)]
mod tests;
