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
    note(format_args!("hearth: {}", one_line(error)));
}

/// The causes that say something new, outermost first.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many errors already quote their cause.
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text += ": ";
        }
        text += &cause;
    }
    text.replace(['\n', '\r'], " ")
}

fn tolerate(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_everything_once() {
        let cause = io::Error::other("disk\non fire");
        let quoting = Err::<(), _>(cause)
            .context("a file: disk\non fire")
            .context("cannot start")
            .unwrap_err();
        assert_eq!(one_line(&quoting), "cannot start: a file: disk on fire");
    }
}
