//! What a claimant can do next.

use hearth_conversation::shard::{Cas, Op, OpResult, Takeover, TakeoverError};
use wire::{Epoch, Slot};

use super::{
    Action, Actor, Late, Mutant, QUORUM, READS, State, Steps, World, bit, frame, log_rows, nonce,
    subsets,
};
use crate::search::Step;

impl World {
    pub(super) fn claimant_steps(
        &self,
        state: &State,
        actor: usize,
        machine: &Takeover,
        found: &mut Steps,
    ) {
        let Some(asked) = machine.next() else { return };
        match asked {
            Op::ReadLease => {
                let mut lease = state.lease.clone();
                let mut to = state.clone();
                if self.mutant == Some(Mutant::StartsReadBeforeClaim)
                    && let Actor::Claimant { early_starts, .. } = &mut to.actors[actor]
                {
                    lease.starts = early_starts.get_or_insert(lease.starts).clone();
                }
                if self.mutant == Some(Mutant::OwnModeObeyed) {
                    lease.fence_mode = self.fence_mode(actor);
                }
                let to = self.tell(to, actor, OpResult::Lease(lease));
                found.push(Step { action: Action::ReadLease(actor), to });
            }
            Op::ReadCores { .. } => self.read_cores(state, actor, found),
            Op::WaitUntil { until } => {
                if self.mutant == Some(Mutant::TailReadDuringTheWait)
                    && let Actor::Claimant { early_tail: None, .. } = &state.actors[actor]
                {
                    self.read_tail(state, actor, Slot(0), found);
                    return;
                }
                self.wait(state, actor, until, found);
            }
            Op::BreakCores { lives, .. } => self.break_cores(state, actor, &lives, found),
            Op::Claim { observed, .. } => {
                if observed.0 >= self.bounds.epochs {
                    return;
                }
                let mut to = state.clone();
                let cas = match to.lease.claimed(
                    observed,
                    &self.nodes[actor],
                    nonce(actor),
                    self.fence_mode(actor),
                ) {
                    Some(claimed) => {
                        to.lease = claimed;
                        Cas::Applied
                    }
                    None => Cas::Refused,
                };
                found.push(Step {
                    action: Action::Claim(actor),
                    to: self.tell(to, actor, OpResult::Cas(cas)),
                });
                let to = state.with_late(actor, Late::Claim { observed });
                found.push(Step {
                    action: Action::ClaimUnknown(actor),
                    to: self.tell(to, actor, OpResult::Unknown),
                });
            }
            Op::WriteFence { epoch } => self.write_fence(state, actor, epoch, found),
            Op::ReadMarks { .. } => {
                let marks =
                    OpResult::Marks { checkpoint: state.checkpoint, committed: state.checkpoint };
                found.push(Step {
                    action: Action::ReadMarks(actor),
                    to: self.tell(state.clone(), actor, marks),
                });
            }
            Op::ReadTail { from, .. } => self.read_tail(state, actor, from, found),
            Op::Rewrite { rows } => {
                if self.mutant == Some(Mutant::NoRewrite) {
                    let to = self.tell(state.clone(), actor, OpResult::Rewritten);
                    found.push(Step { action: Action::TailRewritten(actor), to });
                    return;
                }
                let mut worlds = vec![state.clone()];
                for row in &rows {
                    assert_eq!(row.frame, frame(row.at), "a row is rewritten as it is");
                    worlds = worlds.iter().flat_map(|world| world.with_durable(row.at)).collect();
                }
                for to in worlds {
                    let to = self.tell(to, actor, OpResult::Rewritten);
                    found.push(Step { action: Action::TailRewritten(actor), to });
                }
            }
            Op::Seal { epoch, start, .. } => {
                let mut to = state.clone();
                let cas = self.seal(&mut to, actor, epoch, start);
                let to = to.starts_hold().and_then(|to| self.tell(to, actor, OpResult::Cas(cas)));
                found.push(Step { action: Action::Seal(actor), to });
                let to = state.with_late(actor, Late::Seal { epoch, start });
                found.push(Step {
                    action: Action::SealUnknown(actor),
                    to: self.tell(to, actor, OpResult::Unknown),
                });
            }
        }
    }

    fn write_fence(&self, state: &State, actor: usize, epoch: Epoch, found: &mut Steps) {
        if self.mutant == Some(Mutant::TailReadBeforeFence)
            && let Actor::Claimant { early_tail: None, .. } = &state.actors[actor]
        {
            self.read_tail(state, actor, Slot(0), found);
            return;
        }
        if !self.fence_counts() {
            let to = self.tell(state.clone(), actor, OpResult::Fenced);
            found.push(Step { action: Action::FenceAtQuorum(actor), to });
            return;
        }
        let level = epoch.0 as u8;
        for (one, two) in [(0, 1), (0, 2), (1, 2)] {
            let mut to = state.clone();
            to.fences |= 1 << level;
            for replica in [one, two] {
                let fence = &mut to.replicas[replica].fence;
                *fence = if self.mutant == Some(Mutant::FenceNotMax) {
                    level
                } else {
                    level.max(*fence)
                };
            }
            found.push(Step {
                action: Action::FenceAtQuorum(actor),
                to: self.tell(to, actor, OpResult::Fenced),
            });
        }
    }

    /// Asks one replica for the tail; with the second, the read is complete.
    fn read_tail(&self, state: &State, actor: usize, from: Slot, found: &mut Steps) {
        if let Actor::Claimant { machine, early_tail: Some(early), .. } = &state.actors[actor]
            && matches!(machine.next(), Some(Op::ReadTail { .. }))
        {
            let to = self.tell(state.clone(), actor, OpResult::Tail(log_rows(*early, from)));
            found.push(Step { action: Action::ReadTailAtOne(actor), to });
            return;
        }
        let mine = 1u64 << (actor * READS);
        let asked = state.replicas.iter().filter(|replica| replica.asked & mine != 0).count();
        for (index, replica) in
            state.replicas.iter().enumerate().filter(|(_, replica)| replica.asked & mine == 0)
        {
            for arrived in subsets(state.rows & !replica.rows) {
                let mut to = state.clone();
                to.replicas[index].rows |= arrived;
                to.replicas[index].asked |= mine;
                let Actor::Claimant { tail, early_tail, machine, .. } = &mut to.actors[actor]
                else {
                    continue;
                };
                *tail |= to.replicas[index].rows;
                let to = if asked + 1 < QUORUM {
                    Ok(to)
                } else {
                    let rows = std::mem::take(tail);
                    if matches!(machine.next(), Some(Op::WriteFence { .. } | Op::WaitUntil { .. }))
                    {
                        *early_tail = Some(rows);
                    }
                    for replica in &mut to.replicas {
                        replica.asked &= !mine;
                    }
                    let early = early_tail.is_some();
                    if early {
                        Ok(to)
                    } else {
                        self.tell(to, actor, OpResult::Tail(log_rows(rows, from)))
                    }
                };
                found.push(Step { action: Action::ReadTailAtOne(actor), to });
            }
        }
    }

    /// Tells the machine, and issues at once what it wants written: a write can only gain by being
    /// issued early.
    pub(super) fn tell(
        &self,
        mut to: State,
        actor: usize,
        done: OpResult,
    ) -> Result<State, String> {
        let Actor::Claimant { machine, early_tail, .. } = &mut to.actors[actor] else {
            return Ok(to);
        };
        match machine.on(done) {
            Ok(()) => {}
            Err(TakeoverError::Superseded { .. }) => {
                to.actors[actor] = Actor::Gone;
                return Ok(to);
            }
            Err(lost) => return Err(lost.to_string()),
        }
        match machine.next() {
            Some(Op::WriteFence { epoch })
                if early_tail.is_some() || self.mutant != Some(Mutant::TailReadBeforeFence) =>
            {
                to.fences |= u8::from(self.fence_counts()) << epoch.0;
            }
            Some(Op::Rewrite { rows }) if self.mutant != Some(Mutant::NoRewrite) => {
                to.rows |= rows.iter().fold(0, |rows, row| rows | 1 << bit(row.at));
            }
            Some(Op::ReadMarks { .. }) if self.bounds.reduced && !self.bounds.checkpoints => {
                machine
                    .on(OpResult::Marks { checkpoint: None, committed: None })
                    .map_err(|lost| lost.to_string())?;
            }
            None => {
                let term = machine.clone().finished().ok_or("ended, neither lost nor finished")?;
                to.begin(actor, &term, self.bounds)?;
            }
            _ => {}
        }
        Ok(to)
    }
}
