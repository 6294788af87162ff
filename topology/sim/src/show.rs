//! The simulator's output.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_sim::explore::{self, Tally};
use hearth_sim::outcome::{Entry, Outcome};
use hearth_sim::report;
use hearth_sim::scenario::Scenario;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Events shown around a broken invariant.
const AROUND: usize = 25;

/// One line on stdout. A closed pipe ends the output.
pub(crate) fn line(words: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{words}");
}

/// One line on stderr.
pub(crate) fn error(error: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "hearth sim: {error:#}");
}

fn bar(length: Option<u64>, template: &str, quiet: bool) -> ProgressBar {
    let shown = !quiet && io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(length, target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// For many runs.
pub(crate) fn seeds_bar(count: Option<u64>, quiet: bool) -> ProgressBar {
    let template = if count.is_some() {
        "{bar:30} {pos}/{len} seeds {msg}"
    } else {
        "{spinner} {elapsed} {msg}"
    };
    bar(count, template, quiet)
}

/// A progress bar with its own thread.
pub(crate) struct RunBar(ProgressBar);

impl RunBar {
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Progress of one run: virtual time out of an estimate.
pub(crate) fn run_bar(scenario: &Scenario, progress: &Arc<AtomicU64>, quiet: bool) -> RunBar {
    let about_ms = scenario.load_ms + 8_000;
    let bar = bar(Some(about_ms / 1_000), "{bar:30} {pos} of about {len} virtual seconds", quiet);
    if !bar.is_hidden() {
        let (bar, progress) = (bar.clone(), Arc::clone(progress));
        // The thread ends with the bar or with the process.
        let _ = std::thread::Builder::new().spawn(move || {
            while !bar.is_finished() {
                bar.set_position(progress.load(Ordering::Relaxed) / 1_000);
                std::thread::park_timeout(Duration::from_millis(100));
            }
        });
    }
    RunBar(bar)
}

/// One of many.
pub(crate) fn result(
    (seed, result): &explore::Result,
    tally: &Tally,
    bar: &ProgressBar,
    json: bool,
    command: &dyn Fn(u64) -> String,
) {
    bar.inc(1);
    let Tally { seeds, broken, acked, takeovers, .. } = tally;
    bar.set_message(format!(
        "{seeds} seeds, {broken} broken, {acked} messages, {takeovers} takeovers, {:.0} virtual s per CPU s",
        tally.speed()
    ));
    match result {
        Ok(outcome) if json => line(format_args!("{}", report::json(outcome))),
        Ok(outcome) if outcome.held => {}
        Ok(outcome) => bar.suspend(|| failure(outcome, &command(*seed))),
        Err(error) => bar.suspend(|| line(format_args!("seed {seed}: could not run: {error:#}"))),
    }
}

/// The summary of many runs.
pub(crate) fn tally(tally: &Tally, bar: &ProgressBar, json: bool) {
    bar.finish_and_clear();
    let Tally { seeds, broken, virtual_ms, cpu_ms, acked, takeovers } = tally;
    if !json {
        let verdict = if *broken == 0 {
            "all invariants held".to_owned()
        } else {
            format!("{broken} BROKEN")
        };
        line(format_args!(
            "{seeds} seeds: {verdict}; {:.0} virtual s in {:.0} CPU s ({:.0} to 1), {acked} messages acknowledged, {takeovers} takeovers",
            *virtual_ms as f64 / 1_000.0,
            *cpu_ms as f64 / 1_000.0,
            tally.speed()
        ));
    }
}

/// One run, in words or as JSON.
pub(crate) fn outcome(outcome: &Outcome, json: bool, command: &str) {
    if json {
        return line(format_args!("{}", report::json(outcome)));
    }
    let counts = &outcome.counts;
    line(format_args!(
        "{}, seed {}: {} sent, {} acknowledged, {} lost, {} duplicated, {} reordered, {} gaps; {} takeovers, {} sessions broken",
        outcome.scenario,
        outcome.seed,
        counts.sent,
        counts.acked,
        counts.lost,
        counts.duplicated,
        counts.reordered,
        counts.gaps,
        counts.takeovers,
        counts.reconnects
    ));
    for incident in &outcome.incidents {
        let ms =
            |time: Option<u64>| time.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
        line(format_args!(
            "  {} {} at {} ms: detected after {}, served elsewhere {} later",
            incident.region,
            incident.kind,
            incident.from_ms,
            ms(incident.detection_ms),
            ms(incident.takeover_ms)
        ));
        for class in &incident.classes {
            line(format_args!(
                "    {}: longest wait {}, at most {} waited, {} at risk, RPO {} ms, RTO {}",
                class.durability,
                ms(class.pause_ms),
                class.backlog,
                class.at_risk,
                class.rpo_ms,
                ms(class.rto_ms)
            ));
        }
    }
    let speed = outcome.virtual_ms as f64 / outcome.cpu_ms.max(1) as f64;
    line(format_args!(
        "  {} virtual ms in {} CPU ms ({speed:.0} to 1), hash {}",
        outcome.virtual_ms, outcome.cpu_ms, outcome.hash
    ));
    if outcome.held {
        line(format_args!("  all invariants held"));
    } else {
        failure(outcome, command);
    }
}

/// The seed, the first broken invariant, the events around it, and the command that replays it.
fn failure(outcome: &Outcome, command: &str) {
    let Some(first) = outcome.broken.first() else { return };
    line(format_args!(
        "BROKEN: {} seed {}: {} at {} ms: {}",
        outcome.scenario, outcome.seed, first.invariant, first.at_ms, first.what
    ));
    for more in outcome.broken.iter().skip(1).take(4) {
        line(format_args!("  and {} at {} ms: {}", more.invariant, more.at_ms, more.what));
    }
    let until = outcome.timeline.partition_point(|entry| entry.at_ms <= first.at_ms);
    line(format_args!("  before it:"));
    for entry in &outcome.timeline[until.saturating_sub(AROUND)..until] {
        event(entry);
    }
    line(format_args!("  replay it: {command}"));
}

/// The events of the run.
pub(crate) fn timeline(outcome: &Outcome, about: Option<&str>) {
    let wanted = |entry: &&Entry| {
        about.is_none_or(|about| entry.who.contains(about) || entry.what.contains(about))
    };
    outcome.timeline.iter().filter(wanted).for_each(event);
}

fn event(entry: &Entry) {
    line(format_args!(
        "  {:>9.3} s  {:<16} {}",
        entry.at_ms as f64 / 1_000.0,
        entry.who,
        entry.what
    ));
}
