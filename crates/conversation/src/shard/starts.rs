//! Which epoch owns which slot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wire::{Epoch, Position, Slot};

/// First slot of every sealed epoch. Rows of an older epoch at or past the start of a newer one are
/// void.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Starts(BTreeMap<Epoch, Slot>);

impl Starts {
    /// Records a seal. It forgets epochs that own no slot because of it, so that a core which
    /// crashes and restarts many times without writing does not make the lease row grow.
    pub fn insert(&mut self, epoch: Epoch, start: Slot) {
        self.0.retain(|&older, &mut its| older > epoch || its < start);
        if self.0.range(epoch..).all(|(_, &newer)| newer > start) {
            self.0.insert(epoch, start);
        }
    }

    /// The start of this epoch, if it was sealed and owns any slot.
    #[must_use]
    pub fn get(&self, epoch: Epoch) -> Option<Slot> {
        self.0.get(&epoch).copied()
    }

    /// The last sealed epoch and its start. It owns everything from there on.
    #[must_use]
    pub fn last(&self) -> Option<(Epoch, Slot)> {
        self.0.last_key_value().map(|(&epoch, &start)| (epoch, start))
    }

    /// The epoch whose row counts at this slot: the newest one that had started there. None when no
    /// row counts.
    #[must_use]
    pub fn owner_of(&self, slot: Slot) -> Option<Epoch> {
        self.0.iter().rev().find(|&(_, &start)| start <= slot).map(|(&epoch, _)| epoch)
    }

    /// Whether a row at this place counts.
    #[must_use]
    pub fn owns(&self, at: Position) -> bool {
        self.owner_of(at.slot) == Some(at.epoch)
    }

    /// As [`Starts::owns`], for rows that may be newer than these starts. A place of a later term
    /// than they know shows that the reader's own term is over. The reader learns that at its next
    /// write; until then it takes the row as valid rather than report that nothing is there.
    pub(crate) fn is_current_or_newer(&self, at: Position) -> bool {
        self.owns(at) || self.last().is_some_and(|(last, _)| at.epoch > last)
    }

    /// How far a mark still holds: a later term that started before the mark cut the rest off.
    #[must_use]
    pub fn bound(&self, mark: Position) -> Slot {
        let after = (std::ops::Bound::Excluded(mark.epoch), std::ops::Bound::Unbounded);
        self.0.range(after).map(|(_, &start)| start).fold(mark.slot, Slot::min)
    }

    /// The starts, as far as they concern the slots from this one on.
    #[must_use]
    pub fn from_slot(&self, slot: Slot) -> Self {
        let owner = self.owner_of(slot).unwrap_or_default();
        Self(self.0.range(owner..).map(|(&epoch, &start)| (epoch, start)).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = (Epoch, Slot)> + '_ {
        self.0.iter().map(|(&epoch, &start)| (epoch, start))
    }
}

impl FromIterator<(Epoch, Slot)> for Starts {
    fn from_iter<I: IntoIterator<Item = (Epoch, Slot)>>(starts: I) -> Self {
        let mut all = Self::default();
        for (epoch, start) in starts {
            all.insert(epoch, start);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(of: &[(u64, u64)]) -> Starts {
        of.iter().map(|&(epoch, start)| (Epoch(epoch), Slot(start))).collect()
    }

    fn at(epoch: u64, slot: u64) -> Position {
        Position { epoch: Epoch(epoch), slot: Slot(slot) }
    }

    #[test]
    fn a_slot_belongs_to_the_newest_epoch_that_had_started_there() {
        let starts = starts(&[(1, 0), (3, 5), (4, 5), (6, 9)]);
        assert_eq!(starts.get(Epoch(3)), None, "an epoch that owns nothing is forgotten");
        let owners = [(0, 1), (4, 1), (5, 4), (8, 4), (9, 6), (1_000, 6)];
        for (slot, epoch) in owners {
            assert_eq!(starts.owner_of(Slot(slot)), Some(Epoch(epoch)), "slot {slot}");
        }
        assert!(!starts.owns(at(3, 5)), "an epoch that wrote nothing owns nothing");
        assert!(!starts.owns(at(2, 1)), "an epoch that never sealed owns nothing");
        assert_eq!(Starts::default().owner_of(Slot(0)), None);
    }

    #[test]
    fn after_a_fork_the_successor_owns_what_it_cut_off() {
        let starts = starts(&[(1, 0), (2, 10), (3, 4)]);
        assert!(starts.owns(at(1, 3)) && starts.owns(at(3, 4)) && starts.owns(at(3, 12)));
        assert!(!starts.owns(at(2, 12)) && !starts.owns(at(1, 4)));
        assert_eq!(starts.last(), Some((Epoch(3), Slot(4))));
        assert_eq!(starts.bound(at(2, 15)), Slot(4), "what epoch 2 said holds up to the cut");
        assert_eq!(starts.bound(at(2, 3)), Slot(3));
        assert_eq!(starts.bound(at(3, 15)), Slot(15));
    }

    #[test]
    fn the_starts_from_a_slot_on_say_the_same_of_it() {
        let all = starts(&[(1, 0), (2, 4), (3, 9)]);
        for from in 0..12 {
            let rest = all.from_slot(Slot(from));
            for slot in from..12 {
                assert_eq!(
                    rest.owner_of(Slot(slot)),
                    all.owner_of(Slot(slot)),
                    "{slot} from {from}"
                );
            }
        }
        assert_eq!(all.from_slot(Slot(5)), starts(&[(2, 4), (3, 9)]));
    }

    #[test]
    fn what_is_forgotten_is_what_owns_nothing() {
        // Every order of starts of four epochs, with and without forgetting.
        for code in 0..4u64.pow(4) {
            let seals: Vec<_> =
                (0..4).map(|n| (Epoch(n + 1), Slot(code / 4u64.pow(n as u32) % 4))).collect();
            let kept = Starts::from_iter(seals.clone());
            let all = Starts(seals.iter().copied().collect());
            for slot in (0..5).map(Slot) {
                assert_eq!(kept.owner_of(slot), all.owner_of(slot), "{seals:?}");
                for epoch in (0..5).map(Epoch) {
                    let mark = Position { epoch, slot };
                    assert_eq!(kept.bound(mark), all.bound(mark), "{seals:?}");
                }
            }
            assert_eq!(kept.last(), all.last());
            let backwards = Starts::from_iter(seals.into_iter().rev());
            assert_eq!(backwards, kept, "in whatever order they are told");
        }
    }
}
