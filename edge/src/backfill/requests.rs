//! What a session's backfill is asked to bring.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use conversation::delivery::Place;
use wire::ConversationId;

/// Something to be brought.
#[derive(Debug)]
pub(crate) enum BackfillRequest {
    /// The session is off the live events of a conversation, and has everything up to `have`.
    Behind {
        conversation: ConversationId,
        have: Place,
        /// Its outbox was full.
        slow: bool,
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

/// The requests of one session. Of each conversation delivery adds one at most, and a client's are
/// counted among its unanswered frames. So the queue is bounded.
#[derive(Default)]
pub(crate) struct Requests(Mutex<Option<Box<Queue>>>);

/// Requests that wait; there only while a task is there to do them.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<BackfillRequest>,
    /// The task.
    waker: Option<Waker>,
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Option<Box<Queue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one. True when no task is there to do it: the caller starts one.
    #[must_use]
    pub(super) fn push(&self, request: BackfillRequest) -> bool {
        let mut slot = self.lock();
        let is_new = slot.is_none();
        let queue = slot.get_or_insert_default();
        queue.waiting.push_back(request);
        let waker = queue.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
        is_new
    }

    /// Tells the task, if there is one, that its session has ended.
    pub(super) fn end(&self) {
        let is_running = self.lock().is_some();
        if is_running {
            let _ = self.push(BackfillRequest::End);
        }
    }

    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<BackfillRequest> {
        let mut slot = self.lock();
        let queue = slot.get_or_insert_default();
        match queue.waiting.pop_front() {
            Some(request) => Poll::Ready(request),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// True when none waits; the next one then starts a new task.
    pub(super) fn is_finished(&self) -> bool {
        let mut slot = self.lock();
        let finished = slot.as_ref().is_none_or(|queue| queue.waiting.is_empty());
        if finished {
            *slot = None;
        }
        finished
    }
}
