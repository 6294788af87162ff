//! Ownership: leases of shards, timed leases of processes, and regions that are failed over.

use std::collections::BTreeSet;

use async_trait::async_trait;
use conversation::shard::{Beat, Cas, CoreLease, FenceMode, Lease, Nonce};
use wire::{Epoch, NodeId, RegionId, ShardId, Slot, ZoneId};

use super::StoreError;

/// The key of the timed lease of one incarnation of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreKey {
    /// Each zone of a region has its own leases: what happens in one says nothing of the others.
    pub zone: ZoneId,
    /// The core's region.
    pub region: RegionId,
    /// The number of the process' present start.
    pub incarnation: Nonce,
}

/// The rows that are only ever written conditionally.
///
/// # Errors
/// Every method: [`StoreError`].
#[async_trait]
pub trait Leases: Send + Sync {
    /// Reads the lease row serially: the read sees every conditional write answered before it.
    /// Returns the default row when nobody ever claimed the shard.
    async fn lease(&self, shard: ShardId) -> Result<Lease, StoreError>;

    /// Takes the term after `observed`, if `observed` is still the last one: [`Lease::claimed`].
    /// On [`StoreError::Unknown`] read the lease again, and go on only if the nonce is yours.
    async fn claim(
        &self,
        shard: ShardId,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Result<Cas, StoreError>;

    /// Records that `epoch` starts at `start`, and the fork this may be, if that claim still
    /// stands unsealed: [`Lease::sealed_at`]. On [`StoreError::Unknown`] the lease tells whether
    /// it happened.
    async fn seal(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Result<Cas, StoreError>;

    /// Records that the owner released the shard, and that all it acknowledged stands before
    /// `end`: [`Lease::released_at`].
    async fn release(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        end: Slot,
    ) -> Result<Cas, StoreError>;

    /// Records that the frames stranded by the fork of the term `fork` are salvaged, if the term
    /// `epoch` is still the last one: [`Lease::closed`].
    async fn close_fork(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        fork: Epoch,
    ) -> Result<Cas, StoreError>;

    /// The timed leases of all incarnations of a region's cores that were registered before the
    /// call, each read serially. A store may leave out processes that are known to have ended.
    async fn core_leases(
        &self,
        zone: ZoneId,
        region: RegionId,
    ) -> Result<Vec<CoreLease>, StoreError>;

    /// Reads one timed lease serially.
    async fn core_lease(&self, of: CoreKey) -> Result<Option<CoreLease>, StoreError>;

    /// Writes a timed lease for the first time, if it is not there: [`CoreLease::registered`].
    async fn register_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
    ) -> Result<Cas, StoreError>;

    /// Writes the beat after `beat`, if `beat` is there and unbroken: [`CoreLease::renewed`].
    async fn renew_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
        beat: Beat,
    ) -> Result<Cas, StoreError>;

    /// Breaks a timed lease for ever, if `beat` is there: [`CoreLease::broken_at`].
    async fn break_core(&self, of: CoreKey, beat: Beat) -> Result<Cas, StoreError>;

    /// The regions of a zone that are failed over: other regions serve, or shall serve, their
    /// single-region shards. Read serially.
    async fn failed_over(&self, zone: ZoneId) -> Result<BTreeSet<RegionId>, StoreError>;

    /// Writes whether a region is failed over, if that is news.
    async fn set_failed_over(
        &self,
        zone: ZoneId,
        region: RegionId,
        failed_over: bool,
    ) -> Result<Cas, StoreError>;
}
