//! What waits to be written to one client. Delivery and the links push, the session's transport
//! takes.
//!
//! Answers to the client's own frames go first. They are bounded because the session is not read
//! while many wait. Events wait in [lanes], bounded by count and bytes. A message that does not fit
//! is refused, and whoever pushed it marks the session as behind in that conversation: no message
//! is dropped here.

pub(crate) mod lanes;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use conversation::delivery::Settling;
use futures_util::task::AtomicWaker;
use wire::ConversationId;

use super::encoded::Encoded;
pub(crate) use lanes::Bound;
use lanes::{Lane, Lanes};

/// See the module.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// The session's task.
    pump: AtomicWaker,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Encoded>,
    /// The client is asked for a sign of life.
    ping: bool,
    events: Lanes,
    /// While it holds, events stay queued.
    settling: Settling,
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
    pub(crate) frame: Encoded,
}

/// What a transport writes next.
pub(crate) enum Outgoing {
    /// A sign of life is wanted.
    Ping,
    Frame(Encoded),
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
    /// No room. The session must be told, and brought up by a backfill.
    Full,
    /// No room for an event that may be lost.
    Shed,
    /// The session has ended.
    Closed,
}

impl Outbox {
    /// Queues a message within the bound.
    pub(crate) fn push(&self, event: Queued, bound: Bound) -> Pushed {
        self.push_to(Lane::Messages, event, bound)
    }

    /// Queues an event in its lane.
    pub(crate) fn push_to(&self, lane: Lane, event: Queued, bound: Bound) -> Pushed {
        let mut state = self.lock();
        if state.closed {
            return Pushed::Closed;
        }
        let pushed = state.events.push(lane, event, bound);
        let is_quiet = state.settling.holds();
        drop(state);
        if pushed == Pushed::Queued && !is_quiet {
            self.pump.wake();
        }
        pushed
    }

    /// Queues an event whatever waits: for the few that tell of the outbox itself.
    pub(crate) fn push_always(&self, event: Queued) {
        self.push(event, Bound { events: usize::MAX, bytes: usize::MAX });
    }

    /// Queues an answer to a frame of the client.
    pub(crate) fn answer(&self, frame: Encoded) {
        let mut state = self.lock();
        if !state.closed {
            state.answers.push_back(frame);
            drop(state);
            self.pump.wake();
        }
    }

    /// Asks the client for a sign of life.
    pub(crate) fn ping(&self) {
        self.lock().ping = true;
        self.pump.wake();
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
        if state.events.is_half_empty(bound) {
            return Poll::Ready(true);
        }
        state.room = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes back the queued messages of a conversation after `seq`.
    pub(crate) fn take_back(&self, conversation: &ConversationId, after: u64) {
        self.lock().events.take_back(conversation, after);
    }

    /// Changes what holds events back. When nothing does any more, they go.
    pub(crate) fn settle(&self, change: impl FnOnce(&mut Settling)) {
        let mut state = self.lock();
        let held = state.settling.holds();
        change(&mut state.settling);
        let is_released = held && !state.settling.holds();
        let waiting = if is_released { state.room.take() } else { None };
        drop(state);
        if is_released {
            self.pump.wake();
        }
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// Ready when events are not held back, or the session has ended.
    pub(crate) fn poll_settled(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.settling.holds() || state.closed {
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

    /// Takes what to write next: one frame, and further ones while they have at most `most` bytes
    /// together.
    pub(crate) fn take(&self, bound: Bound, most: usize, mut write: impl FnMut(Outgoing)) {
        let mut state = self.lock();
        let mut bytes = 0;
        while let Some(len) = state.peek_len() {
            if bytes > 0 && bytes + len > most {
                break;
            }
            bytes += len;
            let Some(next) = state.pop() else { break };
            write(next);
        }
        state.shrink();
        if let Some(room) = state.room.take() {
            if state.events.is_half_empty(bound) {
                room.wake();
            } else {
                state.room = Some(room);
            }
        }
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
    fn pop(&mut self) -> Option<Outgoing> {
        if std::mem::take(&mut self.ping) {
            return Some(Outgoing::Ping);
        }
        if let Some(answer) = self.answers.pop_front() {
            return Some(Outgoing::Frame(answer));
        }
        let event = if self.settling.holds() { None } else { self.events.pop() };
        event.map(|event| Outgoing::Frame(event.frame))
    }

    fn peek_len(&self) -> Option<usize> {
        if self.ping {
            return Some(1);
        }
        let event = || if self.settling.holds() { None } else { self.events.peek_len() };
        self.answers.front().map(Encoded::len).or_else(event)
    }

    /// An idle session keeps nothing.
    fn shrink(&mut self) {
        if self.answers.is_empty() {
            self.answers = VecDeque::new();
        }
        self.events.shrink();
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
        Queued { conversation: Some(conversation(n)), seq, frame: Encoded::of(n, len) }
    }

    /// The first bytes of what is written at once.
    fn take(outbox: &Outbox, most: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        outbox.take(BOUND, most, |next| {
            taken.push(match next {
                Outgoing::Ping => b'p',
                Outgoing::Frame(frame) => frame.websocket()[0],
            });
        });
        taken
    }

    #[test]
    fn a_full_outbox_refuses_and_keeps_what_it_has() {
        let outbox = Outbox::default();
        for seq in 1..=4 {
            assert_eq!(outbox.push(event(1, seq, 10), BOUND), Pushed::Queued);
        }
        assert_eq!(outbox.push(event(1, 5, 10), BOUND), Pushed::Full);
        assert_eq!(take(&outbox, 30).len(), 3);
        assert_eq!(take(&outbox, 30).len(), 1);
        assert_eq!(outbox.push(event(1, 5, 1_000), BOUND), Pushed::Queued, "one event always fits");
        assert_eq!(outbox.push(event(1, 6, 1), BOUND), Pushed::Full);
        assert_eq!(take(&outbox, 30).len(), 1, "and is written, whatever its size");
        outbox.end();
        assert_eq!(outbox.push(event(1, 7, 1), BOUND), Pushed::Closed);
        assert!(take(&outbox, 30).is_empty());
    }

    #[test]
    fn answers_overtake_events_and_settling_holds_only_events() {
        let outbox = Outbox::default();
        outbox.settle(|settling| *settling = Settling::begin());
        outbox.push(event(1, 1, 3), BOUND);
        outbox.answer(Encoded::of(b'a', 6));
        outbox.ping();
        assert_eq!(take(&outbox, 100), [b'p', b'a']);
        assert!(take(&outbox, 100).is_empty());
        outbox.settle(Settling::pass);
        assert_eq!(take(&outbox, 100), [1]);
    }

    #[test]
    fn a_sync_takes_back_only_the_later_messages_of_its_conversation() {
        let outbox = Outbox::default();
        for queued in [event(1, 1, 1), event(1, 2, 1), event(1, 0, 1), event(2, 9, 1)] {
            outbox.push(queued, BOUND);
        }
        outbox.take_back(&conversation(1), 1);
        assert_eq!(take(&outbox, 100), [1, 1, 2]);
    }
}
