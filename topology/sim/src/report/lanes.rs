//! Bars over time: which faults lay on which region or link, and how the others answered.

use std::collections::BTreeSet;

use super::axis::{RIGHT, TimeAxis};
use super::labels;
use super::text::{Escaped, moment, place, shortened, span, span_or};
use crate::outcome::{FaultSpan, Incident, Outcome};

/// Height of one row of bars.
const ROW: f64 = 22.0;
/// Between two lanes.
const LANE_GAP: f64 = 7.0;
const FONT: f64 = 11.5;
/// A moment is drawn this wide, or nobody would see it.
const BAR_WIDTH_MIN: f64 = 3.0;
const NAME_CHARS_MAX: usize = 21;
const LABEL_CHARS_MAX: usize = 52;
/// A random walk may inject hundreds; beyond this the page would be nothing else.
const FAULTS_SHOWN_MAX: usize = 200;

/// With more incidents than this, each gets one bar instead of one for each step of its recovery.
const LANES_IN_FULL_MAX: usize = 4;

/// Bars that belong to one thing.
struct Lane {
    name: String,
    bars: Vec<Bar>,
}

struct Bar {
    class: &'static str,
    label: String,
    from_ms: u64,
    to_ms: u64,
}

/// A bar and its label, where they were put.
struct Placed<'a> {
    bar: &'a Bar,
    row: usize,
    left: f64,
    width: f64,
    label: String,
    label_x: f64,
    anchor: &'static str,
}

/// Draws the lanes below `top`; returns the drawing and where it ends.
pub(super) fn draw(outcome: &Outcome, axis: &TimeAxis, top: f64) -> (String, f64) {
    let mut out = String::new();
    let mut y = heading(&mut out, "Faults", top);
    let faults = fault_lanes(outcome);
    if faults.is_empty() {
        out.push_str(&format!(
            "<text class=\"quiet\" x=\"150\" y=\"{}\">none in this run</text>",
            place(y + 15.0)
        ));
        y += ROW + LANE_GAP;
    }
    for lane in &faults {
        y = draw_lane(&mut out, lane, axis, y);
    }
    if !outcome.incidents.is_empty() {
        y = heading(&mut out, "Recovery", y + 6.0);
    }
    for incident in &outcome.incidents {
        let lane = if outcome.incidents.len() > LANES_IN_FULL_MAX {
            short_recovery
        } else {
            recovery_lane
        };
        y = draw_lane(&mut out, &lane(incident, axis), axis, y);
    }
    (out, y)
}

/// Number of faults that are not drawn.
pub(super) fn faults_left_out(outcome: &Outcome) -> usize {
    outcome.faults.len().saturating_sub(FAULTS_SHOWN_MAX)
}

/// The target of a fault, in words.
pub(super) fn place_names(outcome: &Outcome, fault: &FaultSpan) -> String {
    let names: Vec<String> = places(outcome, fault).into_iter().map(|(_, name)| name).collect();
    names.join(", ")
}

/// The lane of a link.
pub(super) fn link_name(a: &str, b: &str) -> String {
    format!("{a} ↔ {b}")
}

fn heading(out: &mut String, words: &str, top: f64) -> f64 {
    out.push_str(&format!(
        "<text class=\"head\" x=\"0\" y=\"{}\">{words}</text>",
        place(top + 12.0)
    ));
    top + 22.0
}

/// The whole world first, then regions in the world's order, then links.
fn fault_lanes(outcome: &Outcome) -> Vec<Lane> {
    let mut shown: Vec<&FaultSpan> = outcome.faults.iter().take(FAULTS_SHOWN_MAX).collect();
    // Rows fill from the left, so that few are needed.
    shown.sort_by_key(|fault| fault.from_ms);
    let mut lanes: Vec<(usize, Lane)> = Vec::new();
    for fault in shown {
        for (order, name) in places(outcome, fault) {
            let bar = Bar {
                class: "fault",
                label: fault.what.clone(),
                from_ms: fault.from_ms,
                to_ms: fault.to_ms,
            };
            match lanes.iter_mut().find(|(_, lane)| lane.name == name) {
                Some((_, lane)) => lane.bars.push(bar),
                None => lanes.push((order, Lane { name, bars: vec![bar] })),
            }
        }
    }
    lanes.sort_by_key(|(order, _)| *order);
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

/// The targets of a fault, each with its place in the order of lanes.
fn places(outcome: &Outcome, fault: &FaultSpan) -> Vec<(usize, String)> {
    let world = outcome.regions.len();
    if let (true, [a, b]) = (fault.is_link, fault.regions.as_slice()) {
        let (a, b) = if b < a { (b, a) } else { (a, b) };
        return vec![(world + 2, link_name(a, b))];
    }
    if fault.regions.is_empty() {
        return vec![(0, "all regions".to_owned())];
    }
    let order = |name: &String| {
        outcome.regions.iter().position(|region| region.name == *name).unwrap_or(world) + 1
    };
    let names: BTreeSet<&String> = fault.regions.iter().collect();
    names.into_iter().map(|name| (order(name), name.clone())).collect()
}

fn recovery_lane(incident: &Incident, axis: &TimeAxis) -> Lane {
    let from_ms = incident.from_ms;
    let until = |ms: Option<u64>| ms.map_or(axis.end_ms, |ms| from_ms.saturating_add(ms));
    let known = span_or(incident.detection_ms, "never");
    let mut bars = vec![Bar {
        class: "detection",
        label: format!("detected: {known}"),
        from_ms,
        to_ms: until(incident.detection_ms),
    }];
    if let Some(detection) = incident.detection_ms {
        let after = incident.takeover_ms.map(|takeover| detection.saturating_add(takeover));
        let label = format!("served elsewhere: {}", span_or(incident.takeover_ms, "never"));
        bars.push(Bar {
            class: "takeover",
            label,
            from_ms: from_ms.saturating_add(detection),
            to_ms: until(after),
        });
    }
    for class in &incident.classes {
        let label = format!("{} acks again: {}", class.durability, span_or(class.rto_ms, "never"));
        bars.push(Bar { class: "return", label, from_ms, to_ms: until(class.rto_ms) });
    }
    Lane { name: format!("{} {}", incident.region, incident.kind), bars }
}

/// The same in one bar.
fn short_recovery(incident: &Incident, axis: &TimeAxis) -> Lane {
    let after = incident
        .detection_ms
        .zip(incident.takeover_ms)
        .map(|(known, served)| known.saturating_add(served));
    let known = span_or(incident.detection_ms, "never");
    let label =
        format!("detected: {known}, served elsewhere: {}", span_or(incident.takeover_ms, "never"));
    let to_ms = after.map_or(axis.end_ms, |after| incident.from_ms.saturating_add(after));
    let bars = vec![Bar { class: "takeover", label, from_ms: incident.from_ms, to_ms }];
    Lane { name: format!("{} {}", incident.region, incident.kind), bars }
}

fn draw_lane(out: &mut String, lane: &Lane, axis: &TimeAxis, top: f64) -> f64 {
    let placed = pack(lane, axis);
    let rows = placed.iter().map(|bar| bar.row + 1).max().unwrap_or(1);
    let short = shortened(&lane.name, NAME_CHARS_MAX);
    let baseline = place(top + 15.0);
    out.push_str(&format!(
        "<text class=\"name\" x=\"138\" y=\"{baseline}\" text-anchor=\"end\"><title>{}</title>{}</text>",
        Escaped(&lane.name),
        Escaped(&short)
    ));
    for bar in &placed {
        draw_bar(out, bar, top + bar.row as f64 * ROW);
    }
    top + rows as f64 * ROW + LANE_GAP
}

fn draw_bar(out: &mut String, placed: &Placed<'_>, top: f64) {
    let Bar { class, label, from_ms, to_ms } = placed.bar;
    let length = span(to_ms.saturating_sub(*from_ms));
    out.push_str(&format!(
        "<g class=\"bar {class}\" data-spans=\"{from_ms}-{to_ms}\"><title>{}: {} to {} ({length})</title>\
         <rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"16\" rx=\"2\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"{}\">{}</text></g>",
        Escaped(label),
        moment(*from_ms),
        moment(*to_ms),
        place(placed.left),
        place(top + 3.0),
        place(placed.width),
        place(placed.label_x),
        place(top + 15.0),
        placed.anchor,
        Escaped(&placed.label)
    ));
}

/// Puts each bar, with its label, into the first row where both are free.
fn pack<'a>(lane: &'a Lane, axis: &TimeAxis) -> Vec<Placed<'a>> {
    let mut rows: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut placed = Vec::with_capacity(lane.bars.len());
    for bar in &lane.bars {
        let (mut put, (from, to)) = put(bar, axis);
        let is_free =
            |row: &Vec<(f64, f64)>| row.iter().all(|(start, end)| to <= *start || from >= *end);
        put.row = rows.iter().position(is_free).unwrap_or(rows.len());
        if put.row == rows.len() {
            rows.push(Vec::new());
        }
        rows[put.row].push((from, to));
        placed.push(put);
    }
    placed
}

/// The label stands in its bar when it fits, else after it, else before it.
fn put<'a>(bar: &'a Bar, axis: &TimeAxis) -> (Placed<'a>, (f64, f64)) {
    let left = axis.x(bar.from_ms).min(RIGHT - BAR_WIDTH_MIN);
    let width = (axis.x(bar.to_ms) - left).max(BAR_WIDTH_MIN);
    let label = shortened(&bar.label, LABEL_CHARS_MAX);
    let wide = labels::width(&label, FONT) + 8.0;
    let right = left + width;
    let (label_x, anchor, from, to) = if wide <= width {
        (left + 5.0, "start", left, right)
    } else if right + wide <= RIGHT + 15.0 {
        (right + 5.0, "start", left, right + wide)
    } else {
        (left - 5.0, "end", left - wide, right)
    };
    (Placed { bar, row: 0, left, width, label, label_x, anchor }, (from, to + 4.0))
}
