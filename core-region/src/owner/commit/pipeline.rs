//! Drives [`Owner`]: writes its rows, reads the fence and the clock when it asks, and tells it the
//! outcomes. Decides only the pace at which frames are launched.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use conversation::log::{LogFrame, LogRow};
use conversation::shard::owner::{Appended, FenceRead, Stopped};
use conversation::shard::{AckBy, Owner, Term};
use futures_util::stream::FuturesUnordered;
use store::{Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;
use wire::command::Refusal;
use wire::{Epoch, ErrorCode, ShardId, Slot};

use crate::clock;
use crate::ownership::lease_renewal::TimedLease;

/// Pause before an append or a fence read with unknown outcome is repeated; it doubles each time.
const RETRY_BACKOFF: Duration = Duration::from_millis(20);
/// Doublings of [`RETRY_BACKOFF`].
const DOUBLINGS: u32 = 4;
/// Frames in flight that the pace aims at when commits are fast.
const PACE: f64 = 4.0;
/// The longest that a frame waits for its pace when commits are slow.
const GAP_MAX: Duration = Duration::from_millis(10);
/// Weight of the newest commit in the running mean of what a commit takes.
const NEWEST: f64 = 0.2;

/// When to try again while the store takes nothing: it looks once a second whether it can.
const REFUSED_RETRY_MS: u64 = 2_000;

/// The outcome of writing one row.
pub(in crate::owner) struct AppendAnswer {
    slot: Slot,
    /// How often the row was written before.
    repeated: u32,
    outcome: Result<(), StoreError>,
}

/// The outcome of reading the fence.
pub(in crate::owner) struct FenceAnswer {
    /// None: read when nothing was to be acknowledged, to learn of a successor.
    ticket: Option<FenceRead>,
    fence: Result<Epoch, StoreError>,
}

/// When the next frame may be launched.
#[derive(Debug, PartialEq)]
pub(in crate::owner) enum Launch {
    Now,
    At(Instant),
    /// When one in flight is committed.
    AfterCommit,
}

impl AppendAnswer {
    /// Whether the row may have to be written again.
    pub(in crate::owner) fn has_failed(&self) -> bool {
        self.outcome.is_err()
    }
}

type Operation<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The commits of one term, in slot order.
pub(in crate::owner) struct Pipeline {
    owner: Owner,
    store: Arc<dyn Store>,
    shard: ShardId,
    /// Of this process in the shard's zone; none where no timed lease is kept.
    pub(in crate::owner) held: Option<watch::Receiver<TimedLease>>,
    in_flight_max: usize,
    /// Rows being written.
    pub(in crate::owner) appends: FuturesUnordered<Operation<AppendAnswer>>,
    /// Reads of the fence under way.
    pub(in crate::owner) fence_reads: FuturesUnordered<Operation<FenceAnswer>>,
    launched: Option<Instant>,
    /// Reads of the fence that failed since the last one that did not.
    fence_failures: u32,
    /// Running mean of what a commit takes, seconds.
    commit_seconds: f64,
    figures: Figures,
}

struct Figures {
    commits: metrics::Counter,
    changes: metrics::Histogram,
    seconds: metrics::Histogram,
    in_flight: metrics::Gauge,
    retries: metrics::Counter,
}

impl Pipeline {
    pub(in crate::owner) fn new(
        term: &Term,
        store: Arc<dyn Store>,
        shard: ShardId,
        held: Option<watch::Receiver<TimedLease>>,
        in_flight_max: usize,
    ) -> Self {
        let label = shard.to_string();
        Self {
            owner: Owner::new(term),
            store,
            shard,
            held: held.filter(|_| term.ack_by != AckBy::Fence),
            in_flight_max: in_flight_max.max(1),
            appends: FuturesUnordered::new(),
            fence_reads: FuturesUnordered::new(),
            launched: None,
            fence_failures: 0,
            commit_seconds: 0.0,
            figures: Figures {
                commits: metrics::counter!("hearth_commits_total"),
                changes: metrics::histogram!("hearth_commit_changes"),
                seconds: metrics::histogram!("hearth_commit_seconds"),
                in_flight: metrics::gauge!("hearth_frames_in_flight", "shard" => label),
                retries: metrics::counter!("hearth_append_retries_total"),
            },
        }
    }

    /// When one more frame may be launched. The first may at once; more only evenly spread over the
    /// time of a commit, or when a full one waits (`eager`). Near replicas want few large frames;
    /// with far ones nobody should wait long for the next.
    pub(in crate::owner) fn may_launch(&self, eager: bool) -> Launch {
        let in_flight = self.owner.in_flight();
        if in_flight >= self.in_flight_max {
            return Launch::AfterCommit;
        }
        let Some(launched) = self.launched.filter(|_| in_flight > 0 && !eager) else {
            return Launch::Now;
        };
        let gap = Duration::from_secs_f64(self.commit_seconds / PACE).min(GAP_MAX);
        let next = launched + gap;
        if Instant::now() >= next { Launch::Now } else { Launch::At(next) }
    }

    /// Starts to write a frame, which must be the next one.
    pub(in crate::owner) fn append(&mut self, frame: &LogFrame) -> Result<(), Stopped> {
        let row = self.owner.append(frame.to_bytes())?;
        debug_assert_eq!(row.at, frame.at());
        self.write(row, 0);
        self.launched = Some(Instant::now());
        self.figures.in_flight.set(self.owner.in_flight() as f64);
        Ok(())
    }

    fn write(&self, row: LogRow, repeated: u32) {
        let (store, shard) = (self.store.clone(), self.shard);
        self.appends.push(Box::pin(async move {
            if repeated > 0 {
                tokio::time::sleep(RETRY_BACKOFF * 2u32.pow((repeated - 1).min(DOUBLINGS))).await;
            }
            let outcome = store.append(shard, row.at, row.frame).await;
            AppendAnswer { slot: row.at.slot, repeated, outcome }
        }));
    }

    /// A row was written, or its outcome is unknown: then it is written again.
    pub(in crate::owner) fn on_append(&mut self, answer: AppendAnswer) -> Result<(), Stopped> {
        let appended = match answer.outcome {
            Ok(()) => Appended::Durable,
            Err(error) => {
                if answer.repeated == 0 {
                    tracing::warn!(%error, slot = answer.slot.0, "append outcome unknown, retrying");
                }
                self.figures.retries.increment(1);
                Appended::Unknown
            }
        };
        if let Some(row) = self.owner.on_append(answer.slot, appended)? {
            self.write(row, answer.repeated + 1);
        }
        self.read_fence();
        Ok(())
    }

    /// Starts the read that the owner wants now, if any.
    fn read_fence(&mut self) {
        if let Some(ticket) = self.owner.start_fence_read() {
            self.fence_reads.push(fence(
                self.store.clone(),
                self.shard,
                Some(ticket),
                self.fence_failures,
            ));
        }
    }

    /// Reads the fence with nothing to acknowledge, so that an idle owner learns of a successor.
    pub(in crate::owner) fn read_fence_when_idle(&mut self) {
        if self.owner.in_flight() == 0 && self.fence_reads.is_empty() {
            self.fence_reads.push(fence(self.store.clone(), self.shard, None, 0));
        }
    }

    /// The fence was read. Returns the slots that may now be acknowledged, in order.
    pub(in crate::owner) fn on_fence(
        &mut self,
        answer: FenceAnswer,
    ) -> Result<Range<u64>, Stopped> {
        let fence = match answer.fence {
            Ok(fence) => {
                self.fence_failures = 0;
                Some(fence)
            }
            Err(error) => {
                if self.fence_failures == 0 {
                    tracing::warn!(%error, "the fence cannot be read, acknowledging nothing until it can");
                }
                self.fence_failures += 1;
                None
            }
        };
        let acked = match answer.ticket {
            Some(ticket) => self.owner.on_fence(ticket, fence)?,
            None => {
                self.owner.on_idle_fence(fence)?;
                0..0
            }
        };
        self.read_fence();
        Ok(acked)
    }

    /// Reads the clock, if the owner asks whether its timed lease holds. Returns the slots that may
    /// now be acknowledged, in order.
    pub(in crate::owner) fn on_clock(&mut self) -> Result<Range<u64>, Stopped> {
        let held = self.held.as_ref().map_or(TimedLease::default(), |held| *held.borrow());
        let Some(read) = self.owner.start_clock_read() else { return Ok(0..0) };
        self.owner.on_clock(read, clock::now(), held.hold)
    }

    /// The timed lease was renewed, or broken, and the term with it.
    pub(in crate::owner) fn on_renewed(&mut self) -> Result<(), Stopped> {
        let held =
            self.held.as_mut().map_or(TimedLease::default(), |held| *held.borrow_and_update());
        if held.incarnation.map(|incarnation| incarnation.nonce) == self.owner.incarnation() {
            return Ok(());
        }
        self.owner.stop();
        self.owner.stopped().map_or(Ok(()), Err)
    }

    /// What who wants a change is answered while the store takes nothing new; none: it does.
    pub(in crate::owner) fn refusal(&self) -> Option<Refusal> {
        let why = self.store.refuses(self.shard)?;
        let mut refusal = Refusal::new(ErrorCode::HomeUnavailable, format!("{why}; try again"));
        refusal.retry_after_ms = Some(REFUSED_RETRY_MS);
        Some(refusal)
    }

    /// Releases the shard, with nothing in flight. Returns the end to be recorded.
    pub(in crate::owner) fn release(&mut self) -> Option<Slot> {
        self.owner.release()
    }

    /// Measures a commit, for the metrics and the pace.
    pub(in crate::owner) fn committed(&mut self, frame: &LogFrame, launched: std::time::Instant) {
        let took = launched.elapsed();
        self.commit_seconds += NEWEST * (took.as_secs_f64() - self.commit_seconds);
        self.figures.commits.increment(1);
        self.figures.changes.record(frame.changes.len() as f64);
        self.figures.seconds.record(took);
        self.figures.in_flight.set(self.owner.in_flight() as f64);
    }
}

/// Resolves when the timed lease has changed; never in a term that does not acknowledge by one.
/// Cancel safe.
pub(in crate::owner) async fn renewed(held: &mut Option<watch::Receiver<TimedLease>>) {
    let Some(held) = held else { return std::future::pending().await };
    // Closed only with the core.
    if held.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// `failures`: of the reads before it; it waits accordingly before it starts.
fn fence(
    store: Arc<dyn Store>,
    shard: ShardId,
    ticket: Option<FenceRead>,
    failures: u32,
) -> Operation<FenceAnswer> {
    Box::pin(async move {
        if failures > 0 {
            tokio::time::sleep(RETRY_BACKOFF * 2u32.pow((failures - 1).min(DOUBLINGS))).await;
        }
        let fence = store.fence(shard).await;
        FenceAnswer { ticket, fence }
    })
}
