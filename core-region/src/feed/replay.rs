//! Replays the past of a watch from the projections: from the last change that the edge has up to
//! the head at which the watch started. Goes at the pace at which the stream empties.

use std::sync::Arc;

use store::Store;
use tokio::sync::Semaphore;
use wire::change::Recorded;
use wire::command::{Delivery, View};
use wire::{ConversationId, Epoch, Slot};

use crate::intake::outbox::Outbox;
use crate::owner::projector::Projected;
use crate::retry::retry_forever;

/// Changes read at once.
const PAGE: usize = 64;

/// What to replay.
pub(crate) struct Replay {
    pub(crate) to: Arc<Outbox>,
    pub(crate) conversation: ConversationId,
    pub(crate) generation: u64,
    /// Exclusive.
    pub(crate) after: After,
    /// Inclusive; committed.
    pub(crate) up_to_ver: u64,
    /// As it is at `up_to_ver` or a little later; goes with changes of members.
    pub(crate) view: Option<Box<View>>,
}

/// The last change that an edge has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct After {
    pub(crate) ver: u64,
    /// Its epoch, if the edge knows it.
    pub(crate) epoch: Option<Epoch>,
}

impl After {
    /// Whether the edge may have a change that a later term went on without.
    pub(crate) fn may_be_lost(self, head_epoch: Epoch) -> bool {
        self.epoch.is_some_and(|epoch| epoch < head_epoch)
    }
}

/// A replay that has come to its end.
pub(crate) struct Done {
    pub(crate) conversation: ConversationId,
    pub(crate) generation: u64,
    /// All of it was put into the outbox, in order.
    pub(crate) complete: bool,
}

/// Replays once everything before `committed` is projected.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    reading: Arc<Semaphore>,
    mut projected: Projected,
    committed: Slot,
    replay: Replay,
) -> Done {
    let complete = projected.reach(committed).await.is_ok()
        && deliver(&store, &reading, &replay).await.is_some();
    Done { conversation: replay.conversation, generation: replay.generation, complete }
}

/// The last `ver` that the edge shares with this log, if its last change is of this epoch: the last
/// change of that epoch or an earlier one, not past what the edge has.
async fn shared(
    store: &Arc<dyn Store>,
    reading: &Semaphore,
    replay: &Replay,
    epoch: Epoch,
) -> Option<u64> {
    let mut up_to = replay.after.ver.min(replay.up_to_ver);
    let mut step = 1;
    while up_to > 0 {
        let from = up_to.saturating_sub(step);
        let page = changes(store, reading, replay, from, step).await?;
        let known =
            page.iter().take_while(|change| change.ver <= up_to && change.epoch <= epoch).last();
        match known {
            Some(known) => return Some(known.ver),
            None => up_to = from,
        }
        step = PAGE as u64;
    }
    Some(0)
}

/// None when the store is damaged.
async fn changes(
    store: &Arc<dyn Store>,
    reading: &Semaphore,
    replay: &Replay,
    after_ver: u64,
    limit: u64,
) -> Option<Vec<Recorded>> {
    let limit = usize::try_from(limit).map_or(PAGE, |limit| limit.min(PAGE));
    let permit = reading.acquire().await.ok()?;
    let page = retry_forever(|| store.changes(replay.conversation, after_ver, limit)).await;
    drop(permit);
    page.inspect_err(
        |error| tracing::warn!(%error, conversation = %replay.conversation, "cannot replay"),
    )
    .ok()
}

/// None when the store is damaged or has a hole.
async fn deliver(store: &Arc<dyn Store>, reading: &Semaphore, replay: &Replay) -> Option<()> {
    let mut last = match replay.after.epoch {
        Some(epoch) => shared(store, reading, replay, epoch).await?,
        None => replay.after.ver,
    };
    while last < replay.up_to_ver {
        let page = changes(store, reading, replay, last, replay.up_to_ver - last).await?;
        if page.first()?.ver != last + 1 {
            tracing::error!(
                conversation = %replay.conversation,
                after = last,
                "a hole in the projected changes, ending the watch"
            );
            return None;
        }
        for change in page {
            if change.ver != last + 1 || change.ver > replay.up_to_ver {
                break;
            }
            last = change.ver;
            let view = change.event.view_needed().then(|| replay.view.clone()).flatten();
            replay.to.deliver_when_room(&Delivery::encode(&change, &view)).await;
        }
    }
    Some(())
}
