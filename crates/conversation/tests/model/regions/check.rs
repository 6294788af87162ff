//! What must hold.
//!
//! - What is acknowledged counts by the starts in the lease row at that moment, if no clock is
//!   worse than was said.
//! - A term that does not fork begins with everything that was committed before it. One that does
//!   reports no more as
//!   missing than is.
//! - A term begins without a hole, and with no message twice; and none is acknowledged twice.
//! - While no fork is open, every message of which a client was told stands in the log. So a
//!   salvage brings everything back.
//! - A consumer takes only what is committed, and what it has passed is what counts.

use hearth_conversation::shard::{Lease, Term};
use wire::{Position, Slot};

use super::{Mutant, SLOTS_MAX, State, World, bit, places};

impl State {
    pub(super) fn begins_well(
        &self,
        world: &World,
        before: &Lease,
        term: &Term,
    ) -> Result<(), String> {
        for slot in (0..term.start.0).map(Slot) {
            let row = term.tail.iter().find(|row| row.at.slot == slot);
            let row = row.ok_or_else(|| format!("slot {} is missing below the start", slot.0))?;
            if term.tail.iter().any(|other| other.at != row.at && other.frame == row.frame) {
                return Err(format!(
                    "{:?} stands twice in the log of epoch {}",
                    row.frame, term.epoch.0
                ));
            }
        }
        let cut = places(self.committed)
            .filter(|&at| before.starts.owns(at) && !self.lease.starts.owns(at));
        let missing = cut.count() as u64;
        let reported = match (&term.loss, world.mutant) {
            (None, _) if missing > 0 => {
                return Err(format!("{missing} committed frames were cut off without a fork"));
            }
            (Some(_), Some(Mutant::RowsCounted)) => self.rows_past(before, term.start),
            (Some(_), Some(Mutant::StaleMarkReported)) => {
                let highest =
                    self.marks_under_way().into_iter().flatten().map(|mark| mark.slot.0).max();
                highest.unwrap_or(0).saturating_sub(term.start.0)
            }
            (loss, _) => loss.map_or(0, |loss| loss.frames_min),
        };
        if reported > missing {
            return Err(format!(
                "at least {reported} frames were reported missing, and {missing} are"
            ));
        }
        self.clone().nothing_is_lost().map(|_| ())
    }

    /// Mutant only: rows that are on their way past the end, as somebody may count them.
    fn rows_past(&self, before: &Lease, end: Slot) -> u64 {
        let slots = (end.0..SLOTS_MAX).map(Slot);
        let rows = slots
            .filter_map(|slot| before.starts.owner_of(slot).map(|epoch| Position { epoch, slot }));
        rows.filter(|&at| self.content[bit(at)] != 0).count() as u64
    }

    pub(super) fn acknowledged(mut self, world: &World, at: Position) -> Result<Self, String> {
        let message = self.content[bit(at)];
        let counts = self.lease.starts.owns(at);
        if !counts && !world.bounds.bad_clock {
            return Err(format!("{at:?} is acknowledged, and is void"));
        }
        let twice = places(self.committed).any(|other| {
            other != at && self.content[bit(other)] == message && self.lease.starts.owns(other)
        });
        if counts && twice {
            return Err(format!(
                "message {message} is acknowledged at {at:?}, and stands in the log already"
            ));
        }
        self.committed |= 1 << bit(at);
        self.acked[usize::from(message) - 1] = true;
        self.project(world, None, at);
        self.nothing_is_lost()
    }

    /// While a fork is open its rows may be missing.
    pub(super) fn nothing_is_lost(self) -> Result<Self, String> {
        if !self.lease.forks.is_empty() {
            return Ok(self);
        }
        for message in (1..).zip(self.acked).filter(|&(_, acked)| acked).map(|(message, _)| message)
        {
            let rows = (0..super::PLACES).filter(|&bit| self.content[bit] == message);
            // Messages that are not part of this search count as acknowledged, and have no rows.
            let mut rows = rows.map(super::place).peekable();
            if rows.peek().is_some() && !rows.any(|at| self.lease.starts.owns(at)) {
                return Err(format!("message {message} was acknowledged and is lost"));
            }
        }
        Ok(self)
    }
}
