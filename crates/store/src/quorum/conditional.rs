//! Conditional writes, one at a time for each shard.
//!
//! The process is one, so a lock puts the conditional writes of a shard in order; the replicas make them durable. Under the
//! lock: read the row from a majority of the zone, decide, write the new row to a majority. A row's stamp is its version,
//! (boot, count): `boot` grows with every start of the process, `count` with every attempt, so an attempt whose outcome
//! is unknown never ties with the one after it.
//!
//! **An attempt in doubt is settled before anything else is said of the row.** It may stand on a minority. The next
//! operation writes what it read, under a higher version, to a majority: from then on the attempt is either that row or
//! beaten by it for ever. Without that, a claimant could read "not mine", give up, and own the shard an hour later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use conversation::shard::{Acting, Cas, FenceMode, Lease, Nonce, Starts};
use serde::Deserialize;
use wire::{Durability, Epoch, NodeId, Position, ShardId, Slot};

use super::{Coordinator, Quorum, Replicas, Sync, Write};
use crate::cell::{Cell, Table, shard_key};
use crate::contract::StoreError;

/// The turns of all shards. One for all regions of a process.
#[derive(Debug)]
pub(crate) struct ConditionalWrites {
    boot: u64,
    turns: Mutex<HashMap<ShardId, Arc<tokio::sync::Mutex<Turn>>>>,
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

    fn turn(&self, shard: ShardId) -> Arc<tokio::sync::Mutex<Turn>> {
        // A panic while the map was held leaves at worst a shard without its entry.
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(shard).or_default().clone()
    }
}

impl<R: Replicas> Coordinator<R> {
    /// A serial read of the lease.
    pub(super) async fn serial_read(&self, shard: ShardId) -> Result<Lease, StoreError> {
        let quorum = self.zone_majority(shard)?;
        let turn = self.conditional.turn(shard);
        let mut turn = turn.lock().await;
        Ok(self.settled(&quorum, shard, &mut turn).await?.unwrap_or_default())
    }

    /// Writes what `change` makes of the row, unless it makes nothing of it.
    pub(crate) async fn write_if(
        &self,
        shard: ShardId,
        change: impl Fn(&Lease) -> Option<Lease> + Send,
    ) -> Result<Cas, StoreError> {
        let quorum = self.zone_majority(shard)?;
        let turn = self.conditional.turn(shard);
        let mut turn = turn.lock().await;
        let current = self.settled(&quorum, shard, &mut turn).await?.unwrap_or_default();
        match change(&current) {
            None => Ok(Cas::Refused),
            Some(next) => self.attempt(&quorum, shard, &mut turn, &next).await.map(|()| Cas::Applied),
        }
    }

    /// The row, after any attempt in doubt is settled.
    async fn settled(&self, quorum: &Quorum, shard: ShardId, turn: &mut Turn) -> Result<Option<Lease>, StoreError> {
        let found = self.read_cell(quorum, Table::Lease, &shard_key(shard)).await?;
        let fresh = turn.count == 0;
        if let Some(found) = &found
            && found.stamp.epoch.0 == self.conditional.boot
        {
            turn.count = turn.count.max(found.stamp.slot.0);
        }
        let lease = match &found {
            None => None,
            Some(found) => Some(decode(&found.bytes).ok_or_else(|| StoreError::Corrupt {
                region: self.region,
                what: format!("the lease of {shard} is not a lease"),
            })?),
        };
        // Of the processes before this one nobody knows what they left in doubt.
        if turn.in_doubt || (fresh && lease.is_some()) {
            self.attempt(quorum, shard, turn, lease.as_ref().unwrap_or(&Lease::default())).await?;
        }
        Ok(lease)
    }

    async fn attempt(&self, quorum: &Quorum, shard: ShardId, turn: &mut Turn, lease: &Lease) -> Result<(), StoreError> {
        turn.count += 1;
        let doubtful_before = std::mem::replace(&mut turn.in_doubt, true);
        let stamp = Position { epoch: Epoch(self.conditional.boot), slot: Slot(turn.count) };
        let bytes = postcard::to_stdvec(lease).expect("plain data in memory always serializes");
        let cell = Cell::new(Table::Lease, shard_key(shard), stamp, &bytes);
        // Whatever the class: the lease is what a majority of the zone says.
        let write = Write { zone: shard.zone, cells: vec![cell], sync: Sync::Disk(Durability::MultiRegion) };
        let result = self.write(quorum, write).await;
        turn.in_doubt = match &result {
            Ok(()) => false,
            Err(error) => doubtful_before || error.may_have_written(),
        };
        result
    }
}

fn decode(bytes: &[u8]) -> Option<Lease> {
    postcard::from_bytes(bytes).or_else(|_| postcard::from_bytes::<Untimed>(bytes).map(Untimed::timed)).ok()
}

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
        let lease = decode(&postcard::to_stdvec(&old).unwrap()).unwrap();
        let acting = Some(Acting { region: owner.region, fence_mode: FenceMode::Read });
        assert_eq!((lease.epoch, &lease.starts, lease.acting), (Epoch(2), &starts, acting));
        assert_eq!(decode(&postcard::to_stdvec(&lease).unwrap()), Some(lease));
        assert_eq!(decode(b"not a lease"), None);
    }
}
