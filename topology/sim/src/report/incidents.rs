//! The effect of each region loss, in the figures of a recovery plan, with their definitions.

use super::text::{Escaped, NOTHING, counted, exact, grouped, moment};
use crate::outcome::{ClassIncident, Incident, Outcome};

/// Heads of the columns: what stands there, and whether it is a figure.
const COLUMNS: [(&str, bool); 9] = [
    ("Region", false),
    ("Detection", true),
    ("Takeover", true),
    ("Durability", false),
    ("Longest pause", true),
    ("Backlog", true),
    ("At risk", true),
    ("RPO found", true),
    ("RTO found", true),
];

const INCIDENTS_IN_WORDS_MAX: usize = 3;

/// In plain words, in the order of the columns.
const TERMS: [(&str, &str); 7] = [
    (
        "Detection",
        "from the loss until every living core of the other regions knew. “never”: some never did.",
    ),
    (
        "Takeover",
        "from detection until all multi-region shards of the region were served elsewhere. “never”: they were not.",
    ),
    (
        "Durability",
        "what an ack promised. multi-region: the message already stood on a replica in another region; region: it stood in \
         its home region alone.",
    ),
    (
        "Longest pause",
        "a client's longest wait for an ack during the incident. “–”: nobody sent anything.",
    ),
    (
        "Backlog",
        "the most messages that waited for their ack at one moment; clients keep and resend them.",
    ),
    (
        "At risk, RPO",
        "acknowledged messages that stood on no replica outside the region when it was lost, and the age of the oldest of \
         them: what would be gone if the region never came back. They return with the region. 0 ms: nothing was at risk.",
    ),
    (
        "RTO",
        "from the loss until the first message that was sent after it was acknowledged. “never”: none was.",
    ),
];

/// The table and its legend.
pub(super) fn section(outcome: &Outcome) -> String {
    if outcome.incidents.is_empty() {
        return "<p class=\"quiet\">No region was lost, drained or cut off in this run.</p>"
            .to_owned();
    }
    let heads: String = COLUMNS
        .iter()
        .map(|(name, is_figure)| {
            format!(
                "<th scope=\"col\" class=\"{}\">{name}</th>",
                if *is_figure { "num" } else { "side" }
            )
        })
        .collect();
    let bodies: String = outcome.incidents.iter().map(body).collect();
    let terms: String = TERMS
        .iter()
        .map(|(term, words)| format!("<div><dt>{term}</dt><dd>{words}</dd></div>"))
        .collect();
    format!(
        "{}<div class=\"wide\"><table class=\"incidents\"><thead><tr>{heads}</tr></thead>{bodies}</table></div>\
         <dl class=\"terms\">{terms}</dl>",
        in_words(outcome)
    )
}

/// A sentence for each incident, unless there are too many.
fn in_words(outcome: &Outcome) -> String {
    if outcome.incidents.len() > INCIDENTS_IN_WORDS_MAX {
        return String::new();
    }
    outcome
        .incidents
        .iter()
        .map(|incident| format!("<p class=\"spoken\">{}</p>", Escaped(&spoken(incident))))
        .collect()
}

fn spoken(incident: &Incident) -> String {
    let Incident { region, kind, from_ms, .. } = incident;
    let back = match incident.to_ms {
        Some(to_ms) => format!("was back {} later", exact(to_ms.saturating_sub(*from_ms))),
        None => "did not return".to_owned(),
    };
    let known = match incident.detection_ms {
        Some(ms) => format!("The other regions all knew after {}", exact(ms)),
        None => "Some core of the other regions never knew".to_owned(),
    };
    let served = match incident.takeover_ms {
        Some(ms) => {
            format!("its multi-region shards were all served elsewhere {} after that", exact(ms))
        }
        None => "not all of its multi-region shards were ever served elsewhere".to_owned(),
    };
    let classes: String = incident.classes.iter().map(spoken_class).collect();
    format!("{region} was {kind} at {} and {back}. {known}; {served}.{classes}", moment(*from_ms))
}

fn spoken_class(class: &ClassIncident) -> String {
    let again = match class.rto_ms {
        Some(ms) => format!("new messages were acknowledged again after {}", exact(ms)),
        None => "no message sent after it was ever acknowledged".to_owned(),
    };
    let risk = match class.at_risk {
        0 => "no acknowledged message was at risk".to_owned(),
        count => format!(
            "at risk: {}, up to {} old",
            counted(count, "acknowledged message"),
            exact(class.rpo_ms)
        ),
    };
    format!(" Durability {}: {again}; {risk}.", class.durability)
}

/// One row for each class; what belongs to the whole incident spans them.
fn body(incident: &Incident) -> String {
    let rows = incident.classes.len().max(1);
    let mut out = format!(
        "<tbody><tr><th scope=\"rowgroup\" rowspan=\"{rows}\">{} <span class=\"quiet\">{}<br>{}</span></th>\
         <td class=\"num\" rowspan=\"{rows}\">{}</td><td class=\"num\" rowspan=\"{rows}\">{}</td>",
        Escaped(&incident.region),
        Escaped(&incident.kind),
        lasted(incident),
        never(incident.detection_ms),
        never(incident.takeover_ms)
    );
    if incident.classes.is_empty() {
        out.push_str(
            "<td colspan=\"6\" class=\"side quiet\">no conversation had its home there</td>",
        );
    }
    for (index, class) in incident.classes.iter().enumerate() {
        if index > 0 {
            out.push_str("</tr><tr>");
        }
        out.push_str(&class_cells(class));
    }
    out.push_str("</tr></tbody>");
    out
}

fn lasted(incident: &Incident) -> String {
    let from = moment(incident.from_ms);
    match incident.to_ms {
        Some(to_ms) => format!("at {from} for {}", exact(to_ms.saturating_sub(incident.from_ms))),
        None => format!("at {from}, did not return"),
    }
}

fn class_cells(class: &ClassIncident) -> String {
    let risk = if class.at_risk > 0 { " warn" } else { "" };
    format!(
        "<th scope=\"row\" class=\"side\">{}</th><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num{risk}\">{}</td>\
         <td class=\"num{risk}\">{}</td><td class=\"num\">{}</td>",
        Escaped(&class.durability),
        class.pause_ms.map_or_else(|| NOTHING.to_owned(), exact),
        grouped(class.backlog),
        counted(class.at_risk, "message"),
        exact(class.rpo_ms),
        never(class.rto_ms)
    )
}

fn never(ms: Option<u64>) -> String {
    ms.map_or_else(|| "<strong class=\"never\">never</strong>".to_owned(), exact)
}
