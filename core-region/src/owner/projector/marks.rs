//! The marks of one term: how far its shard is committed and projected, written now and then.

use std::sync::Arc;
use std::time::Duration;

use store::{Mark, Store, StoreError};
use tokio::sync::{oneshot, watch};
use wire::{Epoch, Position, RegionId, ShardId, Slot};

use super::{Projected, RETRY};

pub(super) struct Marks {
    pub(super) store: Arc<dyn Store>,
    pub(super) shard: ShardId,
    /// Of class `region`: where it is projected.
    pub(super) here: Option<RegionId>,
    pub(super) epoch: Epoch,
    /// Written.
    pub(super) checkpoint: Option<Slot>,
    /// Written.
    pub(super) committed: Option<Slot>,
}

impl Marks {
    pub(super) async fn run(
        mut self,
        committed: watch::Receiver<Slot>,
        mut projected: Projected,
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
                    let all = projected.reach(end).await.is_ok();
                    while all && self.write(Some(end), end).await.is_err() {
                        tokio::time::sleep(RETRY).await;
                    }
                    let _ = done.send(());
                    return;
                }
                _ = checkpoint_tick.tick() => {
                    let (checkpoint, committed) = (projected.slot(), *committed.borrow());
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
