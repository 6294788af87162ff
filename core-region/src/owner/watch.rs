//! Starts watches: at the head, or from the last change that the edge has, by a replay from the
//! projections behind which live deliveries wait.

use std::sync::Arc;

use node::Tasks;
use store::Store;
use tokio::sync::{Semaphore, mpsc};
use wire::command::Answer;
use wire::{ConversationId, RegionId, Slot, UserId};

use super::decide::ReplyTo;
use super::entry::Entry;
use super::projector::Projected;
use crate::feed::Feed;
use crate::feed::replay::{self, After};

pub(super) struct Watches {
    pub(super) region: RegionId,
    pub(super) store: Arc<dyn Store>,
    pub(super) projected: Projected,
    /// One permit a read of the store.
    pub(super) reading: Arc<Semaphore>,
    pub(super) replays: mpsc::Sender<replay::Done>,
    pub(super) tasks: Tasks,
}

impl Watches {
    /// Everything before `committed` is committed. `users`: whom the edge asks after.
    pub(super) fn start(
        &self,
        feed: &mut Feed,
        entry: &Entry,
        to: ReplyTo,
        (conversation, after): (ConversationId, Option<After>),
        users: &[UserId],
        committed: Slot,
    ) {
        let members = entry.conversation.members();
        let members = users.iter().filter(|user| members.contains_key(*user)).cloned().collect();
        let (head_seq, head_ver) = (entry.committed_seq, entry.committed_ver);
        // Before the first delivery, so that the edge knows where it starts.
        let head_epoch = Some(entry.committed_epoch);
        let outbox = to.outbox.clone();
        to.reply(Ok(Answer::Watching { head_ver, head_seq, members, head_epoch }));
        match after {
            None if feed.is_watching(&outbox, &conversation) => {}
            Some(after) if after.ver < head_ver || after.may_be_lost(entry.committed_epoch) => {
                let watch = feed.watch(&outbox, conversation, head_ver, true);
                let Some(generation) = watch else { return };
                // How far back it goes is not known before it is read.
                let shown_after =
                    if after.may_be_lost(entry.committed_epoch) { 0 } else { after.ver };
                let view = entry.outline_after(self.region, shown_after);
                let past = replay::Replay {
                    to: outbox,
                    conversation,
                    generation,
                    after,
                    up_to_ver: head_ver,
                    view,
                };
                self.replay(past, committed);
            }
            None | Some(_) => {
                feed.watch(&outbox, conversation, head_ver, false);
            }
        }
    }

    fn replay(&self, past: replay::Replay, committed: Slot) {
        let replay = replay::run(
            self.store.clone(),
            self.reading.clone(),
            self.projected.clone(),
            committed,
            past,
        );
        let replays = self.replays.clone();
        self.tasks.spawn("replay", async move {
            // Closed only with the term.
            let _ = replays.send(replay.await).await;
        });
    }
}
