//! What the steps do to the state, and what must hold in it.

use hearth_conversation::log::LogRow;
use hearth_conversation::shard::{Owner, Term};
use wire::{Epoch, Position, Slot};

use super::{
    Actor, Bounds, Late, QUORUM, READS, Replica, Rows, State, bit, frame, log_rows, nonce,
};

impl State {
    pub(super) fn with_late(&self, actor: usize, late: Late) -> Self {
        let mut to = self.clone();
        let late = (actor as u8, late);
        if !to.late.contains(&late) {
            to.late.push(late);
            to.late.sort_unstable();
        }
        to
    }

    /// The ways in which this row can have come to be at a quorum.
    pub(super) fn with_durable(&self, at: Position) -> Vec<Self> {
        let row = 1 << bit(at);
        let has = |replica: &Replica| replica.rows & row != 0;
        if self.replicas.iter().filter(|replica| has(replica)).count() >= QUORUM {
            return vec![self.clone()];
        }
        let mut ways = Vec::new();
        for (one, two) in [(0, 1), (0, 2), (1, 2)] {
            // Where it is already, it is; whether it is at the third as well, only who looks there
            // will know.
            if (0..3).all(|index| index == one || index == two || !has(&self.replicas[index])) {
                let mut to = self.clone();
                to.rows |= row;
                to.replicas[one].rows |= row;
                to.replicas[two].rows |= row;
                ways.push(to);
            }
        }
        ways
    }

    pub(super) fn begin(
        &mut self,
        actor: usize,
        term: &Term,
        bounds: Bounds,
    ) -> Result<(), String> {
        for (slot, committed) in self
            .committed
            .iter()
            .enumerate()
            .map(|(slot, committed)| (Slot(slot as u64), committed))
        {
            let Some(epoch) = *committed else { continue };
            let at = Position { epoch, slot };
            let kept = if slot < term.checkpoint {
                term.starts.owns(at)
            } else {
                term.tail.iter().any(|row| row.at == at && row.frame == frame(at))
            };
            if !kept || slot >= term.start {
                return Err(format!(
                    "{at:?} was committed and is not in the log of epoch {}",
                    term.epoch.0
                ));
            }
        }
        for row in &term.tail {
            self.commit(row.at)?;
        }
        self.actors[actor] =
            Actor::Owner { owner: Owner::new(term), reads: Vec::new(), durable: 0 };
        self.term_begins(actor);
        // A frame that never arrives is one that was not appended, so appending all at once leaves
        // nothing out; but for an owner that lets go when nothing is open.
        if bounds.reduced && !bounds.releases() {
            for _ in term.start.0..bounds.slots {
                self.append(actor);
            }
        }
        Ok(())
    }

    pub(super) fn append(&mut self, actor: usize) {
        let Actor::Owner { owner, .. } = &mut self.actors[actor] else { return };
        let at = Position { epoch: owner.epoch(), slot: owner.next_slot() };
        let row = owner.append(frame(at)).expect("the term goes on");
        assert_eq!(row, LogRow { at, frame: frame(at) });
        self.rows |= 1 << bit(at);
    }

    pub(super) fn fence_read(
        mut self,
        actor: usize,
        index: usize,
        fence: Epoch,
    ) -> Result<Self, String> {
        let Actor::Owner { owner, reads, durable } = &mut self.actors[actor] else {
            return Ok(self);
        };
        let read = reads.remove(index);
        let epoch = owner.epoch();
        let slots: Vec<u64> = match read.ticket {
            Some(ticket) => match owner.on_fence(ticket, Some(fence)) {
                Ok(acked) => acked.collect(),
                Err(_) => return Ok(self.stop(actor)),
            },
            // The mutant's own idea of what may be acknowledged.
            None if fence > epoch => return Ok(self.stop(actor)),
            None => (0..8).filter(|slot| read.id & (1 << slot) != 0).collect(),
        };
        *durable &= !slots.iter().fold(0, |mask, slot| mask | 1 << slot);
        self.acknowledged(epoch, slots)
    }

    pub(super) fn acknowledged(
        mut self,
        epoch: Epoch,
        slots: impl IntoIterator<Item = u64>,
    ) -> Result<Self, String> {
        for slot in slots.into_iter().map(Slot) {
            self.commit(Position { epoch, slot })?;
        }
        Ok(self)
    }

    /// The mutant's own idea of what may be acknowledged: whatever is durable.
    pub(super) fn acknowledge_at_once(mut self, actor: usize) -> Result<Self, String> {
        let Actor::Owner { owner, durable, .. } = &mut self.actors[actor] else { return Ok(self) };
        let (epoch, slots) = (owner.epoch(), std::mem::take(durable));
        self.acknowledged(epoch, (0..8).filter(|slot| slots & (1 << slot) != 0))
    }

    fn stop(mut self, actor: usize) -> Self {
        self.actors[actor] = Actor::Gone;
        for replica in &mut self.replicas {
            replica.asked &= !(((1u64 << READS) - 1) << (actor * READS));
        }
        self
    }

    fn commit(&mut self, at: Position) -> Result<(), String> {
        let committed = &mut self.committed[at.slot.0 as usize];
        match committed {
            Some(epoch) if *epoch != at.epoch => {
                return Err(format!(
                    "slot {} was committed by epoch {} and by {}",
                    at.slot.0, epoch.0, at.epoch.0
                ));
            }
            _ => *committed = Some(at.epoch),
        }
        if self.lease.starts.owns(at) {
            Ok(())
        } else {
            Err(format!("{at:?} is acknowledged, and is void"))
        }
    }

    /// What is committed counts by the starts, which is what consumers go by.
    pub(super) fn starts_hold(self) -> Result<Self, String> {
        for (slot, epoch) in self.committed.iter().enumerate() {
            let Some(epoch) = *epoch else { continue };
            let at = Position { epoch, slot: Slot(slot as u64) };
            if !self.lease.starts.owns(at) {
                return Err(format!("{at:?} was committed and is void by the starts"));
            }
        }
        Ok(self)
    }

    /// Forgets what nobody can tell any more, so that states which differ only in that become one.
    pub(super) fn reduce(&mut self, bounds: Bounds) {
        // Rows of an epoch at or past the start of a newer one count for nobody who can still seal
        // or serve.
        let void = log_rows(Rows::MAX, Slot(0)).iter().fold(0, |void, row| {
            let newer = self
                .lease
                .starts
                .iter()
                .any(|(epoch, start)| epoch > row.at.epoch && start <= row.at.slot);
            if newer { void | 1 << bit(row.at) } else { void }
        });
        self.rows &= !void;
        // Conditional writes whose condition can never hold again.
        let Self { lease, late, lives, .. } = self;
        late.retain(|(actor, late)| match late {
            Late::Claim { observed } => *observed == lease.epoch,
            Late::Seal { epoch, .. } => {
                *epoch == lease.epoch && lease.nonce == nonce(usize::from(*actor)) && !lease.sealed
            }
            Late::Renew { from } => {
                lives[usize::from(*actor)].beat == *from && !lives[usize::from(*actor)].broken
            }
            Late::Break { incarnation, beat } => {
                lives[usize::from(*incarnation)].beat == *beat
                    && !lives[usize::from(*incarnation)].broken
            }
            Late::Release { epoch, .. } => *epoch == lease.epoch && lease.released.is_none(),
        });
        // An owner that has acknowledged everything does nothing more.
        let slots = self.committed.len() as u64;
        for actor in &mut self.actors {
            match actor {
                Actor::Claimant { tail, .. } => *tail &= !void,
                Actor::Owner { owner, reads, .. }
                    if owner.committed().slot.0 == slots
                        && reads.is_empty()
                        && !bounds.releases() =>
                {
                    *actor = Actor::Gone;
                }
                _ => {}
            }
        }
        // A fence that is over nobody's epoch.
        let low = self.actors.iter().filter_map(|actor| match actor {
            Actor::Claimant { machine, .. } => Some(machine.epoch().unwrap_or(lease.epoch)),
            Actor::Owner { owner, .. } => Some(owner.epoch()),
            Actor::Gone => None,
        });
        let low = low.min().map_or(u8::MAX, |epoch| epoch.0 as u8);
        for replica in &mut self.replicas {
            replica.rows &= !void;
            if replica.fence <= low {
                replica.fence = 0;
            }
        }
        self.fences &= u8::MAX.checked_shl(u32::from(low) + 1).unwrap_or(0);
    }
}
