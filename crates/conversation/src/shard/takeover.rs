//! The claimant: from "this shard should be mine" to a term in which it may be served.
//!
//! 1. Claim the next epoch, conditionally.
//! 2. Write the fence and wait for its quorum.
//! 3. **Then** read the tail from the checkpoint; keep contiguous rows of the epochs that own them; stop at the first hole.
//! 4. Write every kept row again, at quorum.
//! 5. Seal, conditionally: the end of the tail is where this term starts.
//! 6. The driver's: project the tail, load heads and dedupe, serve.
//!
//! Between 1 and 2 the lease row is read once more: only after the claim can no older epoch seal, so only then are the
//! starts, by which the tail is judged, final.
//!
//! Every step may be done again, so a driver answers any failure with [`Done::Unknown`]: the machine repeats what is
//! idempotent and settles a conditional write by a serial read and its nonce.

use std::mem;

use wire::{Epoch, NodeId, Position, Slot};

use super::lease::{Cas, Lease, Nonce, Starts};
use crate::log::LogRow;

/// Rows asked for at once, at first. Grows only when one slot holds more rows than that.
const TAIL_PAGE_ROWS: usize = 512;

/// What the driver is to do next. Each is done once the store says so with its quorum; nothing else may be assumed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Do {
    /// Serial read of the lease row.
    ReadLease,
    /// Conditional write of epoch `observed + 1`.
    Claim {
        /// The epoch that must still be there.
        observed: Epoch,
        /// Ours.
        nonce: Nonce,
    },
    /// Quorum write of the fence, a max-register.
    WriteFence {
        /// Our epoch.
        epoch: Epoch,
    },
    /// Quorum read of the checkpoint and the committed mark.
    ReadMarks,
    /// Quorum read of the log, all epochs, ordered by (slot, epoch).
    ReadTail {
        /// First slot.
        from: Slot,
        /// At most so many rows; fewer are taken to be all there are.
        limit: usize,
    },
    /// Quorum write of each of these rows, unchanged, under its own key.
    Rewrite {
        /// The kept tail, in slot order.
        rows: Vec<LogRow>,
    },
    /// Conditional write of the start slot.
    Seal {
        /// Our epoch.
        epoch: Epoch,
        /// Our nonce: both must still be there.
        nonce: Nonce,
        /// The end of the tail.
        start: Slot,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Done {
    /// Of [`Do::ReadLease`].
    Lease(Lease),
    /// Of [`Do::Claim`] or [`Do::Seal`].
    Cas(Cas),
    /// Of [`Do::WriteFence`]: at quorum.
    Fenced,
    /// Of [`Do::ReadMarks`].
    Marks {
        /// Everything before it is projected.
        checkpoint: Option<Position>,
        /// Everything before it was acknowledged.
        committed: Option<Position>,
    },
    /// Of [`Do::ReadTail`].
    Tail(Vec<LogRow>),
    /// Of [`Do::Rewrite`]: all of them at quorum.
    Rewritten,
    /// Of any of them: it failed, or timed out, and may or may not have happened. The machine says what to do about it;
    /// how long to wait before doing that is the driver's choice.
    Unknown,
}

/// The claim came to nothing. The shard is as another left it; nothing that was acknowledged was touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Lost {
    /// Another claimed after or instead of us.
    #[error("another claimed the shard: epoch {} is newer", epoch.0)]
    Superseded {
        /// Its epoch.
        epoch: Epoch,
        /// Who.
        owner: Option<NodeId>,
    },
    /// The log ends before what is known to be in it: acknowledged rows were destroyed. Serving would hide it.
    #[error("the log ends at slot {} but was committed up to slot {}", end.0, committed.0)]
    LogTruncated {
        /// First slot without a row.
        end: Slot,
        /// First slot that may be without one.
        committed: Slot,
    },
    /// The lease row is older than one already seen: it was restored from a copy, or its quorums do not meet.
    #[error("the lease went back from epoch {} to {}", seen.0, found.0)]
    LeaseWentBack {
        /// Seen before.
        seen: Epoch,
        /// Found now.
        found: Epoch,
    },
    /// The driver answered something else than was asked: a defect.
    #[error("the answer does not belong to the question")]
    Misled,
}

/// The right to write the log of a shard from `start` on, until a newer epoch fences it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// Its number.
    pub epoch: Epoch,
    /// The nonce of its claim.
    pub nonce: Nonce,
    /// Its first slot.
    pub start: Slot,
    /// Of all sealed epochs, this one included.
    pub starts: Starts,
    /// Everything before this slot is projected.
    pub checkpoint: Slot,
    /// The committed rows from the checkpoint to `start`, in slot order: to be projected before serving.
    pub tail: Vec<LogRow>,
}

impl Term {
    /// The mark to publish when the term begins: everything before `start` is committed.
    #[must_use]
    pub fn committed(&self) -> Position {
        Position { epoch: self.epoch, slot: self.start }
    }
}

/// A takeover under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Takeover {
    nonce: Nonce,
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Nothing known yet.
    Look,
    /// Claiming over this epoch.
    Claim {
        observed: Epoch,
    },
    /// The claim may have been applied: who holds it, and where did older epochs start? Read only now, because until the
    /// claim the epoch before it could still seal and serve.
    Confirm {
        observed: Epoch,
    },
    Fence(Claimed),
    Marks(Claimed),
    Tail {
        claimed: Claimed,
        tail: Tail,
        limit: usize,
    },
    Rewrite {
        claimed: Claimed,
        tail: Tail,
    },
    Seal {
        claimed: Claimed,
        tail: Tail,
    },
    /// The seal may have been applied.
    ConfirmSeal {
        claimed: Claimed,
        tail: Tail,
    },
    Finished(Term),
    Ended(Lost),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claimed {
    epoch: Epoch,
    starts: Starts,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tail {
    checkpoint: Slot,
    committed: Slot,
    rows: Vec<LogRow>,
}

impl Tail {
    fn end(&self) -> Slot {
        self.rows.last().map_or(self.checkpoint, |row| row.at.slot.next())
    }

    /// Keeps the rows that go on where the tail ends. Returns whether a later page could hold more.
    fn extend(&mut self, page: Vec<LogRow>, starts: &Starts, limit: usize) -> bool {
        let full = page.len() >= limit;
        let last = page.last().map(|row| row.at.slot);
        for row in page {
            if row.at.slot == self.end() && starts.owns(row.at) {
                self.rows.push(row);
            }
        }
        // A full page may have been cut inside the slot it ends with, so a hole before that one only is a hole.
        full && last.is_some_and(|last| last <= self.end())
    }
}

impl Takeover {
    /// A claim with a fresh nonce; reads the lease first.
    #[must_use]
    pub fn new(nonce: Nonce) -> Self {
        Self { nonce, step: Step::Look }
    }

    /// As [`Takeover::new`], by a driver that knows the lease row well enough to claim over it at once. If it is out of
    /// date the claim is refused, and that is all.
    #[must_use]
    pub fn over(observed: Epoch, nonce: Nonce) -> Self {
        Self { nonce, step: Step::Claim { observed } }
    }

    /// What to do next; none when the takeover has ended, in a [`Term`] or in [`Lost`].
    #[must_use]
    pub fn next(&self) -> Option<Do> {
        Some(match &self.step {
            Step::Look | Step::Confirm { .. } | Step::ConfirmSeal { .. } => Do::ReadLease,
            Step::Claim { observed } => Do::Claim { observed: *observed, nonce: self.nonce },
            Step::Fence(claimed) => Do::WriteFence { epoch: claimed.epoch },
            Step::Marks(_) => Do::ReadMarks,
            Step::Tail { tail, limit, .. } => Do::ReadTail { from: tail.end(), limit: *limit },
            Step::Rewrite { tail, .. } => Do::Rewrite { rows: tail.rows.clone() },
            Step::Seal { claimed, tail } => Do::Seal { epoch: claimed.epoch, nonce: self.nonce, start: tail.end() },
            Step::Finished(_) | Step::Ended(_) => return None,
        })
    }

    /// The epoch that is ours, once the claim is confirmed.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        match &self.step {
            Step::Look | Step::Claim { .. } | Step::Confirm { .. } | Step::Ended(_) => None,
            Step::Fence(claimed) | Step::Marks(claimed) => Some(claimed.epoch),
            Step::Tail { claimed, .. }
            | Step::Rewrite { claimed, .. }
            | Step::Seal { claimed, .. }
            | Step::ConfirmSeal { claimed, .. } => Some(claimed.epoch),
            Step::Finished(term) => Some(term.epoch),
        }
    }

    /// The term, when the takeover has succeeded.
    #[must_use]
    pub fn finished(self) -> Option<Term> {
        match self.step {
            Step::Finished(term) => Some(term),
            _ => None,
        }
    }

    /// Takes the outcome of what [`Takeover::next`] said.
    ///
    /// # Errors
    /// When the takeover has come to nothing; from then on it stays so.
    pub fn on(&mut self, done: Done) -> Result<(), Lost> {
        match self.step_after(done) {
            Ok(step) => {
                self.step = step;
                Ok(())
            }
            Err(lost) => {
                self.step = Step::Ended(lost.clone());
                Err(lost)
            }
        }
    }

    fn step_after(&mut self, done: Done) -> Result<Step, Lost> {
        let step = mem::replace(&mut self.step, Step::Look);
        Ok(match (step, done) {
            (Step::Look, Done::Lease(lease)) => Step::Claim { observed: lease.epoch },
            // Refused, too, is looked at: it may be our own earlier attempt that was in the way.
            (Step::Claim { observed }, Done::Cas(_) | Done::Unknown) => Step::Confirm { observed },
            (Step::Confirm { observed }, Done::Lease(lease)) => self.confirm(observed, lease)?,
            (Step::Fence(claimed), Done::Fenced) => Step::Marks(claimed),
            (Step::Marks(claimed), Done::Marks { checkpoint, committed }) => {
                // The start of the last sealed epoch was rewritten up to before it was sealed, so it counts as a mark too.
                let held = |mark: Option<Position>| mark.map_or(Slot(0), |mark| claimed.starts.bound(mark));
                let sealed = claimed.starts.last().map_or(Slot(0), |(_, start)| start);
                let tail =
                    Tail { checkpoint: held(checkpoint), committed: held(committed).max(sealed), rows: Vec::new() };
                Step::Tail { claimed, tail, limit: TAIL_PAGE_ROWS }
            }
            (Step::Tail { claimed, mut tail, limit }, Done::Tail(page)) => {
                let before = tail.end();
                if tail.extend(page, &claimed.starts, limit) {
                    let limit = if tail.end() == before { limit * 2 } else { limit };
                    Step::Tail { claimed, tail, limit }
                } else if tail.end() < tail.committed {
                    return Err(Lost::LogTruncated { end: tail.end(), committed: tail.committed });
                } else if tail.rows.is_empty() {
                    Step::Seal { claimed, tail }
                } else {
                    Step::Rewrite { claimed, tail }
                }
            }
            (Step::Rewrite { claimed, tail }, Done::Rewritten) => Step::Seal { claimed, tail },
            (Step::Seal { claimed, tail }, Done::Cas(Cas::Applied)) => self.serve(claimed, tail),
            (Step::Seal { claimed, tail }, Done::Cas(Cas::Refused) | Done::Unknown) => {
                Step::ConfirmSeal { claimed, tail }
            }
            (Step::ConfirmSeal { claimed, tail }, Done::Lease(lease)) => self.confirm_seal(claimed, tail, lease)?,
            (step @ (Step::Finished(_) | Step::Ended(_)), _) => step,
            // Reads and writes that may be done again are.
            (step, Done::Unknown) => step,
            (_, _) => return Err(Lost::Misled),
        })
    }

    fn confirm(&self, observed: Epoch, lease: Lease) -> Result<Step, Lost> {
        if lease.epoch < observed {
            return Err(Lost::LeaseWentBack { seen: observed, found: lease.epoch });
        }
        if lease.epoch == observed {
            // Not applied, or not yet: the same attempt again. If the first one lands meanwhile, this one is refused
            // and the nonce is found.
            return Ok(Step::Claim { observed });
        }
        if lease.epoch == observed.next() && lease.nonce == self.nonce {
            return Ok(Step::Fence(Claimed { epoch: lease.epoch, starts: lease.starts }));
        }
        Err(Lost::Superseded { epoch: lease.epoch, owner: lease.owner })
    }

    fn confirm_seal(&self, claimed: Claimed, tail: Tail, lease: Lease) -> Result<Step, Lost> {
        if lease.epoch < claimed.epoch {
            return Err(Lost::LeaseWentBack { seen: claimed.epoch, found: lease.epoch });
        }
        if lease.epoch > claimed.epoch || lease.nonce != self.nonce {
            return Err(Lost::Superseded { epoch: lease.epoch, owner: lease.owner });
        }
        if lease.sealed { Ok(self.serve(claimed, tail)) } else { Ok(Step::Seal { claimed, tail }) }
    }

    fn serve(&self, mut claimed: Claimed, tail: Tail) -> Step {
        let start = tail.end();
        claimed.starts.insert(claimed.epoch, start);
        Step::Finished(Term {
            epoch: claimed.epoch,
            nonce: self.nonce,
            start,
            starts: claimed.starts,
            checkpoint: tail.checkpoint,
            tail: tail.rows,
        })
    }
}

#[cfg(test)]
mod tests;
