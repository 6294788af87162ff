//! What waits to be written to one client. The fan-out and the links push, the session's task takes.
//!
//! Two queues. Answers to the client's own frames are bounded because the session stops reading while many wait. Events are
//! bounded by count and bytes: a full outbox refuses the event, and whoever pushed it marks the session as behind in that
//! conversation; nothing is dropped here.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use wire::ConversationId;

/// Small frames that wait together are copied into one write of at most so many bytes.
const COALESCE_BYTES: usize = 16 * 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// The session's task.
    pump: AtomicWaker,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Bytes>,
    events: VecDeque<Queued>,
    event_bytes: usize,
    /// Events stay queued: the client has not had the time to say `sync`.
    settling: bool,
    closed: bool,
    close: Option<Close>,
    /// Who waits for room, or for the end of settling.
    room: Option<Waker>,
}

/// An event on its way.
#[derive(Clone)]
pub(crate) struct Queued {
    /// Of which conversation, so that a `sync` can take back what it will send itself.
    pub(crate) conversation: Option<ConversationId>,
    /// Of a message: its seq. 0 for other events.
    pub(crate) seq: u64,
    /// Ready for the socket.
    pub(crate) frame: Bytes,
}

/// How many events may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// Count.
    pub(crate) events: usize,
    /// Bytes; one event always fits.
    pub(crate) bytes: usize,
}

/// The session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    /// For programs.
    pub(crate) code: u16,
    /// For people.
    pub(crate) reason: &'static str,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits.
    Queued,
    /// No room. The session must be told, and caught up.
    Full,
    /// The session has ended.
    Closed,
}

impl Outbox {
    /// Queues an event within the bound.
    pub(crate) fn push(&self, event: Queued, bound: Bound) -> Pushed {
        let mut state = self.lock();
        if state.closed {
            return Pushed::Closed;
        }
        if !state.has_room(event.frame.len(), bound) {
            return Pushed::Full;
        }
        let quiet = state.settling;
        state.event_bytes += event.frame.len();
        state.events.push_back(event);
        drop(state);
        if !quiet {
            self.pump.wake();
        }
        Pushed::Queued
    }

    /// Queues an event whatever waits: for the few that tell of the outbox itself.
    pub(crate) fn push_always(&self, event: Queued) {
        self.push(event, Bound { events: usize::MAX, bytes: usize::MAX });
    }

    /// Queues an answer to a frame of the client.
    pub(crate) fn answer(&self, frame: Bytes) {
        let mut state = self.lock();
        if !state.closed {
            state.answers.push_back(frame);
            drop(state);
            self.pump.wake();
        }
    }

    /// Ends the session once what waits is written. The first reason counts.
    pub(crate) fn close(&self, close: Close) {
        self.lock().close.get_or_insert(close);
        self.pump.wake();
    }

    /// Ready when an event of any size has room, or the session has ended (false).
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>, bound: Bound) -> Poll<bool> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(false);
        }
        if state.is_half_empty(bound) {
            return Poll::Ready(true);
        }
        state.room = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes back the queued messages of a conversation after `seq`.
    pub(crate) fn take_back(&self, conversation: &ConversationId, after: u64) {
        let mut state = self.lock();
        let State { events, event_bytes, .. } = &mut *state;
        events.retain(|event| {
            let goes = event.conversation.as_ref() == Some(conversation) && event.seq > after;
            if goes {
                *event_bytes -= event.frame.len();
            }
            !goes
        });
    }

    /// Holds events back, or lets them go.
    pub(crate) fn set_settling(&self, settling: bool) {
        let mut state = self.lock();
        let was = std::mem::replace(&mut state.settling, settling);
        let waiting = state.room.take();
        drop(state);
        if was && !settling {
            self.pump.wake();
        }
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// Ready when events are not held back, or the session has ended.
    pub(crate) fn poll_settled(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.settling || state.closed {
            return Poll::Ready(());
        }
        state.room = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Registers the session's task for whatever is pushed from now on.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.pump.register(cx.waker());
    }

    /// Makes the session's task look around.
    pub(crate) fn wake(&self) {
        self.pump.wake();
    }

    /// What to write next: one frame, or several small ones in one buffer. Answers go first.
    pub(crate) fn take(&self, bound: Bound) -> Option<Bytes> {
        let mut state = self.lock();
        let first = state.pop()?;
        let frame = match state.peek_len() {
            Some(next) if first.len() + next <= COALESCE_BYTES => {
                let mut joined = BytesMut::with_capacity((first.len() + next).max(1024));
                joined.extend_from_slice(&first);
                while state.peek_len().is_some_and(|len| joined.len() + len <= COALESCE_BYTES) {
                    let Some(more) = state.pop() else { break };
                    joined.extend_from_slice(&more);
                }
                joined.freeze()
            }
            _ => first,
        };
        state.shrink();
        if let Some(room) = state.room.take() {
            if state.is_half_empty(bound) {
                room.wake();
            } else {
                state.room = Some(room);
            }
        }
        Some(frame)
    }

    /// Answers that wait.
    pub(crate) fn answers(&self) -> usize {
        self.lock().answers.len()
    }

    /// The order to end, if there is one.
    pub(crate) fn closing(&self) -> Option<Close> {
        self.lock().close
    }

    /// Nothing is accepted from now on, and what waited is gone.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        let room = state.room.take();
        *state = State { closed: true, close: state.close, ..State::default() };
        drop(state);
        if let Some(room) = room {
            room.wake();
        }
    }

    /// Whether the session has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, len: usize, bound: Bound) -> bool {
        self.events.is_empty()
            || (self.events.len() < bound.events && self.event_bytes + len <= bound.bytes)
    }

    fn is_half_empty(&self, bound: Bound) -> bool {
        self.events.len() <= bound.events / 2 && self.event_bytes <= bound.bytes / 2
    }

    fn pop(&mut self) -> Option<Bytes> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        if self.settling {
            return None;
        }
        let event = self.events.pop_front()?;
        self.event_bytes -= event.frame.len();
        Some(event.frame)
    }

    fn peek_len(&self) -> Option<usize> {
        let event = || {
            if self.settling { None } else { self.events.front().map(|event| event.frame.len()) }
        };
        self.answers.front().map(Bytes::len).or_else(event)
    }

    /// An idle session keeps nothing.
    fn shrink(&mut self) {
        if self.answers.is_empty() {
            self.answers = VecDeque::new();
        }
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { events: 4, bytes: 100 };

    fn conversation(n: u8) -> ConversationId {
        let mut bytes = [0; 23];
        bytes[0] = 0x10;
        bytes[22] = n;
        ConversationId::from_bytes(&bytes).unwrap()
    }

    fn event(n: u8, seq: u64, len: usize) -> Queued {
        Queued { conversation: Some(conversation(n)), seq, frame: Bytes::from(vec![n; len]) }
    }

    #[test]
    fn a_full_outbox_refuses_and_keeps_what_it_has() {
        let outbox = Outbox::default();
        for seq in 1..=4 {
            assert_eq!(outbox.push(event(1, seq, 10), BOUND), Pushed::Queued);
        }
        assert_eq!(outbox.push(event(1, 5, 10), BOUND), Pushed::Full);
        assert_eq!(outbox.take(BOUND).unwrap().len(), 40);
        assert_eq!(outbox.push(event(1, 5, 1_000), BOUND), Pushed::Queued, "one event always fits");
        assert_eq!(outbox.push(event(1, 6, 1), BOUND), Pushed::Full);
        outbox.end();
        assert_eq!(outbox.push(event(1, 7, 1), BOUND), Pushed::Closed);
        assert!(outbox.take(BOUND).is_none());
    }

    #[test]
    fn answers_overtake_events_and_settling_holds_only_events() {
        let outbox = Outbox::default();
        outbox.set_settling(true);
        outbox.push(event(1, 1, 3), BOUND);
        outbox.answer(Bytes::from_static(b"answer"));
        assert_eq!(&outbox.take(BOUND).unwrap()[..], b"answer");
        assert!(outbox.take(BOUND).is_none());
        outbox.set_settling(false);
        assert_eq!(outbox.take(BOUND).unwrap().len(), 3);
    }

    #[test]
    fn a_sync_takes_back_only_the_later_messages_of_its_conversation() {
        let outbox = Outbox::default();
        for queued in [event(1, 1, 1), event(1, 2, 1), event(1, 0, 1), event(2, 9, 1)] {
            outbox.push(queued, BOUND);
        }
        outbox.take_back(&conversation(1), 1);
        assert_eq!(&outbox.take(BOUND).unwrap()[..], &[1, 1, 2]);
    }
}
