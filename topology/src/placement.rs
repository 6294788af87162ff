//! Which core serves a shard: a pure function of the world and the live cores, so that edges and
//! cores agree without asking each other.
//!
//! Inside a region, consistent hashing spreads the shards over the live cores. When a core joins,
//! shards move to it and between no others; when one leaves, only its own move. If the home region
//! has no live core left, a multi-region shard goes to the first region of its successor order that
//! has one. A single-region shard stays at home and waits, because its data may be nowhere else,
//! unless its home is failed over: then it goes to a successor, too, and stays there until the
//! failover is taken back.
//!
//! The hash is SHA-256 over explicit bytes. `hashring`'s own hasher has fixed keys, but what
//! `#[derive(Hash)]` feeds it depends on the machine's word size and byte order; placement must be
//! the same in every process of every build.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, Hasher};

use hashring::HashRing;
use sha2::{Digest, Sha256};
use wire::{Durability, NodeId, NodeRole, RegionId, ShardId, ZoneId};

use crate::world::{World, Zone};

/// Points of each core on its region's ring. More points spread shards more evenly and cost time
/// when the ring is built.
const POINTS_PER_CORE: u16 = 64;

/// The input of placement beside the world, as one node sees it: the cores that are alive and not
/// draining, and the regions that are failed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    cores: BTreeSet<NodeId>,
    failed_over: FailedOver,
}

/// The regions that operators have failed over, with the zones concerned.
pub type FailedOver = BTreeSet<(ZoneId, RegionId)>;

impl Live {
    /// Of these nodes, the cores.
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let cores = nodes.into_iter().filter(|node| node.role == NodeRole::Core).collect();
        Self { cores, failed_over: FailedOver::new() }
    }

    /// From a membership view: pairs of a node and whether it is draining.
    pub fn from_view<'a>(nodes: impl IntoIterator<Item = (&'a NodeId, bool)>) -> Self {
        Self::new(nodes.into_iter().filter(|(_, draining)| !draining).map(|(node, _)| node.clone()))
    }

    /// With these regions failed over.
    #[must_use]
    pub fn with_failed_over(self, failed_over: FailedOver) -> Self {
        Self { failed_over, ..self }
    }

    /// Whether this core is one of them.
    #[must_use]
    pub fn contains(&self, node: &NodeId) -> bool {
        self.cores.contains(node)
    }

    /// All of them, by region and name.
    pub fn cores(&self) -> impl Iterator<Item = &NodeId> {
        self.cores.iter()
    }

    /// Those of one region.
    pub fn of_region(&self, region: RegionId) -> impl Iterator<Item = &NodeId> {
        self.cores.iter().filter(move |node| node.region == region)
    }
}

/// The cores that may serve the shard, best first: all live cores of the home region in ring order,
/// then, for multi-region, those of the other regions of its zone in successor order. Empty when no
/// core may, or the world has no such shard.
#[must_use]
pub fn candidates(world: &World, shard: &ShardId, live: &Live) -> Vec<NodeId> {
    Rings::of(live).candidates(&region_order(world, shard, live), shard)
}

/// The core that should serve the shard: the first candidate.
#[must_use]
pub fn owner(world: &World, shard: &ShardId, live: &Live) -> Option<NodeId> {
    owner_in(&region_order(world, shard, live), shard, live)
}

/// The node to ask for the owner of a shard, for a node that does not know which regions are failed
/// over. It is [`owner`], except for a single-region shard whose home has no live core: then the
/// core that would serve it after a failover.
#[must_use]
pub fn whom_to_ask(world: &World, shard: &ShardId, live: &Live) -> Option<NodeId> {
    owner_in(&home_and_others(world, shard), shard, live)
}

/// The core of a region that follows shards served in other regions: the first of its live cores in
/// ring order.
#[must_use]
pub fn follower(shard: &ShardId, region: RegionId, live: &Live) -> Option<NodeId> {
    owner_in(&[region], shard, live)
}

fn owner_in(order: &[RegionId], shard: &ShardId, live: &Live) -> Option<NodeId> {
    let region = order.iter().find(|region| live.of_region(**region).next().is_some())?;
    ring(live.of_region(*region)).get(&Key(shard)).map(|point| point.core.clone())
}

/// Whether `me` may claim the shard: it is the first candidate, and if the home region is another,
/// it sees live cores in a majority of the zone's regions (its own included). A region that is cut
/// off sees no majority and claims nothing. If both sides of a cut claimed, the conditional write
/// would let only one win, but they would take the shard from each other again and again.
#[must_use]
pub fn may_claim(world: &World, shard: &ShardId, me: &NodeId, live: &Live) -> bool {
    let Some(zone) = world.zone(shard.zone) else { return false };
    owner(world, shard, live).as_ref() == Some(me)
        && (me.region == shard.home || regions_with_live_cores(zone, live) >= zone.majority())
}

/// The regions of the shard's zone in the order in which they should serve it: home, its successors
/// as the file lists them, the rest nearest first. For a single-region shard only home, or, if home
/// is failed over, all others.
#[must_use]
pub fn region_order(world: &World, shard: &ShardId, live: &Live) -> Vec<RegionId> {
    let mut order = home_and_others(world, shard);
    if shard.durability == Durability::Region {
        if live.failed_over.contains(&(shard.zone, shard.home)) {
            order.retain(|region| *region != shard.home);
        } else {
            order.truncate(1);
        }
    }
    order
}

fn home_and_others(world: &World, shard: &ShardId) -> Vec<RegionId> {
    let (Some(zone), Some(home)) = (world.zone(shard.zone), world.region(shard.home)) else {
        return Vec::new();
    };
    if !world.has_shard(shard) {
        return Vec::new();
    }
    let mut order = vec![home.id];
    let listed = home.successors.iter().copied().filter(|region| zone.regions.contains(region));
    for region in listed.chain(world.nearest_first(home.id, &zone.regions)) {
        if !order.contains(&region) {
            order.push(region);
        }
    }
    order
}

/// The owner of every shard for one view of the live cores, for callers that ask once a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners(HashMap<ShardId, NodeId>);

impl Owners {
    /// For all shards of the world.
    #[must_use]
    pub fn compute(world: &World, live: &Live) -> Self {
        Self::by(world, live, |shard| region_order(world, shard, live))
    }

    /// As [`whom_to_ask`], for all shards of the world.
    #[must_use]
    pub fn to_ask(world: &World, live: &Live) -> Self {
        Self::by(world, live, |shard| home_and_others(world, shard))
    }

    fn by(world: &World, live: &Live, order: impl Fn(&ShardId) -> Vec<RegionId>) -> Self {
        let rings = Rings::of(live);
        let owner = |shard: ShardId| {
            let ring = order(&shard).iter().find_map(|region| rings.0.get(region))?;
            Some((shard, ring.get(&Key(&shard))?.core.clone()))
        };
        Self(world.all_shards().into_iter().filter_map(owner).collect())
    }

    /// As [`owner`].
    #[must_use]
    pub fn of(&self, shard: &ShardId) -> Option<&NodeId> {
        self.0.get(shard)
    }
}

fn regions_with_live_cores(zone: &Zone, live: &Live) -> usize {
    zone.regions.iter().filter(|region| live.of_region(**region).next().is_some()).count()
}

/// One ring a region.
struct Rings(BTreeMap<RegionId, HashRing<Point, Stable>>);

/// Of the cores of one region.
fn ring<'a>(cores: impl Iterator<Item = &'a NodeId>) -> HashRing<Point, Stable> {
    let mut ring = HashRing::with_hasher(Stable);
    ring.batch_add(
        cores
            .flat_map(|core| (0..POINTS_PER_CORE).map(|n| Point { core: core.clone(), n }))
            .collect(),
    );
    ring
}

impl Rings {
    fn of(live: &Live) -> Self {
        let regions: BTreeSet<RegionId> = live.cores().map(|core| core.region).collect();
        Self(regions.into_iter().map(|region| (region, ring(live.of_region(region)))).collect())
    }

    fn candidates(&self, order: &[RegionId], shard: &ShardId) -> Vec<NodeId> {
        let mut found: Vec<NodeId> = Vec::new();
        for region in order {
            let Some(ring) = self.0.get(region) else { continue };
            for point in ring.get_with_replicas(&Key(shard), ring.len()).unwrap_or_default() {
                if !found.contains(&point.core) {
                    found.push(point.core);
                }
            }
        }
        found
    }
}

#[derive(Clone, Debug)]
struct Point {
    core: NodeId,
    n: u16,
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(format!("{}#{}", self.core, self.n).as_bytes());
    }
}

struct Key<'a>(&'a ShardId);

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.to_string().as_bytes());
    }
}

/// SHA-256, cut to 8 bytes.
struct Stable;

impl BuildHasher for Stable {
    type Hasher = StableHasher;
    fn build_hasher(&self) -> StableHasher {
        StableHasher(Sha256::new())
    }
}

struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
    }
}

#[cfg(test)]
mod tests;
