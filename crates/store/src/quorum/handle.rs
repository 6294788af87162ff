//! The contract, in terms of cells.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::log::LogRow;
use conversation::shard::{Beat, Cas, CoreLease, FenceMode, Lease, Nonce};
use futures_util::future::try_join_all;
use wire::{Durability, Epoch, NodeId, Position, RegionId, ShardId, Slot, ZoneId};

use super::conditional::{FailedOver, RowKey};
use super::{Coordinator, Replicas, Scan, Sync, Write};
use crate::cell::{
    Cell, Table, after_prefix, fresh_as_of_key, log_key, log_position, mark_key, shard_key,
};
use crate::contract::{CoreKey, Leases, Log, Mark, Marks, Store, StoreError};

impl<R: Replicas> Coordinator<R> {
    async fn put(&self, shard: ShardId, cells: Vec<Cell>, sync: Sync) -> Result<(), StoreError> {
        let quorum = self.quorum(shard)?;
        self.write(&quorum, Write { zone: shard.zone, cells, sync }).await
    }
}

#[async_trait]
impl<R: Replicas> Leases for Coordinator<R> {
    async fn lease(&self, shard: ShardId) -> Result<Lease, StoreError> {
        Ok(self.serial_read(RowKey::Shard(shard)).await?.unwrap_or_default())
    }

    async fn claim(
        &self,
        shard: ShardId,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Result<Cas, StoreError> {
        self.write_if(shard, |lease| lease.claimed(observed, owner, nonce, fence_mode)).await
    }

    async fn seal(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Result<Cas, StoreError> {
        self.write_if(shard, |lease| lease.sealed_at(shard.durability, epoch, nonce, start)).await
    }

    async fn release(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        end: Slot,
    ) -> Result<Cas, StoreError> {
        self.write_if(shard, |lease| lease.released_at(epoch, nonce, end)).await
    }

    async fn close_fork(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        fork: Epoch,
    ) -> Result<Cas, StoreError> {
        self.write_if(shard, |lease| lease.closed(epoch, nonce, fork)).await
    }

    async fn core_leases(
        &self,
        zone: ZoneId,
        region: RegionId,
    ) -> Result<Vec<CoreLease>, StoreError> {
        self.serial_cores(zone, region).await
    }

    async fn core_lease(&self, of: CoreKey) -> Result<Option<CoreLease>, StoreError> {
        self.serial_read(RowKey::Core(of)).await
    }

    async fn register_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
    ) -> Result<Cas, StoreError> {
        let key = RowKey::Core(CoreKey { zone, region: node.region, incarnation });
        self.write_row_if(key, |row| {
            row.is_none().then(|| CoreLease::registered(node.clone(), incarnation))
        })
        .await
    }

    async fn renew_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
        beat: Beat,
    ) -> Result<Cas, StoreError> {
        let key = RowKey::Core(CoreKey { zone, region: node.region, incarnation });
        self.write_row_if(key, |row: Option<CoreLease>| row?.renewed(beat)).await
    }

    async fn break_core(&self, of: CoreKey, beat: Beat) -> Result<Cas, StoreError> {
        self.write_row_if(RowKey::Core(of), |row: Option<CoreLease>| row?.broken_at(beat)).await
    }

    async fn failed_over(&self, zone: ZoneId) -> Result<BTreeSet<RegionId>, StoreError> {
        let regions = self.regions(zone, self.region)?;
        let reads = regions.iter().map(|&region| async move {
            let FailedOver(failed_over) =
                self.serial_read(RowKey::FailedOver(zone, region)).await?.unwrap_or_default();
            Ok::<_, StoreError>(failed_over.then_some(region))
        });
        Ok(try_join_all(reads).await?.into_iter().flatten().collect())
    }

    async fn set_failed_over(
        &self,
        zone: ZoneId,
        region: RegionId,
        failed_over: bool,
    ) -> Result<Cas, StoreError> {
        let key = RowKey::FailedOver(zone, region);
        let news = |row: Option<FailedOver>| {
            (row.unwrap_or_default().0 != failed_over).then_some(FailedOver(failed_over))
        };
        self.write_row_if(key, news).await
    }
}

impl<R: Replicas> Store for Coordinator<R> {
    fn at(&self, region: RegionId) -> Arc<dyn Store> {
        let (replicas, conditional) = (self.replicas.clone(), Arc::clone(&self.conditional));
        Arc::new(Self { replicas, region: self.region, at: region, conditional })
    }

    fn refuses(&self, shard: ShardId) -> Option<String> {
        let zone = self.replicas.zone(shard.zone)?;
        let (asked, needed) = match shard.durability {
            Durability::MultiRegion => (&zone[..], zone.len() / 2 + 1),
            Durability::Region => (std::slice::from_ref(&self.at), 1),
        };
        let refusing = asked.iter().filter_map(|&region| self.replicas.refuses(region));
        let first = refusing.last()?;
        let takes = |region: &&RegionId| {
            self.replicas.is_reachable(self.region, **region)
                && self.replicas.refuses(**region).is_none()
        };
        (asked.iter().filter(takes).count() < needed).then_some(first)
    }
}

#[async_trait]
impl<R: Replicas> Log for Coordinator<R> {
    async fn write_fence(&self, shard: ShardId, epoch: Epoch) -> Result<(), StoreError> {
        let cell =
            Cell::new(Table::Fence, shard_key(shard), Position { epoch, slot: Slot(0) }, &[]);
        self.put(shard, vec![cell], Sync::Disk(shard.durability)).await
    }

    async fn fence(&self, shard: ShardId) -> Result<Epoch, StoreError> {
        let quorum = self.quorum(shard)?;
        let found = self.read_cell(&quorum, Table::Fence, &shard_key(shard)).await?;
        Ok(found.map_or(Epoch(0), |stored| stored.stamp.epoch))
    }

    async fn append(&self, shard: ShardId, at: Position, frame: Bytes) -> Result<(), StoreError> {
        let cell = Cell::new(Table::Log, log_key(shard, at), at, &frame);
        self.put(shard, vec![cell], Sync::Disk(shard.durability)).await
    }

    async fn read_log(
        &self,
        shard: ShardId,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        let quorum = self.quorum(shard)?;
        let from = log_key(shard, Position { epoch: Epoch(0), slot: from });
        let scan = Scan { table: Table::Log, from, to: after_prefix(&shard_key(shard)), limit };
        let found = self.read_cells(&quorum, &scan).await?;
        found
            .into_iter()
            .map(|(key, stored)| {
                let at = log_position(&key).ok_or_else(|| StoreError::Corrupt {
                    region: self.region,
                    what: format!("a log row of {shard} under a key that is none"),
                })?;
                Ok(LogRow { at, frame: stored.bytes })
            })
            .collect()
    }
}

#[async_trait]
impl<R: Replicas> Marks for Coordinator<R> {
    async fn write_mark(
        &self,
        shard: ShardId,
        mark: &Mark,
        at: Position,
    ) -> Result<(), StoreError> {
        let cell = Cell::new(Table::Mark, mark_key(shard, mark), at, &[]);
        let sync = match mark {
            Mark::Checkpoint | Mark::Follower(_) => Sync::Disk(shard.durability),
            Mark::Committed | Mark::Consumer(_) => Sync::Memory,
        };
        self.put(shard, vec![cell], sync).await
    }

    async fn mark(&self, shard: ShardId, mark: &Mark) -> Result<Option<Position>, StoreError> {
        let quorum = self.quorum(shard)?;
        let found = self.read_cell(&quorum, Table::Mark, &mark_key(shard, mark)).await?;
        Ok(found.map(|stored| stored.stamp))
    }

    async fn write_fresh_as_of(
        &self,
        shard: ShardId,
        region: RegionId,
        as_of_ms: u64,
    ) -> Result<(), StoreError> {
        // The stamp ranks by time, so the latest write wins.
        let stamp = Position { epoch: Epoch(0), slot: Slot(as_of_ms) };
        let cell =
            Cell::new(Table::Mark, fresh_as_of_key(shard, region), stamp, &as_of_ms.to_be_bytes());
        self.put(shard, vec![cell], Sync::Memory).await
    }

    async fn fresh_as_of(
        &self,
        shard: ShardId,
        region: RegionId,
    ) -> Result<Option<u64>, StoreError> {
        let quorum = self.quorum(shard)?;
        let key = fresh_as_of_key(shard, region);
        let Some(stored) = self.read_cell(&quorum, Table::Mark, &key).await? else {
            return Ok(None);
        };
        let as_of_ms = stored.bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        as_of_ms.map(Some).ok_or_else(|| StoreError::Corrupt {
            region: self.region,
            what: format!("the time up to which {shard} is followed is none"),
        })
    }
}
