//! One region's view of the replicas: which replicas an operation asks, and when enough have
//! answered. The embedded and the simulated store share it and differ only in their [`Replicas`].
//!
//! | durability | a write is done when | a read asks |
//! |---|---|---|
//! | multi-region | a majority of the zone's regions have it on disk | a majority, and merges by stamp |
//! | single-region | the handle's region has it on disk; the others of the zone get it later | the handle's region |
//!
//! Conditional writes ask a majority of the zone for either durability ([`conditional`]).
//!
//! Nothing of a zone is ever sent to a region outside it: only [`Coordinator::regions`] names
//! targets.

mod conditional;
mod handle;
mod rows;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use wire::{Durability, RegionId, ShardId, ZoneId};

use crate::cell::{Cell, Stored, Table};
use crate::contract::StoreError;

pub(crate) use conditional::ConditionalWrites;

/// Cells that one replica writes together or not at all.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) zone: ZoneId,
    pub(crate) cells: Vec<Cell>,
    pub(crate) sync: Sync,
}

/// When a replica may confirm a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// When it is on disk. The durability tells who else has it, so what a replica must not lose.
    Disk(Durability),
    /// When it can be read.
    Memory,
}

/// Why a replica did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReplicaError {
    /// Killed, cut off, or silent for too long.
    Gone,
    /// Its queue is full. Nothing was written.
    Overloaded,
    /// It holds bytes that nobody wrote.
    Damaged(String),
}

/// How a read asks replicas, nearest first, until enough have answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// One after the other: they answer at once.
    OneByOne,
    /// As many as are needed, and one more for each that fails.
    Needed,
    /// All: some will never answer.
    All,
}

/// A part of a table, in key order.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) table: Table,
    /// Inclusive.
    pub(crate) from: Vec<u8>,
    /// Exclusive.
    pub(crate) to: Vec<u8>,
    pub(crate) limit: usize,
}

/// The replicas of all regions, and the ways to them.
#[async_trait]
pub(crate) trait Replicas: Clone + Send + std::marker::Sync + 'static {
    /// The regions in which a zone's data may rest.
    fn zone(&self, zone: ZoneId) -> Option<Arc<[RegionId]>>;

    /// Whether this region's replica is open. If not, its handle fails.
    fn is_open(&self, region: RegionId) -> bool;

    /// Whether a write would be sent.
    fn is_reachable(&self, from: RegionId, to: RegionId) -> bool;

    /// Why this replica should get nothing new, if it says so.
    fn refuses(&self, _region: RegionId) -> Option<String> {
        None
    }

    /// The time of one round trip: reads ask the nearest first.
    fn distance(&self, from: RegionId, to: RegionId) -> Duration;

    fn asking(&self) -> Asking;

    /// Starts a write at once; dropping the future does not stop it.
    fn write(
        &self,
        from: RegionId,
        to: RegionId,
        write: &Arc<Write>,
    ) -> BoxFuture<'static, Result<(), ReplicaError>>;

    /// Writes when there is time, through a bounded queue. Repair brings what does not fit.
    fn write_later(&self, from: RegionId, to: RegionId, write: &Arc<Write>);

    async fn get(
        &self,
        from: RegionId,
        to: RegionId,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Stored>, ReplicaError>;

    async fn scan(
        &self,
        from: RegionId,
        to: RegionId,
        scan: &Scan,
    ) -> Result<Vec<(Bytes, Stored)>, ReplicaError>;
}

/// One region's handle on the store.
pub(crate) struct Coordinator<R> {
    pub(crate) replicas: R,
    pub(crate) region: RegionId,
    /// Where single-region shards are read and written: the same, unless the caller named another.
    pub(crate) at: RegionId,
    pub(crate) conditional: Arc<ConditionalWrites>,
}

/// The replicas that an operation asks.
struct Quorum {
    zone: ZoneId,
    /// Nearest first.
    members: Vec<RegionId>,
    needed: usize,
    /// They get writes too, but nobody waits for them.
    later: Vec<RegionId>,
}

impl<R: Replicas> Coordinator<R> {
    fn quorum(&self, shard: ShardId) -> Result<Quorum, StoreError> {
        let zone = shard.zone;
        let regions = self.regions(zone, shard.home)?;
        Ok(match shard.durability {
            Durability::MultiRegion => self.majority(zone, &regions),
            Durability::Region => {
                if !regions.contains(&self.at) {
                    return Err(StoreError::NotInZone { region: self.at, zone });
                }
                let later = regions.iter().copied().filter(|&r| r != self.at).collect();
                Quorum { zone, members: vec![self.at], needed: 1, later }
            }
        })
    }

    /// The regions of the zone, if both this region and the one the row is about are among them.
    fn regions(&self, zone: ZoneId, about: RegionId) -> Result<Arc<[RegionId]>, StoreError> {
        let outside = StoreError::NotInZone { region: self.region, zone };
        let regions = self.replicas.zone(zone).ok_or_else(|| outside.clone())?;
        if !regions.contains(&self.region) || !regions.contains(&about) {
            return Err(outside);
        }
        if self.replicas.is_open(self.region) { Ok(regions) } else { Err(StoreError::Closed) }
    }

    fn majority(&self, zone: ZoneId, regions: &[RegionId]) -> Quorum {
        let mut members = regions.to_vec();
        members.sort_by_key(|&to| self.replicas.distance(self.region, to));
        Quorum { zone, needed: regions.len() / 2 + 1, members, later: Vec::new() }
    }

    /// For conditional writes: a majority of the zone, whatever the durability.
    fn zone_majority(&self, zone: ZoneId, about: RegionId) -> Result<Quorum, StoreError> {
        Ok(self.majority(zone, &self.regions(zone, about)?))
    }

    async fn write(&self, quorum: &Quorum, write: Write) -> Result<(), StoreError> {
        let reachable = quorum
            .members
            .iter()
            .filter(|&&to| self.replicas.is_reachable(self.region, to))
            .count();
        if reachable < quorum.needed {
            return Err(StoreError::Unavailable {
                zone: quorum.zone,
                needed: quorum.needed,
                answering: reachable,
            });
        }
        let write = Arc::new(write);
        let begun: Vec<_> =
            quorum.members.iter().map(|&to| self.replicas.write(self.region, to, &write)).collect();
        for &to in &quorum.later {
            self.replicas.write_later(self.region, to, &write);
        }
        let confirmed = enough(begun, quorum.needed).await;
        if !self.replicas.is_open(self.region) {
            return Err(StoreError::Closed);
        }
        if confirmed { Ok(()) } else { Err(StoreError::Unknown) }
    }

    /// Asks until `needed` replicas have answered.
    async fn read<'a, T, F>(
        &'a self,
        quorum: &Quorum,
        ask: impl Fn(RegionId) -> F,
    ) -> Result<Vec<T>, StoreError>
    where
        F: Future<Output = Result<T, ReplicaError>> + Send + 'a,
    {
        let mut waiting = quorum.members.iter().copied();
        let ask = |to: RegionId| {
            let answer = ask(to);
            async move { (to, answer.await) }
        };
        let at_once = match self.replicas.asking() {
            Asking::OneByOne => 1,
            Asking::Needed => quorum.needed,
            Asking::All => quorum.members.len(),
        };
        let mut asked: FuturesUnordered<_> = waiting.by_ref().take(at_once).map(ask).collect();
        let mut answers = Vec::with_capacity(quorum.needed);
        let mut damaged = None;
        while answers.len() < quorum.needed {
            match asked.next().await {
                Some((_, Ok(answer))) => {
                    answers.push(answer);
                    if asked.is_empty() && answers.len() < quorum.needed {
                        asked.extend(waiting.next().map(ask));
                    }
                }
                Some((to, Err(error))) => {
                    if let ReplicaError::Damaged(what) = error {
                        damaged = Some(StoreError::Corrupt { region: to, what });
                    }
                    asked.extend(waiting.next().map(ask));
                }
                None if !self.replicas.is_open(self.region) => return Err(StoreError::Closed),
                None => {
                    let (needed, answering) = (quorum.needed, answers.len());
                    return Err(damaged.unwrap_or(StoreError::Unavailable {
                        zone: quorum.zone,
                        needed,
                        answering,
                    }));
                }
            }
        }
        if self.replicas.is_open(self.region) { Ok(answers) } else { Err(StoreError::Closed) }
    }

    async fn read_cell(
        &self,
        quorum: &Quorum,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Stored>, StoreError> {
        let answers =
            self.read(quorum, |to| self.replicas.get(self.region, to, table, key)).await?;
        Ok(answers.into_iter().flatten().reduce(newer))
    }

    async fn read_cells(
        &self,
        quorum: &Quorum,
        scan: &Scan,
    ) -> Result<Vec<(Bytes, Stored)>, StoreError> {
        let answers = self.read(quorum, |to| self.replicas.scan(self.region, to, scan)).await?;
        Ok(merge(answers, scan.limit))
    }
}

/// Whether at least `needed` of these succeed; returns as soon as that is known.
async fn enough(
    mut begun: Vec<BoxFuture<'static, Result<(), ReplicaError>>>,
    needed: usize,
) -> bool {
    if let [one] = &mut begun[..] {
        return one.await.is_ok() && needed <= 1;
    }
    let mut can_fail = begun.len() - needed;
    let mut confirmed = 0;
    let mut begun: FuturesUnordered<_> = begun.into_iter().collect();
    while let Some(result) = begun.next().await {
        match result {
            Ok(()) => confirmed += 1,
            Err(_) if can_fail == 0 => return false,
            Err(_) => can_fail -= 1,
        }
        if confirmed == needed {
            return true;
        }
    }
    false
}

fn newer(a: Stored, b: Stored) -> Stored {
    if b.beats(&a) { b } else { a }
}

/// Merges sorted lists into one, each key once. Lists may be cut at `limit`, and the result is too:
/// a key that a list lacks behind its cut lies behind the cut of the result.
fn merge(mut lists: Vec<Vec<(Bytes, Stored)>>, limit: usize) -> Vec<(Bytes, Stored)> {
    if lists.len() == 1
        && let Some(one) = lists.pop()
    {
        return one;
    }
    let mut all: Vec<(Bytes, Stored)> = lists.into_iter().flatten().collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut out: Vec<(Bytes, Stored)> = Vec::new();
    for (key, stored) in all {
        if let Some((last, kept)) = out.last_mut()
            && *last == key
        {
            if stored.beats(kept) {
                *kept = stored;
            }
        } else if out.len() == limit {
            break;
        } else {
            out.push((key, stored));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use wire::{Epoch, Position, Slot};

    use super::*;

    fn cell(key: &'static [u8], epoch: u64) -> (Bytes, Stored) {
        let stamp = Position { epoch: Epoch(epoch), slot: Slot(0) };
        (Bytes::from_static(key), Stored { stamp, bytes: Bytes::new() })
    }

    #[test]
    fn merged_lists_have_each_key_once_with_its_highest_stamp_and_end_at_the_limit() {
        let merged =
            merge(vec![vec![cell(b"a", 1), cell(b"c", 1)], vec![cell(b"a", 2), cell(b"b", 1)]], 2);
        assert_eq!(merged, vec![cell(b"a", 2), cell(b"b", 1)]);
    }

    #[test]
    fn a_majority_is_enough_and_its_absence_is_known_early() {
        let ok = || futures_util::future::ready(Ok(())).boxed();
        let gone = || futures_util::future::ready(Err(ReplicaError::Gone)).boxed();
        let silent = || futures_util::future::pending().boxed();
        assert_eq!(enough(vec![ok(), silent(), ok()], 2).now_or_never(), Some(true));
        assert_eq!(enough(vec![gone(), silent(), gone()], 2).now_or_never(), Some(false));
        assert_eq!(enough(vec![ok(), silent(), gone()], 2).now_or_never(), None);
    }
}
