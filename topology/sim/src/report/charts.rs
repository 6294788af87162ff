//! The run over time: faults and recovery as bars and, below them on the same axis, what clients
//! felt.

use super::axis::{LEFT, RIGHT, TimeAxis, ValueAxis, WIDTH};
use super::text::{Escaped, counted, grouped, moment, place, shortened, span, span_f64};
use super::{faults, labels, lanes};
use crate::outcome::{Outcome, Second};

const PLOT_HEIGHT: f64 = 104.0;
/// Between plots, for their headings.
const PLOT_GAP: f64 = 42.0;
/// About one point for each unit of the drawing's width; a longer run is drawn in steps of several
/// seconds.
const POINTS_MAX: usize = 900;

/// The values of one step of time.
struct Point {
    from_ms: u64,
    to_ms: u64,
    sent: f64,
    acked: f64,
    p50_ms: f64,
    max_ms: f64,
    waiting: f64,
}

/// The drawing, with what it leaves out.
pub(super) fn section(outcome: &Outcome) -> String {
    let axis = TimeAxis::over(outcome);
    let mut notes = String::new();
    if outcome.seconds.is_empty() {
        notes.push_str(
            "<p class=\"quiet\">No second of load was recorded, so there is nothing to plot.</p>",
        );
    }
    let left_out = lanes::faults_left_out(outcome);
    if left_out > 0 {
        let rest = counted(left_out as u64, "further fault");
        notes.push_str(&format!("<p class=\"quiet\">{rest} not drawn; the table has them.</p>"));
    }
    format!(
        "<figure class=\"wide\">{}</figure>{notes}{}",
        drawing(outcome, &axis),
        faults::table(outcome)
    )
}

fn drawing(outcome: &Outcome, axis: &TimeAxis) -> String {
    let (bars, bars_end) = lanes::draw(outcome, axis, 0.0);
    let points = points(&outcome.seconds);
    let mut body = String::new();
    let mut bottom = bars_end;
    if !points.is_empty() {
        for plot in [acks, waits, backlog] {
            let top = bottom + PLOT_GAP;
            bottom = top + PLOT_HEIGHT;
            body.push_str(&plot(&points, axis, top, bottom));
        }
    }
    let height = place(bottom + 40.0);
    format!(
        "<svg class=\"time\" viewBox=\"0 0 {} {height}\" role=\"img\" aria-labelledby=\"time-title time-desc\" \
         data-left=\"{LEFT}\" data-right=\"{RIGHT}\" data-end=\"{}\">\
         <title id=\"time-title\">Faults and what clients felt, over time</title>\
         <desc id=\"time-desc\">{}</desc>{}{}{body}{bars}{}{}</svg>",
        place(WIDTH),
        axis.end_ms,
        Escaped(&described(outcome)),
        shades(outcome, axis, bars_end + 8.0, bottom),
        time_grid(axis, bottom),
        breach(outcome, axis, bottom),
        steps(&points, axis, bars_end + 8.0, bottom)
    )
}

fn described(outcome: &Outcome) -> String {
    let waiting = outcome.seconds.iter().max_by_key(|second| second.waiting);
    let most = waiting.map_or_else(String::new, |second| {
        format!(" Most waiting: {} at {}.", grouped(second.waiting), moment(second.at_ms))
    });
    let faults = counted(outcome.faults.len() as u64, "fault");
    format!("{faults}; acknowledgements, waits and waiting messages second by second.{most}")
}

/// Shows in the plots when a fault lasted anywhere.
fn shades(outcome: &Outcome, axis: &TimeAxis, top: f64, bottom: f64) -> String {
    let mut spans: Vec<(f64, f64)> =
        outcome.faults.iter().map(|fault| (axis.x(fault.from_ms), axis.x(fault.to_ms))).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut merged: Vec<(f64, f64)> = Vec::new();
    for (from, to) in spans {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    let rect = |(from, to): (f64, f64)| {
        let (x, y, width) = (place(from), place(top), place((to - from).max(0.0)));
        format!(
            "<rect class=\"shade\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\"/>",
            place(bottom - top)
        )
    };
    merged.into_iter().map(rect).collect()
}

fn time_grid(axis: &TimeAxis, bottom: f64) -> String {
    let mut out = String::new();
    for tick in axis.ticks() {
        let x = place(axis.x(tick));
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{x} 18V{}\"/><text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            place(bottom + 4.0),
            place(bottom + 19.0),
            if tick == 0 { "0".to_owned() } else { span(tick) }
        ));
    }
    let (x, y) = (place((LEFT + RIGHT) / 2.0), place(bottom + 36.0));
    out.push_str(&format!(
        "<text class=\"tick\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">virtual time since the load began</text>"
    ));
    out
}

/// When the first invariant was seen broken. After the load there is no axis any more; the headline
/// says it then.
fn breach(outcome: &Outcome, axis: &TimeAxis, bottom: f64) -> String {
    let Some(first) = outcome.broken.first().filter(|first| first.at_ms <= axis.end_ms) else {
        return String::new();
    };
    let x = axis.x(first.at_ms);
    let words = format!("broken: {}", shortened(&first.invariant, 40));
    let fits = x + 6.0 + labels::width(&words, 12.0) <= WIDTH;
    let (text_x, anchor) = if fits { (x + 6.0, "start") } else { (x - 6.0, "end") };
    format!(
        "<g class=\"breach\"><path d=\"M{} 2V{}\"/><text x=\"{}\" y=\"12\" text-anchor=\"{anchor}\">{}</text></g>",
        place(x),
        place(bottom),
        place(text_x),
        Escaped(&words)
    )
}

/// Nothing to see: what a pointer that rests on a step of time is told, and what the time cursor
/// reads.
fn steps(points: &[Point], axis: &TimeAxis, top: f64, bottom: f64) -> String {
    let step = |point: &Point| {
        let (left, right) = (axis.x(point.from_ms), axis.x(point.to_ms));
        format!(
            "<rect class=\"step\" data-from=\"{}\" data-to=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
            point.from_ms,
            point.to_ms,
            place(left),
            place(top),
            place(right - left),
            place(bottom - top),
            in_words(point)
        )
    };
    points.iter().map(step).collect()
}

fn in_words(point: &Point) -> String {
    let waits = if point.acked > 0.0 {
        format!("median wait {}, longest {}", span_f64(point.p50_ms), span_f64(point.max_ms))
    } else {
        "no ack".to_owned()
    };
    format!(
        "{} to {}: {:.0} sent and {:.0} acknowledged a second; {waits}; {:.0} waiting",
        moment(point.from_ms),
        moment(point.to_ms),
        point.sent,
        point.acked,
        point.waiting
    )
}

fn acks(points: &[Point], axis: &TimeAxis, top: f64, bottom: f64) -> String {
    let values =
        ValueAxis::linear(points.iter().flat_map(|point| [point.acked, point.sent]), top, bottom);
    let mut out = value_grid(
        &values,
        "Messages per second",
        &[("acked", "acknowledged"), ("sent", "sent")],
        top,
        |value| grouped(value as u64),
    );
    out.push_str(&area(points, axis, &values, "acked", |point| point.acked));
    out.push_str(&line(points, axis, &values, "sent", |point| Some(point.sent)));
    out
}

fn waits(points: &[Point], axis: &TimeAxis, top: f64, bottom: f64) -> String {
    // A second without acks has no wait, and leaves a gap.
    let wait = |point: &Point, ms: f64| (point.acked > 0.0 && ms.is_finite()).then_some(ms);
    let all = points
        .iter()
        .filter(|point| point.acked > 0.0)
        .flat_map(|point| [point.p50_ms, point.max_ms]);
    let values = ValueAxis::log_if_wide(all, top, bottom);
    let heading = if values.is_log { "Wait for the ack (log scale)" } else { "Wait for the ack" };
    let mut out = value_grid(
        &values,
        heading,
        &[("longest", "longest"), ("median", "median")],
        top,
        span_f64,
    );
    out.push_str(&line(points, axis, &values, "longest", |point| wait(point, point.max_ms)));
    out.push_str(&line(points, axis, &values, "median", |point| wait(point, point.p50_ms)));
    out
}

fn backlog(points: &[Point], axis: &TimeAxis, top: f64, bottom: f64) -> String {
    let values = ValueAxis::linear(points.iter().map(|point| point.waiting), top, bottom);
    let mut out = value_grid(&values, "Messages waiting for their ack", &[], top, |value| {
        grouped(value as u64)
    });
    out.push_str(&area(points, axis, &values, "waiting", |point| point.waiting));
    out
}

/// Heading with key, figures and lines of one plot. Every value is in the figures and the lines;
/// colour only helps.
fn value_grid(
    values: &ValueAxis,
    heading: &str,
    key: &[(&str, &str)],
    top: f64,
    write: impl Fn(f64) -> String,
) -> String {
    let mut out =
        format!("<text class=\"head\" x=\"0\" y=\"{}\">{heading}</text>", place(top - 14.0));
    let mut x = LEFT + 110.0;
    for (class, words) in key {
        let (y, line) = (place(top - 14.0), place(top - 18.0));
        out.push_str(&format!(
            "<path class=\"line {class}\" d=\"M{} {line}h22\"/><text class=\"tick\" x=\"{}\" y=\"{y}\">{words}</text>",
            place(x),
            place(x + 28.0)
        ));
        x += 120.0;
    }
    for tick in values.ticks() {
        let y = values.y(tick);
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{LEFT} {}H{RIGHT}\"/><text class=\"tick\" x=\"138\" y=\"{}\" text-anchor=\"end\">{}</text>",
            place(y),
            place(y + 4.0),
            write(tick)
        ));
    }
    out
}

/// A line in steps, as each value holds for its whole step of time; gaps where there is none.
fn line(
    points: &[Point],
    axis: &TimeAxis,
    values: &ValueAxis,
    class: &str,
    of: impl Fn(&Point) -> Option<f64>,
) -> String {
    let mut path = String::new();
    let mut is_down = false;
    for point in points {
        let Some(value) = of(point) else {
            is_down = false;
            continue;
        };
        let command = if is_down { 'L' } else { 'M' };
        let (x, y) = (place(axis.x(point.from_ms)), place(values.y(value)));
        path.push_str(&format!("{command}{x} {y}H{}", place(axis.x(point.to_ms))));
        is_down = true;
    }
    format!("<path class=\"line {class}\" d=\"{path}\"/>")
}

fn area(
    points: &[Point],
    axis: &TimeAxis,
    values: &ValueAxis,
    class: &str,
    of: impl Fn(&Point) -> f64,
) -> String {
    let ground = values.y(0.0);
    let mut path = String::new();
    for point in points {
        let (x, y) = (place(axis.x(point.from_ms)), place(values.y(of(point))));
        let command =
            if path.is_empty() { format!("M{x} {}", place(ground)) } else { String::new() };
        path.push_str(&format!("{command}L{x} {y}H{}", place(axis.x(point.to_ms))));
    }
    let outline = line(points, axis, values, class, |point| Some(of(point)));
    format!("<path class=\"area {class}\" d=\"{path}V{}Z\"/>{outline}", place(ground))
}

/// Second by second, or in steps: sums become means, and of extremes the largest stays, as that is
/// what is looked for.
fn points(seconds: &[Second]) -> Vec<Point> {
    let step = seconds.len().div_ceil(POINTS_MAX).max(1);
    seconds.chunks(step).map(point).collect()
}

fn point(seconds: &[Second]) -> Point {
    let count = seconds.len() as f64;
    let largest = |of: fn(&Second) -> f64| {
        seconds.iter().map(of).filter(|ms| ms.is_finite()).fold(0.0, f64::max)
    };
    Point {
        from_ms: seconds.first().map_or(0, |second| second.at_ms),
        to_ms: seconds.last().map_or(0, |second| second.at_ms.saturating_add(1_000)),
        sent: seconds.iter().map(|second| second.sent as f64).sum::<f64>() / count,
        acked: seconds.iter().map(|second| second.acked as f64).sum::<f64>() / count,
        p50_ms: largest(|second| second.p50_ms),
        max_ms: largest(|second| second.max_ms),
        waiting: largest(|second| second.waiting as f64),
    }
}
