//! Conditional writes, one at a time for each row.
//!
//! There is one process, so a lock orders the conditional writes of a row; the replicas make them
//! durable. An operation holds the lock while it reads the row from a majority of the zone,
//! decides, and writes the new row to a majority. The stamp of a row is its version, (boot, count):
//! `boot` grows with every start of the process, `count` with every attempt, so an attempt whose
//! outcome is unknown never ties with the next one.
//!
//! **An attempt in doubt is settled before the row is used again.** It may stand on a minority. The
//! next operation writes the row it read to a majority, under a higher version: the attempt then is
//! that row, or is beaten for ever. Otherwise a claimant could read "not mine", give up, and own
//! the shard an hour later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use conversation::shard::{Acting, Cas, CoreLease, FenceMode, Lease, Nonce, Starts};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use wire::{Durability, Epoch, NodeId, Position, RegionId, ShardId, Slot, ZoneId};

use super::{Coordinator, Quorum, Replicas, Scan, Sync, Write};
use crate::cell::{
    Cell, Table, after_prefix, core_incarnation, core_key, cores_key, failed_over_key, shard_key,
};
use crate::contract::{CoreKey, StoreError};

/// Listed cores of a region: far more than there are, and few enough for one read.
const CORES_MAX: usize = 4_096;

/// Names a row that is written conditionally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RowKey {
    Shard(ShardId),
    Core(CoreKey),
    FailedOver(ZoneId, RegionId),
}

impl RowKey {
    fn zone(self) -> ZoneId {
        match self {
            Self::Shard(shard) => shard.zone,
            Self::Core(of) => of.zone,
            Self::FailedOver(zone, _) => zone,
        }
    }

    /// The region that the row is about.
    fn region(self) -> RegionId {
        match self {
            Self::Shard(shard) => shard.home,
            Self::Core(of) => of.region,
            Self::FailedOver(_, region) => region,
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Shard(shard) => shard_key(shard),
            Self::Core(of) => core_key(of),
            Self::FailedOver(zone, region) => failed_over_key(zone, region),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Shard(shard) => shard.to_string(),
            Self::Core(of) => format!("a core in region {}", of.region.0),
            Self::FailedOver(_, region) => format!("region {}", region.0),
        }
    }
}

/// The content of such a row.
pub(super) trait ConditionalRow: Serialize + Sized + Send {
    /// None when this version cannot read it.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl ConditionalRow for Lease {
    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes)
            .or_else(|_| postcard::from_bytes::<Untimed>(bytes).map(Untimed::timed))
            .ok()
    }
}

/// Whether a region is failed over; no row: no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailedOver(pub(super) bool);

impl ConditionalRow for FailedOver {
    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl ConditionalRow for CoreLease {
    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// The locks of all rows. All regions of a process share them.
#[derive(Debug)]
pub(crate) struct ConditionalWrites {
    boot: u64,
    turns: Mutex<HashMap<RowKey, Arc<tokio::sync::Mutex<Turn>>>>,
}

#[derive(Debug, Default)]
struct Turn {
    /// Attempts so far in this process.
    count: u64,
    /// No majority confirmed the last attempt, and no operation has settled it since.
    in_doubt: bool,
}

impl ConditionalWrites {
    /// `boot` is higher than in any process before.
    pub(crate) fn new(boot: u64) -> Self {
        Self { boot, turns: Mutex::default() }
    }

    fn turn(&self, key: RowKey) -> Arc<tokio::sync::Mutex<Turn>> {
        // A panic while the map was held leaves at worst a row without its entry.
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(key).or_default().clone()
    }
}

impl<R: Replicas> Coordinator<R> {
    pub(super) async fn serial_read<T: ConditionalRow>(
        &self,
        key: RowKey,
    ) -> Result<Option<T>, StoreError> {
        let quorum = self.zone_majority(key.zone(), key.region())?;
        let turn = self.conditional.turn(key);
        let mut turn = turn.lock().await;
        let found = self.settled(&quorum, key, &mut turn).await?;
        self.decoded(key, found)
    }

    /// Writes the lease that `change` returns; none: refused.
    pub(crate) async fn write_if(
        &self,
        shard: ShardId,
        change: impl Fn(&Lease) -> Option<Lease> + Send + std::marker::Sync,
    ) -> Result<Cas, StoreError> {
        self.write_row_if(RowKey::Shard(shard), |lease: Option<Lease>| {
            change(&lease.unwrap_or_default())
        })
        .await
    }

    /// As [`Coordinator::write_if`], for any row, which may not be there.
    pub(super) async fn write_row_if<T: ConditionalRow>(
        &self,
        key: RowKey,
        change: impl Fn(Option<T>) -> Option<T> + Send + std::marker::Sync,
    ) -> Result<Cas, StoreError> {
        let quorum = self.zone_majority(key.zone(), key.region())?;
        let turn = self.conditional.turn(key);
        let mut turn = turn.lock().await;
        let found = self.settled(&quorum, key, &mut turn).await?;
        match change(self.decoded(key, found)?) {
            None => Ok(Cas::Refused),
            Some(next) => {
                let bytes =
                    postcard::to_stdvec(&next).expect("plain data in memory always serializes");
                self.attempt(&quorum, key, &mut turn, &bytes).await.map(|()| Cas::Applied)
            }
        }
    }

    /// All core leases of a region, without incarnations of earlier processes: they ended with
    /// them.
    pub(super) async fn serial_cores(
        &self,
        zone: ZoneId,
        region: RegionId,
    ) -> Result<Vec<CoreLease>, StoreError> {
        let quorum = self.zone_majority(zone, region)?;
        let prefix = cores_key(zone, region);
        let to = after_prefix(&prefix);
        let found = self
            .read_cells(&quorum, &Scan { table: Table::Lease, from: prefix, to, limit: CORES_MAX })
            .await?;
        let present =
            found.iter().filter(|(_, stored)| stored.stamp.epoch.0 == self.conditional.boot);
        let lives = present.filter_map(|(key, _)| core_incarnation(key));
        let leases = lives.map(|incarnation| {
            self.serial_read(RowKey::Core(CoreKey { zone, region, incarnation }))
        });
        Ok(try_join_all(leases).await?.into_iter().flatten().collect())
    }

    fn decoded<T: ConditionalRow>(
        &self,
        key: RowKey,
        found: Option<Bytes>,
    ) -> Result<Option<T>, StoreError> {
        let unreadable = || StoreError::Corrupt {
            region: self.region,
            what: format!("the conditional row of {} is none", key.name()),
        };
        found.map(|bytes| T::decode(&bytes).ok_or_else(unreadable)).transpose()
    }

    /// The row, after any attempt in doubt is settled.
    async fn settled(
        &self,
        quorum: &Quorum,
        key: RowKey,
        turn: &mut Turn,
    ) -> Result<Option<Bytes>, StoreError> {
        let found = self.read_cell(quorum, Table::Lease, &key.bytes()).await?;
        let fresh = turn.count == 0;
        if let Some(found) = &found
            && found.stamp.epoch.0 == self.conditional.boot
        {
            turn.count = turn.count.max(found.stamp.slot.0);
        }
        // Nobody knows what the processes before this one left in doubt.
        if turn.in_doubt || (fresh && found.is_some()) {
            self.attempt(quorum, key, turn, found.as_ref().map_or(NO_ROW, |found| &found.bytes))
                .await?;
        }
        Ok(found.map(|found| found.bytes).filter(|bytes| bytes != NO_ROW))
    }

    async fn attempt(
        &self,
        quorum: &Quorum,
        key: RowKey,
        turn: &mut Turn,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        turn.count += 1;
        let doubtful_before = std::mem::replace(&mut turn.in_doubt, true);
        let stamp = Position { epoch: Epoch(self.conditional.boot), slot: Slot(turn.count) };
        let cell = Cell::new(Table::Lease, key.bytes(), stamp, bytes);
        // Whatever the class: the row is what a majority of the zone says.
        let write = Write {
            zone: key.zone(),
            cells: vec![cell],
            sync: Sync::Disk(Durability::MultiRegion),
        };
        let result = self.write(quorum, write).await;
        turn.in_doubt = match &result {
            Ok(()) => false,
            Err(error) => doubtful_before || error.may_have_written(),
        };
        result
    }
}

/// Beats an attempt in doubt that would have made the first row.
const NO_ROW: &[u8] = &[];

/// A row from before there were timed leases.
#[derive(Deserialize)]
struct Untimed {
    epoch: Epoch,
    owner: Option<NodeId>,
    nonce: Nonce,
    sealed: bool,
    starts: Starts,
    fence_mode: FenceMode,
}

impl Untimed {
    fn timed(self) -> Lease {
        let Self { epoch, owner, nonce, sealed, starts, fence_mode } = self;
        // Nobody could leave a region behind then, so whoever claimed last is where all of them
        // were.
        let region = starts.last().and(owner.as_ref()).map(|owner| owner.region);
        let acting = region.map(|region| Acting { region, fence_mode });
        Lease { epoch, owner, nonce, sealed, starts, fence_mode, acting, ..Lease::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_from_before_there_were_timed_ones_is_understood() {
        let owner: NodeId = "r3/core/a".parse().unwrap();
        let starts = Starts::from_iter([(Epoch(1), Slot(0)), (Epoch(2), Slot(9))]);
        let old = (Epoch(2), Some(owner.clone()), Nonce(5), true, &starts, FenceMode::Read);
        let lease = Lease::decode(&postcard::to_stdvec(&old).unwrap()).unwrap();
        let acting = Some(Acting { region: owner.region, fence_mode: FenceMode::Read });
        assert_eq!((lease.epoch, &lease.starts, lease.acting), (Epoch(2), &starts, acting));
        assert_eq!(Lease::decode(&postcard::to_stdvec(&lease).unwrap()), Some(lease));
        assert_eq!(Lease::decode(b"not a lease"), None);
    }
}
