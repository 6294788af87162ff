//! The claimant: from "this shard should be mine" to a term that may be served.
//!
//! 0. If the previous owner acknowledges by a timed lease that our fence cannot reach, revoke the
//!    lease ([`LeaseRevoker`], L4, R1).
//! 1. Claim the next epoch, conditionally.
//! 2. Write the fence and wait for its quorum.
//! 3. **Then** read the tail from the checkpoint. Keep contiguous rows of the epochs that own them;
//!    stop at the first hole.
//! 4. Rewrite every kept row at quorum.
//! 5. Seal, conditionally: the end of the tail is where this term starts.
//! 6. The driver projects the tail, loads heads and dedupe, and serves.
//!
//! Between 1 and 2 the lease row is read once more. Only after the claim can no older epoch seal,
//! so only then are the starts final by which the tail is judged, and only then is it certain which
//! region is left behind.
//!
//! **Single-region durability.** Inside the region of the last sealed term all of this happens at
//! local quorums. A claimant in another region uses its own region's quorums, which do not meet
//! those of the region it leaves. So it first revokes the leases of all cores there, reports what
//! has not arrived as missing ([`Loss`]), and seals a fork, to be [salvaged](super::salvage). If
//! the owner had released the shard, nothing is missing: the claimant waits for rows that are still
//! on their way.
//!
//! Every step may be repeated, so a driver answers any failure with [`OpResult::Unknown`]. The
//! machine repeats what is idempotent, and settles a conditional write by a serial read and its
//! nonce.

mod operations;

use std::mem;

use wire::{Durability, Epoch, Position, RegionId, Slot};

use super::core_lease::Timing;
use super::lease::{Cas, FenceMode, Lease, Nonce};
use super::lease_revoker::LeaseRevoker;
use super::tail::Tail;
use super::term::{AckBy, Loss, Term};

pub use operations::{Op, OpResult, TakeoverError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claimant {
    /// Drawn anew for every claim.
    pub nonce: Nonce,
    pub region: RegionId,
    pub durability: Durability,
    /// The fence mode of the term that is claimed. Without an incarnation it is
    /// [`FenceMode::Read`].
    pub fence_mode: FenceMode,
    /// None when this process keeps no timed lease.
    pub incarnation: Option<Incarnation>,
}

/// The timed lease of the claimant's process, which is already registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation {
    pub nonce: Nonce,
    /// The same for all leases of the zone.
    pub timing: Timing,
}

impl Claimant {
    /// A claimant that trusts no clock.
    #[must_use]
    pub fn untimed(nonce: Nonce, region: RegionId, durability: Durability) -> Self {
        Self { nonce, region, durability, fence_mode: FenceMode::Read, incarnation: None }
    }

    fn fence_mode(&self) -> FenceMode {
        if self.incarnation.is_some() { self.fence_mode } else { FenceMode::Read }
    }

    /// The leases that must be revoked before a term can begin after this row's.
    fn lease_revoker(&self, lease: &Lease) -> Result<Option<LeaseRevoker>, TakeoverError> {
        if let Some(left) = lease.left_by(self.durability, self.region) {
            // Claims made since the release do not matter: none of them was sealed.
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
        // Another claim over a released term may seal before ours, and then acknowledge.
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

/// A takeover in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Takeover {
    claimant: Claimant,
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Look,
    /// The previous owner may still acknowledge.
    Break {
        lease_revoker: LeaseRevoker,
        then: Broken,
    },
    /// Claims over this epoch. `broken` is the region whose leases are all revoked.
    Claim {
        observed: Epoch,
        broken: Option<RegionId>,
    },
    /// The claim may have been applied. Read who holds it and where older epochs started: until the
    /// claim, the epoch before it could still seal and serve.
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

/// What follows once the leases are revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Broken {
    Claim { observed: Epoch, broken: Option<RegionId> },
    Fence(Claimed),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claimed {
    /// The row of our claim. Until we seal, only a later claim changes it.
    lease: Lease,
    /// The region that is left behind, if the shard changes region.
    left: Option<RegionId>,
}

/// What is known of the log before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    /// The log reaches at least up to here.
    end_min: Slot,
    /// A mark says that the log was acknowledged up to here. What is missing of it is lost with the
    /// region left behind.
    marked: Slot,
}

impl Takeover {
    /// Starts with a read of the lease row.
    #[must_use]
    pub fn new(claimant: Claimant) -> Self {
        Self { claimant, step: Step::Look }
    }

    /// Starts from a lease row that the driver has just read. If the row is out of date, the claim
    /// is refused and nothing else happens.
    ///
    /// # Errors
    /// When the claim cannot succeed.
    pub fn over(observed: &Lease, claimant: Claimant) -> Result<Self, TakeoverError> {
        let step = observe(&claimant, observed)?;
        Ok(Self { claimant, step })
    }

    /// What to do next. None when the takeover has ended, in a [`Term`] or a [`TakeoverError`].
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

    /// The epoch of the claim, once it is confirmed.
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

    /// Takes the result of what [`Takeover::next`] asked for.
    ///
    /// # Errors
    /// When the takeover has failed. It stays failed.
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
            // The lease was renewed, so its holder is alive and may have released the shard since
            // we read the row. Start over from a fresh read.
            (Step::Break { then: Broken::Claim { .. }, .. }, OpResult::Cas(Cas::Refused)) => {
                Step::Look
            }
            // The same after the claim: a live holder may have claimed the shard over ours.
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
            // A refusal is looked at, too: our own earlier attempt may have caused it.
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
            // Reads and idempotent writes are repeated.
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
            // Not applied, or not yet: repeat the same attempt. If the first one lands meanwhile,
            // this one is refused and the nonce is found.
            return Ok(Step::Claim { observed, broken });
        }
        if lease.epoch > observed.next() || lease.nonce != self.claimant.nonce {
            return Err(TakeoverError::Superseded { epoch: lease.epoch, owner: lease.owner });
        }
        let left = lease
            .left_by(self.claimant.durability, self.claimant.region)
            .map(|acting| acting.region);
        // The epoch we observed may have sealed before our claim. It may so have moved the shard to
        // a region whose leases are not revoked, or taken back a release. Make that good before
        // reading the log.
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
    /// The first slot to read, and what is known of the log.
    fn known(&self, checkpoint: Option<Position>, committed: Option<Position>) -> (Slot, Known) {
        let starts = &self.lease.starts;
        let held = |mark: Option<Position>| mark.map_or(Slot(0), |mark| starts.bound(mark));
        let released = self.lease.released.unwrap_or_default();
        let marked = held(committed);
        // Inside the region, the start of the last sealed epoch counts as a mark, too: everything
        // before it was rewritten here.
        let sealed = starts.last().map_or(Slot(0), |(_, start)| start);
        let end_min = if self.left.is_some() { released } else { released.max(marked).max(sealed) };
        (held(checkpoint), Known { end_min, marked })
    }

    /// The tail ends before the slot that it must reach.
    fn wait_or_refuse(self, tail: Tail, known: Known) -> Result<Step, TakeoverError> {
        if self.left.is_none() {
            return Err(TakeoverError::LogTruncated { end: tail.end(), committed: known.end_min });
        }
        Ok(Step::Tail(self, tail, known))
    }
}

#[cfg(test)]
mod tests;
