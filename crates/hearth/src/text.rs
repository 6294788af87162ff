//! Text that others wrote: files on its way in, messages on their way to a terminal.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Largest file that is read whole, bytes.
const FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Reads a text file.
///
/// # Errors
/// When it is missing, cannot be read, is too large or is not UTF-8 (with the line). In one line,
/// with the file's name.
pub(crate) fn read(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let failed = |error: io::Error| anyhow::anyhow!("{name}: {error}");
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(failed)?;
    opened.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES {
        anyhow::bail!("{name}: larger than {} MiB", FILE_BYTES >> 20);
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        anyhow::anyhow!("{name}: line {line} is not UTF-8")
    })
}

/// What may be shown on a terminal: whatever others wrote, it moves no cursor and sets no colour.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' => ' ',
            c if wire::ids::is_unprintable(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_told_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        std::fs::write(&file, b"good\nbad \xff\n").unwrap();
        assert!(read(&file).unwrap_err().to_string().ends_with("log: line 2 is not UTF-8"));
        assert!(
            read(&dir.path().join("none")).unwrap_err().to_string().contains("none: No such file")
        );
        assert!(read(dir.path()).is_err(), "a folder");
    }

    #[test]
    fn a_message_cannot_take_over_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\u{202e}c\td"), "a\u{fffd}[2Jb\u{fffd}c d");
        assert_eq!(harmless("héllo ☃ 你好"), "héllo ☃ 你好");
    }
}
