//! The owner in its term: it appends in consecutive slots, several in flight, and knows what may be
//! acknowledged.
//!
//! A slot may be acknowledged when it and all slots before it are durable, **and** a check made
//! after that confirmed the term ([`AckBy`]): a read of the fence, or of the clock against the
//! timed lease, or both. One check may cover many slots. A newer epoch in the fence ends the term;
//! this owner then never acknowledges what it had not acknowledged before.
//!
//! The driver: for every frame, [`Owner::next_slot`] -> encode -> [`Owner::append`] -> write the
//! row; after each outcome [`Owner::on_append`]. Whenever [`Owner::start_fence_read`] gives a
//! ticket, it reads the fence, then calls [`Owner::on_fence`]. Whenever [`Owner::start_clock_read`]
//! gives one, it reads the clock, then calls [`Owner::on_clock`]. It answers the slots that these
//! return, in order. A driver whose lease has run out renews it and asks for another ticket.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use wire::{Epoch, Position, Slot};

use super::core_lease::Uptime;
use super::lease::Nonce;
use super::renewal::Hold;
use super::term::{AckBy, Term};
use crate::log::LogRow;

/// A fence read in progress. Only an owner makes one, so no read counts for more than was durable
/// when it started.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[must_use = "read the fence, then hand this back with the answer"]
pub struct FenceRead {
    /// Everything before this slot was durable when the read was started.
    covers: Slot,
}

/// A clock read. Only an owner makes one, so no reading counts for more than was durable before it
/// (L3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[must_use = "read the clock, then hand this back with the reading"]
pub struct ClockRead {
    /// Everything before this slot was durable, and confirmed by the fence where the term needs
    /// that.
    covers: Slot,
}

/// The outcome of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Appended {
    /// Written at the quorum of the durability class.
    Durable,
    /// Failed or timed out: the row may or may not be there, now or later.
    Unknown,
}

/// A newer epoch is in the fence, or the driver gave the term up. Nothing more is ever
/// acknowledged; only the next owner can say what became of the frames in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the term has ended: {}", fence.map_or("given up".into(), |epoch| format!("epoch {} is in the fence", epoch.0)))]
pub struct Stopped {
    /// The epoch in the fence; none when the driver gave the term up.
    pub fence: Option<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    epoch: Epoch,
    ack_by: AckBy,
    incarnation: Option<Nonce>,
    /// Everything before it may be acknowledged.
    acked: Slot,
    /// Everything before it is confirmed by the fence. Not less than `acked`, except in a term that
    /// does not ask the fence.
    fenced: Slot,
    /// One entry for each slot from `acked` on.
    in_flight: VecDeque<InFlight>,
    /// What the furthest fence read in progress covers; `fenced` when there is none.
    reading: Slot,
    stopped: Option<Stopped>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct InFlight {
    frame: Bytes,
    durable: bool,
}

impl Owner {
    /// Starts a term whose tail is projected.
    #[must_use]
    pub fn new(term: &Term) -> Self {
        Self {
            epoch: term.epoch,
            ack_by: term.ack_by,
            incarnation: term.incarnation,
            acked: term.start,
            fenced: term.start,
            in_flight: VecDeque::new(),
            reading: term.start,
            stopped: None,
        }
    }

    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    #[must_use]
    pub fn ack_by(&self) -> AckBy {
        self.ack_by
    }

    /// The timed lease under which the term was claimed.
    #[must_use]
    pub fn incarnation(&self) -> Option<Nonce> {
        self.incarnation
    }

    /// The slot that the next frame gets.
    #[must_use]
    pub fn next_slot(&self) -> Slot {
        Slot(self.acked.0 + self.in_flight.len() as u64)
    }

    /// Frames appended and not yet acknowledged. The driver bounds them.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The committed mark to publish: everything before it is acknowledged.
    #[must_use]
    pub fn committed(&self) -> Position {
        Position { epoch: self.epoch, slot: self.acked }
    }

    /// Why the term has ended, if it has.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// Ends the term from inside (drain, shutdown): nothing more is acknowledged. To end it
    /// cleanly, append no more and wait until [`Owner::in_flight`] is 0 first.
    pub fn stop(&mut self) {
        self.stopped.get_or_insert(Stopped { fence: None });
    }

    /// Releases the shard (L6): stops for ever, and returns the end of the log to record with
    /// [`Lease::released_at`](super::Lease::released_at), **whatever the outcome of that write**.
    /// None while anything is in flight: append no more, and acknowledge that first.
    pub fn release(&mut self) -> Option<Slot> {
        if self.stopped.is_some() || !self.in_flight.is_empty() {
            return None;
        }
        self.stop();
        Some(self.acked)
    }

    /// Gives the frame the next slot and returns the row to write.
    ///
    /// # Errors
    /// When the term has ended. Write nothing.
    pub fn append(&mut self, frame: Bytes) -> Result<LogRow, Stopped> {
        self.check()?;
        let at = Position { epoch: self.epoch, slot: self.next_slot() };
        self.in_flight.push_back(InFlight { frame: frame.clone(), durable: false });
        Ok(LogRow { at, frame })
    }

    /// Takes the outcome of writing the row of `slot`. When it is unknown, returns the row to write
    /// again: the same frame in the same slot, until the outcome is known or the term has ended.
    ///
    /// # Errors
    /// When the term has ended. Write nothing again.
    pub fn on_append(&mut self, slot: Slot, outcome: Appended) -> Result<Option<LogRow>, Stopped> {
        self.check()?;
        // A late second answer for an acknowledged slot, or for one never given out, changes
        // nothing.
        let index = slot.0.checked_sub(self.acked.0).and_then(|index| usize::try_from(index).ok());
        let Some(entry) = index.and_then(|index| self.in_flight.get_mut(index)) else {
            return Ok(None);
        };
        match outcome {
            Appended::Durable => {
                entry.durable = true;
                Ok(None)
            }
            Appended::Unknown if entry.durable => Ok(None),
            Appended::Unknown => {
                let at = Position { epoch: self.epoch, slot };
                Ok(Some(LogRow { at, frame: entry.frame.clone() }))
            }
        }
    }

    /// A fence read to start **now**, if it would cover more than those in progress. Several may be
    /// in progress at once.
    #[must_use]
    pub fn start_fence_read(&mut self) -> Option<FenceRead> {
        if self.stopped.is_some() {
            return None;
        }
        let covers = self.durable();
        if covers <= self.reading {
            return None;
        }
        self.reading = covers;
        Some(FenceRead { covers })
    }

    /// Takes the answer to a fence read (none: it failed, start another). Returns the slots that
    /// may now be acknowledged, in order, each exactly once.
    ///
    /// # Errors
    /// When a newer epoch is in the fence, or the term had ended before. Acknowledge nothing more.
    pub fn on_fence(
        &mut self,
        read: FenceRead,
        fence: Option<Epoch>,
    ) -> Result<Range<u64>, Stopped> {
        self.on_idle_fence(fence)?;
        if fence.is_none() {
            // Other reads in progress still count. At worst, one more is started than needed.
            self.reading = self.fenced;
        } else {
            self.fenced = self.fenced.max(read.covers);
            self.reading = self.reading.max(self.fenced);
        }
        Ok(if self.ack_by == AckBy::Fence {
            self.acknowledge(self.fenced)
        } else {
            self.acknowledge(self.acked)
        })
    }

    /// A clock read to make **now**, if the term acknowledges by its lease and something could be
    /// acknowledged.
    #[must_use]
    pub fn start_clock_read(&self) -> Option<ClockRead> {
        let covers = match self.ack_by {
            AckBy::Fence => return None,
            AckBy::Lease => self.durable(),
            AckBy::FenceAndLease => self.fenced,
        };
        (self.stopped.is_none() && covers > self.acked).then_some(ClockRead { covers })
    }

    /// Takes the reading, and what the timed lease of this process allows as known then. Returns
    /// the slots that may now be acknowledged, in order, each exactly once. None when the lease has
    /// run out: renew it and start again.
    ///
    /// # Errors
    /// When the term had ended before. Acknowledge nothing more.
    pub fn on_clock(
        &mut self,
        read: ClockRead,
        now: Uptime,
        hold: Option<Hold>,
    ) -> Result<Range<u64>, Stopped> {
        self.check()?;
        let holds =
            hold.is_some_and(|hold| Some(hold.incarnation) == self.incarnation && now < hold.until);
        Ok(self.acknowledge(if holds { read.covers } else { self.acked }))
    }

    fn durable(&self) -> Slot {
        let durable = self.in_flight.iter().take_while(|entry| entry.durable).count();
        Slot(self.acked.0 + durable as u64)
    }

    fn acknowledge(&mut self, end: Slot) -> Range<u64> {
        let from = self.acked;
        if end > from {
            self.in_flight.drain(..(end.0 - from.0) as usize);
            self.acked = end;
        }
        from.0..self.acked.0
    }

    /// Takes a fence that was read while nothing waited for it (none: the read failed). So an owner
    /// without work learns that its term is over.
    ///
    /// # Errors
    /// When a newer epoch is in the fence, or the term had ended before.
    pub fn on_idle_fence(&mut self, fence: Option<Epoch>) -> Result<(), Stopped> {
        self.check()?;
        match fence {
            Some(fence) if fence > self.epoch => {
                let stopped = Stopped { fence: Some(fence) };
                self.stopped = Some(stopped);
                Err(stopped)
            }
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<(), Stopped> {
        self.stopped.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shard::{Nonce, Starts};

    const LIFE: Nonce = Nonce(8);

    fn owner(start: u64) -> Owner {
        owner_by(AckBy::Fence, start)
    }

    fn owner_by(ack_by: AckBy, start: u64) -> Owner {
        let starts = Starts::from_iter([(Epoch(3), Slot(start))]);
        Owner::new(&Term {
            epoch: Epoch(3),
            nonce: Nonce(1),
            start: Slot(start),
            starts,
            checkpoint: Slot(0),
            tail: vec![],
            ack_by,
            incarnation: Some(LIFE),
            loss: None,
            forks: vec![],
        })
    }

    fn at(ms: u64) -> Uptime {
        Uptime(Duration::from_millis(ms))
    }

    fn hold(until_ms: u64) -> Option<Hold> {
        Some(Hold { incarnation: LIFE, until: at(until_ms) })
    }

    fn append(owner: &mut Owner, frame: &'static str) -> Slot {
        owner.append(Bytes::from_static(frame.as_bytes())).unwrap().at.slot
    }

    fn durable(owner: &mut Owner, slot: Slot) {
        assert_eq!(owner.on_append(slot, Appended::Durable), Ok(None));
    }

    #[test]
    fn frames_take_consecutive_slots_from_the_start_of_the_term() {
        let mut owner = owner(7);
        assert_eq!(owner.next_slot(), Slot(7));
        let row = owner.append(Bytes::from_static(b"a")).unwrap();
        assert_eq!(row.at, Position { epoch: Epoch(3), slot: Slot(7) });
        assert_eq!(append(&mut owner, "b"), Slot(8));
        assert_eq!(owner.next_slot(), Slot(9));
        assert_eq!(owner.in_flight(), 2);
    }

    #[test]
    fn nothing_is_acknowledged_without_a_fence_read_started_after_it_was_durable() {
        let mut owner = owner(0);
        let first = append(&mut owner, "a");
        assert_eq!(owner.start_fence_read(), None, "nothing is durable");
        durable(&mut owner, first);
        let read = owner.start_fence_read().unwrap();
        let second = append(&mut owner, "b");
        durable(&mut owner, second);
        assert_eq!(
            owner.on_fence(read, Some(Epoch(3))),
            Ok(0..1),
            "the second was durable only after the read started"
        );
        let read = owner.start_fence_read().unwrap();
        assert_eq!(owner.on_fence(read, Some(Epoch(2))), Ok(1..2));
        assert_eq!(owner.committed(), Position { epoch: Epoch(3), slot: Slot(2) });
        assert_eq!(owner.start_fence_read(), None, "nothing is left to cover");
    }

    #[test]
    fn a_hole_holds_back_what_is_behind_it() {
        let mut owner = owner(0);
        for frame in ["a", "b", "c"] {
            append(&mut owner, frame);
        }
        durable(&mut owner, Slot(1));
        durable(&mut owner, Slot(2));
        assert_eq!(owner.start_fence_read(), None);
        durable(&mut owner, Slot(0));
        let read = owner.start_fence_read().unwrap();
        assert_eq!(owner.on_fence(read, Some(Epoch(3))), Ok(0..3), "one read covers them all");
    }

    #[test]
    fn several_fence_reads_may_be_under_way_and_end_in_any_order() {
        let mut owner = owner(0);
        let first = append(&mut owner, "a");
        let second = append(&mut owner, "b");
        durable(&mut owner, first);
        let early = owner.start_fence_read().unwrap();
        assert_eq!(owner.start_fence_read(), None, "one is under way that covers as much");
        durable(&mut owner, second);
        let late = owner.start_fence_read().unwrap();
        assert_eq!(owner.on_fence(late, Some(Epoch(3))), Ok(0..2));
        assert_eq!(
            owner.on_fence(early, Some(Epoch(3))),
            Ok(2..2),
            "each slot is acknowledged once"
        );
    }

    #[test]
    fn a_failed_fence_read_is_started_again() {
        let mut owner = owner(0);
        let slot = append(&mut owner, "a");
        durable(&mut owner, slot);
        let read = owner.start_fence_read().unwrap();
        assert_eq!(owner.on_fence(read, None), Ok(0..0));
        let read = owner.start_fence_read().unwrap();
        assert_eq!(owner.on_fence(read, Some(Epoch(3))), Ok(0..1));
    }

    #[test]
    fn an_unknown_append_is_the_same_frame_in_the_same_slot_again() {
        let mut owner = owner(0);
        let row = owner.append(Bytes::from_static(b"a")).unwrap();
        append(&mut owner, "b");
        assert_eq!(owner.on_append(row.at.slot, Appended::Unknown), Ok(Some(row.clone())));
        assert_eq!(
            owner.on_append(row.at.slot, Appended::Unknown),
            Ok(Some(row.clone())),
            "however often"
        );
        durable(&mut owner, row.at.slot);
        assert_eq!(
            owner.on_append(row.at.slot, Appended::Unknown),
            Ok(None),
            "an older attempt's end is no news"
        );
        assert_eq!(
            owner.on_append(Slot(99), Appended::Durable),
            Ok(None),
            "a slot never given out is nothing"
        );
    }

    #[test]
    fn a_newer_epoch_in_the_fence_ends_the_term_for_ever() {
        let mut owner = owner(0);
        let first = append(&mut owner, "a");
        let second = append(&mut owner, "b");
        durable(&mut owner, first);
        let good = owner.start_fence_read().unwrap();
        durable(&mut owner, second);
        let bad = owner.start_fence_read().unwrap();
        let stopped = Stopped { fence: Some(Epoch(4)) };
        assert_eq!(owner.on_fence(bad, Some(Epoch(4))), Err(stopped));
        assert_eq!(
            owner.on_fence(good, Some(Epoch(3))),
            Err(stopped),
            "not even what another read would have allowed"
        );
        assert_eq!(owner.append(Bytes::new()), Err(stopped));
        assert_eq!(owner.on_append(first, Appended::Unknown), Err(stopped));
        assert_eq!(owner.start_fence_read(), None);
        assert_eq!(owner.committed().slot, Slot(0));
        owner.stop();
        assert_eq!(owner.stopped(), Some(stopped), "the first reason stays");
    }

    #[test]
    fn an_owner_without_work_learns_that_its_term_is_over() {
        let mut owner = owner(0);
        assert_eq!(owner.on_idle_fence(Some(Epoch(3))), Ok(()));
        assert_eq!(owner.on_idle_fence(None), Ok(()), "not knowing is no reason to stop");
        let stopped = Stopped { fence: Some(Epoch(5)) };
        assert_eq!(owner.on_idle_fence(Some(Epoch(5))), Err(stopped));
        assert_eq!(owner.append(Bytes::new()), Err(stopped));
    }

    #[test]
    fn an_owner_that_gives_up_acknowledges_nothing_more() {
        let mut owner = owner(0);
        let slot = append(&mut owner, "a");
        durable(&mut owner, slot);
        let read = owner.start_fence_read().unwrap();
        owner.stop();
        assert_eq!(owner.on_fence(read, Some(Epoch(3))), Err(Stopped { fence: None }));
    }

    #[test]
    fn by_lease_what_was_durable_before_the_clock_was_read_is_acknowledged_while_it_holds() {
        let mut owner = owner_by(AckBy::Lease, 0);
        assert_eq!(owner.start_clock_read(), None);
        for frame in ["a", "b", "c"] {
            append(&mut owner, frame);
        }
        durable(&mut owner, Slot(0));
        durable(&mut owner, Slot(2));
        let read = owner.start_clock_read().unwrap();
        durable(&mut owner, Slot(1));
        assert_eq!(
            owner.on_clock(read.clone(), at(99), hold(100)),
            Ok(0..1),
            "the rest became durable after the reading"
        );
        assert_eq!(owner.on_clock(read, at(99), hold(100)), Ok(1..1), "each slot once");
        let read = owner.start_clock_read().unwrap();
        for late in [hold(100), None, Some(Hold { incarnation: Nonce(9), until: at(500) })] {
            assert_eq!(owner.on_clock(read.clone(), at(100), late), Ok(1..1));
        }
        let again = owner.start_clock_read().unwrap();
        assert_eq!(owner.on_clock(again, at(100), hold(200)), Ok(1..3), "renewed");
    }

    #[test]
    fn by_lease_the_fence_acknowledges_nothing_and_still_ends_the_term() {
        let mut owner = owner_by(AckBy::Lease, 0);
        let slot = append(&mut owner, "a");
        durable(&mut owner, slot);
        let read = owner.start_fence_read().unwrap();
        assert_eq!(owner.on_fence(read, Some(Epoch(3))), Ok(0..0));
        let clock = owner.start_clock_read().unwrap();
        assert!(owner.on_idle_fence(Some(Epoch(4))).is_err());
        assert!(owner.on_clock(clock, at(1), hold(100)).is_err());
        assert_eq!(owner.start_clock_read(), None);
    }

    #[test]
    fn in_class_region_the_lease_is_asked_for_what_the_fence_has_confirmed() {
        let mut owner = owner_by(AckBy::FenceAndLease, 0);
        let first = append(&mut owner, "a");
        let second = append(&mut owner, "b");
        durable(&mut owner, first);
        assert_eq!(owner.start_clock_read(), None, "the fence was not read");
        let read = owner.start_fence_read().unwrap();
        durable(&mut owner, second);
        assert_eq!(owner.on_fence(read, Some(Epoch(3))), Ok(0..0), "the fence alone is not enough");
        let clock = owner.start_clock_read().unwrap();
        assert_eq!(
            owner.on_clock(clock, at(1), hold(100)),
            Ok(0..1),
            "of the second slot the fence has said nothing"
        );
        let read = owner.start_fence_read().unwrap();
        assert_eq!(owner.on_fence(read, Some(Epoch(3))), Ok(1..1));
        let clock = owner.start_clock_read().unwrap();
        assert_eq!(owner.on_clock(clock, at(2), hold(100)), Ok(1..2));
    }

    #[test]
    fn an_owner_that_lets_go_has_acknowledged_everything_and_acknowledges_nothing_more() {
        let mut owner = owner_by(AckBy::Lease, 4);
        let slot = append(&mut owner, "a");
        assert_eq!(owner.release(), None, "one is open");
        durable(&mut owner, slot);
        let read = owner.start_clock_read().unwrap();
        assert_eq!(owner.on_clock(read.clone(), at(1), hold(100)), Ok(4..5));
        assert_eq!(owner.release(), Some(Slot(5)));
        assert!(
            owner.append(Bytes::new()).is_err() && owner.on_clock(read, at(2), hold(100)).is_err()
        );
        assert_eq!(owner.release(), None, "once");
    }
}
