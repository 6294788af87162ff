//! The first thing on the page: held or broken, how to see it again and, when broken, what and
//! after what.

use super::text::{Escaped, NOTHING, counted, moment, span, span_or};
use super::timeline;
use crate::outcome::{Broken, ClassIncident, Outcome};

const BROKEN_SHOWN_MAX: usize = 10;
/// So many lines before the first broken invariant usually hold its cause.
const ENTRIES_BEFORE: usize = 15;

/// The headline, the figures that everybody asks for, and what broke.
pub(super) fn section(outcome: &Outcome) -> String {
    format!("{}{}{}", headline(outcome), figures(outcome), broken(outcome))
}

/// The command that replays this run. Quoted for a shell when the scenario's name needs it.
pub(super) fn command(outcome: &Outcome) -> String {
    let Outcome { scenario, seed, .. } = outcome;
    if scenario.starts_with("drawn-") {
        return format!("hearth sim replay {seed}");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if !scenario.is_empty() && scenario.chars().all(is_plain) {
        return format!("hearth sim run {scenario} --seed {seed}");
    }
    format!("hearth sim run '{}' --seed {seed}", scenario.replace('\'', r"'\''"))
}

/// `HELD` or `BROKEN`.
pub(super) fn word(outcome: &Outcome) -> &'static str {
    if outcome.held { "HELD" } else { "BROKEN" }
}

fn headline(outcome: &Outcome) -> String {
    let (class, sign, meaning) = if outcome.held {
        ("held", "✓", "All invariants held.".to_owned())
    } else {
        ("broken", "✕", first_broken(outcome))
    };
    let name =
        if outcome.scenario.is_empty() { "a scenario without a name" } else { &outcome.scenario };
    format!(
        "<header class=\"verdict {class}\"><p class=\"word\"><span aria-hidden=\"true\">{sign}</span> {}</p>\
         <div><h1>{}</h1><p class=\"about\">{}</p><p><strong>{}</strong></p></div></header>\
         <dl class=\"facts\">{}{}{}{}</dl>\
         <p class=\"command\"><span>Replay</span><code>{}</code></p>",
        word(outcome),
        Escaped(name),
        Escaped(&outcome.about),
        Escaped(&meaning),
        fact("World", &outcome.world),
        fact("Seed", &outcome.seed.to_string()),
        fact(
            "Virtual time",
            &format!("{} (in {} CPU)", span(outcome.virtual_ms), span(outcome.cpu_ms))
        ),
        fact("Hash", &outcome.hash),
        Escaped(&command(outcome))
    )
}

fn first_broken(outcome: &Outcome) -> String {
    let Some(first) = outcome.broken.first() else { return "No invariant is named.".to_owned() };
    let more = match outcome.broken.len() - 1 {
        0 => String::new(),
        count => format!("; {} below", counted(count as u64, "later finding")),
    };
    format!("First broken: {}, at {}{more}.", first.invariant, moment(first.at_ms))
}

fn fact(name: &str, value: &str) -> String {
    format!(
        "<div><dt>{name}</dt><dd>{}</dd></div>",
        Escaped(if value.is_empty() { NOTHING } else { value })
    )
}

/// Over all incidents the worst, so that one glance is enough when it is good.
fn figures(outcome: &Outcome) -> String {
    let mut tiles = String::new();
    if !outcome.incidents.is_empty() {
        let detection = worst(outcome.incidents.iter().map(|incident| incident.detection_ms));
        let takeover = worst(outcome.incidents.iter().map(|incident| incident.takeover_ms));
        tiles.push_str(&tile("Detected in", &span_or(detection, "never"), ""));
        tiles.push_str(&tile("Taken over in", &span_or(takeover, "never"), ""));
    }
    for durability in durabilities(outcome) {
        let classes = || classes(outcome).filter(|class| class.durability == durability);
        let rto = worst(classes().map(|class| class.rto_ms));
        let rpo = classes().map(|class| class.rpo_ms).max().unwrap_or(0);
        let value = format!("{} / {}", span(rpo), span_or(rto, "never"));
        tiles.push_str(&tile("RPO / RTO", &value, durability));
    }
    let counts = &outcome.counts;
    let wrong = [counts.lost, counts.duplicated, counts.reordered, counts.gaps];
    tiles.push_str(&tile(
        "Lost, doubled, reordered, gaps",
        &wrong.map(|count| count.to_string()).join(" · "),
        "",
    ));
    format!("<ul class=\"tiles\" aria-label=\"The worst of all incidents\">{tiles}</ul>")
}

fn tile(name: &str, value: &str, note: &str) -> String {
    let note = if note.is_empty() { String::new() } else { format!(" <em>{}</em>", Escaped(note)) };
    format!("<li><span>{name}{note}</span><b>{}</b></li>", Escaped(value))
}

/// The longest; none as soon as one never ended.
fn worst(mut spans: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    spans.try_fold(0, |longest, span| Some(longest.max(span?)))
}

fn classes(outcome: &Outcome) -> impl Iterator<Item = &ClassIncident> {
    outcome.incidents.iter().flat_map(|incident| &incident.classes)
}

/// In the order of their first appearance.
fn durabilities(outcome: &Outcome) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for class in classes(outcome) {
        if !found.contains(&class.durability.as_str()) {
            found.push(&class.durability);
        }
    }
    found
}

fn broken(outcome: &Outcome) -> String {
    let Some(first) = outcome.broken.first() else { return String::new() };
    let rows: String = outcome.broken.iter().take(BROKEN_SHOWN_MAX).map(broken_row).collect();
    let left_out = outcome.broken.len().saturating_sub(BROKEN_SHOWN_MAX) as u64;
    let more = match left_out {
        0 => String::new(),
        _ => format!(
            "<p class=\"quiet\">{} not shown; the JSON has all.</p>",
            counted(left_out, "later finding")
        ),
    };
    format!(
        "<section aria-labelledby=\"broken\"><h2 id=\"broken\">What broke</h2><div class=\"wide\"><table>\
         <thead><tr><th scope=\"col\">Invariant</th><th scope=\"col\" class=\"num\">Noticed at</th>\
         <th scope=\"col\">Found</th></tr></thead><tbody>{rows}</tbody></table></div>{more}{}</section>",
        before(outcome, first)
    )
}

fn broken_row(broken: &Broken) -> String {
    format!(
        "<tr><th scope=\"row\"><code>{}</code></th><td class=\"num\">{}</td><td class=\"words\">{}</td></tr>",
        Escaped(&broken.invariant),
        moment(broken.at_ms),
        Escaped(&broken.what)
    )
}

fn before(outcome: &Outcome, first: &Broken) -> String {
    let end = outcome
        .timeline
        .iter()
        .rposition(|entry| entry.at_ms <= first.at_ms)
        .map_or(0, |last| last + 1);
    let entries = &outcome.timeline[end.saturating_sub(ENTRIES_BEFORE)..end];
    let heading = format!("<h3>Just before <code>{}</code></h3>", Escaped(&first.invariant));
    if entries.is_empty() {
        return format!(
            "{heading}<p class=\"quiet\">{NOTHING} the timeline has nothing from before that moment.</p>"
        );
    }
    format!("{heading}{}", timeline::table(entries))
}
