//! The contract, in statements.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::log::LogRow;
use conversation::shard::{Beat, Cas, CoreLease, FenceMode, Lease, Nonce};
use scylla::serialize::row::SerializeRow;
use scylla::statement::bound::BoundStatement;
use scylla::statement::prepared::PreparedStatement;
use tokio::try_join;
use wire::limits::SLOTS_PER_CHUNK;
use wire::{Durability, Epoch, NodeId, Position, RegionId, ShardId, Slot, ZoneId};

use super::Scylla;
use super::reach::{self, Reach};
use super::stamp::write_time;
use super::statements::Statements;
use crate::contract::{CoreKey, Leases, Log, Mark, Marks, Store, StoreError};
use crate::rows::ROWS_MAX;

/// Shards whose fences lie in one partition, so that they can be read together.
const SHARDS_PER_GROUP: u16 = 64;

/// One region's view. See [`Scylla::store`].
pub(super) struct Handle {
    pub(super) scylla: Scylla,
    /// Where single-region shards are kept: the region's own datacenter, unless the caller named
    /// another.
    pub(super) at: RegionId,
    /// Of each zone of the region.
    pub(super) zones: Arc<HashMap<ZoneId, Statements>>,
}

/// The columns by which every table of the log and the lease starts.
pub(super) fn shard_key(shard: ShardId) -> (i32, i8, i32) {
    let class = match shard.durability {
        Durability::Region => 0,
        Durability::MultiRegion => 1,
    };
    (shard.home.0.into(), class, shard.n.into())
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// For a limit in a statement.
pub(super) fn limit_value(limit: usize) -> i32 {
    i32::try_from(limit.min(ROWS_MAX)).unwrap_or(i32::MAX)
}

impl Handle {
    pub(super) fn statements(&self, zone: ZoneId) -> Result<&Statements, StoreError> {
        self.zones
            .get(&zone)
            .ok_or(StoreError::NotInZone { region: self.scylla.options.region, zone })
    }

    pub(super) fn reach(&self, shard: ShardId) -> Result<(Reach, &Statements), StoreError> {
        let reach = reach::of_class(&self.scylla.options, &self.scylla.profiles, shard, self.at)?;
        Ok((reach, self.statements(shard.zone)?))
    }

    /// The statement with its values. They fit: both stand in this crate.
    pub(super) fn bound(
        &self,
        statement: &PreparedStatement,
        values: &impl SerializeRow,
    ) -> Result<BoundStatement, StoreError> {
        let unfit =
            |error| self.corrupt(format!("a table of another form than this version's: {error}"));
        statement.clone().bind(values).map_err(unfit)
    }

    /// CQL has no unsigned numbers.
    pub(super) fn signed(&self, n: u64) -> Result<i64, StoreError> {
        i64::try_from(n).map_err(|_| self.past_bounds(n))
    }

    pub(super) fn write_time(&self, at: Position) -> Result<i64, StoreError> {
        write_time(at).ok_or_else(|| self.past_bounds(at.slot.0.max(at.epoch.0)))
    }

    /// Nobody counts that far, so the number comes from bytes that nobody wrote. Nothing was
    /// written.
    pub(super) fn past_bounds(&self, n: u64) -> StoreError {
        self.corrupt(format!("number {n} is past all bounds"))
    }

    pub(super) fn corrupt(&self, what: String) -> StoreError {
        StoreError::Corrupt { region: self.scylla.options.region, what }
    }

    /// Rows of one chunk of the log from a slot on.
    async fn read_chunk(
        &self,
        shard: ShardId,
        chunk: u64,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let values =
            (home, class, n, self.signed(chunk)?, self.signed(from.0)?, limit_value(limit));
        let found: Vec<(i64, i64, Bytes)> =
            self.scylla.rows(&reach, self.bound(&statements.read_log, &values)?, limit).await?;
        let row = |(slot, epoch, frame): (i64, i64, Bytes)| LogRow {
            at: Position { epoch: Epoch(unsigned(epoch)), slot: Slot(unsigned(slot)) },
            // Not a view of the whole page, which would keep that in memory.
            frame: Bytes::copy_from_slice(&frame),
        };
        Ok(found.into_iter().map(row).collect())
    }
}

#[async_trait]
impl Leases for Handle {
    async fn lease(&self, shard: ShardId) -> Result<Lease, StoreError> {
        self.serial_lease(shard).await
    }

    async fn claim(
        &self,
        shard: ShardId,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Result<Cas, StoreError> {
        self.claim_lease(shard, observed, owner, nonce, fence_mode).await
    }

    async fn seal(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Result<Cas, StoreError> {
        self.seal_lease(shard, epoch, nonce, start).await
    }

    async fn release(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        end: Slot,
    ) -> Result<Cas, StoreError> {
        self.release_lease(shard, epoch, nonce, end).await
    }

    async fn close_fork(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        fork: Epoch,
    ) -> Result<Cas, StoreError> {
        self.close_lease(shard, epoch, nonce, fork).await
    }

    async fn core_leases(
        &self,
        zone: ZoneId,
        region: RegionId,
    ) -> Result<Vec<CoreLease>, StoreError> {
        self.serial_cores(zone, region).await
    }

    async fn core_lease(&self, of: CoreKey) -> Result<Option<CoreLease>, StoreError> {
        self.serial_core(of).await
    }

    async fn register_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
    ) -> Result<Cas, StoreError> {
        self.register(zone, node, incarnation).await
    }

    async fn renew_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
        beat: Beat,
    ) -> Result<Cas, StoreError> {
        self.renew(zone, node, incarnation, beat).await
    }

    async fn break_core(&self, of: CoreKey, beat: Beat) -> Result<Cas, StoreError> {
        self.break_life(of, beat).await
    }

    async fn failed_over(&self, zone: ZoneId) -> Result<BTreeSet<RegionId>, StoreError> {
        self.serial_failed_over(zone).await
    }

    async fn set_failed_over(
        &self,
        zone: ZoneId,
        region: RegionId,
        failed_over: bool,
    ) -> Result<Cas, StoreError> {
        self.write_failed_over(zone, region, failed_over).await
    }
}

impl Store for Handle {
    fn at(&self, region: RegionId) -> Arc<dyn Store> {
        Arc::new(Self { scylla: self.scylla.clone(), at: region, zones: Arc::clone(&self.zones) })
    }
}

#[async_trait]
impl Log for Handle {
    async fn write_fence(&self, shard: ShardId, epoch: Epoch) -> Result<(), StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let group = i32::from(shard.n / SHARDS_PER_GROUP);
        // The write time is the epoch itself: the highest stays, in whatever order they arrive.
        let epoch = self.signed(epoch.0)?;
        self.scylla
            .write(
                &reach,
                self.bound(&statements.write_fence, &(epoch, epoch, home, class, group, n))?,
            )
            .await
    }

    async fn fence(&self, shard: ShardId) -> Result<Epoch, StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let group = i32::from(shard.n / SHARDS_PER_GROUP);
        let found = self
            .scylla
            .row(&reach, self.bound(&statements.fence, &(home, class, group, n))?)
            .await?;
        Ok(found.map_or(Epoch(0), |(epoch,): (i64,)| Epoch(unsigned(epoch))))
    }

    async fn append(&self, shard: ShardId, at: Position, frame: Bytes) -> Result<(), StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let chunk = self.signed(at.slot.0 / SLOTS_PER_CHUNK)?;
        let values =
            (frame, home, class, n, chunk, self.signed(at.slot.0)?, self.signed(at.epoch.0)?);
        self.scylla.write(&reach, self.bound(&statements.append, &values)?).await
    }

    async fn read_log(
        &self,
        shard: ShardId,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        self.reach(shard)?;
        let mut out = Vec::new();
        let mut chunk = from.0 / SLOTS_PER_CHUNK;
        // Two at a time: appends overtake each other by less than a chunk, so that behind an empty
        // one there may be rows, but not behind two.
        while out.len() < limit {
            let left = limit - out.len();
            let (first, second) = try_join!(
                self.read_chunk(shard, chunk, from, left),
                self.read_chunk(shard, chunk + 1, from, left),
            )?;
            let end = second.is_empty();
            out.extend(first);
            out.extend(second);
            if end {
                break;
            }
            chunk += 2;
        }
        out.truncate(limit);
        Ok(out)
    }
}

#[async_trait]
impl Marks for Handle {
    async fn write_mark(
        &self,
        shard: ShardId,
        mark: &Mark,
        at: Position,
    ) -> Result<(), StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let (kind, id) = mark_key(mark);
        let time = self.write_time(at)?;
        let values =
            (time, self.signed(at.epoch.0)?, self.signed(at.slot.0)?, home, class, n, kind, id);
        self.scylla.write(&reach, self.bound(&statements.write_mark, &values)?).await
    }

    async fn mark(&self, shard: ShardId, mark: &Mark) -> Result<Option<Position>, StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let (kind, id) = mark_key(mark);
        let found = self
            .scylla
            .row(&reach, self.bound(&statements.mark, &(home, class, n, kind, id))?)
            .await?;
        let position = |(epoch, slot): (i64, i64)| Position {
            epoch: Epoch(unsigned(epoch)),
            slot: Slot(unsigned(slot)),
        };
        Ok(found.map(position))
    }

    async fn write_fresh_as_of(
        &self,
        shard: ShardId,
        region: RegionId,
        as_of_ms: u64,
    ) -> Result<(), StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        // The write time is the time itself: the latest stays, in whatever order they arrive.
        let as_of_ms = self.signed(as_of_ms)?;
        let values = (as_of_ms, as_of_ms, home, class, n, i32::from(region.0));
        self.scylla.write(&reach, self.bound(&statements.write_fresh_as_of, &values)?).await
    }

    async fn fresh_as_of(
        &self,
        shard: ShardId,
        region: RegionId,
    ) -> Result<Option<u64>, StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let values = (home, class, n, i32::from(region.0));
        let found = self.scylla.row(&reach, self.bound(&statements.fresh_as_of, &values)?).await?;
        Ok(found.map(|(as_of_ms,): (i64,)| unsigned(as_of_ms)))
    }
}

fn mark_key(mark: &Mark) -> (i8, String) {
    match mark {
        Mark::Checkpoint => (0, String::new()),
        Mark::Committed => (1, String::new()),
        Mark::Consumer(name) => (2, name.to_string()),
        Mark::Follower(region) => (3, region.0.to_string()),
    }
}
