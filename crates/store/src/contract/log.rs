//! The fence and the log of a shard: the only commit point.

use async_trait::async_trait;
use bytes::Bytes;
use conversation::log::LogRow;
use wire::{Epoch, Position, ShardId, Slot};

use super::StoreError;

/// The durable log of each shard, and the fence that guards it.
///
/// # Errors
/// Every method: [`StoreError`].
#[async_trait]
pub trait Log: Send + Sync {
    /// Raises the fence to `epoch` at the class' quorum; a lower epoch changes nothing.
    async fn write_fence(&self, shard: ShardId, epoch: Epoch) -> Result<(), StoreError>;

    /// The highest fence that the class' quorum knows; 0 when there is none.
    async fn fence(&self, shard: ShardId) -> Result<Epoch, StoreError>;

    /// Writes a log row. Returns `Ok` when it is on disk (fsync) at the class' quorum. The caller
    /// may write the same frame to the same place again.
    async fn append(&self, shard: ShardId, at: Position, frame: Bytes) -> Result<(), StoreError>;

    /// Log rows from slot `from` on, at most `limit`, in the order of (slot, epoch), merged from
    /// the class' quorum. Shows the rows of all epochs; the `starts` of the lease tell which epoch
    /// owns a slot.
    async fn read_log(
        &self,
        shard: ShardId,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError>;
}
