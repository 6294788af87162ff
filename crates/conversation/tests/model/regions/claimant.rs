//! What a claimant can do next.

use hearth_conversation::log::LogRow;
use hearth_conversation::shard::{
    Beat, Cas, CoreLease, FenceMode, Lease, Op, OpResult, Owner, Takeover, TakeoverError, Term,
    Uptime,
};
use wire::{Durability, Epoch, Position, RegionId, Slot};

use super::{
    Action, Actor, Mutant, SLOTS_MAX, Serving, State, Steps, World, bit, nonce, region, site,
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
        let at = self.bounds.claimants[actor];
        match machine.next() {
            Some(Op::ReadLease) => self.read_lease(state, actor, found),
            Some(Op::ReadCores { region }) => {
                let done = OpResult::Cores {
                    leases: self.cores(state, actor, region),
                    replied_at: Uptime::default(),
                };
                found.push(Step {
                    action: Action::ReadCores(actor),
                    to: self.tell(state.clone(), actor, done),
                });
            }
            Some(Op::WaitUntil { until }) => {
                let to = self.tell(state.clone(), actor, OpResult::Clock(until));
                let to = to.and_then(|to| self.break_cores(to, actor));
                found.push(Step { action: Action::WaitAndBreak(actor), to });
            }
            Some(Op::Claim { observed, .. }) if observed.0 < self.bounds.epochs => {
                let mut to = state.clone();
                let claimed =
                    to.lease.claimed(observed, &self.nodes[actor], nonce(actor), FenceMode::Lease);
                let cas = if claimed.is_some() { Cas::Applied } else { Cas::Refused };
                to.lease = claimed.unwrap_or(to.lease);
                if self.mutant == Some(Mutant::LastClaimedCounts)
                    && cas == Cas::Applied
                    && let Some(acting) = &mut to.lease.acting
                {
                    acting.region = region(at);
                }
                found.push(Step {
                    action: Action::Claim(actor),
                    to: self.tell(to, actor, OpResult::Cas(cas)),
                });
            }
            Some(Op::WriteFence { epoch }) => {
                let mut to = state.clone();
                to.sites[at].fence = to.sites[at].fence.max(epoch.0 as u8);
                found.push(Step {
                    action: Action::Fence(actor),
                    to: self.tell(to, actor, OpResult::Fenced),
                });
            }
            Some(Op::ReadMarks { across }) => {
                let matters = across && state.lease.released.is_none();
                for committed in if matters { state.marks_under_way() } else { vec![None] } {
                    let marks = OpResult::Marks { checkpoint: None, committed };
                    found.push(Step {
                        action: Action::ReadMarks(actor),
                        to: self.tell(state.clone(), actor, marks),
                    });
                }
            }
            Some(Op::ReadTail { from, .. }) => {
                let Actor::Claimant { must, starts, .. } = &state.actors[actor] else { return };
                for rows in state.readings(from, starts, *must) {
                    let to = self.tell(state.clone(), actor, OpResult::Tail(rows));
                    found.push(Step { action: Action::ReadTail(actor), to });
                }
            }
            Some(Op::Rewrite { rows }) => {
                let mut to = state.clone();
                to.sites[at].durable |=
                    rows.iter().fold(0, |places, row| places | 1 << bit(row.at));
                found.push(Step {
                    action: Action::Rewrite(actor),
                    to: self.tell(to, actor, OpResult::Rewritten),
                });
            }
            Some(Op::Seal { epoch, start, .. }) => {
                let to = self.seal(state, actor, epoch, start);
                found.push(Step { action: Action::Seal(actor), to });
            }
            _ => {}
        }
    }

    fn read_lease(&self, state: &State, actor: usize, found: &mut Steps) {
        let mut to = state.clone();
        let Actor::Claimant { listed, .. } = &mut to.actors[actor] else { return };
        if self.mutant == Some(Mutant::CoresListedBeforeTheEpoch) && listed.is_none() {
            let registered = state.cores.iter().enumerate().filter(|(_, core)| core.registered);
            *listed = Some(registered.fold(0, |listed, (actor, _)| listed | 1 << actor));
            to.cores[actor].registered = true;
            found.push(Step { action: Action::ListCores(actor), to: Ok(to) });
            return;
        }
        to.cores[actor].registered = true;
        let mut lease = state.lease.clone();
        if self.mutant == Some(Mutant::ReleasedEndIgnored) {
            lease.released = lease.released.map(|_| Slot(0));
        }
        found.push(Step {
            action: Action::ReadLease(actor),
            to: self.tell(to, actor, OpResult::Lease(lease)),
        });
    }

    fn cores(&self, state: &State, actor: usize, region: RegionId) -> Vec<CoreLease> {
        let listed = match &state.actors[actor] {
            Actor::Claimant { listed, .. } => *listed,
            _ => None,
        };
        let only_owner = self.mutant == Some(Mutant::OnlyTheCurrentLeaseBroken);
        let cores = state.cores.iter().zip(&self.nodes).enumerate();
        let there = cores.filter(|(index, (core, node))| {
            core.registered
                && node.region == region
                && listed.is_none_or(|listed| listed & (1 << index) != 0)
                && !(only_owner && state.lease.owner.as_ref() != Some(*node))
        });
        there
            .map(|(index, (core, node))| CoreLease {
                node: node.clone(),
                incarnation: nonce(index),
                beat: Beat(1),
                broken: core.broken,
            })
            .collect()
    }

    /// The wait is over, and with it every lease that was seen; nothing was renewed.
    fn break_cores(&self, mut to: State, actor: usize) -> Result<State, String> {
        let Actor::Claimant { machine, .. } = &to.actors[actor] else { return Ok(to) };
        let Some(Op::BreakCores { lives, .. }) = machine.next() else {
            return Err("waited for nothing".into());
        };
        for (incarnation, _) in lives {
            let core = &mut to.cores[incarnation.0 as usize - 1];
            (core.over, core.broken) = (true, true);
        }
        self.tell(to, actor, OpResult::Cas(Cas::Applied))
    }

    fn seal(&self, state: &State, actor: usize, epoch: Epoch, end: Slot) -> Result<State, String> {
        let mut to = state.clone();
        let start = if self.mutant == Some(Mutant::SealAtTheMark) {
            self.mark_of(state, actor).max(end)
        } else {
            end
        };
        match to.lease.sealed_at(Durability::Region, epoch, nonce(actor), start) {
            Some(sealed) => {
                let before = std::mem::replace(&mut to.lease, sealed);
                self.tell(to, actor, OpResult::Cas(Cas::Applied))?
                    .begin(self, actor, &before, start)
            }
            None => self.tell(to, actor, OpResult::Cas(Cas::Refused)),
        }
    }

    /// The highest mark there is, as far as it holds.
    fn mark_of(&self, state: &State, actor: usize) -> Slot {
        let forks =
            state.lease.left_by(Durability::Region, region(self.bounds.claimants[actor])).is_some();
        let highest = state.marks_under_way().into_iter().flatten().max();
        highest.filter(|_| forks).map_or(Slot(0), |mark| state.lease.starts.bound(mark))
    }

    /// Tells the machine, and issues at once what it wants written: a write can only gain by being
    /// issued early.
    pub(super) fn tell(
        &self,
        mut to: State,
        actor: usize,
        done: OpResult,
    ) -> Result<State, String> {
        let at = self.bounds.claimants[actor];
        let Actor::Claimant { machine, must, starts, .. } = &mut to.actors[actor] else {
            return Ok(to);
        };
        if let OpResult::Lease(lease) = &done {
            starts.clone_from(&lease.starts);
        }
        match machine.on(done) {
            Ok(()) => {}
            Err(TakeoverError::Superseded { .. }) => {
                to.actors[actor] = Actor::Gone;
                return Ok(to);
            }
            Err(lost) => return Err(lost.to_string()),
        }
        match machine.next() {
            Some(Op::WriteFence { epoch }) => to.sites[at].fences |= 1 << epoch.0,
            // The tail may be asked for from here on.
            Some(Op::ReadMarks { .. }) => *must = to.sites[at].durable,
            _ => {}
        }
        Ok(to)
    }
}

impl State {
    pub(super) fn marks_under_way(&self) -> Vec<Option<Position>> {
        let slots = SLOTS_MAX + 1;
        let mark = |n: u64| Position { epoch: Epoch(n / slots + 1), slot: Slot(n % slots) };
        let there = (0..32).filter(|n| self.marks & (1 << n) != 0).map(|n| Some(mark(n)));
        std::iter::once(None).chain(there).collect()
    }

    pub(super) fn publish(&mut self, mark: Position) {
        self.marks |= 1 << ((mark.epoch.0 - 1) * (SLOTS_MAX + 1) + mark.slot.0);
    }

    /// A term begins. `before`: the lease row as it was before the seal.
    fn begin(
        mut self,
        world: &World,
        actor: usize,
        before: &Lease,
        start: Slot,
    ) -> Result<Self, String> {
        let Actor::Claimant { machine, .. } = &self.actors[actor] else { return Ok(self) };
        let term = machine.clone().finished().ok_or("sealed, and did not finish")?;
        let term = Term { start, ..term };
        if term.forks != self.lease.forks && world.mutant != Some(Mutant::SealAtTheMark) {
            return Err("the machine and the lease row do not agree about the forks".into());
        }
        self.begins_well(world, before, &term)?;
        let at = site(world.nodes[actor].region);
        for LogRow { at: place, .. } in &term.tail {
            self.committed |= 1 << bit(*place);
            self.project(world, Some(at), *place);
        }
        self.publish(term.committed());
        self.actors[actor] = Actor::Owner(Box::new(Serving {
            owner: Owner::new(&term),
            start,
            starts: term.starts,
            forks: term.forks,
            salvage: None,
            must: 0,
            stranded: Vec::new(),
        }));
        self.salvage_begins(actor);
        Ok(self)
    }

    /// Writes what the memory of sends is to say of the message at this place; where `at` is given,
    /// until it is durable.
    pub(super) fn project(&mut self, world: &World, at: Option<usize>, place: Position) {
        let message = usize::from(self.content[bit(place)]) - 1;
        self.dedupe[message] |= 1 << bit(place);
        if let Some(at) = at {
            let there = &mut self.sites[at].dedupe[message];
            let older = there.checked_sub(1).map(|bit| world.rank(super::place(usize::from(bit))));
            if older.is_none_or(|older| older < world.rank(place)) {
                *there = bit(place) as u8 + 1;
            }
        }
    }
}
