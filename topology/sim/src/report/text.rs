//! Words and numbers on the page.

use std::fmt::{self, Display, Formatter, Write as _};

/// Stands for a value that does not exist; each place where it may occur says why.
pub(super) const NOTHING: &str = "–";

/// Text from data, as it may stand in HTML content and in double-quoted attributes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                '\n' | '\t' => out.write_char(' ')?,
                // Controls are not allowed in HTML; direction marks could make a line read as
                // something else.
                c if c.is_control() || is_direction_mark(c) => out.write_char('\u{fffd}')?,
                c => out.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn is_direction_mark(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first `chars_max` characters, with an ellipsis when some were left out. Not escaped.
pub(super) fn shortened(words: &str, chars_max: usize) -> String {
    if words.chars().count() <= chars_max {
        return words.to_owned();
    }
    let mut short: String = words.chars().take(chars_max.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

/// A length of time, to about three digits: `850 ms`, `3.25 s`, `12 min 5 s`.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{} s", trimmed(ms as f64 / 1_000.0, 2)),
        10_000..120_000 => format!("{} s", trimmed(ms as f64 / 1_000.0, 1)),
        120_000..7_200_000 => pair(ms / 60_000, "min", ms % 60_000 / 1_000, "s"),
        _ => pair(ms / 3_600_000, "h", ms % 3_600_000 / 60_000, "min"),
    }
}

/// The same for a measured figure; [`NOTHING`] when it is no number.
pub(super) fn span_f64(ms: f64) -> String {
    match ms {
        ms if !ms.is_finite() => NOTHING.to_owned(),
        ms if ms.abs() < 100.0 => format!("{} ms", trimmed(ms, 1)),
        // The cast saturates, and a wait is never negative.
        ms => span(ms.round() as u64),
    }
}

/// A length of time to the millisecond, for figures that are held against a promise: `850 ms`,
/// `3.421 s`.
pub(super) fn exact(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { moment(ms) }
}

/// A length of time that may never have ended.
pub(super) fn span_or(ms: Option<u64>, otherwise: &str) -> String {
    ms.map_or_else(|| otherwise.to_owned(), span)
}

/// A moment of the run, in seconds with three decimals, so that moments line up and compare: `5.000
/// s`.
pub(super) fn moment(ms: u64) -> String {
    format!("{}.{:03} s", grouped(ms / 1_000), ms % 1_000)
}

/// A count with thin spaces between groups of three digits.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `1 message`, `12 messages`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

/// A coordinate of a drawing; what is not finite becomes 0, so that no drawing can break.
pub(super) fn place(value: f64) -> String {
    if value.is_finite() { trimmed(value, 1) } else { "0".to_owned() }
}

fn trimmed(value: f64, decimals: usize) -> String {
    let written = format!("{value:.decimals$}");
    if !written.contains('.') {
        return written;
    }
    let short = written.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        return format!("{} {large_unit}", grouped(large));
    }
    format!("{} {large_unit} {small} {small_unit}", grouped(large))
}
