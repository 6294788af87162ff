//! IRC logs: `[HH:MM] <nick> text`, and what stands between.

use std::path::Path;

use wire::{UserId, limits};

/// One file.
#[derive(Debug)]
pub(super) struct Log {
    /// As it was named on the command line.
    pub(super) file: String,
    /// Its messages, in order; at least one.
    pub(super) lines: Vec<Line>,
    /// What is no message.
    pub(super) skipped: Skipped,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Line in the file, from 1.
    pub(super) number: usize,
    /// Minutes since midnight before the first message; grows past midnight.
    pub(super) minute: u64,
    /// Who.
    pub(super) author: UserId,
    /// What, byte for byte.
    pub(super) text: String,
}

/// Lines that were not sent, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Skipped {
    /// `=== nick has joined`.
    pub(super) events: u64,
    /// ` * nick waves`.
    pub(super) actions: u64,
    /// A nick and no text.
    pub(super) empty: u64,
    /// Anything else.
    pub(super) invalid: u64,
}

impl std::ops::AddAssign for Skipped {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.actions += other.actions;
        self.empty += other.empty;
        self.invalid += other.invalid;
    }
}

const DAY: u64 = 24 * 60;

enum Parsed<'a> {
    Message { minute: u64, author: UserId, text: &'a str },
    Event,
    Action,
    Empty,
    Invalid,
}

impl Log {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is missing, unreadable, not UTF-8, or holds no message.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = crate::text::read(file)?;
        let log = Self::parse(file.display().to_string(), &text);
        if log.lines.is_empty() {
            anyhow::bail!(
                "{}: no message in it; lines like `[12:30] <nick> text` are wanted",
                log.file
            );
        }
        Ok(log)
    }

    fn parse(file: String, text: &str) -> Self {
        let mut log = Self { file, lines: Vec::new(), skipped: Skipped::default() };
        let (mut midnight, mut last) = (0, 0);
        for (line, number) in text.lines().zip(1..) {
            match parse(line) {
                Parsed::Message { minute, author, text } => {
                    // Far back is past midnight; a little back is a clock that was set.
                    if midnight + minute + DAY / 2 < last {
                        midnight += DAY;
                    }
                    last = last.max(midnight + minute);
                    log.lines.push(Line { number, minute: last, author, text: text.to_owned() });
                }
                Parsed::Event => log.skipped.events += 1,
                Parsed::Action => log.skipped.actions += 1,
                Parsed::Empty => log.skipped.empty += 1,
                Parsed::Invalid if line.trim().is_empty() => {}
                Parsed::Invalid => log.skipped.invalid += 1,
            }
        }
        log
    }
}

fn parse(line: &str) -> Parsed<'_> {
    if line.starts_with("===") {
        return Parsed::Event;
    }
    let Some((minute, rest)) = clock(line) else { return Parsed::Invalid };
    if rest.trim_start().starts_with("* ") {
        return Parsed::Action;
    }
    let Some((nick, text)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
        return Parsed::Invalid;
    };
    let Ok(author) = UserId::new(nick) else { return Parsed::Invalid };
    match text.strip_prefix(' ') {
        None if text.is_empty() => Parsed::Empty,
        Some("") => Parsed::Empty,
        Some(text) if text.len() <= limits::BODY_BYTES => Parsed::Message { minute, author, text },
        _ => Parsed::Invalid,
    }
}

/// `[HH:MM] ` and what follows.
fn clock(line: &str) -> Option<(u64, &str)> {
    let (clock, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (hour, minute) = clock.split_once(':')?;
    let number =
        |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten().map(u64::from);
    let (hour, minute) = (number(hour)?, number(minute)?);
    (hour < 24 && minute < 60).then_some((hour * 60 + minute, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_and_every_line_is_accounted_for(text in "(\\[[0-9]{2}:[0-9]{2}\\] <?[a-z|]{0,3}>? .{0,5}\n|.{0,9}\n|=== x\n){0,20}") {
            let log = Log::parse("x".into(), &text);
            let Skipped { events, actions, empty, invalid } = log.skipped;
            let blank = text.lines().filter(|line| line.trim().is_empty()).count() as u64;
            let known = log.lines.len() as u64 + events + actions + empty + invalid;
            prop_assert_eq!(known + blank, text.lines().count() as u64);
            prop_assert!(log.lines.windows(2).all(|pair| pair[0].minute <= pair[1].minute));
        }
    }

    fn lines(text: &str) -> Vec<(String, String, u64)> {
        let log = Log::parse("x".into(), text);
        log.lines
            .into_iter()
            .map(|line| (line.author.to_string(), line.text, line.minute))
            .collect()
    }

    #[test]
    fn messages_are_taken_byte_for_byte() {
        let text = "[12:18] <|trey|> usual, quite stable though  :)\n[12:24] <a^b`c>  /dev/hdb1  <x> \n[12:24] <ü> ☃\n";
        let message = |who: &str, what: &str, minute| (who.to_owned(), what.to_owned(), minute);
        assert_eq!(
            lines(text),
            [
                message("|trey|", "usual, quite stable though  :)", 738),
                message("a^b`c", " /dev/hdb1  <x> ", 744),
                message("ü", "☃", 744)
            ]
        );
    }

    #[test]
    fn what_is_no_message_is_counted() {
        let long = "x".repeat(limits::BODY_BYTES + 1);
        let text = format!(
            "=== nick [host] has joined #ubuntu\n[10:00]  * nick waves\n[12:15] <opteron>\n[12:15] <delta> \n\
             [24:00] <a> b\n[1:00] <a> b\nhello\n[10:00] <> x\n[10:00] <a>x\n[10:00] <a> {long}\n[10:00] <a\n\n[09:59] <a> b\n"
        );
        let log = Log::parse("x".into(), &text);
        assert_eq!(log.skipped, Skipped { events: 1, actions: 1, empty: 2, invalid: 7 });
        assert_eq!((log.lines.len(), log.lines[0].number), (1, 13));
    }

    #[test]
    fn time_goes_on_past_midnight_and_never_back() {
        let minutes: Vec<_> =
            lines("[23:58] <a> x\n[23:57] <a> x\n[00:01] <a> x\n[00:00] <a> x\n[12:30] <a> x\n[00:10] <a> x")
                .into_iter()
                .map(|(_, _, minute)| minute)
                .collect();
        assert_eq!(minutes, [1438, 1438, 1441, 1441, 2190, 2890]);
    }

    #[test]
    fn a_file_without_a_message_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("empty.txt");
        std::fs::write(&file, "").unwrap();
        assert!(Log::read(&file).unwrap_err().to_string().contains("no message in it"));
    }

    #[test]
    fn real_logs_are_read_whole() {
        let folder = std::env::var_os("HEARTH_IRC_LOGS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ubuntu-irc"),
            std::path::PathBuf::from,
        );
        let Ok(entries) = std::fs::read_dir(&folder) else {
            eprintln!("skipped: no logs in {}; set HEARTH_IRC_LOGS", folder.display());
            return;
        };
        let mut files = 0;
        for entry in entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".raw.txt"))
        {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let log = Log::read(&entry.path()).unwrap();
            let Skipped { events, actions, empty, invalid } = log.skipped;
            assert_eq!(invalid, 0, "{}", log.file);
            assert_eq!(
                log.lines.len() as u64 + events + actions + empty,
                text.lines().count() as u64
            );
            files += 1;
        }
        assert_ne!(files, 0, "no logs in {}", folder.display());
    }
}
