//! The checker, checked: the protocol with one of its steps broken on purpose.
//!
//! Most mutants stand between a core and its store, so that everything else is production code.
//! Eight are fail points within edges and cores, which are compiled into test builds and with the
//! feature `mutants`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use clap::ValueEnum;
use conversation::log::LogRow;
use conversation::shard::{Cas, Nonce};
use rand::Rng as _;
use store::simulated::Simulated;
use store::{Mark, Store, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;
use wire::{Epoch, Position, RegionId, ShardId, Slot};

/// The broken step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mutant {
    /// The owner acknowledges without a read of the fence.
    NoFenceRead,
    /// A claimant reads the marks and the tail before it has raised the fence.
    TailReadBeforeFence,
    /// A claimant keeps the tail without writing it again.
    NoRewrite,
    /// The fence is the last value written, not the highest.
    FenceNotMax,
    /// The seal is written although another core has claimed the shard since.
    SealNotConditional,
    /// A slot counts as durable once a later one is.
    AcksOutOfOrder,
    /// A new owner forgets sends from before its term.
    DedupeForgotten,
    /// The feed publishes changes before they are committed.
    FeedPastTheMark,
    /// An edge that watches again continues with the newest change and skips those between.
    GapSkipped,
    /// An edge whose stream to the owner broke does not renew its watches.
    InterestLost,
    /// An edge does not watch a moved conversation at its new home.
    MoveNotFollowed,
    /// A new owner does not continue the moves of the previous one.
    MoveForgotten,
    /// The owner of a single-region shard mistakes its own projections for those of every region.
    HereIsEverywhere,
    /// A claimant revokes a timed lease before it must have expired.
    LeaseNotWaitedFor,
    /// A salvaged change returns without its mark.
    SalvageUnflagged,
}

/// At least one of this many seeds, counted from 1, catches each mutant.
pub const SEEDS_MAX: u64 = 120;

impl Mutant {
    /// The fail point that breaks it; none: the store's handle breaks it.
    #[must_use]
    pub fn fail_point(self) -> Option<&'static str> {
        match self {
            Self::FeedPastTheMark => Some("feed-past-the-mark"),
            Self::GapSkipped => Some("gap-skipped"),
            Self::InterestLost => Some("interest-lost"),
            Self::MoveNotFollowed => Some("move-not-followed"),
            Self::MoveForgotten => Some("move-forgotten"),
            Self::HereIsEverywhere => Some("here-is-everywhere"),
            Self::LeaseNotWaitedFor => Some("lease-not-waited-for"),
            Self::SalvageUnflagged => Some("salvage-unflagged"),
            _ => None,
        }
    }

    /// Enables this mutant's fail point for all runs of the process, and disables the others.
    ///
    /// # Errors
    /// When this program was built without fail points.
    pub fn arm(mutant: Option<Self>) -> anyhow::Result<()> {
        for other in Self::value_variants().iter().filter_map(|mutant| mutant.fail_point()) {
            fail::remove(other);
        }
        let Some((mutant, point)) = mutant.and_then(|mutant| Some((mutant, mutant.fail_point()?)))
        else {
            return Ok(());
        };
        if !fail::has_failpoints() {
            bail!(
                "{mutant} is a fail point, and this program has none: build it with `--features hearth-sim/mutants`"
            );
        }
        fail::cfg(point, "return").map_err(anyhow::Error::msg)
    }
}

/// One broken step, for all cores of a run.
pub struct Mutation {
    mutant: Mutant,
    store: Arc<Simulated>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// By region: the values that a claimant has read too early.
    early: BTreeMap<(RegionId, ShardId), Early>,
    /// Terms begun by each region.
    claimed: BTreeMap<(RegionId, ShardId), Epoch>,
    fences: BTreeMap<ShardId, Epoch>,
    /// The highest slot of a term that was confirmed.
    durable: BTreeMap<(ShardId, Epoch), watch::Sender<u64>>,
}

/// The tail of a log, with the marks that a claimant compares it with.
struct Early {
    tail: Vec<LogRow>,
    marks: [(Mark, Option<Position>); 2],
}

impl Mutation {
    #[must_use]
    pub fn new(mutant: Mutant, store: Arc<Simulated>) -> Arc<Self> {
        Arc::new(Self { mutant, store, memory: Mutex::default() })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the dedupe memory is lost.
    #[must_use]
    pub fn forgets(&self) -> bool {
        self.mutant == Mutant::DedupeForgotten
    }

    pub(crate) async fn fence(
        &self,
        store: Arc<dyn Store>,
        shard: ShardId,
    ) -> Result<Epoch, StoreError> {
        match self.mutant {
            Mutant::NoFenceRead => Ok(Epoch(0)),
            Mutant::FenceNotMax => {
                let highest = store.fence(shard).await?;
                Ok(self.memory().fences.get(&shard).copied().unwrap_or(highest))
            }
            _ => store.fence(shard).await,
        }
    }

    pub(crate) fn claimed(&self, region: RegionId, shard: ShardId, observed: Epoch) {
        self.memory().claimed.insert((region, shard), observed.next());
    }

    pub(crate) async fn write_fence(
        self: Arc<Self>,
        store: Arc<dyn Store>,
        region: RegionId,
        shard: ShardId,
        epoch: Epoch,
    ) -> Result<(), StoreError> {
        if self.mutant == Mutant::TailReadBeforeFence {
            let tail = store.read_log(shard, Slot(0), 1 << 20).await?;
            let checkpoint = store.mark(shard, &Mark::Checkpoint).await?;
            let committed = store.mark(shard, &Mark::Committed).await?;
            let marks = [(Mark::Checkpoint, checkpoint), (Mark::Committed, committed)];
            self.memory().early.insert((region, shard), Early { tail, marks });
            // A claimant may be this slow: its order is wrong, not its pace.
            let slow = Duration::from_millis(rand::rng().random_range(300..2_500));
            sleep(slow).await;
        }
        store.write_fence(shard, epoch).await?;
        if self.mutant == Mutant::FenceNotMax {
            self.memory().fences.insert(shard, epoch);
            // The same write again, late, as a network may deliver it.
            for _ in 0..3 {
                let late = Duration::from_millis(rand::rng().random_range(500..15_000));
                let this = Arc::clone(&self);
                tokio::spawn(async move {
                    sleep(late).await;
                    this.memory().fences.insert(shard, epoch);
                });
            }
        }
        Ok(())
    }

    /// A claimant reads the tail. None: from the store.
    pub(crate) fn tail(
        &self,
        region: RegionId,
        shard: ShardId,
        from: Slot,
        limit: usize,
    ) -> Option<Vec<LogRow>> {
        let memory = self.memory();
        let early = memory.early.get(&(region, shard))?;
        Some(early.tail.iter().filter(|row| row.at.slot >= from).take(limit).cloned().collect())
    }

    /// A claimant reads a mark. None: from the store.
    pub(crate) fn mark(
        &self,
        region: RegionId,
        shard: ShardId,
        mark: &Mark,
    ) -> Option<Option<Position>> {
        let memory = self.memory();
        let early = memory.early.get(&(region, shard))?;
        early.marks.iter().find(|(read, _)| read == mark).map(|(_, at)| *at)
    }

    pub(crate) async fn append(
        &self,
        store: Arc<dyn Store>,
        region: RegionId,
        shard: ShardId,
        at: Position,
        frame: Bytes,
    ) -> Result<(), StoreError> {
        match self.mutant {
            Mutant::NoRewrite => {
                let ours = self.memory().claimed.get(&(region, shard)).copied();
                if ours.is_some_and(|ours| at.epoch < ours) {
                    Ok(())
                } else {
                    store.append(shard, at, frame).await
                }
            }
            Mutant::AcksOutOfOrder => self.append_over_holes(store, shard, at, frame).await,
            _ => store.append(shard, at, frame).await,
        }
    }

    async fn append_over_holes(
        &self,
        store: Arc<dyn Store>,
        shard: ShardId,
        at: Position,
        frame: Bytes,
    ) -> Result<(), StoreError> {
        let durable = self
            .memory()
            .durable
            .entry((shard, at.epoch))
            .or_insert_with(|| watch::Sender::new(0))
            .clone();
        let mut later = durable.subscribe();
        tokio::select! {
            appended = store.append(shard, at, frame) => {
                if appended.is_ok() {
                    durable.send_modify(|highest| *highest = at.slot.0.max(*highest));
                }
                appended
            }
            Ok(_) = later.wait_for(|highest| *highest > at.slot.0) => Ok(()),
        }
    }

    pub(crate) async fn seal(
        &self,
        store: Arc<dyn Store>,
        region: RegionId,
        shard: ShardId,
        epoch: Epoch,
        (nonce, start): (Nonce, Slot),
    ) -> Result<Cas, StoreError> {
        self.memory().early.remove(&(region, shard));
        if self.mutant == Mutant::SealNotConditional {
            // A claimant may be this slow.
            let slow = Duration::from_millis(rand::rng().random_range(0..4_000));
            sleep(slow).await;
            return self.store.seal_blindly(region, shard, epoch, start).await;
        }
        store.seal(shard, epoch, nonce, start).await
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => write!(f, "{self:?}"),
        }
    }
}
