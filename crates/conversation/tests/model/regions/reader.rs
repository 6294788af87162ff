//! What a consumer can do next (R6).

use hearth_conversation::consumer::{Consumer, Then};
use wire::{Epoch, Position, Slot};

use super::{Action, Mutant, PLACES, Reader, State, Steps, World, bit, place};
use crate::search::Step;

impl World {
    /// Reads the mark, which may be any that is on its way, and all rows that are.
    pub(super) fn reader_steps(&self, state: &State, reader: &Reader, found: &mut Steps) {
        let mut marks: Vec<Position> = state.marks_under_way().into_iter().flatten().collect();
        if self.mutant == Some(Mutant::MarkBySlotAlone) {
            // The highest slot wins, and passes for one of the last epoch.
            let slot = marks.iter().map(|mark| mark.slot).max();
            let epoch = reader.starts.last().map_or(Epoch(0), |(epoch, _)| epoch);
            marks.extend(slot.map(|slot| Position { epoch, slot }));
        }
        for mark in marks {
            let to = self.consume(state, reader.clone(), mark);
            if to.as_ref().map(|to| to.reader.as_ref()) != Ok(Some(reader)) {
                found.push(Step { action: Action::Consume, to });
            }
        }
    }

    fn consume(&self, state: &State, mut reader: Reader, mark: Position) -> Result<State, String> {
        let mut rows: Vec<_> = (0..PLACES).filter_map(|bit| state.row(place(bit))).collect();
        rows.sort_unstable_by_key(|row| (row.at.slot, row.at.epoch));
        rows.retain(|row| row.at.slot >= reader.consumer.next_slot());
        let mut probe = reader.consumer;
        if probe.rewind(&reader.starts) {
            // It is shown what lies where it goes on.
            return Ok(with(state, Reader { consumer: probe, ..reader }));
        }
        let taken = reader.consumer.take(&rows, true, &reader.starts, mark);
        for row in taken.rows {
            if state.committed & (1 << bit(row.at)) == 0 {
                return Err(format!("{:?} was consumed, and is not committed", row.at));
            }
            reader.view[row.at.slot.0 as usize] = row.at.epoch.0 as u8;
        }
        if let Then::StaleStarts(_) = taken.then {
            reader.starts = state.lease.starts.clone();
        }
        if self.mutant == Some(Mutant::NoRewind) {
            // A cursor that says nothing of the epoch is never cut off.
            let slot = reader.consumer.next_slot();
            reader.consumer = Consumer::new(Some(Position { epoch: Epoch(u64::MAX), slot }));
        }
        let caught_up = taken.then == Then::CaughtUp && reader.starts == state.lease.starts;
        for slot in (0..reader.consumer.next_slot().0).map(Slot).filter(|_| caught_up) {
            let owner = reader.starts.owner_of(slot).map_or(0, |epoch| epoch.0);
            if u64::from(reader.view[slot.0 as usize]) != owner {
                return Err(format!("slot {} was passed without the row that counts", slot.0));
            }
        }
        Ok(with(state, reader))
    }
}

fn with(state: &State, reader: Reader) -> State {
    State { reader: Some(reader), ..state.clone() }
}
