//! Brings back what a lost region still holds, once that region can be reached again (R7). The
//! owner of the shard does it.
//!
//! One salvage covers one [`Fork`]. It runs beside the serving of the shard:
//!
//! 1. Raise the fence in the region left behind to the owner's epoch. An owner that still runs
//!    there, on whatever clock, then acknowledges nothing that the next step does not see.
//! 2. **Then** read the old rows there from the fork on, contiguous, by the starts as they were
//!    before the fork.
//! 3. Offer every change in them to its conversation
//!    ([`recover`](crate::sequencer::Conversation::recover)), which appends what it lacks as an
//!    ordinary change of the present term.
//! 4. When all of that is acknowledged, close the fork, conditionally.
//!
//! A term that ends in the middle leaves the fork open, and the next owner starts over; dedupe then
//! finds what was appended already. The age of rows in the log (14 days) and of dedupe (30 days)
//! limit how late a region may return (R9).
//!
//! | operation | at |
//! |---|---|
//! | `WriteFence`, `ReadOld` | LOCAL_QUORUM of the region left behind, home or not |
//! | `Recover` | the present term: append, fence and lease as for any frame |
//! | `Close`, `ReadLease` | SERIAL, committed at QUORUM |

use std::mem;

use wire::{Epoch, RegionId, Slot};

use super::lease::{Cas, Fork, Lease, Nonce};
use super::tail::Tail;
use crate::log::LogRow;

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bring {
    /// Quorum write of the fence, a max-register, in that region.
    WriteFence {
        /// The region left behind.
        region: RegionId,
        epoch: Epoch,
    },
    /// Quorum read of the log in that region, all epochs, ordered by (slot, epoch).
    ReadOld {
        /// The region left behind.
        region: RegionId,
        from: Slot,
        /// At most this many rows. Fewer mean that there are no more.
        limit: usize,
    },
    /// Offer the changes of these rows to their conversations, in this order. It is done only when
    /// everything that came of them is acknowledged.
    Recover {
        /// Stranded rows, in slot order.
        rows: Vec<LogRow>,
    },
    /// Conditional write: [`Lease::closed`].
    Close {
        /// The epoch at which the fork began.
        fork: Epoch,
        /// Epoch and nonce of the present term must still be there.
        epoch: Epoch,
        nonce: Nonce,
    },
    /// Serial read of the lease row.
    ReadLease,
}

/// The result of a [`Bring`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Brought {
    /// Of [`Bring::WriteFence`]: written at quorum.
    Fenced,
    /// Of [`Bring::ReadOld`].
    Old(Vec<LogRow>),
    /// Of [`Bring::Recover`].
    Recovered,
    /// Of [`Bring::Close`].
    Cas(Cas),
    /// Of [`Bring::ReadLease`].
    Lease(Lease),
    /// Of any operation: it failed or timed out, and may or may not have happened. A lost region
    /// usually does not answer; the driver chooses how long to wait.
    Unknown,
}

/// The salvage ended unfinished. The fork is open, and its rows are where they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unfinished {
    /// Another core owns the shard, and salvages it.
    #[error("another owns the shard, and goes on with the salvage: epoch {} is newer", epoch.0)]
    Superseded { epoch: Epoch },
    /// The driver answered a question that was not asked: a defect.
    #[error("the answer does not belong to the question")]
    Misled,
}

/// The salvage of one fork, in one term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Salvage {
    epoch: Epoch,
    nonce: Nonce,
    fork: Fork,
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Fence,
    Read(Tail),
    Recover {
        tail: Tail,
        /// A later page could hold more.
        more: bool,
    },
    Close,
    /// The fork may be closed.
    ConfirmClose,
    Closed,
    Ended(Unfinished),
}

impl Salvage {
    /// Starts the salvage of one of the forks of a term ([`Term::forks`](super::Term::forks)), in
    /// that term.
    #[must_use]
    pub fn new(epoch: Epoch, nonce: Nonce, fork: Fork) -> Self {
        Self { epoch, nonce, fork, step: Step::Fence }
    }

    /// What to do next. None when the fork is closed, or the salvage has ended.
    #[must_use]
    pub fn next(&self) -> Option<Bring> {
        let Self { epoch, nonce, .. } = *self;
        let region = self.fork.from;
        Some(match &self.step {
            Step::Fence => Bring::WriteFence { region, epoch },
            Step::Read(tail) => Bring::ReadOld { region, from: tail.end(), limit: tail.limit() },
            Step::Recover { tail, .. } => Bring::Recover { rows: tail.rows().to_vec() },
            Step::Close => Bring::Close { fork: self.fork.epoch, epoch, nonce },
            Step::ConfirmClose => Bring::ReadLease,
            Step::Closed | Step::Ended(_) => return None,
        })
    }

    /// Whether everything is back.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.step == Step::Closed
    }

    /// Takes the result of what [`Salvage::next`] asked for.
    ///
    /// # Errors
    /// When the salvage has ended unfinished. It stays so.
    pub fn on(&mut self, brought: Brought) -> Result<(), Unfinished> {
        let step = mem::replace(&mut self.step, Step::Fence);
        match self.step_after(step, brought) {
            Ok(step) => {
                self.step = step;
                Ok(())
            }
            Err(unfinished) => {
                self.step = Step::Ended(unfinished);
                Err(unfinished)
            }
        }
    }

    fn step_after(&self, step: Step, brought: Brought) -> Result<Step, Unfinished> {
        Ok(match (step, brought) {
            (Step::Fence, Brought::Fenced) => Step::Read(Tail::new(self.fork.start)),
            (Step::Read(mut tail), Brought::Old(page)) => {
                let more = tail.extend(page, &self.fork.old);
                match (tail.rows().is_empty(), more) {
                    (true, false) => Step::Close,
                    (true, true) => Step::Read(tail),
                    // Page by page, so that no more than one page waits to be offered.
                    (false, more) => Step::Recover { tail, more },
                }
            }
            (Step::Recover { tail, more: true }, Brought::Recovered) => {
                Step::Read(Tail::new(tail.end()))
            }
            (Step::Recover { more: false, .. }, Brought::Recovered) => Step::Close,
            (Step::Close, Brought::Cas(Cas::Applied)) => Step::Closed,
            (Step::Close, Brought::Cas(Cas::Refused) | Brought::Unknown) => Step::ConfirmClose,
            (Step::ConfirmClose, Brought::Lease(lease)) => self.confirm(&lease)?,
            (step @ (Step::Closed | Step::Ended(_)), _) => step,
            (step, Brought::Unknown) => step,
            (_, _) => return Err(Unfinished::Misled),
        })
    }

    fn confirm(&self, lease: &Lease) -> Result<Step, Unfinished> {
        if lease.epoch != self.epoch || lease.nonce != self.nonce {
            return Err(Unfinished::Superseded { epoch: lease.epoch });
        }
        let open = lease.forks.iter().any(|fork| fork.epoch == self.fork.epoch);
        Ok(if open { Step::Close } else { Step::Closed })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::{Durability, NodeId, Position};

    use super::*;
    use crate::shard::FenceMode;
    use crate::shard::tail::TAIL_PAGE_ROWS;

    const HOME: RegionId = RegionId(1);

    fn row(epoch: u64, slot: u64) -> LogRow {
        LogRow {
            at: Position { epoch: Epoch(epoch), slot: Slot(slot) },
            frame: Bytes::from(format!("{epoch}/{slot}")),
        }
    }

    /// Home: epoch 1 from 0, epoch 2 from 6. Away: epoch 3 from 4, and a second owner there, epoch
    /// 4 from 9.
    fn lease() -> Lease {
        let lease = |lease: Lease, by: &str, nonce, start| {
            let by: NodeId = by.parse().unwrap();
            let claimed = lease.claimed(lease.epoch, &by, Nonce(nonce), FenceMode::Lease).unwrap();
            claimed.sealed_at(Durability::Region, claimed.epoch, Nonce(nonce), Slot(start)).unwrap()
        };
        let home = lease(lease(Lease::default(), "r1/core/1", 1, 0), "r1/core/2", 2, 6);
        lease(lease(home, "r2/core/1", 3, 4), "r2/core/2", 4, 9)
    }

    fn salvage() -> Salvage {
        Salvage::new(Epoch(4), Nonce(4), lease().forks[0].clone())
    }

    const CLOSE: Bring = Bring::Close { fork: Epoch(3), epoch: Epoch(4), nonce: Nonce(4) };

    #[test]
    fn stranded_rows_are_read_behind_the_fence_by_the_old_starts_and_offered_before_the_fork_is_closed()
     {
        let mut salvage = salvage();
        assert_eq!(salvage.next(), Some(Bring::WriteFence { region: HOME, epoch: Epoch(4) }));
        salvage.on(Brought::Unknown).unwrap();
        salvage.on(Brought::Fenced).unwrap();
        assert_eq!(
            salvage.next(),
            Some(Bring::ReadOld { region: HOME, from: Slot(4), limit: TAIL_PAGE_ROWS })
        );
        // Replicated there meanwhile: rows of the terms after the fork. There is a hole at slot 8.
        let rows =
            vec![row(1, 4), row(3, 4), row(1, 5), row(1, 6), row(2, 6), row(2, 7), row(2, 9)];
        salvage.on(Brought::Old(rows)).unwrap();
        let stranded = vec![row(1, 4), row(1, 5), row(2, 6), row(2, 7)];
        assert_eq!(salvage.next(), Some(Bring::Recover { rows: stranded }));
        salvage.on(Brought::Recovered).unwrap();
        assert_eq!(salvage.next(), Some(CLOSE));
        assert!(!salvage.is_closed());
        salvage.on(Brought::Cas(Cas::Applied)).unwrap();
        assert!(salvage.is_closed() && salvage.next().is_none());
    }

    #[test]
    fn a_fork_that_left_nothing_behind_is_closed_at_once() {
        let mut salvage = salvage();
        salvage.on(Brought::Fenced).unwrap();
        salvage.on(Brought::Old(vec![row(3, 4)])).unwrap();
        assert_eq!(salvage.next(), Some(CLOSE));
    }

    #[test]
    fn more_than_a_page_is_offered_page_by_page() {
        let mut salvage = salvage();
        salvage.on(Brought::Fenced).unwrap();
        let full = TAIL_PAGE_ROWS as u64;
        salvage
            .on(Brought::Old(
                [row(1, 4), row(1, 5)]
                    .into_iter()
                    .chain((6..4 + full).map(|slot| row(2, slot)))
                    .collect(),
            ))
            .unwrap();
        let Some(Bring::Recover { rows }) = salvage.next() else { panic!("{salvage:?}") };
        assert_eq!(rows.len() as u64, full);
        salvage.on(Brought::Recovered).unwrap();
        assert_eq!(
            salvage.next(),
            Some(Bring::ReadOld { region: HOME, from: Slot(4 + full), limit: TAIL_PAGE_ROWS })
        );
        salvage.on(Brought::Old(vec![])).unwrap();
        assert_eq!(salvage.next(), Some(CLOSE));
    }

    #[test]
    fn a_close_with_unknown_outcome_is_settled_by_reading_it() {
        for first in [Brought::Unknown, Brought::Cas(Cas::Refused)] {
            let mut open = salvage();
            open.on(Brought::Fenced).unwrap();
            open.on(Brought::Old(vec![])).unwrap();
            open.on(first).unwrap();
            assert_eq!(open.next(), Some(Bring::ReadLease));
            let mut closed = open.clone();
            closed
                .on(Brought::Lease(lease().closed(Epoch(4), Nonce(4), Epoch(3)).unwrap()))
                .unwrap();
            assert!(closed.is_closed());
            let mut superseded = open.clone();
            let newer = lease()
                .claimed(Epoch(4), &"r2/core/1".parse().unwrap(), Nonce(9), FenceMode::Lease)
                .unwrap();
            assert_eq!(
                superseded.on(Brought::Lease(newer)),
                Err(Unfinished::Superseded { epoch: Epoch(5) })
            );
            assert!(superseded.next().is_none() && !superseded.is_closed());
            open.on(Brought::Lease(lease())).unwrap();
            assert_eq!(open.next(), Some(CLOSE), "again");
        }
    }

    #[test]
    fn an_answer_to_another_question_is_a_defect_and_ends_it() {
        let mut salvage = salvage();
        assert_eq!(salvage.on(Brought::Recovered), Err(Unfinished::Misled));
        assert!(salvage.next().is_none());
    }
}
