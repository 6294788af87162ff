//! The claimant: from "this shard should be mine" to a term in which it may be served.
//!
//! 0. If the owner before acknowledges by a timed lease that no fence of ours can reach, break it ([`LeaseRevoker`], L4, R1).
//! 1. Claim the next epoch, conditionally.
//! 2. Write the fence and wait for its quorum.
//! 3. **Then** read the tail from the checkpoint; keep contiguous rows of the epochs that own them; stop at the first hole.
//! 4. Write every kept row again, at quorum.
//! 5. Seal, conditionally: the end of the tail is where this term starts.
//! 6. The driver's: project the tail, load heads and dedupe, serve.
//!
//! Between 1 and 2 the lease row is read once more: only after the claim can no older epoch seal, so only then are the
//! starts, by which the tail is judged, final; and only then is it certain which region is left.
//!
//! **Class `region`.** Inside the region of the last sealed term all of this happens at local quorums. From another region
//! it does, too, at that region's own; they do not meet those of the region that is left, so the leases of all its cores
//! are broken first, what has not come over is reported as missing ([`Loss`]), and the seal marks a fork, to be
//! [salvaged](super::salvage). Where the owner had released the shard nothing is missing: the claimant waits for what is on
//! its way.
//!
//! Every step may be done again, so a driver answers any failure with [`OpResult::Unknown`]: the machine repeats what is
//! idempotent and settles a conditional write by a serial read and its nonce.

mod operations;

use std::mem;

use wire::{Durability, Epoch, Position, RegionId, Slot};

use super::core_lease::Timing;
use super::lease::{Cas, FenceMode, Lease, Nonce};
use super::lease_revoker::LeaseRevoker;
use super::tail::Tail;
use super::term::{AckBy, Loss, Term};

pub use operations::{Op, OpResult, TakeoverError};

/// Who claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claimant {
    /// Drawn anew for every claim.
    pub nonce: Nonce,
    /// Ours.
    pub region: RegionId,
    /// Of the shard.
    pub durability: Durability,
    /// Of the term that is claimed; without a incarnation it is [`FenceMode::Read`].
    pub fence_mode: FenceMode,
    /// None: this process keeps no timed lease.
    pub incarnation: Option<Incarnation>,
}

/// The timed lease of the claimant's process, registered already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// Its key.
    pub nonce: Nonce,
    /// Of all leases in the zone.
    pub timing: Timing,
}

impl Claimant {
    /// One that trusts no clock.
    #[must_use]
    pub fn untimed(nonce: Nonce, region: RegionId, durability: Durability) -> Self {
        Self { nonce, region, durability, fence_mode: FenceMode::Read, incarnation: None }
    }

    fn fence_mode(&self) -> FenceMode {
        if self.incarnation.is_some() { self.fence_mode } else { FenceMode::Read }
    }

    /// Whose leases must be broken before a term can begin after this row's.
    fn lease_revoker(&self, lease: &Lease) -> Result<Option<LeaseRevoker>, TakeoverError> {
        if let Some(left) = lease.left_by(self.durability, self.region) {
            // Which claims were made since the release does not matter: none of them was sealed.
            if lease.released.is_some() {
                return Ok(None);
            }
            if left.fence_mode == FenceMode::Read {
                return Err(TakeoverError::Untimed { region: left.region });
            }
            let Incarnation { nonce, timing } =
                self.incarnation.ok_or(TakeoverError::NoTimedLease)?;
            return Ok(Some(LeaseRevoker::of_region(left.region, nonce, timing)));
        }
        let by_lease_alone =
            self.durability == Durability::MultiRegion && lease.fence_mode == FenceMode::Lease;
        // A claim over a released term may seal before ours comes, and then acknowledge.
        let let_go = lease.released.is_some() && lease.sealed;
        match &lease.owner {
            Some(owner) if by_lease_alone && !let_go => {
                let Incarnation { nonce, timing } =
                    self.incarnation.ok_or(TakeoverError::NoTimedLease)?;
                Ok(Some(LeaseRevoker::of_node(owner.clone(), nonce, timing)))
            }
            _ => Ok(None),
        }
    }
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
    claimant: Claimant,
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Nothing known yet.
    Look,
    /// The owner before may still acknowledge.
    Break {
        lease_revoker: LeaseRevoker,
        then: Broken,
    },
    /// Claiming over this epoch. `broken`: the region all of whose leases are.
    Claim {
        observed: Epoch,
        broken: Option<RegionId>,
    },
    /// The claim may have been applied: who holds it, and where did older epochs start? Read only now, because until the
    /// claim the epoch before it could still seal and serve.
    Confirm {
        observed: Epoch,
        broken: Option<RegionId>,
    },
    Fence(Claimed),
    Marks(Claimed),
    Tail(Claimed, Tail, Known),
    Rewrite(Claimed, Tail, Known),
    Seal(Claimed, Tail, Known),
    /// The seal may have been applied.
    ConfirmSeal(Claimed, Tail, Known),
    Finished(Term),
    Ended(TakeoverError),
}

/// What follows when the leases are broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Broken {
    Claim { observed: Epoch, broken: Option<RegionId> },
    Fence(Claimed),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claimed {
    /// The row of our claim. Until we seal nobody changes it, unless by a claim over ours.
    lease: Lease,
    /// The region that is left, if it is another.
    left: Option<RegionId>,
}

/// What is known of the log without having read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    /// It goes at least up to here.
    end_min: Slot,
    /// It was acknowledged up to here, by a mark; what is missing of that is lost with the region that is left.
    marked: Slot,
}

impl Takeover {
    /// Reads the lease first.
    #[must_use]
    pub fn new(claimant: Claimant) -> Self {
        Self { claimant, step: Step::Look }
    }

    /// As [`Takeover::new`], by a driver that has just read the lease row. If it is out of date the claim is refused, and
    /// that is all.
    ///
    /// # Errors
    /// When the claim would come to nothing.
    pub fn over(observed: &Lease, claimant: Claimant) -> Result<Self, TakeoverError> {
        let step = observe(&claimant, observed)?;
        Ok(Self { claimant, step })
    }

    /// What to do next; none when the takeover has ended, in a [`Term`] or in [`Lost`].
    #[must_use]
    pub fn next(&self) -> Option<Op> {
        let nonce = self.claimant.nonce;
        Some(match &self.step {
            Step::Look | Step::Confirm { .. } | Step::ConfirmSeal(..) => Op::ReadLease,
            Step::Break { lease_revoker, .. } => lease_revoker.next()?,
            Step::Claim { observed, .. } => {
                Op::Claim { observed: *observed, nonce, fence_mode: self.claimant.fence_mode() }
            }
            Step::Fence(claimed) => Op::WriteFence { epoch: claimed.lease.epoch },
            Step::Marks(claimed) => Op::ReadMarks { across: claimed.left.is_some() },
            Step::Tail(_, tail, _) => Op::ReadTail { from: tail.end(), limit: tail.limit() },
            Step::Rewrite(_, tail, _) => Op::Rewrite { rows: tail.rows().to_vec() },
            Step::Seal(claimed, tail, _) => {
                Op::Seal { epoch: claimed.lease.epoch, nonce, start: tail.end() }
            }
            Step::Finished(_) | Step::Ended(_) => return None,
        })
    }

    /// The epoch that is ours, once the claim is confirmed.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        match &self.step {
            Step::Look | Step::Claim { .. } | Step::Confirm { .. } | Step::Ended(_) => None,
            Step::Break { then: Broken::Claim { .. }, .. } => None,
            Step::Break { then: Broken::Fence(claimed), .. }
            | Step::Fence(claimed)
            | Step::Marks(claimed)
            | Step::Tail(claimed, ..)
            | Step::Rewrite(claimed, ..)
            | Step::Seal(claimed, ..)
            | Step::ConfirmSeal(claimed, ..) => Some(claimed.lease.epoch),
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
    pub fn on(&mut self, done: OpResult) -> Result<(), TakeoverError> {
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

    fn step_after(&mut self, done: OpResult) -> Result<Step, TakeoverError> {
        let step = mem::replace(&mut self.step, Step::Look);
        Ok(match (step, done) {
            (Step::Look, OpResult::Lease(lease)) => observe(&self.claimant, &lease)?,
            // Who was renewed lives, and may have let go meanwhile: of the lease that was seen nothing is known any more.
            (Step::Break { then: Broken::Claim { .. }, .. }, OpResult::Cas(Cas::Refused)) => {
                Step::Look
            }
            // After the claim, too: one of those who live may have taken the shard up over it.
            (Step::Break { then: Broken::Fence(claimed), .. }, OpResult::Cas(Cas::Refused)) => {
                Step::Confirm { observed: Epoch(claimed.lease.epoch.0 - 1), broken: None }
            }
            (Step::Break { mut lease_revoker, then }, done) => {
                lease_revoker.on(done)?;
                if lease_revoker.next().is_some() {
                    Step::Break { lease_revoker, then }
                } else {
                    then.step()
                }
            }
            // Refused, too, is looked at: it may be our own earlier attempt that was in the way.
            (Step::Claim { observed, broken }, OpResult::Cas(_) | OpResult::Unknown) => {
                Step::Confirm { observed, broken }
            }
            (Step::Confirm { observed, broken }, OpResult::Lease(lease)) => {
                self.confirm(observed, broken, lease)?
            }
            (Step::Fence(claimed), OpResult::Fenced) => Step::Marks(claimed),
            (Step::Marks(claimed), OpResult::Marks { checkpoint, committed }) => {
                let (from, known) = claimed.known(checkpoint, committed);
                Step::Tail(claimed, Tail::new(from), known)
            }
            (Step::Tail(claimed, mut tail, known), OpResult::Tail(page)) => {
                if tail.extend(page, &claimed.lease.starts) {
                    Step::Tail(claimed, tail, known)
                } else if tail.end() < known.end_min {
                    claimed.wait_or_refuse(tail, known)?
                } else if tail.rows().is_empty() {
                    Step::Seal(claimed, tail, known)
                } else {
                    Step::Rewrite(claimed, tail, known)
                }
            }
            (Step::Rewrite(claimed, tail, known), OpResult::Rewritten) => {
                Step::Seal(claimed, tail, known)
            }
            (Step::Seal(claimed, tail, known), OpResult::Cas(Cas::Applied)) => {
                self.serve(claimed, tail, known)?
            }
            (Step::Seal(claimed, tail, known), OpResult::Cas(Cas::Refused) | OpResult::Unknown) => {
                Step::ConfirmSeal(claimed, tail, known)
            }
            (Step::ConfirmSeal(claimed, tail, known), OpResult::Lease(lease)) => {
                self.confirm_seal(claimed, tail, known, &lease)?
            }
            (step @ (Step::Finished(_) | Step::Ended(_)), _) => step,
            // Reads and writes that may be done again are.
            (step, OpResult::Unknown) => step,
            (_, _) => return Err(TakeoverError::Misled),
        })
    }

    fn confirm(
        &self,
        observed: Epoch,
        broken: Option<RegionId>,
        lease: Lease,
    ) -> Result<Step, TakeoverError> {
        if lease.epoch < observed {
            return Err(TakeoverError::LeaseWentBack { seen: observed, found: lease.epoch });
        }
        if lease.epoch == observed {
            // Not applied, or not yet: the same attempt again. If the first one lands meanwhile, this one is refused
            // and the nonce is found.
            return Ok(Step::Claim { observed, broken });
        }
        if lease.epoch > observed.next() || lease.nonce != self.claimant.nonce {
            return Err(TakeoverError::Superseded { epoch: lease.epoch, owner: lease.owner });
        }
        let left = lease
            .left_by(self.claimant.durability, self.claimant.region)
            .map(|acting| acting.region);
        // The epoch that was observed may have sealed before our claim, and so have moved the shard to a region of which
        // nothing is broken, or have taken back a release. The log is not read before that is made good.
        let lease_revoker = if left.is_none() || left == broken {
            None
        } else {
            self.claimant.lease_revoker(&lease)?
        };
        let claimed = Claimed { lease, left };
        Ok(match lease_revoker {
            Some(lease_revoker) => Step::Break { lease_revoker, then: Broken::Fence(claimed) },
            None => Step::Fence(claimed),
        })
    }

    fn confirm_seal(
        &self,
        claimed: Claimed,
        tail: Tail,
        known: Known,
        lease: &Lease,
    ) -> Result<Step, TakeoverError> {
        let epoch = claimed.lease.epoch;
        if lease.epoch < epoch {
            return Err(TakeoverError::LeaseWentBack { seen: epoch, found: lease.epoch });
        }
        if lease.epoch > epoch || lease.nonce != self.claimant.nonce {
            return Err(TakeoverError::Superseded {
                epoch: lease.epoch,
                owner: lease.owner.clone(),
            });
        }
        if lease.sealed {
            self.serve(claimed, tail, known)
        } else {
            Ok(Step::Seal(claimed, tail, known))
        }
    }

    fn serve(&self, claimed: Claimed, tail: Tail, known: Known) -> Result<Step, TakeoverError> {
        let Claimant { nonce, durability, .. } = self.claimant;
        let (epoch, start) = (claimed.lease.epoch, tail.end());
        let fork = claimed.lease.fork_at(durability, start);
        let sealed = claimed
            .lease
            .sealed_at(durability, epoch, nonce, start)
            .ok_or(TakeoverError::Misled)?;
        Ok(Step::Finished(Term {
            epoch,
            nonce,
            start,
            ack_by: AckBy::of(durability, sealed.fence_mode),
            incarnation: self.claimant.incarnation.map(|incarnation| incarnation.nonce),
            starts: sealed.starts,
            checkpoint: tail.from(),
            tail: tail.into_rows(),
            loss: fork.map(|fork| Loss {
                from: fork.from,
                frames_min: known.marked.0.saturating_sub(start.0),
            }),
            forks: sealed.forks,
        }))
    }
}

fn observe(claimant: &Claimant, lease: &Lease) -> Result<Step, TakeoverError> {
    let observed = lease.epoch;
    Ok(match claimant.lease_revoker(lease)? {
        Some(lease_revoker) => {
            let broken =
                lease.left_by(claimant.durability, claimant.region).map(|acting| acting.region);
            Step::Break { lease_revoker, then: Broken::Claim { observed, broken } }
        }
        None => Step::Claim { observed, broken: None },
    })
}

impl Broken {
    fn step(self) -> Step {
        match self {
            Self::Claim { observed, broken } => Step::Claim { observed, broken },
            Self::Fence(claimed) => Step::Fence(claimed),
        }
    }
}

impl Claimed {
    /// From which slot to read, and what is known of the log.
    fn known(&self, checkpoint: Option<Position>, committed: Option<Position>) -> (Slot, Known) {
        let starts = &self.lease.starts;
        let held = |mark: Option<Position>| mark.map_or(Slot(0), |mark| starts.bound(mark));
        let released = self.lease.released.unwrap_or_default();
        let marked = held(committed);
        // Inside the region the start of the last sealed epoch, up to which all was rewritten here, counts as a mark, too.
        let sealed = starts.last().map_or(Slot(0), |(_, start)| start);
        let end_min = if self.left.is_some() { released } else { released.max(marked).max(sealed) };
        (held(checkpoint), Known { end_min, marked })
    }

    /// The tail ends too early.
    fn wait_or_refuse(self, tail: Tail, known: Known) -> Result<Step, TakeoverError> {
        if self.left.is_none() {
            return Err(TakeoverError::LogTruncated { end: tail.end(), committed: known.end_min });
        }
        Ok(Step::Tail(self, tail, known))
    }
}

#[cfg(test)]
mod tests;
