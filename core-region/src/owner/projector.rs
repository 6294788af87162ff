//! Behind the commit: turns committed frames into rows, in the background, and keeps the marks that say how far it all
//! is. Frames are projected several at once (every row has a stamp that ranks it, so their order does not matter)
//! but count as projected in slot order only.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use conversation::log::LogFrame;
use conversation::projection;
use futures_util::stream::{FuturesOrdered, StreamExt};
use node::Tasks;
use store::{Mark, Store, StoreError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use wire::{Durability, Epoch, Position, RegionId, ShardId, Slot};

use crate::limits::Limits;

/// Pause before a projection or a mark is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The term's end of the projector. When it is dropped, the projector ends with it.
pub(crate) struct Projector {
    frames: mpsc::Sender<Arc<LogFrame>>,
    committed: watch::Sender<Slot>,
    projected: watch::Receiver<Slot>,
    finish: Option<oneshot::Sender<oneshot::Sender<()>>>,
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
        let (projected_out, projected) = watch::channel(start);
        let (finish, finish_in) = oneshot::channel();
        let here = (shard.durability == Durability::Region).then_some(region);
        let marks =
            Marks { store: store.clone(), shard, here, epoch, checkpoint: None, committed: None };
        let task =
            Task { store, shard, at_once: limits.projections_at_once, projected: projected_out };
        let every = (limits.checkpoint_every, limits.committed_every);
        tasks.spawn("projector", task.run(frames_in));
        tasks.spawn("marks", marks.run(committed_in, projected.clone(), finish_in, every));
        Self { frames, committed, projected, finish: Some(finish) }
    }

    /// Takes a committed frame; they come in slot order. Never waits: the term bounds how far it runs ahead.
    pub(crate) fn take(&self, frame: Arc<LogFrame>) {
        self.committed.send_replace(frame.slot.next());
        // The task is gone only when the core is being killed. Were the queue full, a committed frame would never be
        // projected: then the term must end here, and the next owner projects it.
        assert!(
            !matches!(self.frames.try_send(frame), Err(TrySendError::Full(_))),
            "the term bounds what waits"
        );
    }

    /// Everything before this slot is projected.
    pub(crate) fn projected(&self) -> watch::Receiver<Slot> {
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
    at_once: usize,
    projected: watch::Sender<Slot>,
}

impl Task {
    async fn run(self, mut frames: mpsc::Receiver<Arc<LogFrame>>) {
        let mut under_way: FuturesOrdered<Pin<Box<dyn Future<Output = Slot> + Send>>> =
            FuturesOrdered::new();
        let mut open = true;
        while open || !under_way.is_empty() {
            tokio::select! {
                biased;
                Some(slot) = under_way.next() => { self.projected.send_replace(slot.next()); }
                frame = frames.recv(), if open && under_way.len() < self.at_once => match frame {
                    Some(frame) => under_way.push_back(Box::pin(project(self.store.clone(), self.shard, frame))),
                    None => open = false,
                },
            }
        }
    }
}

/// Until it is done: a projection may be repeated, and must not be left out.
async fn project(store: Arc<dyn Store>, shard: ShardId, frame: Arc<LogFrame>) -> Slot {
    project_frame(&store, shard, &frame).await;
    frame.slot
}

/// Every row of a frame, until it is written.
pub(crate) async fn project_frame(store: &Arc<dyn Store>, shard: ShardId, frame: &LogFrame) {
    let rows = projection::project(frame);
    while let Err(error) = store.project(shard, rows.clone()).await {
        tracing::debug!(%error, slot = frame.slot.0, "projection failed, trying again");
        tokio::time::sleep(RETRY).await;
    }
}

struct Marks {
    store: Arc<dyn Store>,
    shard: ShardId,
    /// Of class `region`: where it is projected.
    here: Option<RegionId>,
    epoch: Epoch,
    /// Written.
    checkpoint: Option<Slot>,
    /// Written.
    committed: Option<Slot>,
}

impl Marks {
    async fn run(
        mut self,
        committed: watch::Receiver<Slot>,
        mut projected: watch::Receiver<Slot>,
        mut finish: oneshot::Receiver<oneshot::Sender<()>>,
        (checkpoint_every, committed_every): (Duration, Duration),
    ) {
        let mut checkpoint_tick = tokio::time::interval(checkpoint_every);
        let mut committed_tick = tokio::time::interval(committed_every);
        checkpoint_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        committed_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = &mut finish => {
                    // The term gave up without finishing.
                    let Ok(done) = done else { return };
                    let end = *committed.borrow();
                    let all = projected.wait_for(|projected| *projected >= end).await.is_ok();
                    while all && self.write(Some(end), end).await.is_err() {
                        tokio::time::sleep(RETRY).await;
                    }
                    let _ = done.send(());
                    return;
                }
                _ = checkpoint_tick.tick() => {
                    let (checkpoint, committed) = (*projected.borrow(), *committed.borrow());
                    self.attempt(Some(checkpoint), committed).await;
                }
                _ = committed_tick.tick() => {
                    let committed = *committed.borrow();
                    self.attempt(None, committed).await;
                }
            }
        }
    }

    /// A mark that could not be written is written at the next tick.
    async fn attempt(&mut self, checkpoint: Option<Slot>, committed: Slot) {
        if let Err(error) = self.write(checkpoint, committed).await {
            tracing::debug!(%error, "a mark was not written");
        }
    }

    async fn write(&mut self, checkpoint: Option<Slot>, committed: Slot) -> Result<(), StoreError> {
        let at = |slot| Position { epoch: self.epoch, slot };
        let newer =
            |written: Option<Slot>, slot: Slot| written.is_none_or(|written| written < slot);
        let committed = Some(committed).filter(|slot| newer(self.committed, *slot));
        let checkpoint = checkpoint.filter(|slot| newer(self.checkpoint, *slot));
        let write = async |mark: Mark, slot: Option<Slot>| match slot {
            Some(slot) => self.store.write_mark(self.shard, &mark, at(slot)).await,
            None => Ok(()),
        };
        tokio::try_join!(write(Mark::Committed, committed), write(Mark::Checkpoint, checkpoint))?;
        if let Some(here) = self.here {
            write(Mark::Follower(here), checkpoint).await?;
        }
        self.committed = committed.or(self.committed);
        self.checkpoint = checkpoint.or(self.checkpoint);
        Ok(())
    }
}
