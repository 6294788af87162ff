//! A whole scenario from one number: what `hearth sim explore` runs, and what `hearth sim replay`
//! runs again.
//!
//! The same seed draws the same scenario on every machine, for one version of this file and of
//! `rand`: nothing here depends on the order of a hash map, on a clock or on the width of a word.

mod scenes;

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
/// Length of the load.
const LOAD_MS: RangeInclusive<u64> = 10_000..=16_000;
/// Time between the end of all faults and of the load.
const QUIET_MS: u64 = 3_000;
/// Time to converge after the load.
const CONVERGE_MS: u64 = 40_000;
/// Coarse, for speed: exploration needs many runs.
const TICK_MS: u64 = 5;
/// The load runs before the first fault.
const BEGIN_MS: u64 = 500;
/// Minimum length of a fault, unless the time is too short.
const LAST_MS: u64 = 200;
/// Faults of one scenario.
const FAULTS: RangeInclusive<usize> = 1..=6;
/// Maximum jump of a wall clock, either way.
const JUMP_MS: i64 = 20_000;
/// Separates the random choices of scenes,
const SCENES: u64 = 0x5ce9_e5ce_9e5c_e9e5;
/// of moves,
const MOVES: u64 = 0x0fe5_70fe_50fe_5e70;
/// of moves of single-region conversations,
const REGION_MOVES: u64 = 0x70fe_0fe5_5e70_50fe;
/// of timed leases,
const LEASES: u64 = 0x71ed_1ea5_e71e_d1ea;
/// of failovers,
const FAILOVERS: u64 = 0xfa11_0e6f_a110_e6fa;
/// and of `max_rpo`.
const BOUNDS: u64 = 0xb0d5_a11e_b0d5_a11e;
/// Their `max_rpo`.
const MAX_RPO: Duration = Duration::from_secs(10);
/// Time until an operator decides.
const REFLECTS_MS: RangeInclusive<u64> = 200..=4_000;
/// Redraws of a fault that would lose two regions of a zone together, before it is accepted.
const TRIES: usize = 20;

/// The kinds of fault and their weights. Kinds that exercise the protocol most have the highest
/// weight; a rolling restart occupies the whole run, and is rare.
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

/// The variants of [`Fault`], without their targets.
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

/// The same seed without a scene, as seeds were drawn before scenes existed.
#[must_use]
pub fn plain(seed: u64) -> Scenario {
    faults_of(&world_of(seed), seed)
}

/// The world of a seed: four times in five the small one, else the three regions that come with the
/// program.
#[must_use]
pub fn world_of(seed: u64) -> Arc<World> {
    // A generator of its own: a seed draws the same faults for a world named on the command line.
    let mut rng = SmallRng::seed_from_u64(!seed);
    if rng.random_bool(0.8) { explored() } else { Arc::new(World::default_world()) }
}

/// The small world of most drawn scenarios.
#[must_use]
pub fn explored() -> Arc<World> {
    Arc::new(World::parse(EXPLORE).expect("a test reads the world of exploration"))
}

/// The scenario of a seed in this world: its load and one to six faults. Two seeds of five have a
/// scene of related faults. Multi-region conversations move in one of three, single-region ones in
/// one of four. Owners acknowledge by timed leases in one of four, an operator fails a region over
/// in one of five, and `max_rpo` does so in one of eight. All faults end before the quiet time.
#[must_use]
pub fn draw(world: &Arc<World>, seed: u64) -> Scenario {
    let mut scenario = faults_of(world, seed);
    // A generator of its own: with or without a scene, the rest of a seed is the same.
    let mut rng = Draws { inner: SmallRng::seed_from_u64(seed.rotate_left(32) ^ SCENES), world };
    if rng.inner.random_bool(0.4) {
        let scene = rng.scene(scenario.load_ms - QUIET_MS);
        // Most other faults would hide the scene.
        scenario.faults.truncate(rng.index(3));
        scenario.faults.extend(scene);
        scenario.faults.sort_by_key(|planned| planned.at_ms);
    }
    let mut rng = Draws { inner: SmallRng::seed_from_u64(seed.rotate_left(16) ^ MOVES), world };
    if rng.inner.random_ratio(1, 3) {
        scenario.load.moves_per_s = rng.tenths(3..=25);
    }
    if SmallRng::seed_from_u64(seed.rotate_left(48) ^ LEASES).random_ratio(1, 4) {
        scenario.world = Arc::new(with_fence(world, Fence::Lease));
    }
    let mut rng = Draws { inner: SmallRng::seed_from_u64(seed.rotate_left(24) ^ FAILOVERS), world };
    if rng.inner.random_ratio(1, 5) {
        let fail_over = rng.fail_over(scenario.load_ms - QUIET_MS, &scenario.faults);
        scenario.faults.extend(fail_over);
        scenario.faults.sort_by_key(|planned| planned.at_ms);
    }
    if SmallRng::seed_from_u64(seed.rotate_left(8) ^ BOUNDS).random_ratio(1, 8) {
        scenario.world = Arc::new(with_max_rpo(&scenario.world, Some(MAX_RPO)));
    }
    let mut rng =
        Draws { inner: SmallRng::seed_from_u64(seed.rotate_left(40) ^ REGION_MOVES), world };
    if rng.inner.random_ratio(1, 4) {
        scenario.load.region_moves_per_s = rng.tenths(2..=15);
    }
    // A session at an edge without features does not notice a loss with its region by itself.
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
    let mut rng = Draws { inner: SmallRng::seed_from_u64(seed), world };
    let load_ms = rng.inner.random_range(LOAD_MS);
    let load = rng.load();
    let count = rng.inner.random_range(FAULTS);
    let mut faults: Vec<Planned> = Vec::with_capacity(count);
    while faults.len() < count {
        let next = rng.planned(load_ms - QUIET_MS, &faults);
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

struct Draws<'a> {
    inner: SmallRng,
    world: &'a World,
}

impl Draws<'_> {
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

    /// A fault that ends by `calm_ms`. Two regions of one zone lost together leave no quorum, and
    /// test little: such a draw is mostly rejected.
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

    /// Fails over a lost region soon after its loss, else any region. None where no other region
    /// could serve.
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
            // One node after the other needs all of the time.
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
        // A correct clock is no fault: a clock that keeps its rate always jumps.
        let is_set_off = rate == 1.0 || self.inner.random_bool(0.5);
        let jump_ms = if is_set_off { self.inner.random_range(1..=JUMP_MS) } else { 0 };
        let jump_ms = if self.inner.random_bool(0.5) { jump_ms } else { -jump_ms };
        Fault::Clock { node: self.node(), rate, jump_ms }
    }

    /// A fault between two regions. In a world of one region it kills a node instead.
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

    /// Cores hold the log: they are drawn more often than edges, however few they are.
    fn node(&mut self) -> NodeId {
        let role =
            if self.inner.random_bool(0.7) { wire::NodeRole::Core } else { wire::NodeRole::Edge };
        let mut nodes = self.world.nodes();
        nodes.retain(|node| node.role == role);
        let n = self.index(nodes.len());
        nodes[n].clone()
    }

    /// Drawn as `u32`, so that the result does not depend on the word size.
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
