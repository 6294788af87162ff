//! A whole scenario from one number: what `hearth sim explore` runs, and what `hearth sim replay` runs again.
//!
//! The same seed draws the same scenario on every machine, for one version of this file and of `rand`: nothing here depends on
//! the order of a hash map, on a clock or on the width of a word.

mod ambush;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use topology::World;
use topology::world::Fence;
use wire::{NodeId, RegionId};

use crate::fault::{Fault, Planned, Ways, What};
use crate::scenario::{Load, Scenario, with_fence, with_max_rpo};

/// The small world of most drawn scenarios.
const EXPLORE: &str = include_str!("../worlds/explore.toml");
/// How long the load runs.
const LOAD_MS: RangeInclusive<u64> = 10_000..=16_000;
/// How long before its end all faults are over.
const QUIET_MS: u64 = 3_000;
/// How long the mesh has afterwards.
const CONVERGE_MS: u64 = 40_000;
/// Coarse, for speed: exploring wants many runs.
const TICK_MS: u64 = 5;
/// The first fault finds the load running.
const BEGIN_MS: u64 = 500;
/// No fault is shorter, but for want of time.
const LAST_MS: u64 = 200;
/// Faults of one scenario.
const FAULTS: RangeInclusive<usize> = 1..=6;
/// A wall clock is set off by so much at most, either way.
const JUMP_MS: i64 = 20_000;
/// Sets the dice of scenes apart.
const SCENES: u64 = 0x5ce9_e5ce_9e5c_e9e5;
/// And those of moves.
const MOVES: u64 = 0x0fe5_70fe_50fe_5e70;
/// And those of moves of class `region`.
const REGION_MOVES: u64 = 0x70fe_0fe5_5e70_50fe;
/// And those of timed leases.
const LEASES: u64 = 0x71ed_1ea5_e71e_d1ea;
/// And those of operators who fail a region over.
const FAILOVERS: u64 = 0xfa11_0e6f_a110_e6fa;
/// And those of zones that bound what may be missing.
const BOUNDS: u64 = 0xb0d5_a11e_b0d5_a11e;
/// What is allowed to be missing in them.
const MAX_RPO: Duration = Duration::from_secs(10);
/// How long such an operator reflects.
const REFLECTS_MS: RangeInclusive<u64> = 200..=4_000;
/// Draws of a fault before one is taken although two regions of a zone are then lost together.
const TRIES: usize = 20;

/// The kinds of fault and how often each is drawn. What the protocol has most to say about comes most; a rolling restart takes the
/// whole run for itself, and comes rarely.
const KINDS: [(u32, Kind); 16] = [
    (10, Kind::Kill),
    (6, Kind::PowerLoss),
    (10, Kind::Pause),
    (8, Kind::Clock),
    (5, Kind::Drain),
    (8, Kind::LoseRegion),
    (4, Kind::DrainRegion),
    (12, Kind::Cut),
    (6, Kind::Loss),
    (5, Kind::Delay),
    (6, Kind::ReplicaDown),
    (5, Kind::SlowDisk),
    (7, Kind::LateWrites),
    (5, Kind::Diverge),
    (4, Kind::Flap),
    (1, Kind::RollingRestart),
];

/// The variants of [`Fault`], without what they happen to.
#[derive(Clone, Copy)]
enum Kind {
    Kill,
    PowerLoss,
    Pause,
    Clock,
    Drain,
    LoseRegion,
    DrainRegion,
    Cut,
    Loss,
    Delay,
    ReplicaDown,
    SlowDisk,
    LateWrites,
    Diverge,
    Flap,
    RollingRestart,
}

/// The scenario of a seed, in the world of the seed.
#[must_use]
pub fn of_seed(seed: u64) -> Scenario {
    draw(&world_of(seed), seed)
}

/// The same seed without a staged scene: as seeds were drawn before there were any.
#[must_use]
pub fn plain(seed: u64) -> Scenario {
    faults_of(&world_of(seed), seed)
}

/// The world of a seed: four times in five the small one, else the three regions that come with the program.
#[must_use]
pub fn world_of(seed: u64) -> Arc<World> {
    // Other dice than the scenario's: a seed draws the same faults for a world that is named on the command line.
    let mut dice = SmallRng::seed_from_u64(!seed);
    if dice.random_bool(0.8) { explored() } else { Arc::new(World::default_world()) }
}

/// The small world of most drawn scenarios.
#[must_use]
pub fn explored() -> Arc<World> {
    Arc::new(World::parse(EXPLORE).expect("a test reads the world of exploration"))
}

/// The scenario of a seed in this world: its load, one to six faults, for two seeds of five a scene of faults that belong
/// together, for one of three conversations of class `multi-region` that move and for one of four those of class `region`, for one of four
/// owners that acknowledge by timed leases, for one of five a region that is failed over, and for one of eight zones in which a lost
/// region is failed over by itself. All is over before the quiet time.
#[must_use]
pub fn draw(world: &Arc<World>, seed: u64) -> Scenario {
    let mut scenario = faults_of(world, seed);
    // Dice of its own: with or without a scene, the rest of a seed is the same.
    let mut dice = Dice { inner: SmallRng::seed_from_u64(seed.rotate_left(32) ^ SCENES), world };
    if dice.inner.random_bool(0.4) {
        let scene = dice.ambush(scenario.load_ms - QUIET_MS);
        // It is the scene that counts: most of the other faults would hide it.
        scenario.faults.truncate(dice.index(3));
        scenario.faults.extend(scene);
        scenario.faults.sort_by_key(|planned| planned.at_ms);
    }
    let mut dice = Dice { inner: SmallRng::seed_from_u64(seed.rotate_left(16) ^ MOVES), world };
    if dice.inner.random_ratio(1, 3) {
        scenario.load.moves_per_s = dice.tenths(3..=25);
    }
    if SmallRng::seed_from_u64(seed.rotate_left(48) ^ LEASES).random_ratio(1, 4) {
        scenario.world = Arc::new(with_fence(world, Fence::Lease));
    }
    let mut dice = Dice { inner: SmallRng::seed_from_u64(seed.rotate_left(24) ^ FAILOVERS), world };
    if dice.inner.random_ratio(1, 5) {
        let fail_over = dice.fail_over(scenario.load_ms - QUIET_MS, &scenario.faults);
        scenario.faults.extend(fail_over);
        scenario.faults.sort_by_key(|planned| planned.at_ms);
    }
    if SmallRng::seed_from_u64(seed.rotate_left(8) ^ BOUNDS).random_ratio(1, 8) {
        scenario.world = Arc::new(with_max_rpo(&scenario.world, Some(MAX_RPO)));
    }
    let mut dice =
        Dice { inner: SmallRng::seed_from_u64(seed.rotate_left(40) ^ REGION_MOVES), world };
    if dice.inner.random_ratio(1, 4) {
        scenario.load.region_moves_per_s = dice.tenths(2..=15);
    }
    // A session at an edge of the version before does not notice by itself what a lost region took with it.
    if scenario.fails_over() {
        for planned in &mut scenario.faults {
            if let Fault::RollingRestart { older } = &mut planned.fault {
                *older = false;
            }
        }
    }
    scenario
}

fn faults_of(world: &Arc<World>, seed: u64) -> Scenario {
    let mut dice = Dice { inner: SmallRng::seed_from_u64(seed), world };
    let load_ms = dice.inner.random_range(LOAD_MS);
    let load = dice.load();
    let count = dice.inner.random_range(FAULTS);
    let mut faults: Vec<Planned> = Vec::with_capacity(count);
    while faults.len() < count {
        let next = dice.planned(load_ms - QUIET_MS, &faults);
        faults.push(next);
    }
    faults.sort_by_key(|planned| planned.at_ms);
    Scenario {
        name: format!("drawn-{seed}"),
        about: String::new(),
        world: Arc::clone(world),
        load_ms,
        quiet_ms: QUIET_MS,
        converge_ms: CONVERGE_MS,
        tick_ms: TICK_MS,
        load,
        faults,
    }
}

struct Dice<'a> {
    inner: SmallRng,
    world: &'a World,
}

impl Dice<'_> {
    fn load(&mut self) -> Load {
        Load {
            clients: self.inner.random_range(1..=3),
            messages_per_s: self.tenths(50..=250),
            groups: self.inner.random_range(2..=5),
            directs: self.inner.random_range(1..=3),
            edits_per_s: self.tenths(0..=15),
            reads_per_s: self.tenths(0..=10),
            moves_per_s: 0.0,
            region_moves_per_s: 0.0,
            resend: self.hundredths(0..=40),
            body_bytes: self.inner.random_range(40..=400),
        }
    }

    /// A fault that ends by `calm_ms`. Two regions of one zone that are lost together leave no quorum and so tell little: such a
    /// draw is mostly thrown away.
    fn planned(&mut self, calm_ms: u64, before: &[Planned]) -> Planned {
        let mut next = self.any(calm_ms);
        for _ in 0..TRIES {
            if !before.iter().any(|other| self.loses_too_much(other, &next))
                || self.inner.random_bool(0.05)
            {
                break;
            }
            next = self.any(calm_ms);
        }
        next
    }

    /// Of a region that is lost if there is one, soon after it is, and else of any. None where no other could serve.
    fn fail_over(&mut self, calm_ms: u64, faults: &[Planned]) -> Option<Planned> {
        let shared =
            |region: &RegionId| self.world.zones_of(*region).any(|zone| zone.regions.len() > 1);
        let lost = faults.iter().find_map(|planned| match planned.fault {
            Fault::LoseRegion { region } if shared(&region) => Some((region, planned.at_ms)),
            _ => None,
        });
        let (region, at_ms) = match lost {
            Some((region, at_ms)) => (region, at_ms + self.inner.random_range(REFLECTS_MS)),
            None => {
                let region = self.region();
                shared(&region).then(|| (region, self.inner.random_range(BEGIN_MS..calm_ms)))?
            }
        };
        let for_ms = calm_ms.checked_sub(at_ms).filter(|left| *left > LAST_MS)?;
        let for_ms = self.inner.random_range(LAST_MS..=for_ms);
        Some(Planned { at_ms, for_ms: Some(for_ms), fault: Fault::FailOver { region } })
    }

    fn any(&mut self, calm_ms: u64) -> Planned {
        let kind = self.kind();
        let at_ms = match kind {
            // One node after the other: it needs whatever time there is.
            Kind::RollingRestart => BEGIN_MS,
            _ => self.inner.random_range(BEGIN_MS..=calm_ms - LAST_MS),
        };
        let left_ms = calm_ms - at_ms;
        let for_ms = match kind {
            Kind::RollingRestart => left_ms,
            // As often shorter than every timeout of the mesh as longer than most.
            _ if self.inner.random_bool(0.3) => {
                self.inner.random_range(LAST_MS..=left_ms.min(1_500))
            }
            _ => self.inner.random_range(LAST_MS..=left_ms),
        };
        Planned { at_ms, for_ms: Some(for_ms), fault: self.fault(kind) }
    }

    fn kind(&mut self) -> Kind {
        let total: u32 = KINDS.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.inner.random_range(0..total);
        for (weight, kind) in KINDS {
            if drawn < weight {
                return kind;
            }
            drawn -= weight;
        }
        Kind::Kill
    }

    fn fault(&mut self, kind: Kind) -> Fault {
        match kind {
            Kind::Kill => Fault::Kill { node: self.node() },
            Kind::PowerLoss => Fault::PowerLoss { node: self.node() },
            Kind::Pause => Fault::Pause { node: self.node() },
            Kind::Clock => self.clock(),
            Kind::Drain => Fault::Drain { node: self.node() },
            Kind::LoseRegion => Fault::LoseRegion { region: self.region() },
            Kind::DrainRegion => Fault::DrainRegion { region: self.region() },
            Kind::Cut | Kind::Loss | Kind::Delay => self.between(kind),
            Kind::ReplicaDown => Fault::ReplicaDown {
                region: self.region(),
                power_loss: self.inner.random_bool(0.5),
            },
            Kind::SlowDisk => Fault::SlowDisk {
                region: self.region(),
                sync_ms: self.inner.random_range(20..=800),
            },
            Kind::LateWrites => Fault::LateWrites {
                region: self.region(),
                share: self.hundredths(5..=60),
                by_ms: self.inner.random_range(500..=6_000),
            },
            Kind::Diverge => {
                Fault::Diverge { region: self.region(), share: self.hundredths(5..=50) }
            }
            Kind::Flap => Fault::Flap {
                region: self.region(),
                every_ms: self.inner.random_range(300..=2_500),
            },
            Kind::RollingRestart => Fault::RollingRestart { older: self.inner.random_bool(0.5) },
        }
    }

    fn clock(&mut self) -> Fault {
        let rate = if self.inner.random_bool(0.3) { 1.0 } else { self.hundredths(80..=125) };
        // A clock with nothing wrong is no fault: one that keeps its rate always jumps.
        let is_set_off = rate == 1.0 || self.inner.random_bool(0.5);
        let jump_ms = if is_set_off { self.inner.random_range(1..=JUMP_MS) } else { 0 };
        let jump_ms = if self.inner.random_bool(0.5) { jump_ms } else { -jump_ms };
        Fault::Clock { node: self.node(), rate, jump_ms }
    }

    /// A fault of the way between two regions; a world of one region has none, and its node is killed instead.
    fn between(&mut self, kind: Kind) -> Fault {
        let Some((a, b)) = self.pair() else { return Fault::Kill { node: self.node() } };
        match kind {
            Kind::Loss => Fault::Loss { a, b, share: self.hundredths(1..=40) },
            Kind::Delay => Fault::Delay { a, b, extra_ms: self.inner.random_range(20..=600) },
            _ => {
                let ways = if self.inner.random_bool(0.6) { Ways::Both } else { Ways::AToB };
                let what = match self.inner.random_range(0..10) {
                    0..6 => What::All,
                    6..8 => What::Mesh,
                    _ => What::Store,
                };
                Fault::Cut { a, b, ways, what }
            }
        }
    }

    fn region(&mut self) -> RegionId {
        let n = self.index(self.world.regions.len());
        self.world.regions[n].id
    }

    fn pair(&mut self) -> Option<(RegionId, RegionId)> {
        let count = self.world.regions.len();
        if count < 2 {
            return None;
        }
        let a = self.index(count);
        let b = (a + 1 + self.index(count - 1)) % count;
        Some((self.world.regions[a].id, self.world.regions[b].id))
    }

    /// Cores carry the log: they are drawn more often than edges, however few they are.
    fn node(&mut self) -> NodeId {
        let role =
            if self.inner.random_bool(0.7) { wire::NodeRole::Core } else { wire::NodeRole::Edge };
        let mut nodes = self.world.nodes();
        nodes.retain(|node| node.role == role);
        let n = self.index(nodes.len());
        nodes[n].clone()
    }

    /// Drawn as `u32`: the width of a word is no part of the draw.
    fn index(&mut self, count: usize) -> usize {
        let count = u32::try_from(count).expect("a world has few regions and nodes");
        self.inner.random_range(0..count) as usize
    }

    fn tenths(&mut self, range: RangeInclusive<u32>) -> f64 {
        f64::from(self.inner.random_range(range)) / 10.0
    }

    fn hundredths(&mut self, range: RangeInclusive<u32>) -> f64 {
        f64::from(self.inner.random_range(range)) / 100.0
    }

    fn loses_too_much(&self, one: &Planned, other: &Planned) -> bool {
        let (Fault::LoseRegion { region: a }, Fault::LoseRegion { region: b }) =
            (&one.fault, &other.fault)
        else {
            return false;
        };
        let end_ms = |planned: &Planned| planned.at_ms + planned.for_ms.unwrap_or(u64::MAX / 2);
        let together = one.at_ms <= end_ms(other) && other.at_ms <= end_ms(one);
        together
            && self
                .world
                .zones
                .iter()
                .any(|zone| zone.regions.contains(a) && zone.regions.contains(b))
    }
}

#[cfg(test)]
mod tests;
