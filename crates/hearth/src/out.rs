//! Lines on stdout and stderr. A reader that went away (`hearth … | head`) is not an error.

use std::io::{self, Write as _};

use serde::Serialize;

/// One line for people on stdout.
///
/// # Errors
/// When stdout cannot be written, other than because its reader left.
pub(crate) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    tolerate(writeln!(io::stdout().lock(), "{text}"))
}

/// One JSON object, alone on its line, on stdout.
///
/// # Errors
/// As [`line`].
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    line(serde_json::to_string(value)?)
}

/// One line for people on stderr, beside what stdout says.
pub(crate) fn note(text: impl std::fmt::Display) {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// An error with its causes as one line on stderr.
pub(crate) fn complain(error: &anyhow::Error) {
    let text = format!("{error:#}").replace(['\n', '\r'], " ");
    note(format_args!("hearth: {text}"));
}

fn tolerate(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
