//! How far a shard has come, for each party that counts.

use async_trait::async_trait;
use smol_str::SmolStr;
use wire::{Position, RegionId, ShardId};

use super::StoreError;

/// A mark of a shard. Marks are exclusive (everything before the slot) and only ever grow, by
/// (epoch, slot).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mark {
    /// Everything before it is projected: a takeover reads the log from here. It is on disk when
    /// the write is confirmed, and with it every projection written before it.
    Checkpoint,
    /// Everything before it is acknowledged.
    Committed,
    /// The consumer of this name (1 to 64 bytes) has taken everything before it.
    Consumer(SmolStr),
    /// For single-region shards, in this region while another one serves the shard: everything
    /// before it has been replicated and projected here. A takeover by this region reads the log
    /// from here. As durable as a checkpoint.
    Follower(RegionId),
}

/// Positions that only grow.
///
/// # Errors
/// Every method: [`StoreError`].
#[async_trait]
pub trait Marks: Send + Sync {
    /// Raises a mark; a lower position changes nothing. Only [`Mark::Checkpoint`] and
    /// [`Mark::Follower`] are fsynced.
    async fn write_mark(&self, shard: ShardId, mark: &Mark, at: Position)
    -> Result<(), StoreError>;

    /// The highest position that the class' quorum knows for the mark.
    async fn mark(&self, shard: ShardId, mark: &Mark) -> Result<Option<Position>, StoreError>;

    /// Records that the follower in `region` holds everything of this single-region shard that was
    /// acknowledged before `as_of_ms` (milliseconds since 1970), as it verified with the region
    /// that serves the shard. An earlier time changes nothing. Not fsynced.
    async fn write_fresh_as_of(
        &self,
        shard: ShardId,
        region: RegionId,
        as_of_ms: u64,
    ) -> Result<(), StoreError>;

    /// The latest such time that the class' quorum knows, milliseconds since 1970.
    async fn fresh_as_of(
        &self,
        shard: ShardId,
        region: RegionId,
    ) -> Result<Option<u64>, StoreError>;
}
