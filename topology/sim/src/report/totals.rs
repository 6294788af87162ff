//! Everything that was counted.

use super::text::grouped;
use crate::outcome::Outcome;

/// Totals, and the counts that must be 0.
pub(super) fn section(outcome: &Outcome) -> String {
    let counts = &outcome.counts;
    let traffic = [
        ("Messages sent", counts.sent),
        ("Acknowledged", counts.acked),
        ("Sent again after their ack", counts.resent),
        ("Member changes", counts.edits),
        ("Pages of history read", counts.reads),
        ("Messages shown", counts.delivered),
        ("Sessions that broke", counts.reconnects),
        ("Takeovers", counts.takeovers),
        ("Recovered from a lost region", counts.recovered),
        ("Packets", counts.packets),
    ];
    let wrongs = [
        ("Lost: acknowledged, not shown", counts.lost),
        ("Duplicated: stored or shown twice", counts.duplicated),
        ("Differing in order or content", counts.reordered),
        ("Gaps: seqs not shown", counts.gaps),
    ];
    let fine: String = traffic.iter().map(|(name, count)| row(name, *count, "")).collect();
    let wrong: String =
        wrongs.iter().map(|(name, count)| row(name, *count, class(*count))).collect();
    format!(
        "<div class=\"pair\"><table><caption>Traffic</caption><tbody>{fine}</tbody></table>\
         <table><caption>Must be 0</caption><tbody>{wrong}</tbody></table></div>"
    )
}

fn class(count: u64) -> &'static str {
    if count > 0 { " warn" } else { "" }
}

fn row(name: &str, count: u64, class: &str) -> String {
    format!(
        "<tr><th scope=\"row\">{name}</th><td class=\"num{class}\">{}</td></tr>",
        grouped(count)
    )
}
