//! What an edge delivers next of one conversation: by `ver`, dense, once. (M6: drop what is not newer than the last, hold
//! what comes too early.)

use std::collections::BTreeMap;

/// Most changes held for a hole to be filled; further ones are dropped and asked for again with the hole.
const HELD_MAX: usize = 256;

/// The cursor, over whatever the edge delivers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdgeCursor<T> {
    last: u64,
    held: BTreeMap<u64, T>,
    asked: bool,
}

/// What to do with a change that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Deliver these, in order: it, and those that were waiting for it.
    Deliver(Vec<T>),
    /// Delivered before: nothing.
    Stale,
    /// It is kept; ask for the changes after this `ver`, unless that was asked already.
    Hole {
        /// Exclusive.
        after_ver: u64,
        /// Whether to ask: false while an answer is awaited.
        ask: bool,
    },
}

impl<T> EdgeCursor<T> {
    /// Delivers what follows on `last`.
    #[must_use]
    pub fn after(last: u64) -> Self {
        Self { last, held: BTreeMap::new(), asked: false }
    }

    /// The last `ver` delivered: where to watch again after a broken stream.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// A change came, from the feed or in answer to a question.
    pub fn offer(&mut self, ver: u64, change: T) -> Next<T> {
        if ver <= self.last {
            return Next::Stale;
        }
        if ver > self.last + 1 {
            if self.held.len() < HELD_MAX {
                self.held.insert(ver, change);
            }
            let ask = !self.asked;
            self.asked = true;
            return Next::Hole { after_ver: self.last, ask };
        }
        self.last = ver;
        let mut deliver = vec![change];
        while let Some(change) = self.held.remove(&(self.last + 1)) {
            self.last += 1;
            deliver.push(change);
        }
        self.held = self.held.split_off(&(self.last + 1));
        if self.held.is_empty() {
            self.asked = false;
        }
        Next::Deliver(deliver)
    }

    /// The question failed, or was answered without filling the hole. Returns what to ask next, if there is still a hole.
    pub fn retry(&mut self) -> Option<u64> {
        self.asked = !self.held.is_empty();
        self.asked.then_some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_follows_is_delivered_and_what_was_is_dropped() {
        let mut cursor = EdgeCursor::after(4);
        assert_eq!(cursor.offer(5, 'a'), Next::Deliver(vec!['a']));
        assert_eq!(cursor.offer(5, 'a'), Next::Stale);
        assert_eq!(cursor.offer(2, 'x'), Next::Stale);
        assert_eq!(cursor.last(), 5);
    }

    #[test]
    fn a_hole_is_asked_for_once_and_what_waited_comes_in_order() {
        let mut cursor = EdgeCursor::after(0);
        assert_eq!(cursor.offer(3, 'c'), Next::Hole { after_ver: 0, ask: true });
        assert_eq!(cursor.offer(2, 'b'), Next::Hole { after_ver: 0, ask: false });
        assert_eq!(cursor.retry(), Some(0), "the question failed");
        assert_eq!(cursor.offer(1, 'a'), Next::Deliver(vec!['a', 'b', 'c']));
        assert_eq!(cursor.retry(), None);
        assert_eq!(cursor.offer(5, 'e'), Next::Hole { after_ver: 3, ask: true });
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut cursor = EdgeCursor::after(0);
        for ver in 2..10 * HELD_MAX as u64 {
            cursor.offer(ver, ver);
        }
        assert!(cursor.held.len() <= HELD_MAX);
    }

    proptest! {
        #[test]
        fn in_whatever_order_they_come_all_are_delivered_once_in_order(
            arrivals in Just((1..=40u64).flat_map(|ver| [ver, ver]).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let mut cursor = EdgeCursor::after(0);
            let mut delivered = Vec::new();
            for ver in arrivals {
                if let Next::Deliver(now) = cursor.offer(ver, ver) {
                    delivered.extend(now);
                }
            }
            prop_assert_eq!(delivered, (1..=40).collect::<Vec<_>>());
        }
    }
}
