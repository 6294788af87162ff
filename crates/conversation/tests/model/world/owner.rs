//! What an owner can do next.

use hearth_conversation::log::LogRow;
use hearth_conversation::shard::owner::Appended;
use hearth_conversation::shard::{AckBy, Owner};
use wire::{Epoch, Position, Slot};

use super::{Action, Actor, Mutant, QUORUM, READS, Read, State, Steps, World, frame};
use crate::search::Step;

impl World {
    pub(super) fn owner_steps(
        &self,
        state: &State,
        actor: usize,
        owner: &Owner,
        reads: &[Read],
        durable: u8,
        found: &mut Steps,
    ) {
        let epoch = owner.epoch();
        let next = owner.next_slot();
        if next.0 < self.bounds.slots {
            let mut to = state.clone();
            to.append(actor);
            found.push(Step { action: Action::Append(actor), to: Ok(to) });
        }
        for slot in (next.0 - owner.in_flight() as u64..next.0).map(Slot) {
            let at = Position { epoch, slot };
            // An unknown outcome: the same frame in the same slot, unless it is known to be there
            // by now.
            let again = owner.clone().on_append(slot, Appended::Unknown).expect("the term goes on");
            if again.is_none() || durable & (1 << slot.0) != 0 {
                continue;
            }
            assert_eq!(again, Some(LogRow { at, frame: frame(at) }));
            for mut to in state.with_durable(at) {
                if let Actor::Owner { owner, durable, .. } = &mut to.actors[actor] {
                    owner.on_append(slot, Appended::Durable).expect("the term goes on");
                    if self.mutant == Some(Mutant::AcksOutOfOrder) {
                        *durable |= 1 << slot.0;
                    }
                }
                found.push(Step { action: Action::AppendDurable(actor, slot.0), to: Ok(to) });
            }
        }
        if owner.ack_by() == AckBy::Lease {
            self.clock_steps(state, actor, found);
        } else {
            self.start_fence_read(state, actor, durable, found);
        }
        if self.bounds.timed.is_some_and(|timed| timed.releases) {
            self.release_steps(state, actor, found);
        }
        for (index, read) in reads.iter().enumerate() {
            self.read_fence(state, actor, index, read.id, found);
        }
        if self.bounds.checkpoints && state.checkpoint < Some(owner.committed()) {
            let mut to = state.clone();
            to.checkpoint = Some(owner.committed());
            found.push(Step { action: Action::WriteCheckpoint(actor), to: Ok(to) });
        }
    }

    fn start_fence_read(&self, state: &State, actor: usize, durable: u8, found: &mut Steps) {
        let mut to = state.clone();
        let Actor::Owner { owner, reads, .. } = &mut to.actors[actor] else { return };
        let read = if self.mutant == Some(Mutant::AcksOutOfOrder) {
            let id = usize::from(durable);
            if durable == 0 || reads.iter().any(|read| read.id == id) {
                return;
            }
            Read { id, ticket: None, seen: 0 }
        } else {
            let Some(ticket) = owner.start_fence_read() else { return };
            // Reads under way cover different slots, so how many slots are durable tells them
            // apart.
            Read {
                id: reads.iter().map(|read| read.id).max().unwrap_or(0) + 1,
                ticket: Some(ticket),
                seen: 0,
            }
        };
        reads.push(read);
        let (index, id) = (reads.len() - 1, reads[reads.len() - 1].id);
        let action = Action::FenceReadStarts(actor);
        if self.mutant == Some(Mutant::NoFenceRead) {
            found.push(Step { action, to: to.fence_read(actor, index, Epoch(0)) });
        } else if self.bounds.reduced {
            // A read that had started earlier, before more was durable, would only acknowledge
            // less.
            self.read_fence(&to, actor, index, id, found);
        } else {
            found.push(Step { action, to: Ok(to) });
        }
    }

    /// Asks one replica for the fence; with the second, the read is complete.
    fn read_fence(&self, state: &State, actor: usize, index: usize, id: usize, found: &mut Steps) {
        assert!(id < READS);
        let mine = 1u64 << (actor * READS + id);
        let asked = state.replicas.iter().filter(|replica| replica.asked & mine != 0).count();
        for (at, replica) in
            state.replicas.iter().enumerate().filter(|(_, replica)| replica.asked & mine == 0)
        {
            let arrives = |level: &u8| {
                let over = *level > replica.fence || self.mutant == Some(Mutant::FenceNotMax);
                *level == replica.fence || (over && state.fences & (1 << level) != 0)
            };
            for level in (0..=self.bounds.epochs as u8).filter(arrives) {
                let mut to = state.clone();
                to.replicas[at].fence = level;
                to.replicas[at].asked |= mine;
                let Actor::Owner { reads, .. } = &mut to.actors[actor] else { continue };
                let seen = level.max(reads[index].seen);
                reads[index].seen = seen;
                let to = if asked + 1 < QUORUM {
                    Ok(to)
                } else {
                    for replica in &mut to.replicas {
                        replica.asked &= !mine;
                    }
                    to.fence_read(actor, index, Epoch(u64::from(seen)))
                };
                found.push(Step { action: Action::ReadFenceAtOne(actor), to });
            }
        }
    }
}
