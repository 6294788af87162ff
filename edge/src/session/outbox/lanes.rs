//! The events that wait for one client, in lanes by importance (DESIGN 3.4). When there is no room,
//! typing goes first, then presence, then receipts. Messages never go: what does not fit is
//! refused, and the session is behind.

use std::collections::VecDeque;

use wire::ConversationId;

use super::{Pushed, Queued};

/// How important an event is: the first is the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "the lossy lanes wait for what goes there"))]
pub(crate) enum Lane {
    /// Changes of a conversation, and what tells of the outbox itself.
    Messages,
    Receipts,
    Presence,
    Typing,
}

/// How many events may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) events: usize,
    /// One event always fits.
    pub(crate) bytes: usize,
}

/// Lanes that may lose what waits in them.
const LOSSY: usize = 3;

/// See the module. A session that waits for nothing keeps nothing here.
#[derive(Default)]
pub(super) struct Lanes {
    messages: VecDeque<Queued>,
    /// Receipts, presence, typing.
    lossy: Option<Box<[VecDeque<Queued>; LOSSY]>>,
    events: usize,
    bytes: usize,
}

impl Lanes {
    pub(super) fn push(&mut self, lane: Lane, event: Queued, bound: Bound) -> Pushed {
        let len = event.frame.len();
        let keep = match lane {
            Lane::Messages => 0,
            Lane::Receipts => 1,
            Lane::Presence => 2,
            Lane::Typing => LOSSY,
        };
        while !self.has_room(len, bound) {
            if !self.shed(keep) {
                return if lane == Lane::Messages { Pushed::Full } else { Pushed::Shed };
            }
        }
        self.events += 1;
        self.bytes += len;
        self.queue(lane).push_back(event);
        Pushed::Queued
    }

    fn queue(&mut self, lane: Lane) -> &mut VecDeque<Queued> {
        let at = match lane {
            Lane::Messages => return &mut self.messages,
            Lane::Receipts => 0,
            Lane::Presence => 1,
            Lane::Typing => 2,
        };
        &mut self.lossy.get_or_insert_default()[at]
    }

    fn has_room(&self, len: usize, bound: Bound) -> bool {
        self.events == 0 || (self.events < bound.events && self.bytes + len <= bound.bytes)
    }

    /// Drops the oldest event of the least important lossy lane, but none of the first `keep`
    /// lanes. False: there is none.
    fn shed(&mut self, keep: usize) -> bool {
        let Some(lossy) = &mut self.lossy else { return false };
        let shed = lossy[keep..].iter_mut().rev().find_map(VecDeque::pop_front);
        self.count_out(shed).is_some()
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let event = match self.messages.pop_front() {
            Some(event) => Some(event),
            None => self.lossy.as_mut()?.iter_mut().find_map(VecDeque::pop_front),
        };
        self.count_out(event)
    }

    fn count_out(&mut self, event: Option<Queued>) -> Option<Queued> {
        if let Some(event) = &event {
            self.events -= 1;
            self.bytes -= event.frame.len();
        }
        event
    }

    pub(super) fn peek_len(&self) -> Option<usize> {
        let lossy = || self.lossy.as_ref()?.iter().find_map(VecDeque::front);
        self.messages.front().or_else(lossy).map(|event| event.frame.len())
    }

    pub(super) fn is_half_empty(&self, bound: Bound) -> bool {
        self.events <= bound.events / 2 && self.bytes <= bound.bytes / 2
    }

    /// Takes back the messages of a conversation after `seq`.
    pub(super) fn take_back(&mut self, conversation: &ConversationId, after: u64) {
        let Self { messages, events, bytes, .. } = self;
        messages.retain(|event| {
            let goes = event.conversation.as_ref() == Some(conversation) && event.seq > after;
            if goes {
                *events -= 1;
                *bytes -= event.frame.len();
            }
            !goes
        });
    }

    /// An idle session keeps nothing.
    pub(super) fn shrink(&mut self) {
        if self.events == 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Encoded;
    use super::*;

    const BOUND: Bound = Bound { events: 4, bytes: 100 };

    fn event(n: u8, len: usize) -> Queued {
        Queued { conversation: None, seq: 0, frame: Encoded::of(n, len) }
    }

    fn order(lanes: &mut Lanes) -> Vec<u8> {
        std::iter::from_fn(|| lanes.pop()).map(|event| event.frame.websocket()[0]).collect()
    }

    #[test]
    fn what_is_more_important_goes_first() {
        let mut lanes = Lanes::default();
        for (n, lane) in
            [(4, Lane::Typing), (3, Lane::Presence), (2, Lane::Receipts), (1, Lane::Messages)]
        {
            assert_eq!(lanes.push(lane, event(n, 1), BOUND), Pushed::Queued);
        }
        assert_eq!(lanes.peek_len(), Some(1));
        assert_eq!(order(&mut lanes), [1, 2, 3, 4]);
        assert_eq!((lanes.events, lanes.bytes), (0, 0));
    }

    #[test]
    fn typing_is_shed_first_then_presence_then_receipts_and_messages_never() {
        let mut lanes = Lanes::default();
        for (n, lane) in
            [(2, Lane::Receipts), (3, Lane::Presence), (4, Lane::Typing), (5, Lane::Typing)]
        {
            assert_eq!(lanes.push(lane, event(n, 1), BOUND), Pushed::Queued);
        }
        let mut left = Vec::new();
        for n in 10..14 {
            assert_eq!(lanes.push(Lane::Messages, event(n, 1), BOUND), Pushed::Queued);
            let lossy = lanes.lossy.iter().flat_map(|lossy| lossy.iter().flatten());
            left.push(lossy.map(|event| event.frame.clone().websocket()[0]).collect::<Vec<_>>());
        }
        assert_eq!(left, [vec![2, 3, 5], vec![2, 3], vec![2], vec![]]);
        assert_eq!(lanes.push(Lane::Messages, event(14, 1), BOUND), Pushed::Full);
        assert_eq!(lanes.push(Lane::Receipts, event(15, 1), BOUND), Pushed::Shed);
        assert_eq!(order(&mut lanes), [10, 11, 12, 13]);
    }

    #[test]
    fn a_lossy_event_sheds_nothing_that_is_more_important_than_itself() {
        let mut lanes = Lanes::default();
        for (n, lane) in
            [(1, Lane::Receipts), (2, Lane::Presence), (3, Lane::Presence), (4, Lane::Presence)]
        {
            assert_eq!(lanes.push(lane, event(n, 1), BOUND), Pushed::Queued);
        }
        assert_eq!(lanes.push(Lane::Typing, event(5, 1), BOUND), Pushed::Shed);
        assert_eq!(lanes.push(Lane::Presence, event(6, 1), BOUND), Pushed::Shed);
        assert_eq!(lanes.push(Lane::Receipts, event(7, 1), BOUND), Pushed::Queued);
        assert_eq!(order(&mut lanes), [1, 7, 3, 4]);
    }

    #[test]
    fn bytes_are_bounded_too_and_one_event_always_fits() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.push(Lane::Messages, event(1, 1_000), BOUND), Pushed::Queued);
        assert_eq!(lanes.push(Lane::Messages, event(2, 1), BOUND), Pushed::Full);
        assert!(!lanes.is_half_empty(BOUND));
        lanes.pop();
        lanes.shrink();
        assert!(lanes.is_half_empty(BOUND));
        assert_eq!(lanes.push(Lane::Typing, event(3, 90), BOUND), Pushed::Queued);
        assert_eq!(
            lanes.push(Lane::Messages, event(4, 20), BOUND),
            Pushed::Queued,
            "sheds by bytes"
        );
        assert_eq!(order(&mut lanes), [4]);
    }
}
