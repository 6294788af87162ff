//! Brings a session to where a conversation is, from history, in order and at the client's pace: after a `sync`, after its
//! outbox was full, and when it joins a conversation that others here were served beyond.
//!
//! While that lasts, the session is off the live events of that conversation. Two steps: messages by `seq`, up to where the
//! session was taken off (only for a `sync`); then changes by `ver`, until what is missing is at hand in the
//! [subscription](crate::subscriptions), which puts it back on. So there is neither a hole nor a double.
//!
//! One task per session, and only while there is something to do.

mod job;
mod runner;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use wire::ConversationId;

use super::Session;
use crate::shared::Shared;
use crate::subscriptions::At;

/// Something to be caught up.
#[derive(Debug)]
pub(crate) enum Order {
    /// The session is off the live events of a conversation.
    Behind {
        /// Which.
        conversation: ConversationId,
        /// It has everything up to here.
        at: At,
    },
    /// The client has asked.
    Sync {
        /// The `id` of its frame.
        re: Option<String>,
        /// The last seq that it has.
        after: BTreeMap<ConversationId, u64>,
    },
}

/// Where a session's orders go; empty while nothing is to be done. At most one order a conversation comes from the fan-out,
/// and a client's are counted among its unanswered requests: so the queue is bounded.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Option<mpsc::UnboundedSender<Order>>>);

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<mpsc::UnboundedSender<Order>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True, and no orders are taken any more, when none is waiting.
    fn is_finished(&self, orders: &mpsc::UnboundedReceiver<Order>) -> bool {
        let mut slot = self.lock();
        let finished = orders.is_empty();
        if finished {
            *slot = None;
        }
        finished
    }
}

/// Adds an order, and starts the task when there is none.
pub(crate) fn order(shared: &Arc<Shared>, session: &Arc<Session>, order: Order) {
    let mut slot = session.catch_up.lock();
    let orders = slot.get_or_insert_with(|| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (shared_of_task, session) = (shared.clone(), session.clone());
        shared.tasks.spawn(async move { runner::run(shared_of_task, session, receiver).await });
        sender
    });
    // Only a stopping edge has no task that receives.
    let _ = orders.send(order);
}
