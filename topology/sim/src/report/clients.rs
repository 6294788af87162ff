//! The waits of each region's clients before, during and after the faults.

use super::text::{Escaped, counted, grouped, place, span, span_f64};
use crate::outcome::{Latency, Outcome, RegionClients};

/// Width of the longest bar.
const BAR_WIDTH: f64 = 150.0;
/// Bars begin here: nobody notices less.
const BAR_FROM_MS: f64 = 1.0;

/// A table with a row for each region and phase.
pub(super) fn section(outcome: &Outcome) -> String {
    if outcome.clients.is_empty() {
        return "<p class=\"quiet\">This run had no clients.</p>".to_owned();
    }
    let all = outcome.clients.iter().flat_map(|clients| &clients.latency);
    let longest = all.map(|wait| wait.p99_ms).filter(|ms| ms.is_finite()).fold(10.0, f64::max);
    let bodies: String = outcome.clients.iter().map(|clients| body(clients, longest)).collect();
    format!(
        "<div class=\"wide\"><table class=\"clients\"><thead><tr><th scope=\"col\">Clients in</th><th scope=\"col\">Faults</th>\
         <th scope=\"col\" class=\"num\">Sends</th><th scope=\"col\" class=\"num\">Median</th>\
         <th scope=\"col\" class=\"num\">99 %</th><th scope=\"col\"><span class=\"unseen\">As bars</span></th>\
         <th scope=\"col\" class=\"num\">Longest</th></tr></thead>{bodies}</table></div>\
         <p class=\"quiet\">From send to ack, for messages sent before the first fault, while faults lasted, and after the \
         last. The dark part of a bar is the median, the light part ends at the 99th percentile; log scale from 1 ms to {}.</p>",
        span_f64(longest)
    )
}

fn body(clients: &RegionClients, longest: f64) -> String {
    let rows = clients.latency.len().max(1);
    let mut out = format!(
        "<tbody><tr><th scope=\"rowgroup\" rowspan=\"{rows}\">{} <span class=\"quiet\">longest pause {}<br>{}</span></th>",
        Escaped(&clients.region),
        span(clients.longest_pause_ms),
        counted(clients.reconnects, "reconnect")
    );
    if clients.latency.is_empty() {
        out.push_str("<td colspan=\"6\" class=\"quiet\">nothing was measured</td>");
    }
    for (index, wait) in clients.latency.iter().enumerate() {
        if index > 0 {
            out.push_str("</tr><tr>");
        }
        out.push_str(&cells(wait, longest));
    }
    out.push_str("</tr></tbody>");
    out
}

fn cells(wait: &Latency, longest: f64) -> String {
    let phase = Escaped(&wait.phase);
    if wait.count == 0 {
        return format!(
            "<th scope=\"row\">{phase}</th><td class=\"num\">0</td><td colspan=\"4\" class=\"quiet\">nothing was sent</td>"
        );
    }
    format!(
        "<th scope=\"row\">{phase}</th><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
         <td>{}</td><td class=\"num\">{}</td>",
        grouped(wait.count),
        span_f64(wait.p50_ms),
        span_f64(wait.p99_ms),
        bar(wait, longest),
        span_f64(wait.max_ms)
    )
}

/// Only repeats the figures beside it, so it is hidden from screen readers.
fn bar(wait: &Latency, longest: f64) -> String {
    let width = |ms: f64| {
        let share = (ms.max(BAR_FROM_MS) / BAR_FROM_MS).log10() / (longest / BAR_FROM_MS).log10();
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        place((share * BAR_WIDTH).max(1.0))
    };
    format!(
        "<svg class=\"bars\" viewBox=\"0 0 150 12\" width=\"150\" height=\"12\" aria-hidden=\"true\">\
         <rect class=\"p99\" y=\"1\" width=\"{}\" height=\"10\"/><rect class=\"p50\" y=\"1\" width=\"{}\" height=\"10\"/></svg>",
        width(wait.p99_ms),
        width(wait.p50_ms)
    )
}
