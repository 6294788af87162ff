//! The model of delivery at an edge: owners that come and go, a feed that loses changes, a region
//! that is lost, and clients that read or do not. The edge runs the production rules.
//!
//! **The owner** has the log. A region loss takes its last messages away, and another epoch goes on in their place.
//!
//! **The driver** is the one of `edge`, in small: it watches, offers what comes, fills holes and runs backfills. The mutants
//! are drivers that do one thing wrong.
//!
//! **What must hold.** A client that does as docs/protocol.md tells it has every change once and in order, and nothing from
//! outside of its membership. When nothing is under way any more, it has exactly what the log has.

mod settling;

use std::collections::VecDeque;

use hearth_conversation::delivery::{
    Delivered, Effect, Outboxes, Place, Progress, Pushed, Rejoined, Seqs, Subscriber, SubscriberId,
    Watched,
};
use wire::{Epoch, UserId};

use crate::search::{self, Model, Outcome, Step};
use crate::told;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    changes: usize,
    clients: usize,
    /// Region losses, readds, broken streams, changes that the feed leaves out.
    faults: [u8; 4],
}

const LOSSES: usize = 0;
const READDS: usize = 1;
const BREAKS: usize = 2;
const DROPS: usize = 3;

/// What the driver does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// It takes the owner's head for delivered.
    SkippedVer,
    /// It does not tell of a readd, so the removal that comes later detaches.
    ReaddDetaches,
    /// It watches again without the epoch of what it has, so no owner tells it of a fork.
    NoGoingBack,
    /// It takes the answer of another owner for one that fills its hole.
    HoleFilledByAnother,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Told {
    ver: u64,
    epoch: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Message,
    Adds,
    Removes,
}

impl Delivered for Told {
    fn ver(&self) -> u64 {
        self.ver
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    fn seqs(&self) -> Option<Seqs> {
        Some(Seqs { before: self.ver - 1, after: self.ver })
    }

    /// Only the first user ever goes.
    fn removes(&self, user: &UserId) -> bool {
        self.kind == Kind::Removes && *user == name(0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Who(u64, UserId);

impl Subscriber for Who {
    fn id(&self) -> SubscriberId {
        SubscriberId(self.0)
    }

    fn user(&self) -> &UserId {
        &self.1
    }

    fn has_ended(&self) -> bool {
        false
    }
}

fn name(id: u64) -> UserId {
    UserId::new(format!("u{id}")).unwrap()
}

fn who(id: usize) -> Who {
    Who(id as u64, name(id as u64))
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Client {
    has: Vec<Told>,
    has_room: bool,
    is_out: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Clients {
    each: Vec<Client>,
    broken: Option<String>,
}

impl Outboxes<Who, Told> for Clients {
    fn push(&mut self, to: &Who, event: &Told) -> Pushed {
        let client = &mut self.each[to.0 as usize];
        if !std::mem::take(&mut client.has_room) {
            return Pushed::Full;
        }
        if let Err(what) = client.take(to.0, event) {
            self.broken = Some(what);
        }
        Pushed::Queued
    }
}

impl Client {
    fn take(&mut self, id: u64, event: &Told) -> Result<(), String> {
        if let Some(at) = self.has.iter().position(|had| had.ver >= event.ver) {
            if self.has[at].epoch >= event.epoch {
                return Err(format!("client {id} gets {event:?}, and had {:?}", self.has[at]));
            }
            self.has.truncate(at);
            self.is_out = self
                .has
                .iter()
                .rev()
                .find(|had| had.kind != Kind::Message)
                .is_some_and(|had| id == 0 && had.kind == Kind::Removes);
        }
        let is_own = id == 0;
        if let Some(last) = self.has.last()
            && !(is_own && event.kind == Kind::Adds)
            && event.ver != last.ver + 1
        {
            return Err(format!("client {id} gets {event:?} after {last:?}"));
        }
        if self.has.last().is_some_and(|last| last.epoch > event.epoch) {
            return Err(format!("client {id}: the epoch falls with {event:?}"));
        }
        match event.kind {
            Kind::Adds if is_own => self.is_out = false,
            _ if self.is_out => return Err(format!("client {id} is out, and gets {event:?}")),
            Kind::Removes if is_own => self.is_out = true,
            Kind::Adds | Kind::Removes | Kind::Message => {}
        }
        self.has.push(*event);
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    log: Vec<Told>,
    epoch: u64,
    faults: [u8; 4],
    watched: Watched<Who, Told>,
    feed: VecDeque<Told>,
    streaming: bool,
    /// A change was left out, and no later one has told of it.
    dropped: bool,
    hole: Option<u64>,
    clients: Clients,
    backfills: Vec<Option<Progress>>,
    subscribed: Vec<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Commit,
    Readd,
    Receive,
    Drop,
    FillHole,
    Break,
    Watch,
    /// All but so many changes.
    Lose(usize),
    Read(usize),
    Backfill(usize),
    Look,
}

struct Edge {
    bounds: Bounds,
    mutant: Option<Mutant>,
}

impl Model for Edge {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let count = self.bounds.clients;
        let mut watched = Watched::default();
        (0..count).for_each(|id| watched.ask_for(who(id), 0));
        let client = Client { has_room: true, ..Client::default() };
        let mut state = State {
            log: vec![Told { ver: 1, epoch: 1, kind: Kind::Message }],
            epoch: 1,
            faults: self.bounds.faults,
            watched,
            feed: VecDeque::new(),
            streaming: false,
            dropped: false,
            hole: None,
            clients: Clients { each: vec![client; count], broken: None },
            backfills: vec![None; count],
            subscribed: vec![true; count],
        };
        self.watch(&mut state);
        state
    }

    fn steps(&self, state: &State, found: &mut Vec<Step<State, Action>>) {
        let clients = 0..self.bounds.clients;
        let has_room = |more: usize| state.log.len() + more <= self.bounds.changes;
        let fault = |kind: usize| state.faults[kind] > 0;
        let mut actions = vec![Action::Look];
        let mut may = |is_so: bool, action: Action| actions.extend(is_so.then_some(action));
        may(has_room(1), Action::Commit);
        may(has_room(2) && fault(READDS), Action::Readd);
        may(!state.feed.is_empty(), Action::Receive);
        // The first change of a fork is the only one that tells of it, and a stream loses nothing
        // of a replay.
        let may_drop = fault(DROPS) && state.epoch == 1;
        may(!state.feed.is_empty() && may_drop, Action::Drop);
        may(state.hole.is_some() && state.streaming, Action::FillHole);
        may(state.streaming && fault(BREAKS), Action::Break);
        may(!state.streaming, Action::Watch);
        let is_message = |told: &&Told| told.kind == Kind::Message && told.ver > 1;
        let messages = state.log.iter().rev().take_while(is_message).count();
        for lost in 1..=messages {
            may(fault(LOSSES), Action::Lose(state.log.len() - lost));
        }
        for id in clients {
            may(!state.clients.each[id].has_room, Action::Read(id));
            may(state.backfills[id].is_some(), Action::Backfill(id));
        }
        for action in actions {
            let mut to = state.clone();
            let done = self.step(&mut to, action);
            let to = match (done, to.clients.broken.take()) {
                (Err(what), _) | (Ok(()), Some(what)) => Err(what),
                (Ok(()), None) => Ok(to),
            };
            if to.as_ref() != Ok(state) {
                found.push(Step { action, to });
            }
        }
    }

    /// The log is full, and everybody has it.
    fn is_goal(&self, state: &State) -> bool {
        state.log.len() == self.bounds.changes && state.is_quiet() && state.check().is_ok()
    }
}

impl State {
    fn head(&self) -> Place {
        let ver = self.log.last().map_or(0, |last| last.ver);
        Place { ver, seq: ver }
    }

    fn apply(&mut self, effects: Vec<Effect<Who>>) {
        for effect in effects {
            match effect {
                Effect::Backfill { to, have, .. } => {
                    self.backfills[to.0 as usize] = Some(Progress::from(have));
                }
                Effect::Detached(who) => self.subscribed[who.0 as usize] = false,
                Effect::Hole { after_ver } => self.hole = Some(after_ver),
                Effect::Forked { .. } => {}
            }
        }
    }

    fn offer(&mut self, told: Told) {
        let effects = self.watched.offer(told, &mut self.clients);
        self.apply(effects);
    }

    fn commit(&mut self, kind: Kind) {
        let told = Told { ver: self.head().ver + 1, epoch: self.epoch, kind };
        self.log.push(told);
        if self.streaming {
            self.feed.push_back(told);
        }
    }

    /// Nothing is under way.
    fn is_quiet(&self) -> bool {
        self.streaming
            && !self.dropped
            && self.feed.is_empty()
            && self.hole.is_none()
            && self.backfills.iter().all(Option::is_none)
    }

    /// What must hold then.
    fn check(&self) -> Result<(), String> {
        for (id, client) in self.clients.each.iter().enumerate() {
            let Some(last) = self.log.last().filter(|last| last.ver > 1 || last.epoch > 1) else {
                continue;
            };
            if client.is_out || client.has.last() != Some(last) {
                return Err(format!("client {id} does not have {last:?}"));
            }
            if let Some(lost) = client.has.iter().find(|had| !self.log.contains(had)) {
                return Err(format!("client {id} keeps {lost:?}, which is lost"));
            }
        }
        Ok(())
    }
}

impl Edge {
    fn step(&self, state: &mut State, action: Action) -> Result<(), String> {
        match action {
            Action::Look if state.is_quiet() => state.check()?,
            Action::Look => {}
            Action::Commit => state.commit(Kind::Message),
            Action::Readd => {
                state.faults[READDS] -= 1;
                self.readd(state);
            }
            Action::Receive => {
                let told = state.feed.pop_front().unwrap();
                state.dropped = false;
                state.offer(told);
            }
            Action::Drop => {
                state.faults[DROPS] -= 1;
                state.dropped = true;
                state.feed.pop_front();
            }
            Action::FillHole => self.fill_hole(state),
            Action::Break => {
                state.faults[BREAKS] -= 1;
                self.break_stream(state);
            }
            Action::Watch => self.watch(state),
            Action::Lose(kept) => {
                state.faults[LOSSES] -= 1;
                self.break_stream(state);
                state.log.truncate(kept);
                state.epoch += 1;
                state.commit(Kind::Message);
            }
            Action::Read(id) => state.clients.each[id].has_room = true,
            Action::Backfill(id) => self.backfill(state, id),
        }
        Ok(())
    }

    /// The first user is removed and added again. Their own stream tells of the second before the
    /// conversation tells of either.
    fn readd(&self, state: &mut State) {
        state.commit(Kind::Removes);
        state.commit(Kind::Adds);
        let before = state.head().ver - 1;
        if state.subscribed[0] {
            if self.mutant != Some(Mutant::ReaddDetaches) {
                state.watched.note_readd(SubscriberId(0), before);
            }
        } else {
            state.subscribed[0] = true;
            let effects = state.watched.join(who(0), before);
            state.apply(effects);
        }
    }

    fn break_stream(&self, state: &mut State) {
        state.feed.clear();
        (state.streaming, state.dropped) = (false, false);
        if self.mutant != Some(Mutant::HoleFilledByAnother) {
            state.hole = None;
        }
        state.watched.begin_stream();
    }

    fn watch(&self, state: &mut State) {
        let question = state.watched.ask(0, 10);
        let (head, epoch) = (state.head(), state.log.last().map(|last| Epoch(last.epoch)));
        if self.mutant == Some(Mutant::SkippedVer) {
            state.watched.skip_to(head, epoch);
        }
        let effects = state.watched.answered(0, head, epoch, |_| true);
        state.apply(effects);
        if let Some(after) = question.after_ver {
            let after_epoch =
                question.after_epoch.filter(|_| self.mutant != Some(Mutant::NoGoingBack));
            let has = |told: &&Told| {
                told.ver <= after && after_epoch.is_none_or(|epoch| told.epoch <= epoch.0)
            };
            let after = state.log.iter().rfind(has).map_or(0, |told| told.ver);
            state.feed = state.log.iter().filter(|told| told.ver > after).copied().collect();
        }
        state.streaming = true;
    }

    fn fill_hole(&self, state: &mut State) {
        let Some(after) = state.hole.take() else { return };
        for told in state.log.clone().into_iter().filter(|told| told.ver > after) {
            state.offer(told);
        }
        state.hole = state.watched.retry_hole();
    }

    /// One step of a backfill: rejoining, or one change.
    fn backfill(&self, state: &mut State, id: usize) {
        let Some(mut progress) = state.backfills[id].take() else { return };
        let subscriber = SubscriberId(id as u64);
        match state.watched.rejoin(subscriber, &mut progress, &mut state.clients) {
            Rejoined::Live { .. } => return,
            Rejoined::Gone => {
                state.subscribed[id] = false;
                return;
            }
            Rejoined::Missing => {}
        }
        let next = state.log.iter().find(|told| told.ver > progress.have().ver).copied();
        if let Some(told) = next
            && state.clients.push(&who(id), &told) == Pushed::Queued
        {
            progress.brought(Place { ver: told.ver, seq: told.ver }, told.epoch());
            if told.removes(&name(id as u64)) {
                match state.watched.remove(subscriber, told.ver) {
                    Some(readd) => progress.brought(readd, told.epoch()),
                    None => {
                        state.subscribed[id] = false;
                        return;
                    }
                }
            }
        }
        state.backfills[id] = Some(progress);
    }
}

fn bounds(changes: usize, clients: usize, faults: [u8; 4]) -> Bounds {
    Bounds { changes, clients, faults }
}

fn holds(bounds: Bounds) {
    let outcome = search::search(&Edge { bounds, mutant: None }, 20_000_000);
    let Outcome { states, steps, depth, goals, violation } = outcome;
    println!("{bounds:?}: {states} states, {steps} steps, depth {depth}");
    if let Some(violation) = violation {
        panic!("{}\n{}", violation.what, told(&violation.trace));
    }
    assert!(goals > 0, "nothing of interest was reached");
}

fn fails(mutant: Mutant, bounds: Bounds) {
    let outcome = search::search(&Edge { bounds, mutant: Some(mutant) }, 20_000_000);
    let violation = outcome
        .violation
        .unwrap_or_else(|| panic!("{mutant:?} was not caught in {} states", outcome.states));
    println!("{mutant:?}: {}\n{}", violation.what, told(&violation.trace));
}

#[test]
fn two_clients_get_everything_across_a_break_and_a_drop() {
    holds(bounds(4, 2, [0, 0, 1, 1]));
}

#[test]
fn a_client_gets_everything_across_a_readd() {
    holds(bounds(5, 1, [0, 1, 1, 1]));
}

#[test]
fn a_client_gets_everything_across_the_loss_of_a_region() {
    holds(bounds(4, 1, [1, 0, 1, 1]));
    holds(bounds(5, 1, [1, 1, 0, 0]));
    holds(bounds(4, 1, [2, 0, 0, 0]));
}

#[test]
fn a_skipped_ver_is_noticed() {
    fails(Mutant::SkippedVer, bounds(4, 1, [0, 0, 1, 0]));
}

#[test]
fn a_readd_that_detaches_is_noticed() {
    fails(Mutant::ReaddDetaches, bounds(4, 1, [0, 1, 0, 0]));
}

#[test]
fn a_fork_that_is_not_gone_back_to_is_noticed() {
    fails(Mutant::NoGoingBack, bounds(4, 1, [1, 0, 0, 0]));
}

#[test]
fn a_hole_filled_by_an_owner_with_another_history_is_noticed() {
    fails(Mutant::HoleFilledByAnother, bounds(4, 1, [1, 0, 0, 1]));
}
