//! One run: a world is built, settles, talks under faults, falls silent, converges, and is judged. Everything follows from
//! (build, scenario, seed).

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
use wire::version::Minor;
use wire::{Durability, RegionId};

use crate::carry::Hands;
use crate::draw;
use crate::fault::{Fault, Planned};
use crate::hooks;
use crate::ledger::Ledger;
use crate::mutant::Mutant;
use crate::observe::{self, LOOK_EVERY, Observer, millis};
use crate::operators::Operators;
use crate::outcome::Outcome;
use crate::panics;
use crate::scenario::Scenario;
use crate::site::Site;
use crate::timeline::Timeline;
use crate::town::cast::Cast;
use crate::town::errands::{Edits, Invitations, Reading};
use crate::town::person::{Pace, Person};
use crate::town::stage::Made;
use crate::town::watcher::Watcher;
use crate::town::{Phase, Talk, Town, errands, stage};
use crate::verdict::{self, Evidence};

/// All shards are served, and all conversations made, within this much virtual time each.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Between people's arrival and their first word.
const ARRIVE: Duration = Duration::from_secs(2);
/// After the load the histories are read within this.
const READ_MAX: Duration = Duration::from_secs(60);

/// A run whose virtual time has not moved for so long, by the real clock, never ends: a task spins.
const STUCK: Duration = Duration::from_secs(90);
const LOOK_AT_THREAD_EVERY: Duration = Duration::from_millis(5);

/// How to run it.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Decides everything.
    pub seed: u64,
    /// Remember every message in the timeline.
    pub everything: bool,
    /// Break a step of the protocol on purpose.
    pub mutant: Option<Mutant>,
    /// Where virtual milliseconds are told while it runs.
    pub progress: Option<Arc<AtomicU64>>,
}

/// Runs it, in a thread of its own.
///
/// # Errors
/// When the world could not be built or did not come to life: nothing is known then.
pub fn run(scenario: &Scenario, options: &RunOptions) -> anyhow::Result<Outcome> {
    if !hooks::SUPPORTED {
        bail!("the simulator needs Linux on x86-64: elsewhere no run is repeatable");
    }
    static WARM: Once = Once::new();
    WARM.call_once(|| {
        let warmed = alone(&warm_up(), &RunOptions::default());
        if let Err(error) = warmed {
            tracing::error!(%error, "the run that warms the process up failed: what follows may not be repeatable");
        }
    });
    alone(scenario, options)
}

/// What libraries set up once per process (providers, registries, call sites) draws keys from the thread that comes first, which
/// would make the first run of a process unlike its second. So a short run comes before all, and nobody looks at it.
fn warm_up() -> Scenario {
    let mut scenario = draw::draw(&draw::explored(), 0);
    scenario.load_ms = 3_000;
    scenario.quiet_ms = 1_000;
    scenario.faults.clear();
    scenario
}

/// One simulation, one fresh thread: the keys of hash maps and the dice of `rand` belong to the thread.
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
        thread::park_timeout(LOOK_AT_THREAD_EVERY);
        let now = progress.load(Ordering::Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() > STUCK {
            // Nobody can end a thread: it goes on spinning until the program ends.
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
    // The pieces hold sockets of the simulated network: they go before it does.
    run.raze();
    outcome
}

struct Run<'a> {
    scenario: &'a Scenario,
    options: &'a RunOptions,
    site: Site,
    hands: Hands,
    ledger: Ledger,
    observer: Observer,
    dice: SmallRng,
    towns: BTreeMap<RegionId, Town>,
    phase: watch::Sender<Phase>,
    looked: Duration,
}

impl<'a> Run<'a> {
    fn build(
        scenario: &'a Scenario,
        options: &'a RunOptions,
        timeline: Timeline,
    ) -> anyhow::Result<Self> {
        let mut dice = SmallRng::seed_from_u64(options.seed);
        let tick = Duration::from_millis(scenario.tick_ms.max(1));
        let mut site = Site::new(&scenario.world, dice.random(), tick, options.mutant)?;
        if scenario.is_upgrade() {
            site.minor = Minor::OLDEST;
        }
        let ledger = Ledger::new(timeline);
        let (phase, wanted) = watch::channel(Phase::Settle);
        let mut flaps = BTreeMap::new();
        let mut towns = BTreeMap::new();
        for region in &scenario.world.regions {
            site.start_people(region.id)?;
            let (flap_out, flap) = watch::channel(None);
            flaps.insert(region.id, flap_out);
            let handle =
                site.people(region.id).and_then(|machine| machine.handle()).context("people")?;
            let _inside = handle.enter();
            let town = Town::new(region.id, &site.material, ledger.clone(), wanted.clone(), flap);
            towns.insert(region.id, town);
        }
        let hands = Hands::new(flaps);
        let observer = Observer::default();
        Ok(Self {
            scenario,
            options,
            site,
            hands,
            ledger,
            observer,
            dice,
            towns,
            phase,
            looked: Duration::ZERO,
        })
    }

    fn play(&mut self) -> anyhow::Result<Outcome> {
        for node in self.scenario.world.nodes() {
            self.site.start(&node)?;
        }
        self.until("every shard is served", SETTLE_MAX, |run| {
            observe::unserved(&run.site).is_empty()
        })?;
        let cast = Arc::new(Cast::draw(&self.scenario.world, &self.scenario.load, &mut self.dice));
        let talks = self.set_the_stage(&cast)?;
        if self.scenario.fails_over() {
            let forkable =
                talks.iter().filter(|talk| talk.id.shard.durability == Durability::Region);
            forkable.for_each(|talk| self.ledger.may_fork(talk.id));
        }
        let invitations = Invitations::default();
        self.let_people_in(&cast, &talks, &invitations);
        self.for_a_while(ARRIVE)?;
        let origin = self.site.now();
        self.ledger.set_origin(millis(origin));
        self.phase.send_replace(Phase::Load);
        let spans = self.load(&talks, origin)?;
        self.phase.send_replace(Phase::Hush);
        self.converge()?;
        self.read_all(&cast, &talks)?;
        // What the histories say, everybody must have been shown.
        self.converge()?;
        self.judge(Verdict { cast: &cast, talks: &talks, invitations: &invitations, spans, origin })
    }

    fn step(&mut self) -> anyhow::Result<()> {
        self.site.step();
        self.hands.go_on(&mut self.site)?;
        let now = self.site.now();
        self.ledger.timeline.set_now(millis(now));
        self.witness();
        if let Some(progress) = &self.options.progress {
            progress.store(millis(now), Ordering::Relaxed);
        }
        if now >= self.looked + LOOK_EVERY {
            self.looked = now;
            self.observer.look(&self.site);
        }
        Ok(())
    }

    /// What clients sent and saw goes into the hash.
    fn witness(&mut self) {
        let fabric = &mut self.site.fabric;
        self.ledger.drain_for_hash(|bytes| fabric.note(bytes));
    }

    fn for_a_while(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = self.site.now() + time;
        while self.site.now() < end {
            self.step()?;
        }
        Ok(())
    }

    fn until(
        &mut self,
        what: &str,
        within: Duration,
        is_so: impl Fn(&mut Self) -> bool,
    ) -> anyhow::Result<()> {
        if !self.comes_true(within, is_so)? {
            let entries = self.ledger.timeline.entries();
            let last =
                entries.iter().rev().take(20).map(|entry| format!("{} {}", entry.who, entry.what));
            let last: Vec<String> = last.collect();
            bail!("waited {} s in vain until {what}; last: {}", within.as_secs(), last.join("; "));
        }
        Ok(())
    }

    fn comes_true(
        &mut self,
        within: Duration,
        is_so: impl Fn(&mut Self) -> bool,
    ) -> anyhow::Result<bool> {
        let end = self.site.now() + within;
        let mut look = self.site.now();
        while self.site.now() < end {
            self.step()?;
            if self.site.now() >= look {
                look = self.site.now() + LOOK_EVERY;
                if is_so(self) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn spawn(&mut self, region: RegionId, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(handle) = self.site.people(region).and_then(|machine| machine.handle()) {
            handle.spawn(task);
        }
    }

    fn set_the_stage(&mut self, cast: &Arc<Cast>) -> anyhow::Result<Vec<Talk>> {
        let made = Made::default();
        let wanted = cast.plans.len();
        for (region, town) in self.towns.clone() {
            for (maker, plan) in stage::made_in(cast, region) {
                let seed = self.dice.random();
                let task =
                    stage::make(town.clone(), Arc::clone(cast), maker, plan, seed, made.clone());
                self.spawn(region, task);
            }
        }
        let counted = made.clone();
        self.until("the conversations are made", SETTLE_MAX, move |_| counted.count() >= wanted)?;
        match made.so_far() {
            (talks, errors) if errors.is_empty() && !talks.is_empty() => Ok(talks),
            (_, errors) => bail!("the conversations could not be made: {}", errors.join("; ")),
        }
    }

    fn let_people_in(&mut self, cast: &Cast, talks: &[Talk], invitations: &Invitations) {
        let load = &self.scenario.load;
        let pace = Pace::of(load, cast.residents.len());
        let readers = cast.residents.len() as f64;
        for who in &cast.residents {
            let (Some(town), seed) = (self.towns.get(&who.region).cloned(), self.dice.random())
            else {
                continue;
            };
            let person = Person::new(town.clone(), who.clone(), talks, pace, seed);
            self.spawn(who.region, person.run());
            if load.reads_per_s > 0.0 {
                let reads = errands::read(
                    town.clone(),
                    who.clone(),
                    talks.to_vec(),
                    load.reads_per_s / readers,
                    seed,
                );
                self.spawn(who.region, reads);
            }
            let guest = cast.guests.iter().find(|guest| guest.tenant == who.tenant);
            let groups: Vec<_> =
                talks.iter().filter(|talk| talk.is_group && talk.owner == who.user).collect();
            if let (Some(guest), true) = (guest, load.edits_per_s > 0.0 && !groups.is_empty()) {
                let per_s = load.edits_per_s * groups.len() as f64 / f64::from(load.groups.max(1));
                let groups = groups.iter().map(|talk| talk.id).collect();
                let edits = Edits { per_s, seed, invitations: invitations.clone() };
                self.spawn(
                    who.region,
                    errands::edit(town, who.clone(), guest.user.clone(), groups, edits),
                );
            }
        }
        for who in cast.watchers.iter().chain(&cast.guests) {
            let (Some(town), seed) = (self.towns.get(&who.region).cloned(), self.dice.random())
            else {
                continue;
            };
            let is_guest = cast.guests.iter().any(|guest| guest.user == who.user);
            let watcher = if is_guest {
                Watcher::guest(town, who.clone(), seed)
            } else {
                Watcher::new(town, who.clone(), talks, seed)
            };
            self.spawn(who.region, watcher.run());
        }
    }

    /// The load, and everything that goes wrong in it. Returns each fault with when it began and ended.
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
                    .for_each(|operators| operators.go_on(&mut self.site, &self.ledger));
            }
            self.step()?;
            if self.site.now() >= second + Duration::from_secs(1) {
                second += Duration::from_secs(1);
                self.observer.waiting.push(self.ledger.waiting() as u64);
            }
        }
        // What ends by itself may take longer than the calm.
        self.comes_true(SETTLE_MAX, |run| !run.hands.is_busy())?;
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
        self.ledger
            .timeline
            .add("the world", if begins { words } else { format!("over: {words}") });
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
            return self.hands.begin(&mut self.site, fault);
        }
        if let Some(span) = spans.iter_mut().rev().find(|(began, _, _)| began == fault) {
            span.2 = now;
        }
        self.hands.end(&mut self.site, fault)
    }

    fn converge(&mut self) -> anyhow::Result<()> {
        let within = Duration::from_millis(self.scenario.converge_ms);
        let is_over = |run: &mut Self| {
            run.ledger.waiting() == 0
                && run.ledger.behind().is_empty()
                && observe::unserved(&run.site).is_empty()
                && observe::forked(&run.site).is_empty()
        };
        if self.comes_true(within, is_over)? {
            return Ok(());
        }
        let mut why = self.ledger.unacknowledged();
        why.extend(self.ledger.behind());
        why.extend(
            observe::unserved(&self.site).iter().map(|shard| format!("nobody serves {shard}")),
        );
        why.extend(
            observe::forked(&self.site).iter().map(|shard| format!("{shard} is not salvaged")),
        );
        let what = format!("{} s after the load: {}", within.as_secs(), why.join("; "));
        self.ledger.broken("not-converged", millis(self.site.now()), what);
        Ok(())
    }

    /// One member in each region reads all histories.
    fn read_all(&mut self, cast: &Cast, talks: &[Talk]) -> anyhow::Result<()> {
        let reading = Reading::default();
        let mut wanted = 0;
        for watcher in &cast.watchers {
            let Some(town) = self.towns.get(&watcher.region).cloned() else { continue };
            for talk in talks.iter().filter(|talk| talk.members.contains(&watcher.user)) {
                let seed = self.dice.random();
                wanted += 1;
                let task = errands::read_all(
                    town.clone(),
                    watcher.clone(),
                    talk.clone(),
                    seed,
                    reading.clone(),
                );
                self.spawn(watcher.region, task);
            }
        }
        let counted = reading.clone();
        let is_read = self.comes_true(READ_MAX, move |_| counted.so_far().0 >= wanted)?;
        let (_, errors) = reading.so_far();
        if !is_read || !errors.is_empty() {
            let what = format!("histories could not be read: {}", errors.join("; "));
            self.ledger.broken("unreadable", millis(self.site.now()), what);
        }
        Ok(())
    }

    fn judge(&mut self, verdict: Verdict<'_>) -> anyhow::Result<Outcome> {
        let Verdict { cast, talks, invitations, spans, origin } = verdict;
        let (logs, frames) = verdict::logs(&mut self.site, &self.scenario.world, talks)?;
        self.witness();
        Ok(verdict::judge(&Evidence {
            scenario: self.scenario,
            seed: self.options.seed,
            site: &self.site,
            ledger: &self.ledger,
            observer: &self.observer,
            cast,
            talks,
            logs: &logs,
            frames: &frames,
            invitations,
            spans: &spans,
            origin_ms: millis(origin),
        }))
    }

    fn raze(self) {
        let Self { site, towns, phase, .. } = self;
        drop((towns, phase));
        site.raze();
    }
}

struct Verdict<'a> {
    cast: &'a Cast,
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

/// What happens when, in order; everything has ended when the calm begins.
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
