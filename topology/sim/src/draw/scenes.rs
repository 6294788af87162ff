//! Scenes of related faults. Single faults seldom coincide; a scene makes them coincide, and tests
//! one step of a takeover.

use std::ops::RangeInclusive;

use rand::Rng as _;
use topology::Region;
use wire::{NodeId, NodeRole, RegionId};

use super::{BEGIN_MS, Draws, LAST_MS};
use crate::fault::{Fault, Planned, Ways, What};

/// Absence of an owner: from shortly before to long after the others detect it.
const GONE_MS: RangeInclusive<u64> = 900..=5_000;

#[derive(Clone, Copy)]
enum Scene {
    /// An owner pauses until about the moment of the takeover, while some of its writes are still
    /// in flight.
    Zombie,
    /// Rows stand on few replicas when the owner dies, and the next owner dies soon after.
    TornTail,
    /// An owner dies, and its possible successors do not hear each other.
    Rivals,
    /// The other regions lose contact with a region that keeps running and reaches the store.
    Isolated,
}

const SCENES: [Scene; 4] = [Scene::Zombie, Scene::TornTail, Scene::Rivals, Scene::Isolated];

impl Draws<'_> {
    /// One scene, over by `calm_ms`.
    pub(super) fn scene(&mut self, calm_ms: u64) -> Vec<Planned> {
        let scene = SCENES[self.index(SCENES.len())];
        let at_ms = self.inner.random_range(BEGIN_MS + 500..=calm_ms - 4_000);
        let mut staged = Staged { calm_ms, faults: Vec::new() };
        match scene {
            Scene::Zombie => self.zombie(at_ms, &mut staged),
            Scene::TornTail => self.torn_tail(at_ms, &mut staged),
            Scene::Rivals => self.rivals(at_ms, &mut staged),
            Scene::Isolated => self.isolated(at_ms, &mut staged),
        }
        staged.faults
    }

    fn zombie(&mut self, at_ms: u64, staged: &mut Staged) {
        let late = Fault::LateWrites {
            region: self.region(),
            share: self.hundredths(20..=80),
            by_ms: self.inner.random_range(500..=4_000),
        };
        staged.add(at_ms.saturating_sub(400), 1_500, late);
        let owner = self.core();
        let gone_ms = self.inner.random_range(GONE_MS);
        staged.add(at_ms, gone_ms, Fault::Pause { node: owner.clone() });
        if self.inner.random_bool(0.4) {
            let again_ms = self.inner.random_range(GONE_MS);
            staged.add(
                at_ms + gone_ms + self.inner.random_range(100..=1_500),
                again_ms,
                Fault::Pause { node: owner },
            );
        }
    }

    fn torn_tail(&mut self, at_ms: u64, staged: &mut Staged) {
        for region in self.two_regions() {
            let share = self.hundredths(30..=70);
            staged.add(
                at_ms.saturating_sub(300),
                self.inner.random_range(600..=2_500),
                Fault::Diverge { region, share },
            );
        }
        let first = self.core();
        let gone_ms = self.inner.random_range(GONE_MS);
        let gone = match self.index(3) {
            0 => Fault::Kill { node: first },
            1 => Fault::PowerLoss { node: first },
            _ => Fault::Pause { node: first },
        };
        staged.add(at_ms, gone_ms, gone);
        let second = Fault::Kill { node: self.core() };
        let soon_ms = self.inner.random_range(1_500..=4_000);
        staged.add(at_ms + soon_ms, self.inner.random_range(GONE_MS), second);
    }

    fn rivals(&mut self, at_ms: u64, staged: &mut Staged) {
        let lost = self.region();
        let gone_ms = self.inner.random_range(1_500..=6_000);
        for node in cores(self.world.region(lost)) {
            staged.add(at_ms, gone_ms, Fault::Pause { node });
        }
        let others: Vec<RegionId> =
            self.world.regions.iter().map(|region| region.id).filter(|id| *id != lost).collect();
        for (n, a) in others.iter().enumerate() {
            for b in &others[n + 1..] {
                let cut = Fault::Cut { a: *a, b: *b, ways: Ways::Both, what: What::Mesh };
                staged.add(at_ms.saturating_sub(300), gone_ms + 1_000, cut);
            }
        }
        for region in self.two_regions() {
            let (share, by_ms) = (self.hundredths(20..=60), self.inner.random_range(500..=3_000));
            staged.add(
                at_ms.saturating_sub(500),
                1_000,
                Fault::LateWrites { region, share, by_ms },
            );
        }
    }

    fn isolated(&mut self, at_ms: u64, staged: &mut Staged) {
        let alone = self.region();
        let for_ms = self.inner.random_range(2_500..=8_000);
        for region in self.world.regions.iter().filter(|region| region.id != alone) {
            let cut = Fault::Cut { a: alone, b: region.id, ways: Ways::Both, what: What::Mesh };
            staged.add(at_ms, for_ms, cut);
        }
        if self.inner.random_bool(0.5) {
            let (region, sync_ms) = (self.region(), self.inner.random_range(50..=400));
            staged.add(at_ms, for_ms, Fault::SlowDisk { region, sync_ms });
        }
    }

    fn core(&mut self) -> NodeId {
        let nodes: Vec<NodeId> =
            self.world.nodes().into_iter().filter(|node| node.role == NodeRole::Core).collect();
        nodes[self.index(nodes.len())].clone()
    }

    fn two_regions(&mut self) -> Vec<RegionId> {
        self.pair().map_or_else(|| vec![self.region()], |(a, b)| vec![a, b])
    }
}

fn cores(region: Option<&Region>) -> Vec<NodeId> {
    let nodes = region.into_iter().flat_map(Region::nodes);
    nodes.filter(|node| node.role == NodeRole::Core).collect()
}

struct Staged {
    calm_ms: u64,
    faults: Vec<Planned>,
}

impl Staged {
    /// Cut short where the quiet time begins; left out where nothing of it would remain.
    fn add(&mut self, at_ms: u64, for_ms: u64, fault: Fault) {
        let for_ms = for_ms.min(self.calm_ms.saturating_sub(at_ms));
        if for_ms >= LAST_MS {
            self.faults.push(Planned { at_ms, for_ms: Some(for_ms), fault });
        }
    }
}
