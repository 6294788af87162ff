//! The past of a watch: changes after the last one that an edge has seen, from the projections, up to the head at which
//! the watch was started. Goes at the pace at which the stream empties.

use std::sync::Arc;

use store::Store;
use tokio::sync::{Semaphore, watch};
use wire::change::Event;
use wire::command::{Delivery, View};
use wire::{ConversationId, Slot};

use crate::intake::outbox::Outbox;
use crate::patience::until_answered;

/// Changes read at once.
const PAGE: usize = 64;

/// What to replay.
pub(crate) struct Replay {
    pub(crate) to: Arc<Outbox>,
    pub(crate) conversation: ConversationId,
    pub(crate) generation: u64,
    /// Exclusive.
    pub(crate) after_ver: u64,
    /// Inclusive; committed.
    pub(crate) up_to_ver: u64,
    /// As it is at `up_to_ver` or a little later; goes with changes of members.
    pub(crate) view: Option<Box<View>>,
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
    mut projected: watch::Receiver<Slot>,
    committed: Slot,
    replay: Replay,
) -> Done {
    let complete = projected.wait_for(|projected| *projected >= committed).await.is_ok()
        && deliver(&store, &reading, &replay).await.is_some();
    Done { conversation: replay.conversation, generation: replay.generation, complete }
}

/// None when the store is damaged or has a hole.
async fn deliver(store: &Arc<dyn Store>, reading: &Semaphore, replay: &Replay) -> Option<()> {
    let mut last = replay.after_ver;
    while last < replay.up_to_ver {
        let limit = usize::try_from(replay.up_to_ver - last).map_or(PAGE, |left| left.min(PAGE));
        let permit = reading.acquire().await.ok()?;
        let page = until_answered(|| store.changes(replay.conversation, last, limit)).await;
        drop(permit);
        let page = page
            .inspect_err(|error| tracing::warn!(%error, conversation = %replay.conversation, "cannot replay"))
            .ok()?;
        if page.first()?.ver != last + 1 {
            tracing::error!(conversation = %replay.conversation, after = last, "a hole in the projected changes");
            return None;
        }
        for change in page {
            if change.ver != last + 1 || change.ver > replay.up_to_ver {
                break;
            }
            last = change.ver;
            let turn = matches!(change.event, Event::Created(_) | Event::MembersChanged(_) | Event::MovedIn(_));
            let view = if turn { replay.view.clone() } else { None };
            replay.to.deliver_when_room(&Delivery { change, view }.to_bytes()).await;
        }
    }
    Some(())
}
