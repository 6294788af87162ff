//! Asks the edge for missing messages, and delivers what it answers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use wire::client::event::{Envelope, ErrorPayload, MessagePayload, SyncDonePayload};
use wire::client::request::{Request, RequestBody};
use wire::{ConversationId, ErrorCode};

use super::Live;
use crate::events::Event;
use crate::order::MessageOrder;
use crate::service::Service;

/// Most conversations in one `sync`: small, so that one refusal costs little.
const BATCH_MAX: usize = 64;
/// Pause before a hole is asked for again.
const RETRY_BACKOFF: Duration = Duration::from_millis(200);

/// The `sync` requests of one session.
pub(super) struct Syncs {
    /// The conversations of those without an answer, by number.
    open: HashMap<u64, Vec<ConversationId>>,
    pub(super) not_before: Instant,
    batch: usize,
}

impl Syncs {
    pub(super) fn new(now: Instant) -> Self {
        Self { open: HashMap::new(), not_before: now, batch: BATCH_MAX }
    }

    pub(super) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }
}

impl Service {
    /// Whether messages are missing and the program has room for them.
    pub(super) fn may_sync(&self) -> bool {
        !self.pending_syncs.is_empty() && !self.starved
    }

    /// The next `sync`, if messages are missing and the edge may be asked now.
    pub(super) fn next_sync(&mut self, live: &mut Live, now: Instant) -> Option<Request> {
        if !self.may_sync() || now < live.syncs.not_before {
            return None;
        }
        let mut after = BTreeMap::new();
        while after.len() < live.syncs.batch {
            let Some(conversation) = self.pending_syncs.pop_first() else { break };
            if let Some(seq) = self.orders.get_mut(&conversation).and_then(|order| order.ask()) {
                after.insert(conversation, seq);
            }
        }
        if after.is_empty() {
            return None;
        }
        let id = self.draw_id();
        live.syncs.open.insert(id, after.keys().copied().collect());
        Some(Request { id: Some(format!("s{id}")), body: RequestBody::Sync { after } })
    }

    /// A `sync` is answered: all messages up to these heads have been sent.
    pub(super) fn sync_done(&mut self, id: Option<u64>, done: &SyncDonePayload, live: &mut Live) {
        let asked = id.and_then(|id| live.syncs.open.remove(&id)).unwrap_or_default();
        for conversation in asked {
            self.settle(conversation, |order| {
                order.answered(done.heads.get(&conversation).copied())
            });
        }
        if !self.pending_syncs.is_empty() {
            live.syncs.not_before = Instant::now() + RETRY_BACKOFF;
        }
    }

    /// A `sync` that failed for now is asked again, later. One that failed for good costs only the
    /// conversation that it is about.
    pub(super) fn sync_refused(
        &mut self,
        id: u64,
        envelope: &Envelope<()>,
        error: &ErrorPayload,
        live: &mut Live,
    ) {
        let retry = error.code.is_retryable() || error.code == ErrorCode::Internal;
        let about = envelope.conversation_id.as_deref().and_then(|text| text.parse().ok());
        let asked = match about {
            // The rest of this `sync` goes on.
            Some(conversation) => {
                if let Some(asked) = live.syncs.open.get_mut(&id) {
                    asked.retain(|other| *other != conversation);
                }
                vec![conversation]
            }
            None => live.syncs.open.remove(&id).unwrap_or_default(),
        };
        if let (false, [conversation]) = (retry, asked.as_slice()) {
            self.orders.remove(conversation);
            self.emit(Event::Error(error.clone()));
            return;
        }
        if !retry {
            live.syncs.batch = 1;
        }
        for conversation in asked {
            self.settle(conversation, |order| order.unanswered());
        }
        let pause = error.retry_after_ms.map_or(RETRY_BACKOFF, Duration::from_millis);
        live.syncs.not_before = Instant::now() + if retry { pause } else { Duration::ZERO };
    }

    /// Applies a change to the order of one conversation, and delivers what became deliverable.
    pub(super) fn settle(
        &mut self,
        conversation: ConversationId,
        what: impl FnOnce(&mut MessageOrder<Box<MessagePayload>>),
    ) {
        let Some(order) = self.orders.get_mut(&conversation) else { return };
        what(order);
        while let Some((seq, message)) = order.pop() {
            if self.events.push(Event::Message { conversation, message }).is_err() {
                order.put_back(seq);
                // Asked for when the reader has made room.
                self.starved = true;
                self.pending_syncs.insert(conversation);
                return;
            }
        }
        if order.wants() {
            self.pending_syncs.insert(conversation);
        }
    }
}
