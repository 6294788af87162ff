//! The timeline, folded: readers open it when the figures are not enough.

use super::text::{Escaped, grouped, moment};
use crate::outcome::{Entry, Outcome};

/// Browsers take thousands of rows, readers do not. The end is kept, as the run's own bound does.
const ENTRIES_SHOWN_MAX: usize = 1_000;

/// The last entries.
pub(super) fn section(outcome: &Outcome) -> String {
    let left_out = outcome.timeline.len().saturating_sub(ENTRIES_SHOWN_MAX);
    let shown = &outcome.timeline[left_out..];
    if shown.is_empty() {
        return "<p class=\"quiet\">The timeline is empty.</p>".to_owned();
    }
    let note = match left_out {
        0 => String::new(),
        _ => format!(
            "<p class=\"quiet\">The last {} of {} entries; the JSON has all.</p>",
            grouped(shown.len() as u64),
            grouped(outcome.timeline.len() as u64)
        ),
    };
    format!(
        "<details class=\"timeline\"><summary>{}</summary>{note}{}</details>",
        entries_between(&outcome.timeline),
        table(shown)
    )
}

/// Entries as rows.
pub(super) fn table(entries: &[Entry]) -> String {
    let rows: String = entries.iter().map(row).collect();
    format!(
        "<div class=\"wide\"><table class=\"entries\"><thead><tr><th scope=\"col\" class=\"num\">At</th>\
         <th scope=\"col\">Who</th><th scope=\"col\">What</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

fn entries_between(entries: &[Entry]) -> String {
    let count = if entries.len() == 1 {
        "1 entry".to_owned()
    } else {
        format!("{} entries", grouped(entries.len() as u64))
    };
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return count };
    format!("{count}, from {} to {}", moment(first.at_ms), moment(last.at_ms))
}

fn row(entry: &Entry) -> String {
    format!(
        "<tr><td class=\"num\">{}</td><td>{}</td><td class=\"words\">{}</td></tr>",
        moment(entry.at_ms),
        Escaped(&entry.who),
        Escaped(&entry.what)
    )
}
