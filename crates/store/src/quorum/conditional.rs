//! Conditional writes, one at a time for each row.
//!
//! The process is one, so a lock puts the conditional writes of a row in order; the replicas make them durable. Under the
//! lock: read the row from a majority of the zone, decide, write the new row to a majority. A row's stamp is its version,
//! (boot, count): `boot` grows with every start of the process, `count` with every attempt, so an attempt whose outcome
//! is unknown never ties with the one after it.
//!
//! **An attempt in doubt is settled before anything else is said of the row.** It may stand on a minority. The next
//! operation writes what it read, under a higher version, to a majority: from then on the attempt is either that row or
//! beaten by it for ever. Without that, a claimant could read "not mine", give up, and own the shard an hour later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use conversation::shard::{Acting, Cas, CoreLease, FenceMode, Lease, Nonce, Starts};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use wire::{Durability, Epoch, NodeId, Position, RegionId, ShardId, Slot, ZoneId};

use super::{Coordinator, Quorum, Replicas, Scan, Sync, Write};
use crate::cell::{
    Cell, Table, after_prefix, core_key, core_life, cores_key, failed_over_key, shard_key,
};
use crate::contract::{CoreKey, StoreError};

/// Cores of a region that are listed, at most: far more than there are, and few enough to be read at once.
const CORES_MAX: usize = 4_096;

/// Which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RowKey {
    /// The lease of a shard.
    Shard(ShardId),
    /// The timed lease of a core.
    Core(CoreKey),
    /// Whether a region is failed over.
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

/// What stands in such a row.
pub(super) trait ConditionalRow: Serialize + Sized + Send {
    /// Nothing when this version cannot read it.
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

/// The turns of all rows. One for all regions of a process.
#[derive(Debug)]
pub(crate) struct ConditionalWrites {
    boot: u64,
    turns: Mutex<HashMap<RowKey, Arc<tokio::sync::Mutex<Turn>>>>,
}

#[derive(Debug, Default)]
struct Turn {
    /// Attempts so far in this process.
    count: u64,
    /// The last attempt was neither confirmed by a majority nor settled since.
    in_doubt: bool,
}

impl ConditionalWrites {
    /// `boot` is higher than that of any process before.
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
    /// A serial read.
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

    /// Writes what `change` makes of the lease, unless it makes nothing of it.
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

    /// All core leases of a region. The lives of earlier processes are left out: they ended with them.
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
        let lives = present.filter_map(|(key, _)| core_life(key));
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
        // Of the processes before this one nobody knows what they left in doubt.
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

/// Stands where an attempt in doubt would have made the first row, and was beaten.
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
        // Nobody could leave a region behind then, so whoever claimed last is where all of them were.
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
