//! What an edge delivers next of one conversation: by `ver`, dense, once (M6). It drops changes
//! that are not newer than the last, holds those that come too early, and after a fork goes back to
//! where the fork began.

use std::collections::BTreeMap;

use wire::Epoch;

/// Changes held while a hole waits to be filled. More are dropped, and asked for again with the
/// hole.
const HELD_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdgeCursor<T> {
    last: u64,
    /// Epoch of the change `last`, if known.
    epoch: Option<Epoch>,
    held: BTreeMap<u64, (Epoch, T)>,
    asked: bool,
}

/// What to do with a change that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Deliver these, in order: the change, and those that waited for it.
    Deliver(Vec<T>),
    /// Deliver it in place of everything delivered from its `ver` on, which was lost with a region.
    Forked(T),
    /// It was delivered before.
    Stale,
    /// It is held. Ask for the changes after this `ver`, unless that was asked already.
    Hole {
        /// Exclusive.
        after_ver: u64,
        /// False while an answer is awaited.
        ask: bool,
    },
}

impl<T> EdgeCursor<T> {
    /// Starts after `last`, which is of this epoch, if known.
    #[must_use]
    pub fn after(last: u64, epoch: Option<Epoch>) -> Self {
        Self { last, epoch, held: BTreeMap::new(), asked: false }
    }

    /// The last `ver` delivered: where to watch again after a broken stream.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Takes a change from the feed, or from the answer to a question. Epochs never fall as `ver`
    /// grows. So a change at or before the last one with a newer epoch is of another history: the
    /// one that counts.
    pub fn offer(&mut self, ver: u64, epoch: Epoch, change: T) -> Next<T> {
        if ver <= self.last {
            if self.epoch.is_none_or(|last| epoch <= last) {
                return Next::Stale;
            }
            *self = Self::after(ver, Some(epoch));
            return Next::Forked(change);
        }
        if ver > self.last + 1 {
            if self.held.len() < HELD_MAX {
                self.held.insert(ver, (epoch, change));
            }
            let ask = !self.asked;
            self.asked = true;
            return Next::Hole { after_ver: self.last, ask };
        }
        (self.last, self.epoch) = (ver, Some(epoch));
        // Epochs do not fall: what is held of an older one was lost with a region.
        self.held.retain(|_, (held, _)| *held >= epoch);
        let mut deliver = vec![change];
        while let Some((epoch, change)) = self.held.remove(&(self.last + 1)) {
            (self.last, self.epoch) = (self.last + 1, Some(epoch));
            deliver.push(change);
        }
        self.held = self.held.split_off(&(self.last + 1));
        if self.held.is_empty() {
            self.asked = false;
        }
        Next::Deliver(deliver)
    }

    /// The question failed, or its answer did not fill the hole. Returns what to ask next, if there
    /// is still a hole.
    pub fn retry(&mut self) -> Option<u64> {
        self.asked = !self.held.is_empty();
        self.asked.then_some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const E: Epoch = Epoch(3);

    #[test]
    fn what_follows_is_delivered_and_what_was_is_dropped() {
        let mut cursor = EdgeCursor::after(4, None);
        assert_eq!(cursor.offer(5, E, 'a'), Next::Deliver(vec!['a']));
        assert_eq!(cursor.offer(5, E, 'a'), Next::Stale);
        assert_eq!(cursor.offer(2, E, 'x'), Next::Stale);
        assert_eq!(cursor.last(), 5);
    }

    #[test]
    fn a_hole_is_asked_for_once_and_what_waited_comes_in_order() {
        let mut cursor = EdgeCursor::after(0, None);
        assert_eq!(cursor.offer(3, E, 'c'), Next::Hole { after_ver: 0, ask: true });
        assert_eq!(cursor.offer(2, E, 'b'), Next::Hole { after_ver: 0, ask: false });
        assert_eq!(cursor.retry(), Some(0), "the question failed");
        assert_eq!(cursor.offer(1, E, 'a'), Next::Deliver(vec!['a', 'b', 'c']));
        assert_eq!(cursor.retry(), None);
        assert_eq!(cursor.offer(5, E, 'e'), Next::Hole { after_ver: 3, ask: true });
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut cursor = EdgeCursor::after(0, None);
        for ver in 2..10 * HELD_MAX as u64 {
            cursor.offer(ver, E, ver);
        }
        assert!(cursor.held.len() <= HELD_MAX);
    }

    #[test]
    fn a_newer_history_takes_the_place_of_one_that_was_lost() {
        let mut cursor = EdgeCursor::after(4, Some(E));
        assert_eq!(cursor.offer(5, E, 'a'), Next::Deliver(vec!['a']));
        assert_eq!(cursor.offer(6, E, 'b'), Next::Deliver(vec!['b']));
        assert_eq!(cursor.offer(8, E, 'd'), Next::Hole { after_ver: 6, ask: true });
        assert_eq!(cursor.offer(5, Epoch(2), 'x'), Next::Stale, "an older one does not");
        assert_eq!(cursor.offer(5, Epoch(4), 'A'), Next::Forked('A'));
        assert_eq!((cursor.last(), cursor.epoch()), (5, Some(Epoch(4))));
        assert_eq!(cursor.offer(6, Epoch(4), 'B'), Next::Deliver(vec!['B']));
        assert_eq!(
            cursor.offer(7, Epoch(4), 'C'),
            Next::Deliver(vec!['C']),
            "what was held is of the lost one"
        );
        let mut unknown = EdgeCursor::after(4, None);
        assert_eq!(
            unknown.offer(4, Epoch(9), 'x'),
            Next::Stale,
            "an edge that does not know its epoch trusts the change"
        );
    }

    #[test]
    fn what_is_held_of_a_lost_history_does_not_follow_a_newer_one() {
        let mut cursor = EdgeCursor::after(4, Some(E));
        assert_eq!(cursor.offer(6, E, 'b'), Next::Hole { after_ver: 4, ask: true });
        assert_eq!(cursor.offer(5, Epoch(4), 'A'), Next::Deliver(vec!['A']));
        assert_eq!(cursor.offer(6, Epoch(4), 'B'), Next::Deliver(vec!['B']));
    }

    proptest! {
        #[test]
        fn in_whatever_order_they_come_all_are_delivered_once_in_order(
            arrivals in Just((1..=40u64).flat_map(|ver| [ver, ver]).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let mut cursor = EdgeCursor::after(0, None);
            let mut delivered = Vec::new();
            for ver in arrivals {
                if let Next::Deliver(now) = cursor.offer(ver, E, ver) {
                    delivered.extend(now);
                }
            }
            prop_assert_eq!(delivered, (1..=40).collect::<Vec<_>>());
        }
    }
}
