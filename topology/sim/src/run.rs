//! One run: build a world, settle, apply load and faults, quiesce, converge, judge. (build,
//! scenario, seed) determine everything.

mod clients;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tracing_subscriber::layer::SubscriberExt as _;
use wire::version::{Feature, Features};
use wire::{Durability, RegionId};

use crate::draw;
use crate::fault::{Fault, Planned};
use crate::hooks;
use crate::inject::Injector;
use crate::ledger::Ledger;
use crate::mutant::Mutant;
use crate::observe::{self, OBSERVE_INTERVAL, Observer, millis};
use crate::operators::Operators;
use crate::outcome::Outcome;
use crate::panics;
use crate::scenario::Scenario;
use crate::site::Site;
use crate::timeline::Timeline;
use crate::verdict::{self, Evidence};
use crate::workload::operations::Invitations;
use crate::workload::population::Population;
use crate::workload::{Phase, Talk, Workload};

/// Virtual time to serve all shards, and to create all conversations, each.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for clients to connect before the load.
const CONNECT_GRACE: Duration = Duration::from_secs(2);
/// Time to read all histories after the load.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Real time without progress of virtual time after which a run is given up: a task spins.
const STALL_TIMEOUT: Duration = Duration::from_secs(90);
const THREAD_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Options of a run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The seed of every random choice.
    pub seed: u64,
    /// Keep every message in the timeline.
    pub everything: bool,
    /// Break this step of the protocol.
    pub mutant: Option<Mutant>,
    /// Receives the virtual milliseconds while it runs.
    pub progress: Option<Arc<AtomicU64>>,
}

/// Runs the scenario in a thread of its own.
///
/// # Errors
/// When the world could not be built or did not settle. There is no verdict then.
pub fn run(scenario: &Scenario, options: &RunOptions) -> anyhow::Result<Outcome> {
    if !hooks::SUPPORTED {
        bail!("the simulator needs Linux on x86-64: runs are not repeatable elsewhere");
    }
    static WARM: Once = Once::new();
    WARM.call_once(|| {
        let warmed = alone(&warm_up(), &RunOptions::default());
        if let Err(error) = warmed {
            tracing::error!(%error, "warm-up run failed, later runs may not be repeatable");
        }
    });
    alone(scenario, options)
}

/// Libraries initialise providers, registries and call sites once per process, with keys from the
/// first thread. The first run of a process would differ from the second. So a short warm-up run
/// comes first; its result is discarded.
fn warm_up() -> Scenario {
    let mut scenario = draw::draw(&draw::explored(), 0);
    scenario.load_ms = 3_000;
    scenario.quiet_ms = 1_000;
    scenario.faults.clear();
    scenario
}

/// One simulation per fresh thread: the keys of hash maps and `rand`'s generator belong to the
/// thread.
fn alone(scenario: &Scenario, options: &RunOptions) -> anyhow::Result<Outcome> {
    let (scenario, mut options) = (scenario.clone(), options.clone());
    let progress = Arc::clone(options.progress.get_or_insert_default());
    let simulate = move || {
        hooks::begin(options.seed);
        hooks::set_clocks(Duration::from_secs(1), crate::machine::EPOCH);
        let outcome = panics::caught(|| simulate(&scenario, &options));
        hooks::end();
        outcome
    };
    let thread =
        thread::Builder::new().name("simulation".into()).stack_size(16 << 20).spawn(simulate)?;
    let (mut seen, mut since) = (0, Instant::now());
    while !thread.is_finished() {
        thread::park_timeout(THREAD_POLL_INTERVAL);
        let now = progress.load(Ordering::Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() > STALL_TIMEOUT {
            // A thread cannot be killed: it spins until the program ends.
            bail!("virtual time stands still at {seen} ms: some task never waits");
        }
    }
    thread.join().unwrap_or_else(|_| bail!("the simulation's thread died"))
}

fn simulate(scenario: &Scenario, options: &RunOptions) -> anyhow::Result<Outcome> {
    let timeline = Timeline::new(options.everything);
    let subscriber = tracing_subscriber::registry().with(timeline.clone());
    let _logs = tracing::subscriber::set_default(subscriber);
    let mut run = Run::build(scenario, options, timeline)?;
    let outcome = run.play();
    // Nodes hold sockets of the simulated network: drop them first.
    run.teardown();
    outcome
}

struct Run<'a> {
    scenario: &'a Scenario,
    options: &'a RunOptions,
    site: Site,
    injector: Injector,
    ledger: Ledger,
    observer: Observer,
    rng: SmallRng,
    workloads: BTreeMap<RegionId, Workload>,
    phase: watch::Sender<Phase>,
    looked: Duration,
}

impl<'a> Run<'a> {
    fn build(
        scenario: &'a Scenario,
        options: &'a RunOptions,
        timeline: Timeline,
    ) -> anyhow::Result<Self> {
        let mut rng = SmallRng::seed_from_u64(options.seed);
        let tick = Duration::from_millis(scenario.tick_ms.max(1));
        let mut site = Site::new(&scenario.world, rng.random(), tick, options.mutant)?;
        if scenario.is_upgrade() {
            site.features = Features::all_but(&Feature::ALL);
        }
        let ledger = Ledger::new(timeline);
        let (phase, wanted) = watch::channel(Phase::Settle);
        let mut flaps = BTreeMap::new();
        let mut workloads = BTreeMap::new();
        for region in &scenario.world.regions {
            site.start_clients(region.id)?;
            let (flap_out, flap) = watch::channel(None);
            flaps.insert(region.id, flap_out);
            let handle =
                site.clients(region.id).and_then(|machine| machine.handle()).context("clients")?;
            let _inside = handle.enter();
            let workload =
                Workload::new(region.id, &site.material, ledger.clone(), wanted.clone(), flap);
            workloads.insert(region.id, workload);
        }
        let injector = Injector::new(flaps);
        let observer = Observer::default();
        Ok(Self {
            scenario,
            options,
            site,
            injector,
            ledger,
            observer,
            rng,
            workloads,
            phase,
            looked: Duration::ZERO,
        })
    }

    fn play(&mut self) -> anyhow::Result<Outcome> {
        for node in self.scenario.world.nodes() {
            self.site.start(&node)?;
        }
        self.wait_until("every shard is served", SETTLE_TIMEOUT, |run| {
            observe::unserved(&run.site).is_empty()
        })?;
        let population =
            Arc::new(Population::draw(&self.scenario.world, &self.scenario.load, &mut self.rng));
        let talks = self.create_conversations(&population)?;
        if self.scenario.fails_over() {
            let forkable =
                talks.iter().filter(|talk| talk.id.shard.durability == Durability::Region);
            forkable.for_each(|talk| self.ledger.may_fork(talk.id));
        }
        let invitations = Invitations::default();
        self.start_clients(&population, &talks, &invitations);
        self.run_for(CONNECT_GRACE)?;
        let origin = self.site.now();
        self.ledger.set_origin(millis(origin));
        self.phase.send_replace(Phase::Load);
        let spans = self.load(&talks, origin)?;
        self.phase.send_replace(Phase::Quiesce);
        self.converge()?;
        self.read_all(&population, &talks)?;
        // Every observer must have been shown what the histories say.
        self.converge()?;
        self.judge(Verdict {
            population: &population,
            talks: &talks,
            invitations: &invitations,
            spans,
            origin,
        })
    }

    fn step(&mut self) -> anyhow::Result<()> {
        self.site.step();
        self.injector.advance(&mut self.site)?;
        let now = self.site.now();
        self.ledger.timeline.set_now(millis(now));
        self.hash_client_view();
        if let Some(progress) = &self.options.progress {
            progress.store(millis(now), Ordering::Relaxed);
        }
        if now >= self.looked + OBSERVE_INTERVAL {
            self.looked = now;
            self.observer.look(&self.site);
        }
        Ok(())
    }

    /// Adds the clients' sends and views to the hash.
    fn hash_client_view(&mut self) {
        let fabric = &mut self.site.fabric;
        self.ledger.drain_for_hash(|bytes| fabric.note(bytes));
    }

    fn run_for(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = self.site.now() + time;
        while self.site.now() < end {
            self.step()?;
        }
        Ok(())
    }

    fn wait_until(
        &mut self,
        what: &str,
        within: Duration,
        is_so: impl Fn(&mut Self) -> bool,
    ) -> anyhow::Result<()> {
        if !self.poll_until(within, is_so)? {
            let entries = self.ledger.timeline.entries();
            let last =
                entries.iter().rev().take(20).map(|entry| format!("{} {}", entry.who, entry.what));
            let last: Vec<String> = last.collect();
            bail!(
                "timed out after {} s, waiting until {what}; last: {}",
                within.as_secs(),
                last.join("; ")
            );
        }
        Ok(())
    }

    fn poll_until(
        &mut self,
        within: Duration,
        is_so: impl Fn(&mut Self) -> bool,
    ) -> anyhow::Result<bool> {
        let end = self.site.now() + within;
        let mut look = self.site.now();
        while self.site.now() < end {
            self.step()?;
            if self.site.now() >= look {
                look = self.site.now() + OBSERVE_INTERVAL;
                if is_so(self) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Runs load and faults. Returns each fault with its begin and end.
    fn load(
        &mut self,
        talks: &[Talk],
        origin: Duration,
    ) -> anyhow::Result<Vec<(Fault, Duration, Duration)>> {
        let end = origin + Duration::from_millis(self.scenario.load_ms);
        let calm = end.saturating_sub(Duration::from_millis(self.scenario.quiet_ms));
        let mut plan = agenda(&self.scenario.faults, origin, calm);
        let mut spans: Vec<(Fault, Duration, Duration)> = Vec::new();
        let mut operators = [Durability::MultiRegion, Durability::Region]
            .map(|class| Operators::new(class, self.scenario, talks, self.options.seed, origin));
        let mut second = origin;
        while self.site.now() < end {
            while plan.first().is_some_and(|next| next.at <= self.site.now()) {
                let Next { fault, begins, .. } = plan.remove(0);
                self.turn(&fault, begins, &mut spans)?;
            }
            if self.site.now() < calm {
                operators
                    .iter_mut()
                    .for_each(|operators| operators.advance(&mut self.site, &self.ledger));
            }
            self.step()?;
            if self.site.now() >= second + Duration::from_secs(1) {
                second += Duration::from_secs(1);
                self.observer.waiting.push(self.ledger.waiting() as u64);
            }
        }
        // A fault that ends by itself may outlast the quiet time.
        self.poll_until(SETTLE_TIMEOUT, |run| !run.injector.is_busy())?;
        Ok(spans)
    }

    fn turn(
        &mut self,
        fault: &Fault,
        begins: bool,
        spans: &mut Vec<(Fault, Duration, Duration)>,
    ) -> anyhow::Result<()> {
        let now = self.site.now();
        let words = fault.describe(&self.scenario.world);
        self.site.fabric.note(format!("{} {begins} {words}", now.as_micros()).as_bytes());
        self.ledger.timeline.add("the world", if begins { words } else { format!("end: {words}") });
        if let Fault::LoseRegion { region } | Fault::DrainRegion { region } = fault {
            if begins {
                let is_drain = matches!(fault, Fault::DrainRegion { .. });
                self.observer.leaves(&self.site, &self.ledger, *region, is_drain);
            } else {
                self.observer.returns(now, *region);
            }
        }
        if begins {
            spans.push((fault.clone(), now, now));
            return self.injector.begin(&mut self.site, fault);
        }
        if let Some(span) = spans.iter_mut().rev().find(|(began, _, _)| began == fault) {
            span.2 = now;
        }
        self.injector.end(&mut self.site, fault)
    }

    fn converge(&mut self) -> anyhow::Result<()> {
        let within = Duration::from_millis(self.scenario.converge_ms);
        let is_over = |run: &mut Self| {
            run.ledger.waiting() == 0
                && run.ledger.behind().is_empty()
                && observe::unserved(&run.site).is_empty()
                && observe::forked(&run.site).is_empty()
        };
        if self.poll_until(within, is_over)? {
            return Ok(());
        }
        let mut why = self.ledger.unacknowledged();
        why.extend(self.ledger.behind());
        why.extend(
            observe::unserved(&self.site).iter().map(|shard| format!("no core serves {shard}")),
        );
        why.extend(
            observe::forked(&self.site).iter().map(|shard| format!("{shard} is not salvaged")),
        );
        let what = format!("{} s after the load: {}", within.as_secs(), why.join("; "));
        self.ledger.broken("not-converged", millis(self.site.now()), what);
        Ok(())
    }

    fn judge(&mut self, verdict: Verdict<'_>) -> anyhow::Result<Outcome> {
        let Verdict { population, talks, invitations, spans, origin } = verdict;
        let (logs, frames) = verdict::logs(&mut self.site, &self.scenario.world, talks)?;
        self.hash_client_view();
        Ok(verdict::judge(&Evidence {
            scenario: self.scenario,
            seed: self.options.seed,
            site: &self.site,
            ledger: &self.ledger,
            observer: &self.observer,
            population,
            talks,
            logs: &logs,
            frames: &frames,
            invitations,
            spans: &spans,
            origin_ms: millis(origin),
        }))
    }

    fn teardown(self) {
        let Self { site, workloads, phase, .. } = self;
        drop((workloads, phase));
        site.teardown();
    }
}

struct Verdict<'a> {
    population: &'a Population,
    talks: &'a [Talk],
    invitations: &'a Invitations,
    spans: Vec<(Fault, Duration, Duration)>,
    origin: Duration,
}

struct Next {
    at: Duration,
    begins: bool,
    fault: Fault,
}

/// Begins and ends of the faults, in order; all end before the quiet time.
fn agenda(faults: &[Planned], origin: Duration, calm: Duration) -> Vec<Next> {
    let mut agenda = Vec::new();
    for Planned { at_ms, for_ms, fault } in faults {
        let at = origin + Duration::from_millis(*at_ms);
        if at >= calm {
            continue;
        }
        let end = for_ms.map_or(calm, |for_ms| at + Duration::from_millis(for_ms)).min(calm);
        agenda.push(Next { at, begins: true, fault: fault.clone() });
        agenda.push(Next { at: end, begins: false, fault: fault.clone() });
    }
    agenda.sort_by_key(|next| (next.at, next.begins));
    agenda
}
