//! One edge, some subscribers, an owner that forgets nothing: whatever happens, every client has
//! the conversation as it is.

use std::collections::VecDeque;

use proptest::prelude::*;
use wire::{Epoch, UserId};

use super::*;

/// A change of the owner: a message, or a change of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    ver: u64,
    epoch: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Adds(u64),
    Removes(u64),
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

    fn removes(&self, user: &UserId) -> bool {
        matches!(self.kind, Kind::Removes(id) if *user == name(id))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Who {
    id: u64,
    user: UserId,
}

impl Subscriber for Who {
    fn id(&self) -> SubscriberId {
        SubscriberId(self.id)
    }

    fn user(&self) -> &UserId {
        &self.user
    }

    fn has_ended(&self) -> bool {
        false
    }
}

fn name(id: u64) -> UserId {
    UserId::new(format!("user-{id}")).unwrap()
}

/// What one client has been sent, and what it makes of it.
#[derive(Default)]
struct Client {
    has: Vec<Told>,
    /// Before what it has: it began after this `ver`.
    base: Option<u64>,
    room: usize,
    is_member: bool,
}

#[derive(Default)]
struct Clients(Vec<Client>);

impl Outboxes<Who, Told> for Clients {
    fn push(&mut self, to: &Who, event: &Told) -> Pushed {
        let client = &mut self.0[to.id as usize];
        if client.room == 0 {
            return Pushed::Full;
        }
        client.room -= 1;
        client.take(to.id, event);
        Pushed::Queued
    }
}

impl Client {
    /// As docs/protocol.md tells clients to: what is newer replaces what it has from there on.
    fn take(&mut self, id: u64, event: &Told) {
        if let Some(at) = self.has.iter().position(|had| had.ver >= event.ver) {
            let had = &self.has[at];
            assert!(had.epoch < event.epoch, "{id}: {event:?} again, or older than {had:?}");
            self.has.truncate(at);
            let own =
                |had: &&Told| matches!(had.kind, Kind::Adds(who) | Kind::Removes(who) if who == id);
            let last = self.has.iter().rev().find(own);
            self.is_member = last.is_none_or(|last| last.kind == Kind::Adds(id));
        }
        match self.has.last() {
            // What was said while its user was out is not for it.
            Some(last) if event.kind != Kind::Adds(id) => {
                assert_eq!(event.ver, last.ver + 1, "{id}: {event:?} leaves something out");
            }
            _ => {
                let base = *self.base.get_or_insert(event.ver - 1);
                assert!(event.ver > base || event.epoch > 1, "{id}: before it began");
            }
        }
        let epoch = self.has.last().map_or(0, |last| last.epoch);
        assert!(epoch <= event.epoch, "{id}: the epoch falls with {event:?}");
        match event.kind {
            Kind::Adds(who) if who == id => self.is_member = true,
            Kind::Removes(who) if who == id => {
                assert!(self.is_member, "{id}: removed twice");
                self.is_member = false;
            }
            Kind::Message | Kind::Adds(_) | Kind::Removes(_) => {
                assert!(self.is_member, "{id}: {event:?} from outside");
            }
        }
        self.has.push(event.clone());
    }
}

const USERS: u64 = 3;

struct Bench {
    watched: Watched<Who, Told>,
    log: Vec<Told>,
    epoch: u64,
    /// Sent and not received.
    feed: VecDeque<Told>,
    streaming: bool,
    clients: Clients,
    backfills: Vec<Option<Progress>>,
    members: Vec<bool>,
    subscribed: Vec<bool>,
    rid: u64,
    hole: Option<u64>,
}

impl Bench {
    fn new() -> Self {
        let count = USERS as usize;
        let client = || Client { room: 4, is_member: true, ..Client::default() };
        let mut bench = Self {
            watched: Watched::default(),
            log: (1..=3).map(|ver| Told { ver, epoch: 1, kind: Kind::Message }).collect(),
            epoch: 1,
            feed: VecDeque::new(),
            streaming: false,
            clients: Clients((0..USERS).map(|_| client()).collect()),
            backfills: vec![None; count],
            members: vec![true; count],
            subscribed: vec![true; count],
            rid: 0,
            hole: None,
        };
        for id in 0..USERS {
            bench.watched.ask_for(Who { id, user: name(id) }, 0);
        }
        bench.watch();
        bench
    }

    fn head(&self) -> Place {
        let ver = self.log.last().map_or(0, |last| last.ver);
        Place { ver, seq: ver }
    }

    fn watch(&mut self) {
        let question = self.watched.ask(self.rid, 100);
        let head = self.head();
        let members = self.members.clone();
        let is_member =
            |user: &UserId| (0..USERS).any(|id| members[id as usize] && *user == name(id));
        let epoch = self.log.last().map(|last| Epoch(last.epoch));
        let effects = self.watched.answered(self.rid, head, epoch, is_member);
        self.rid += 1;
        if let Some(after) = question.after_ver {
            let has = |told: &&Told| {
                told.ver <= after && question.after_epoch.is_none_or(|e| told.epoch <= e.0)
            };
            let after = self.log.iter().rfind(has).map_or(0, |told| told.ver);
            self.feed = self.log.iter().filter(|told| told.ver > after).cloned().collect();
        }
        self.streaming = true;
        self.apply(effects);
    }

    fn apply(&mut self, effects: Vec<Effect<Who>>) {
        for effect in effects {
            match effect {
                Effect::Backfill { to, have, .. } => {
                    self.backfills[to.id as usize] = Some(Progress::from(have));
                }
                Effect::Detached(who) => self.subscribed[who.id as usize] = false,
                Effect::Hole { after_ver } => self.hole = Some(after_ver),
                Effect::Forked { .. } => {}
            }
        }
    }

    fn receive(&mut self) {
        if let Some(told) = self.feed.pop_front() {
            let effects = self.watched.offer(told, &mut self.clients);
            self.apply(effects);
        }
    }

    fn commit(&mut self, kind: Kind) {
        let told = Told { ver: self.head().ver + 1, epoch: self.epoch, kind };
        self.log.push(told.clone());
        if self.streaming {
            self.feed.push_back(told);
        }
    }

    /// Removes a user and adds them again. The news of the second comes at once, by the user's own
    /// stream.
    fn readd(&mut self, id: u64) {
        self.commit(Kind::Removes(id));
        self.commit(Kind::Adds(id));
        let at_ver = self.head().ver;
        if self.subscribed[id as usize] {
            self.watched.note_readd(SubscriberId(id), at_ver - 1);
        } else {
            self.subscribed[id as usize] = true;
            let effects = self.watched.join(Who { id, user: name(id) }, at_ver - 1);
            self.apply(effects);
        }
    }

    fn break_stream(&mut self) {
        self.feed.clear();
        self.streaming = false;
        self.hole = None;
        self.watched.begin_stream();
    }

    /// A region is lost with the last messages. Changes of members stay, so that all know who is
    /// in.
    fn lose(&mut self, count: usize) {
        self.break_stream();
        for _ in 0..count {
            if self.log.len() > 3 && self.log.last().is_some_and(|last| last.kind == Kind::Message)
            {
                self.log.pop();
            }
        }
        self.epoch += 1;
        self.commit(Kind::Message);
    }

    /// Not of a forked history: its first change is the only one that tells of the fork, and a
    /// stream loses nothing of a replay.
    fn drop_one(&mut self) {
        if self.epoch == 1 {
            self.feed.pop_front();
        }
    }

    fn fill_hole(&mut self) {
        if let Some(after) = self.hole.take() {
            for told in self.log.clone().into_iter().filter(|told| told.ver > after).take(3) {
                let effects = self.watched.offer(told, &mut self.clients);
                self.apply(effects);
            }
            self.hole = self.watched.retry_hole();
        }
    }

    /// One step of a backfill: one change, or rejoining.
    fn backfill(&mut self, id: u64) {
        let Some(mut progress) = self.backfills[id as usize].take() else { return };
        let who = Who { id, user: name(id) };
        match self.watched.rejoin(SubscriberId(id), &mut progress, &mut self.clients) {
            Rejoined::Live { .. } => return,
            Rejoined::Gone => {
                self.subscribed[id as usize] = false;
                return;
            }
            Rejoined::Missing => {}
        }
        let next = self.log.iter().find(|told| told.ver > progress.have().ver).cloned();
        if let Some(told) = next
            && self.clients.push(&who, &told) == Pushed::Queued
        {
            let at = Place { ver: told.ver, seq: told.ver };
            progress.brought(at, told.epoch());
            if told.removes(&who.user) {
                match self.watched.remove(SubscriberId(id), told.ver) {
                    Some(readd) => progress.brought(readd, told.epoch()),
                    None => {
                        self.subscribed[id as usize] = false;
                        return;
                    }
                }
            }
        }
        self.backfills[id as usize] = Some(progress);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit => self.commit(Kind::Message),
            Step::Readd(id) => self.readd(id),
            Step::Receive => self.receive(),
            Step::Drop => self.drop_one(),
            Step::FillHole => self.fill_hole(),
            Step::Break => self.break_stream(),
            Step::Watch => {
                self.watched.note_lagged();
                self.watch();
            }
            Step::Lose(count) => self.lose(count),
            Step::Read(id) => self.clients.0[id as usize].room = 4,
            Step::Backfill(id) => self.backfill(id),
        }
    }

    /// Nothing fails any more: everybody gets everything.
    fn finish(&mut self) {
        self.break_stream();
        self.watch();
        self.commit(Kind::Message);
        for _ in 0..400 {
            self.receive();
            self.fill_hole();
            for id in 0..USERS {
                self.clients.0[id as usize].room = 4;
                self.backfill(id);
            }
        }
        for (id, client) in self.clients.0.iter().enumerate() {
            assert!(client.is_member, "{id} is in");
            assert_eq!(client.has.last(), self.log.last(), "{id} has everything");
            for told in &client.has {
                assert!(self.log.contains(told), "{id} keeps {told:?}, which is lost");
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Commit,
    Readd(u64),
    Receive,
    Drop,
    FillHole,
    Break,
    Watch,
    Lose(usize),
    Read(u64),
    Backfill(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Commit),
        1 => (0..USERS).prop_map(Step::Readd),
        8 => Just(Step::Receive),
        1 => Just(Step::Drop),
        2 => Just(Step::FillHole),
        1 => Just(Step::Break),
        2 => Just(Step::Watch),
        1 => (0..3usize).prop_map(Step::Lose),
        2 => (0..USERS).prop_map(Step::Read),
        6 => (0..USERS).prop_map(Step::Backfill),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn whatever_happens_every_subscriber_gets_every_change_once_and_in_order(steps in steps()) {
        let mut bench = Bench::new();
        for step in steps {
            bench.step(step);
        }
        bench.finish();
    }
}

#[test]
fn one_that_waits_for_the_owner_is_paused_before_its_first_event() {
    let mut watched: Watched<Who, Told> = Watched::default();
    let mut clients = Clients(vec![Client { room: 9, is_member: true, ..Client::default() }]);
    watched.ask_for(Who { id: 0, user: name(0) }, 0);
    assert_eq!(watched.pause(SubscriberId(0)), Some(Pause::Pending));
    watched.ask(1, 10);
    let effects = watched.answered(1, Place { ver: 5, seq: 4 }, Some(Epoch(1)), |_| true);
    assert!(
        matches!(
            effects[..],
            [Effect::Backfill { have: Place { ver: 5, seq: 4 }, overflow: None, .. }]
        ),
        "{effects:?}"
    );
    watched.offer(Told { ver: 6, epoch: 1, kind: Kind::Message }, &mut clients);
    assert!(clients.0[0].has.is_empty(), "its sync is answered first");
    let mut progress = Progress::from(Place { ver: 5, seq: 4 });
    let rejoined = watched.rejoin(SubscriberId(0), &mut progress, &mut clients);
    assert_eq!((rejoined, clients.0[0].has.len()), (Rejoined::Live { head_seq: 6 }, 1));
}

#[test]
fn nobody_rejoins_before_they_have_what_the_owner_has_named() {
    let mut watched: Watched<Who, Told> = Watched::default();
    let mut clients = Clients(vec![Client { room: 9, is_member: true, ..Client::default() }]);
    watched.ask_for(Who { id: 0, user: name(0) }, 0);
    watched.ask(1, 10);
    watched.answered(1, Place { ver: 5, seq: 5 }, Some(Epoch(1)), |_| true);
    watched.begin_stream();
    watched.ask(2, 10);
    watched.answered(2, Place { ver: 8, seq: 8 }, Some(Epoch(1)), |_| true);
    assert_eq!(watched.pause(SubscriberId(0)), Some(Pause::At(Place { ver: 5, seq: 5 })));
    let mut progress = Progress::from(Place { ver: 5, seq: 5 });
    let mut rejoin = |watched: &mut Watched<_, _>, progress: &mut Progress| {
        watched.rejoin(SubscriberId(0), progress, &mut clients)
    };
    assert_eq!(rejoin(&mut watched, &mut progress), Rejoined::Missing);
    progress.brought(Place { ver: 8, seq: 8 }, Epoch(1));
    assert_eq!(rejoin(&mut watched, &mut progress), Rejoined::Live { head_seq: 8 });
}
