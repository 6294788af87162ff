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

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

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
    /// The session has ended: there is nothing left to do.
    End,
}

/// Where a session's orders go. At most one order a conversation comes from the fan-out, and a client's are counted among
/// its unanswered requests: so the queue is bounded.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Option<Box<Orders>>>);

/// Orders that wait; there only while a task is there to do them.
#[derive(Default)]
struct Orders {
    queue: VecDeque<Order>,
    /// The task.
    waker: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Box<Orders>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_next(&self, cx: &Context<'_>) -> Poll<Order> {
        let mut slot = self.lock();
        let orders = slot.get_or_insert_default();
        match orders.queue.pop_front() {
            Some(order) => Poll::Ready(order),
            None => {
                orders.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// True when none waits; the next one then starts a new task.
    fn is_finished(&self) -> bool {
        let mut slot = self.lock();
        let finished = slot.as_ref().is_none_or(|orders| orders.queue.is_empty());
        if finished {
            *slot = None;
        }
        finished
    }
}

/// How many other frames a `sync` of so many conversations weighs, among those of a session that are not answered: each of
/// them may become an answer of its own.
pub(crate) fn weight(conversations: usize) -> u32 {
    1 + u32::try_from(conversations / 64).unwrap_or(u32::MAX / 2)
}

/// Tells the task, if there is one, that its session has ended.
pub(super) fn end(session: &Session) {
    let mut slot = session.catch_up.lock();
    let Some(orders) = slot.as_mut() else { return };
    orders.queue.push_back(Order::End);
    let waker = orders.waker.take();
    drop(slot);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Adds an order, and starts the task when there is none.
pub(crate) fn order(shared: &Arc<Shared>, session: &Arc<Session>, order: Order) {
    let mut slot = session.catch_up.lock();
    let is_new = slot.is_none();
    let orders = slot.get_or_insert_default();
    orders.queue.push_back(order);
    let waker = orders.waker.take();
    drop(slot);
    if is_new {
        shared.spawn_until_stop(runner::run(shared.clone(), session.clone()));
    } else if let Some(waker) = waker {
        waker.wake();
    }
}
