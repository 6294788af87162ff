//! What an owner can do next: serve, let go, and salvage.

use std::time::Duration;

use hearth_conversation::log::LogRow;
use hearth_conversation::shard::owner::Appended;
use hearth_conversation::shard::renewal::Hold;
use hearth_conversation::shard::salvage::{Bring, Brought};
use hearth_conversation::shard::{Cas, Salvage, Uptime};
use wire::{Epoch, Position, Slot};

use super::{Action, Actor, Mutant, Serving, State, Steps, World, bit, frame, nonce, site};
use crate::search::Step;

impl World {
    pub(super) fn owner_steps(
        &self,
        state: &State,
        actor: usize,
        serving: &Serving,
        found: &mut Steps,
    ) {
        for message in 1..=self.bounds.messages as u8 {
            // Of the stranded ones the salvage speaks first, as the shard's one task does.
            if !state.acked[usize::from(message) - 1] && serving.stranded.is_empty() {
                self.send(state, actor, message, found);
            }
        }
        self.durable(state, actor, serving, found);
        self.acknowledge(state, actor, serving, found);
        self.salvage(state, actor, serving, found);
        if self.bounds.releases {
            let mut to = state.clone();
            let end = to.serving(actor).and_then(|serving| serving.owner.release());
            if let Some(end) = end.filter(|_| state.lease.released.is_none()) {
                to.actors[actor] = Actor::Gone;
                to.lease = to
                    .lease
                    .released_at(serving.owner.epoch(), nonce(actor), end)
                    .unwrap_or(to.lease);
                found.push(Step { action: Action::Release(actor), to: Ok(to) });
            }
        }
    }

    /// A client sends; it may have sent before.
    fn send(&self, state: &State, actor: usize, message: u8, found: &mut Steps) {
        match self.known(state, actor, message) {
            // It is answered when that is acknowledged.
            Known::InFlight => {}
            Known::Tail => self.already_sent(state, actor, message, found),
            Known::AskTheStore => {
                for at in self.remembered(state, self.bounds.claimants[actor], message) {
                    if self.counts(state, actor, at) {
                        self.already_sent(state, actor, message, found);
                    } else if let Some(to) = state.appended(self, actor, message) {
                        found.push(Step { action: Action::Append(actor, message), to: Ok(to) });
                    }
                }
            }
        }
    }

    /// R4.
    fn counts(&self, state: &State, actor: usize, remembered: Option<Position>) -> bool {
        let Actor::Owner(serving) = &state.actors[actor] else { return false };
        let believed = self.mutant == Some(Mutant::DedupeTableBelieved);
        remembered.is_some_and(|at| believed || serving.starts.owns(at))
    }

    fn already_sent(&self, state: &State, actor: usize, message: u8, found: &mut Steps) {
        let Actor::Owner(serving) = &state.actors[actor] else { return };
        // No answer leaves before what was decided earlier is acknowledged.
        if serving.owner.in_flight() == 0 {
            let mut to = state.clone();
            to.acked[usize::from(message) - 1] = true;
            found.push(Step {
                action: Action::AlreadySent(actor, message),
                to: to.nothing_is_lost(),
            });
        }
    }

    fn known(&self, state: &State, actor: usize, message: u8) -> Known {
        let Actor::Owner(serving) = &state.actors[actor] else { return Known::AskTheStore };
        let holds = |at: Position| state.content[bit(at)] == message;
        let epoch = serving.owner.epoch();
        if (serving.start.0..serving.owner.next_slot().0)
            .any(|slot| holds(Position { epoch, slot: Slot(slot) }))
        {
            return Known::InFlight;
        }
        let owned = |slot: u64| {
            serving.starts.owner_of(Slot(slot)).map(|epoch| Position { epoch, slot: Slot(slot) })
        };
        let in_tail = (0..serving.start.0).filter_map(owned).any(holds);
        if in_tail && !self.bounds.forgetful { Known::Tail } else { Known::AskTheStore }
    }

    fn durable(&self, state: &State, actor: usize, serving: &Serving, found: &mut Steps) {
        let (epoch, site) = (serving.owner.epoch(), self.bounds.claimants[actor]);
        let next = serving.owner.next_slot().0;
        let first = (next - serving.owner.in_flight() as u64..next)
            .map(|slot| Position { epoch, slot: Slot(slot) })
            .find(|&at| {
                serving
                    .owner
                    .clone()
                    .on_append(at.slot, Appended::Unknown)
                    .is_ok_and(|again| again.is_some())
            });
        let Some(at) = first else { return };
        let mut to = state.clone();
        to.sites[site].durable |= 1 << bit(at);
        if let Some(serving) = to.serving(actor) {
            serving.owner.on_append(at.slot, Appended::Durable).expect("the term goes on");
        }
        found.push(Step { action: Action::Durable(actor, at.slot.0), to: Ok(to) });
    }

    /// Reads the fence of the own region, and then the clock.
    fn acknowledge(&self, state: &State, actor: usize, serving: &Serving, found: &mut Steps) {
        let mut asked = serving.owner.clone();
        let (Some(ticket), here) =
            (asked.start_fence_read(), &state.sites[self.bounds.claimants[actor]])
        else {
            return;
        };
        let core = &state.cores[actor];
        let unchecked = self.bounds.bad_clock || self.mutant == Some(Mutant::NoLeaseCheck);
        let hold = Hold { incarnation: nonce(actor), until: Uptime(Duration::from_secs(1)) };
        let now = if core.over && !unchecked { hold.until } else { Uptime::default() };
        for level in (0..=self.bounds.epochs).filter(|&level| {
            level == u64::from(here.fence)
                || (level > u64::from(here.fence) && here.fences & (1 << level) != 0)
        }) {
            let level = if self.mutant == Some(Mutant::NoLocalFence) { 0 } else { level };
            let (mut to, mut owner) = (state.clone(), asked.clone());
            let Ok(none) = owner.on_fence(ticket.clone(), Some(Epoch(level))) else {
                to.actors[actor] = Actor::Gone;
                found.push(Step { action: Action::Fenced(actor), to: Ok(to) });
                continue;
            };
            assert!(none.is_empty(), "the fence alone acknowledges nothing");
            let Some(read) = owner.start_clock_read() else { continue };
            let acked = owner.on_clock(read, now, Some(hold)).expect("the term goes on");
            if acked.is_empty() {
                continue;
            }
            let committed = owner.committed();
            if let Some(serving) = to.serving(actor) {
                serving.owner = owner;
            }
            let to = acked
                .map(|slot| Position { epoch: committed.epoch, slot: Slot(slot) })
                .try_fold(to, |to, at| to.acknowledged(self, at));
            let to = to.map(|mut to| {
                to.publish(committed);
                to
            });
            found.push(Step { action: Action::Acknowledge(actor), to });
        }
    }

    fn salvage(&self, state: &State, actor: usize, serving: &Serving, found: &mut Steps) {
        if serving.forks.is_empty() {
            return;
        }
        let asked = serving.salvage.as_ref().and_then(Salvage::next);
        let mut to = state.clone();
        match asked {
            Some(Bring::WriteFence { region, epoch }) => {
                let old = &mut to.sites[site(region)];
                if self.mutant != Some(Mutant::OldRegionNotFenced) {
                    old.fence = old.fence.max(epoch.0 as u8);
                }
                let must =
                    if self.mutant == Some(Mutant::OneReplicaRead) { 0 } else { old.durable };
                if let Some(serving) = to.serving(actor) {
                    serving.must = must;
                }
                found.push(Step {
                    action: Action::SalvageFence(actor),
                    to: to.told(actor, Brought::Fenced),
                });
            }
            Some(Bring::ReadOld { from, .. }) => {
                for rows in state.readings(from, &serving.forks[0].old, serving.must) {
                    let mut to = state.clone().told(actor, Brought::Old(rows.clone()));
                    if let Some(serving) = to.as_mut().ok().and_then(|to| to.serving(actor)) {
                        serving.stranded =
                            rows.iter().rev().map(|row: &LogRow| row.frame[0]).collect();
                    }
                    found.push(Step { action: Action::SalvageRead(actor), to });
                }
            }
            Some(Bring::Recover { .. }) => self.recover(state, actor, serving, found),
            Some(Bring::Close { fork, epoch, nonce }) => {
                let closed = to.lease.closed(epoch, nonce, fork);
                let cas = if closed.is_some() { Cas::Applied } else { Cas::Refused };
                to.lease = closed.unwrap_or(to.lease);
                let to = to.told(actor, Brought::Cas(cas)).and_then(State::nothing_is_lost);
                found.push(Step { action: Action::Close(actor), to });
            }
            Some(Bring::ReadLease) => {
                let lease = to.lease.clone();
                found.push(Step {
                    action: Action::Close(actor),
                    to: to.told(actor, Brought::Lease(lease)),
                });
            }
            None => {}
        }
    }

    fn recover(&self, state: &State, actor: usize, serving: &Serving, found: &mut Steps) {
        let Some(&message) = serving.stranded.last() else {
            let early = self.mutant == Some(Mutant::EarlyClose);
            if serving.owner.in_flight() == 0 || early {
                let to = state.clone().told(actor, Brought::Recovered);
                found.push(Step { action: Action::Recovered(actor), to });
            }
            return;
        };
        let action = Action::Recover(actor, message);
        let mut without = state.clone();
        if let Some(serving) = without.serving(actor) {
            serving.stranded.pop();
        }
        let again = self.mutant == Some(Mutant::NoDedupeInSalvage);
        let answers = match self.known(state, actor, message) {
            _ if again => vec![None],
            Known::InFlight | Known::Tail => return found.push(Step { action, to: Ok(without) }),
            Known::AskTheStore => self.remembered(state, self.bounds.claimants[actor], message),
        };
        for at in answers {
            if self.counts(state, actor, at) && !again {
                found.push(Step { action, to: Ok(without.clone()) });
            } else if let Some(to) = without.appended(self, actor, message) {
                found.push(Step { action, to: Ok(to) });
            }
        }
    }
}

/// What an owner knows of a message by itself.
enum Known {
    /// It was sent in this term.
    InFlight,
    /// It is in the tail with which the term began.
    Tail,
    AskTheStore,
}

impl State {
    pub(super) fn serving(&mut self, actor: usize) -> Option<&mut Serving> {
        match &mut self.actors[actor] {
            Actor::Owner(serving) => Some(serving),
            _ => None,
        }
    }

    fn appended(&self, world: &World, actor: usize, message: u8) -> Option<Self> {
        let mut to = self.clone();
        let serving = to.serving(actor)?;
        if serving.owner.next_slot().0 >= world.bounds.slots {
            return None;
        }
        let row = serving.owner.append(frame(message)).ok()?;
        to.content[bit(row.at)] = message;
        Some(to)
    }

    /// Tells the salvage what came of it, and begins the next one when it is done.
    fn told(mut self, actor: usize, brought: Brought) -> Result<Self, String> {
        let Some(serving) = self.serving(actor) else { return Ok(self) };
        let Some(salvage) = &mut serving.salvage else { return Ok(self) };
        if salvage.on(brought).is_err() {
            // Another owner goes on with it.
            (serving.salvage, serving.forks) = (None, Vec::new());
        } else if salvage.is_closed() {
            serving.forks.remove(0);
            serving.salvage = None;
            self.salvage_begins(actor);
        }
        Ok(self)
    }

    pub(super) fn salvage_begins(&mut self, actor: usize) {
        let term = match &self.actors[actor] {
            Actor::Owner(serving) => serving.clone(),
            _ => return,
        };
        let Some(fork) = term.forks.first().cloned() else { return };
        if let Some(serving) = self.serving(actor) {
            serving.salvage = Some(Salvage::new(term.owner.epoch(), nonce(actor), fork));
        }
    }
}
