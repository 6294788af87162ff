//! The cursor of a feed consumer: which rows of the log it may take (R6).
//!
//! A consumer reads the log from its cursor and passes the rows to [`Consumer::take`]. That accepts
//! a row iff its slot is before the committed mark, its epoch owns the slot, and its epoch is not
//! newer than the mark's. Delivery is at least once: the cursor is stored after the work is done.

use wire::{Epoch, Position, Slot};

use crate::log::LogRow;
use crate::shard::Starts;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Consumer {
    /// Next slot, and the epoch of the row before it.
    next: Position,
}

/// What a consumer takes of the rows passed to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken<'a> {
    /// Rows to work on, in this order.
    pub rows: Vec<&'a LogRow>,
    /// Why it took no more.
    pub then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// Everything committed is taken.
    CaughtUp,
    /// The rows ended: read on from [`Consumer::next_slot`].
    ReadOn,
    /// A committed row is missing among them: read again at a wider quorum.
    Hole(Slot),
    /// The mark is of an epoch that these starts do not know: read the lease again, serially.
    StaleStarts(Epoch),
}

impl Consumer {
    /// Starts from a stored cursor, or from the beginning.
    #[must_use]
    pub fn new(cursor: Option<Position>) -> Self {
        Self { next: cursor.unwrap_or_default() }
    }

    /// The cursor to store once everything taken so far is done.
    #[must_use]
    pub fn cursor(&self) -> Position {
        self.next
    }

    #[must_use]
    pub fn next_slot(&self) -> Slot {
        self.next.slot
    }

    /// Goes back to the fork when the epoch that this cursor followed has lost its slots. Returns
    /// whether it did.
    pub fn rewind(&mut self, starts: &Starts) -> bool {
        let bound = starts.bound(self.next);
        let lost = bound < self.next.slot;
        if lost {
            let before = bound.0.checked_sub(1).and_then(|slot| starts.owner_of(Slot(slot)));
            self.next = Position { epoch: before.unwrap_or_default(), slot: bound };
        }
        lost
    }

    /// Takes what it may of `rows`, and moves behind them. They were read from
    /// [`Consumer::next_slot`] on, all epochs, in (slot, epoch) order. `end` says whether there are
    /// no more.
    pub fn take<'a>(
        &mut self,
        rows: &'a [LogRow],
        end: bool,
        starts: &Starts,
        committed: Position,
    ) -> Taken<'a> {
        let known = starts.last().map_or(Epoch(0), |(epoch, _)| epoch);
        if committed.epoch > known {
            return Taken { rows: Vec::new(), then: Then::StaleStarts(committed.epoch) };
        }
        self.rewind(starts);
        let limit = starts.bound(committed);
        let mut taken = Vec::new();
        for row in rows {
            let Position { epoch, slot } = row.at;
            if slot > self.next.slot || slot >= limit {
                break;
            }
            if slot == self.next.slot && starts.owns(row.at) && epoch <= committed.epoch {
                self.next = Position { epoch, slot: slot.next() };
                taken.push(row);
            }
        }
        let then = if self.next.slot >= limit {
            Then::CaughtUp
        } else if end || rows.last().is_some_and(|row| row.at.slot > self.next.slot) {
            Then::Hole(self.next.slot)
        } else {
            Then::ReadOn
        };
        Taken { rows: taken, then }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn at(epoch: u64, slot: u64) -> Position {
        Position { epoch: Epoch(epoch), slot: Slot(slot) }
    }

    fn rows(of: &[(u64, u64)]) -> Vec<LogRow> {
        of.iter()
            .map(|&(epoch, slot)| LogRow { at: at(epoch, slot), frame: Bytes::new() })
            .collect()
    }

    fn starts(of: &[(u64, u64)]) -> Starts {
        of.iter().map(|&(epoch, start)| (Epoch(epoch), Slot(start))).collect()
    }

    fn places(taken: &Taken<'_>) -> Vec<(u64, u64)> {
        taken.rows.iter().map(|row| (row.at.epoch.0, row.at.slot.0)).collect()
    }

    #[test]
    fn nothing_at_or_past_the_committed_mark_is_taken() {
        let mut consumer = Consumer::new(None);
        let rows = rows(&[(1, 0), (1, 1), (1, 2)]);
        let taken = consumer.take(&rows, true, &starts(&[(1, 0)]), at(1, 2));
        assert_eq!((places(&taken), taken.then), (vec![(1, 0), (1, 1)], Then::CaughtUp));
        assert_eq!(consumer.cursor(), at(1, 2));
        let taken = consumer.take(&rows[2..], true, &starts(&[(1, 0)]), at(1, 3));
        assert_eq!((places(&taken), taken.then), (vec![(1, 2)], Then::CaughtUp));
    }

    #[test]
    fn void_rows_are_passed_over() {
        let mut consumer = Consumer::new(None);
        let rows = rows(&[(1, 0), (1, 1), (2, 1), (1, 2), (2, 2)]);
        let taken = consumer.take(&rows, true, &starts(&[(1, 0), (2, 1)]), at(2, 3));
        assert_eq!(places(&taken), [(1, 0), (2, 1), (2, 2)]);
        assert_eq!(taken.then, Then::CaughtUp);
    }

    #[test]
    fn a_missing_committed_row_is_a_hole_and_not_the_end() {
        let starts = starts(&[(1, 0)]);
        let mut consumer = Consumer::new(None);
        let gap = rows(&[(1, 0), (1, 2)]);
        let taken = consumer.take(&gap, false, &starts, at(1, 3));
        assert_eq!((places(&taken), taken.then), (vec![(1, 0)], Then::Hole(Slot(1))));
        assert_eq!(consumer.take(&[], true, &starts, at(1, 3)).then, Then::Hole(Slot(1)));
        let page = rows(&[(1, 1)]);
        assert_eq!(consumer.take(&page, false, &starts, at(1, 3)).then, Then::ReadOn);
        assert_eq!(consumer.next_slot(), Slot(2));
    }

    #[test]
    fn a_mark_of_an_epoch_not_known_asks_for_the_lease() {
        let mut consumer = Consumer::new(None);
        let rows = rows(&[(1, 0)]);
        let taken = consumer.take(&rows, true, &starts(&[(1, 0)]), at(2, 1));
        assert_eq!((taken.rows.len(), taken.then), (0, Then::StaleStarts(Epoch(2))));
        assert_eq!(
            consumer.take(&rows, true, &starts(&[]), Position::default()).then,
            Then::CaughtUp
        );
    }

    #[test]
    fn a_cursor_whose_epoch_lost_its_slots_rewinds_to_the_fork() {
        let mut consumer = Consumer::new(Some(at(2, 9)));
        let forked = starts(&[(1, 0), (2, 3), (3, 5)]);
        let old_mark = rows(&[(3, 5)]);
        // The old mark says up to 9, but in a term that was cut off at 5. It commits nothing of
        // epoch 3.
        let taken = consumer.take(&old_mark, true, &forked, at(2, 9));
        assert_eq!((taken.rows.len(), taken.then), (0, Then::CaughtUp));
        assert_eq!(consumer.cursor(), at(2, 5));
        let taken = consumer.take(&old_mark, true, &forked, at(3, 6));
        assert_eq!(places(&taken), [(3, 5)]);
        assert!(!consumer.rewind(&forked), "once");
    }

    #[test]
    fn an_ordinary_takeover_rewinds_nothing() {
        let mut consumer = Consumer::new(Some(at(1, 4)));
        assert!(!consumer.rewind(&starts(&[(1, 0), (2, 4), (3, 7)])));
    }
}
