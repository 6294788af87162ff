//! The cursor of a feed consumer: which rows of the log it may take (R6).
//!
//! A consumer reads the log from its cursor and shows the rows to [`Consumer::take`], which accepts a row iff its slot is
//! before the committed mark, its epoch owns the slot, and its epoch is not newer than the mark's. Delivery is
//! at-least-once: the cursor is written down after the work is done.

use wire::{Epoch, Position, Slot};

use crate::log::LogRow;
use crate::shard::Starts;

/// Where a consumer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Consumer {
    /// Next slot, and the epoch of the row before it.
    next: Position,
}

/// What the rows shown were good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken<'a> {
    /// To be worked on, in this order.
    pub rows: Vec<&'a LogRow>,
    /// Why it went no further.
    pub then: Then,
}

/// Why a consumer took no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// Everything committed is taken.
    CaughtUp,
    /// The rows shown ended: read on from [`Consumer::next_slot`].
    ReadOn,
    /// A committed row is not among those shown: read again at a wider quorum.
    Hole(Slot),
    /// The mark is of an epoch that these starts do not know: read the lease again, serially.
    StaleStarts(Epoch),
}

impl Consumer {
    /// From a cursor written down before, or from the beginning.
    #[must_use]
    pub fn new(cursor: Option<Position>) -> Self {
        Self { next: cursor.unwrap_or_default() }
    }

    /// To be written down once everything taken so far is done.
    #[must_use]
    pub fn cursor(&self) -> Position {
        self.next
    }

    /// Where to read on.
    #[must_use]
    pub fn next_slot(&self) -> Slot {
        self.next.slot
    }

    /// Goes back to the fork when the epoch that this cursor followed has lost its slots. Returns whether it did.
    pub fn rewind(&mut self, starts: &Starts) -> bool {
        let bound = starts.bound(self.next);
        let lost = bound < self.next.slot;
        if lost {
            let before = bound.0.checked_sub(1).and_then(|slot| starts.owner_of(Slot(slot)));
            self.next = Position { epoch: before.unwrap_or_default(), slot: bound };
        }
        lost
    }

    /// Takes what it may of `rows`, which were read from [`Consumer::next_slot`] on, all epochs, in (slot, epoch) order, and
    /// moves behind them. `end`: whether they are all there are.
    pub fn take<'a>(&mut self, rows: &'a [LogRow], end: bool, starts: &Starts, committed: Position) -> Taken<'a> {
        if committed.epoch > Epoch(0) && starts.get(committed.epoch).is_none() {
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
