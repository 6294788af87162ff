//! Many runs, side by side: each in a thread of its own, as many at once as there are cores.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::run::{RunOptions, run};
use crate::scenario::Scenario;

/// The result of a seed; an error if it could not run.
pub type Result = (u64, anyhow::Result<Outcome>);

/// Progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Seeds that have been run.
    pub seeds: u64,
    /// Seeds in which an invariant broke.
    pub broken: u64,
    /// Virtual milliseconds in all.
    pub virtual_ms: u64,
    /// CPU milliseconds in all.
    pub cpu_ms: u64,
    /// Messages that were acknowledged.
    pub acked: u64,
    /// Terms that began after the first of their shard.
    pub takeovers: u64,
}

/// Runs seeds until none is left, the time is over, or `stop` says so of a result. Results come in
/// the order in which runs end.
///
/// # Errors
/// When no thread can be started.
pub fn explore(
    seeds: impl Iterator<Item = u64> + Send + 'static,
    jobs: usize,
    deadline: Option<Instant>,
    scenario_of: impl Fn(u64) -> (Scenario, RunOptions) + Send + Sync + 'static,
    mut on_result: impl FnMut(&Result, &Tally) -> bool,
) -> anyhow::Result<Tally> {
    let (seeds, scenario_of) = (Arc::new(Mutex::new(seeds)), Arc::new(scenario_of));
    let is_over = Arc::new(AtomicBool::new(false));
    // The queue holds one result per thread; each thread waits until its result is taken.
    let (done_out, done) = mpsc::sync_channel::<Result>(jobs.max(1));
    let mut threads = Vec::new();
    for n in 0..jobs.max(1) {
        let (seeds, scenario_of, is_over, done) =
            (Arc::clone(&seeds), Arc::clone(&scenario_of), Arc::clone(&is_over), done_out.clone());
        let work = move || {
            while !is_over.load(Ordering::Relaxed)
                && deadline.is_none_or(|deadline| Instant::now() < deadline)
            {
                let Some(seed) = lock(&seeds).next() else { return };
                let (scenario, options) = scenario_of(seed);
                if done.send((seed, run(&scenario, &options))).is_err() {
                    return;
                }
            }
        };
        threads.push(thread::Builder::new().name(format!("explore-{n}")).spawn(work)?);
    }
    drop(done_out);
    let mut tally = Tally::default();
    for result in done {
        tally.add(&result);
        if on_result(&result, &tally) {
            is_over.store(true, Ordering::Relaxed);
        }
    }
    for thread in threads {
        if thread.join().is_err() {
            anyhow::bail!("an exploring thread died");
        }
    }
    Ok(tally)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    fn add(&mut self, (_, result): &Result) {
        self.seeds += 1;
        match result {
            Ok(outcome) => {
                self.broken += u64::from(!outcome.held);
                self.virtual_ms += outcome.virtual_ms;
                self.cpu_ms += outcome.cpu_ms;
                self.acked += outcome.counts.acked;
                self.takeovers += outcome.counts.takeovers;
            }
            Err(_) => self.broken += 1,
        }
    }

    /// Virtual seconds for one second of CPU.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.virtual_ms as f64 / self.cpu_ms.max(1) as f64
    }
}

/// As many as the machine has cores.
#[must_use]
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// So many minutes from now.
#[must_use]
pub fn in_minutes(minutes: f64) -> Instant {
    Instant::now() + Duration::from_secs_f64(minutes.clamp(0.0, 100_000.0) * 60.0)
}
