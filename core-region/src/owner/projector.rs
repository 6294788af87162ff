//! Behind the commit: turns committed frames into rows, in the background.
//!
//! The projector gathers frames and projects them together, so a row that each message rewrites (a
//! head, a last message, a read cursor) is written once a batch. A batch begins when the first of
//! these holds:
//! - [`GATHER_INTERVAL`] has passed since the last batch began, so a frame after a quiet time goes
//!   at once;
//! - as many changes or bytes wait as one batch takes;
//! - a reader waits for one of the frames ([`Projected::reach`]): the owner's reads never lag;
//! - the term drains.
//!
//! Reads past the owner lag by about the interval: an inbox shows the heads of other shards so
//! late. The checkpoint stays behind what is gathered, so the next owner projects it from the log.
//! Batches overlap (each row has a stamp that ranks it, so their order does not matter) and count
//! as projected in slot order only.

mod gathered;
mod marks;

use std::borrow::Borrow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use conversation::log::LogFrame;
use conversation::projection;
use futures_util::stream::{FuturesOrdered, StreamExt};
use node::Tasks;
use store::Store;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use wire::{Durability, Epoch, RegionId, ShardId, Slot};

use self::gathered::Gathered;
use self::marks::Marks;
use crate::limits::Limits;

/// Pause before a projection or a mark is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// From the begin of one batch to that of the next, if nothing hurries it. A part of the
/// checkpoint's interval.
const GATHER_INTERVAL: Duration = Duration::from_millis(100);
/// Frames taken from the queue in one turn.
const FRAMES_AT_ONCE: usize = 64;

/// The term's end of the projector. When it is dropped, the projector ends with it.
pub(crate) struct Projector {
    frames: mpsc::Sender<Arc<LogFrame>>,
    committed: watch::Sender<Slot>,
    projected: Projected,
    finish: Option<oneshot::Sender<oneshot::Sender<()>>>,
}

/// The slot before which everything is projected. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Projected {
    slot: watch::Receiver<Slot>,
    wanted: Arc<watch::Sender<Slot>>,
}

impl Projected {
    pub(crate) fn slot(&self) -> Slot {
        *self.slot.borrow()
    }

    /// Hurries the projector: somebody waits for everything before this slot.
    pub(crate) fn want(&self, slot: Slot) {
        if self.slot() < slot {
            self.wanted.send_if_modified(|wanted| {
                let is_more = *wanted < slot;
                *wanted = slot.max(*wanted);
                is_more
            });
        }
    }

    /// Hurries the projector, and waits until everything before this slot is projected. An error
    /// when the term is over.
    pub(crate) async fn reach(&mut self, slot: Slot) -> Result<(), watch::error::RecvError> {
        self.want(slot);
        self.slot.wait_for(|projected| *projected >= slot).await.map(|_| ())
    }

    /// For those who hurry nothing.
    pub(crate) fn watch(&self) -> watch::Receiver<Slot> {
        self.slot.clone()
    }
}

impl Projector {
    /// For a term that starts at `start`, with everything before it projected.
    pub(crate) fn start(
        tasks: &Tasks,
        store: Arc<dyn Store>,
        (shard, region): (ShardId, RegionId),
        epoch: Epoch,
        start: Slot,
        limits: &Arc<Limits>,
    ) -> Self {
        // As many as the term lets wait: each frame has at least one change.
        let (frames, frames_in) =
            mpsc::channel(limits.changes_unprojected + limits.frames_in_flight + 1);
        let (committed, committed_in) = watch::channel(start);
        let (projected_out, slot) = watch::channel(start);
        let (wanted, wanted_in) = watch::channel(start);
        let projected = Projected { slot, wanted: Arc::new(wanted) };
        let (finish, finish_in) = oneshot::channel();
        let here = (shard.durability == Durability::Region).then_some(region);
        let marks =
            Marks { store: store.clone(), shard, here, epoch, checkpoint: None, committed: None };
        let task = Task {
            store,
            shard,
            at_once: limits.projections_at_once,
            gathered: Gathered::new(limits.changes_unprojected),
            projected: projected_out,
            wanted: wanted_in,
        };
        let every = (limits.checkpoint_every, limits.committed_every);
        tasks.spawn("projector", task.run(frames_in));
        tasks.spawn("marks", marks.run(committed_in, projected.clone(), finish_in, every));
        Self { frames, committed, projected, finish: Some(finish) }
    }

    /// Takes a committed frame; they come in slot order. Never waits: the term bounds how far it
    /// runs ahead.
    pub(crate) fn take(&self, frame: Arc<LogFrame>) {
        self.committed.send_replace(frame.slot.next());
        // The task is gone only when the core is being killed. Were the queue full, a committed
        // frame would never be projected: then the term must end here, and the next owner projects
        // it.
        assert!(
            !matches!(self.frames.try_send(frame), Err(TrySendError::Full(_))),
            "the term bounds what waits"
        );
    }

    /// Everything before this slot is projected.
    pub(crate) fn projected(&self) -> Projected {
        self.projected.clone()
    }

    /// Everything before this slot is acknowledged.
    pub(crate) fn committed(&self) -> watch::Receiver<Slot> {
        self.committed.subscribe()
    }

    /// Waits until everything taken is projected and both marks say so.
    pub(crate) async fn finish(mut self) {
        let (done, wait) = oneshot::channel();
        if self.finish.take().is_some_and(|finish| finish.send(done).is_ok()) {
            let _ = wait.await;
        }
    }
}

struct Task {
    store: Arc<dyn Store>,
    shard: ShardId,
    /// Batches.
    at_once: usize,
    gathered: Gathered,
    projected: watch::Sender<Slot>,
    /// Somebody waits for everything before it.
    wanted: watch::Receiver<Slot>,
}

impl Task {
    async fn run(mut self, mut frames: mpsc::Receiver<Arc<LogFrame>>) {
        let mut under_way: FuturesOrdered<Pin<Box<dyn Future<Output = Slot> + Send>>> =
            FuturesOrdered::new();
        let mut taken = Vec::with_capacity(FRAMES_AT_ONCE);
        let mut next_at = Instant::now();
        let mut open = true;
        while open || !under_way.is_empty() || !self.gathered.is_empty() {
            let may_begin = !self.gathered.is_empty() && under_way.len() < self.at_once;
            if may_begin && (!open || self.is_urgent() || Instant::now() >= next_at) {
                next_at = Instant::now() + GATHER_INTERVAL;
                let frames = self.gathered.take();
                under_way.push_back(Box::pin(project(self.store.clone(), self.shard, frames)));
                continue;
            }
            tokio::select! {
                biased;
                Some(slot) = under_way.next() => { self.projected.send_replace(slot.next()); }
                count = frames.recv_many(&mut taken, FRAMES_AT_ONCE),
                    if open && !self.gathered.is_full() =>
                {
                    open = count > 0;
                    taken.drain(..).for_each(|frame| self.gathered.add(frame));
                }
                Ok(()) = self.wanted.changed(), if may_begin => {}
                () = tokio::time::sleep_until(next_at), if may_begin => {}
            }
        }
    }

    fn is_urgent(&self) -> bool {
        let wanted = *self.wanted.borrow();
        self.gathered.is_full() || self.gathered.first().is_some_and(|first| first < wanted)
    }
}

/// Projects them until it is done, and returns the last slot.
async fn project(store: Arc<dyn Store>, shard: ShardId, frames: Vec<Arc<LogFrame>>) -> Slot {
    project_frames(&store, shard, &frames).await;
    frames.last().map(|frame| frame.slot).expect("a batch has a frame")
}

/// Writes every row of these frames. A projection may be repeated, and must not be left out.
pub(crate) async fn project_frames<F: Borrow<LogFrame>>(
    store: &Arc<dyn Store>,
    shard: ShardId,
    frames: &[F],
) {
    while let Err(error) = store.project(shard, projection::project_all(frames)).await {
        let first = frames.first().map(|frame| frame.borrow().slot.0);
        tracing::debug!(%error, first, "projection failed, trying again");
        tokio::time::sleep(RETRY).await;
    }
}
