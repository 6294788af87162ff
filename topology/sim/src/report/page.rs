//! The page: its parts in the order in which they are asked for after a rehearsal.

use super::text::Escaped;
use super::{charts, clients, incidents, map, timeline, totals, verdict};
use crate::outcome::Outcome;

const STYLE: &str = include_str!("style.css");
/// Niceties; without it nothing is missing.
const SCRIPT: &str = include_str!("script.js");
/// Nothing may be loaded, whatever slips into the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The whole file.
pub(super) fn html(outcome: &Outcome) -> String {
    let parts = [
        part("incidents", "Effect of the loss", &incidents::section(outcome)),
        part("time", "Timeline of the run", &charts::section(outcome)),
        part("world", "Where", &map::section(outcome)),
        part("clients", "How long clients waited", &clients::section(outcome)),
        part("totals", "Totals", &totals::section(outcome)),
        part("timeline", "Timeline", &timeline::section(outcome)),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{} · {} · Hearth</title>\n<style>\n{STYLE}</style></head>\n\
         <body><main>\n{}\n{}</main>\n{}\n<script>\n{SCRIPT}</script></body>\n</html>\n",
        verdict::word(outcome),
        Escaped(&outcome.scenario),
        verdict::section(outcome),
        parts.concat(),
        footer()
    )
}

fn part(id: &str, heading: &str, content: &str) -> String {
    format!("<section aria-labelledby=\"{id}\"><h2 id=\"{id}\">{heading}</h2>{content}</section>\n")
}

fn footer() -> &'static str {
    "<footer>Rehearsed by Hearth’s simulator with the production code, on virtual time. The same scenario, seed and build \
     give the same hash. Figures that are not known are shown as –.</footer>"
}
