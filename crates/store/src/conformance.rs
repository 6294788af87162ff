//! One suite for every store: the contract as cases. A store passes when [`suite`] returns.
//!
//! The world of the suite: regions 1, 2 and 3; zone 1 is all three, zone 2 is region 1 alone. Shard
//! numbers from 0 to 999 must be unused.

mod control;
mod log;
mod projections;
mod regions;
mod residency;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use async_trait::async_trait;
use wire::{
    ConversationId, ConversationKind, Durability, Epoch, Position, RegionId, ShardId, Slot, ZoneId,
};

use crate::contract::Store;

/// A store under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A region's handle.
    fn store(&self, region: RegionId) -> Arc<dyn Store>;

    /// Whether these bytes stand anywhere in the region: in its files or tables.
    async fn holds(&self, region: RegionId, needle: &[u8]) -> bool;
}

/// The regions of the suite's world.
pub const REGIONS: [RegionId; 3] = [RegionId(1), RegionId(2), RegionId(3)];

/// The zones of the suite's world, and their regions.
#[must_use]
pub fn zones() -> Vec<(ZoneId, Vec<RegionId>)> {
    vec![(WIDE, REGIONS.to_vec()), (NARROW, vec![RegionId(1)])]
}

const WIDE: ZoneId = ZoneId(1);
const NARROW: ZoneId = ZoneId(2);

/// Runs all cases.
///
/// # Panics
/// In the first case that does not hold.
pub async fn suite(subject: &dyn Subject) {
    let bench = Bench { subject, shards: AtomicU16::new(0) };
    control::cases(&bench).await;
    regions::cases(&bench).await;
    log::cases(&bench).await;
    projections::cases(&bench).await;
    residency::cases(&bench).await;
}

/// The subject of a case, and shards that no other case uses.
struct Bench<'a> {
    subject: &'a dyn Subject,
    shards: AtomicU16,
}

impl Bench<'_> {
    /// That region's view of what region 1, the home of all shards here, has acknowledged.
    fn store(&self, region: u16) -> Arc<dyn Store> {
        self.subject.store(RegionId(region)).at(RegionId(1))
    }

    /// One of each class, both homed in region 1.
    fn shards(&self) -> [ShardId; 2] {
        [self.shard(Durability::MultiRegion), self.shard(Durability::Region)]
    }

    fn shard(&self, durability: Durability) -> ShardId {
        let n = self.shards.fetch_add(1, Ordering::Relaxed);
        ShardId { zone: WIDE, home: RegionId(1), durability, n }
    }
}

fn at(epoch: u64, slot: u64) -> Position {
    Position { epoch: Epoch(epoch), slot: Slot(slot) }
}

fn conversation(shard: ShardId, unique: u8, kind: ConversationKind) -> ConversationId {
    ConversationId { kind, shard, unique: [unique; 16] }
}
