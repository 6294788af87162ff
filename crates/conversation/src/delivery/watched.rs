//! One conversation that an edge watches: which subscriber gets which change.
//!
//! Every change is delivered once, in the order of `ver`. A subscriber whose outbox is full, or who
//! asks for what it missed, is *paused*: a backfill brings it the changes from history until it can
//! rejoin, so there is neither a hole nor a double.

mod pausing;

use std::collections::VecDeque;

use wire::{Epoch, UserId};

use super::subscriber::{State, Subscription, Waiting};
use super::{Delivered, Effect, Outboxes, Place, Pushed, StartAt, Subscriber, SubscriberId};
use crate::edge_cursor::{EdgeCursor, Next};

/// Changes kept for subscribers that are paused, so that their last step needs no question.
const RECENT_MAX: usize = 256;

/// What a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub after_ver: Option<u64>,
    /// Of that change.
    pub after_epoch: Option<Epoch>,
    /// Sorted.
    pub users: Vec<UserId>,
    /// There are more of them.
    pub more: bool,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watched<S, E> {
    /// None until the owner has said where the conversation stands.
    cursor: Option<EdgeCursor<E>>,
    /// The place of the cursor. None while nobody has said which message stands there.
    place: Option<Place>,
    /// The last change that the owner has named. It can be read, and it is on its way.
    head_ver: u64,
    subscribers: Vec<Subscription<S>>,
    waiting: Vec<Waiting<S>>,
    /// Subscribers that have ended, about.
    ended: usize,
    /// The last changes, while a subscriber is paused.
    recent: Option<VecDeque<E>>,
    /// It is watched on the current stream. Another watch there only asks about more users.
    established: bool,
}

impl<S, E> Default for Watched<S, E> {
    fn default() -> Self {
        Self {
            cursor: None,
            place: None,
            head_ver: 0,
            subscribers: Vec::new(),
            waiting: Vec::new(),
            ended: 0,
            recent: None,
            established: false,
        }
    }
}

impl<S: Subscriber, E: Delivered> Watched<S, E> {
    fn position(&self, id: SubscriberId) -> Option<usize> {
        self.subscribers.iter().position(|subscriber| subscriber.who.id() == id)
    }

    /// Whether nobody here wants it.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.waiting.is_empty()
    }

    /// Whether the owner has not been asked yet where it stands.
    #[must_use]
    pub fn is_unwatched(&self) -> bool {
        self.cursor.is_none()
    }

    /// Whether the owner has been asked to watch it on the current stream.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Adds a subscriber from now on: the owner is asked first whether its user is a member.
    pub fn ask_for(&mut self, who: S, at_ver: u64) {
        self.waiting.push(Waiting::new(who, StartAt::Now { at_ver }));
    }

    /// Adds a subscriber whose user is a member since the change after `ver`.
    pub fn join(&mut self, mut who: S, ver: u64) -> Vec<Effect<S>> {
        let Some(cursor) = self.cursor.as_ref().map(EdgeCursor::last) else {
            self.waiting.push(Waiting::new(who, StartAt::After(ver)));
            return Vec::new();
        };
        who.answered();
        let waiting = Waiting::new(who, StartAt::After(ver));
        self.subscribe(waiting, cursor).into_iter().collect()
    }

    fn subscribe(&mut self, waiting: Waiting<S>, cursor: u64) -> Option<Effect<S>> {
        let Waiting { who, from, readds, pause, .. } = waiting;
        let (state, backfill) = match from {
            StartAt::Now { at_ver } if at_ver > cursor + 1 => (State::After(at_ver - 1), None),
            StartAt::After(ver) if ver > cursor => (State::After(ver), None),
            StartAt::After(ver) if ver < cursor => {
                self.recent.get_or_insert_default();
                let have = Place { ver, seq: 0 };
                (State::Paused, Some(Effect::Backfill { to: who.clone(), have, overflow: None }))
            }
            StartAt::Now { .. } | StartAt::After(_) => (State::Live, None),
        };
        if self.subscribers.is_empty() {
            // Most conversations, and every user's own stream, have one here.
            self.subscribers.reserve_exact(1);
        }
        let pause = pause && state != State::Paused;
        self.subscribers.push(Subscription {
            who,
            state,
            readds,
            pause,
            forks: Vec::new(),
            ahead: None,
        });
        backfill
    }

    /// The user of a subscriber was added again after `ver`. The removal before that may not have
    /// been delivered yet.
    pub fn note_readd(&mut self, id: SubscriberId, ver: u64) {
        let subscribed = self.subscribers.iter_mut().find(|known| known.who.id() == id);
        let readds = match subscribed {
            Some(subscriber) => Some(&mut subscriber.readds),
            None => {
                let waiting = self.waiting.iter_mut().find(|known| known.who.id() == id);
                waiting.map(|waiting| &mut waiting.readds)
            }
        };
        if let Some(readds) = readds {
            readds.note(ver);
        }
    }

    /// A subscriber has ended. Sweeping at each would be quadratic when thousands leave at once.
    pub fn note_ended(&mut self) {
        self.ended += 1;
        if self.ended * 2 >= self.subscribers.len() + self.waiting.len() {
            self.ended = 0;
            self.subscribers.retain(|subscriber| !subscriber.who.has_ended());
            self.waiting.retain(|waiting| !waiting.who.has_ended());
            self.subscribers.shrink_to(self.subscribers.len() * 2);
            self.forget_recent();
        }
    }

    /// A backfill has brought a subscriber the change `ver`, which removes its user. Returns the
    /// place after which the user is in again. None: the subscriber is gone.
    pub fn remove(&mut self, id: SubscriberId, ver: u64) -> Option<Place> {
        let at = self.position(id)?;
        let readd = self.subscribers[at].readds.after(ver);
        if readd.is_none() {
            self.subscribers.swap_remove(at);
            self.forget_recent();
        }
        readd.map(|ver| Place { ver, seq: 0 })
    }

    fn forget_recent(&mut self) {
        let is_paused = |subscriber: &Subscription<S>| subscriber.state == State::Paused;
        if self.recent.is_some() && !self.subscribers.iter().any(is_paused) {
            self.recent = None;
        }
    }

    /// A new stream to an owner: it must be watched again.
    pub fn begin_stream(&mut self) {
        self.established = false;
        self.waiting.iter_mut().for_each(|waiting| waiting.asked = None);
        if let Some(cursor) = &mut self.cursor {
            // The watch brings what is missing.
            cursor.retry();
        }
    }

    /// The owner no longer sends what comes: the next watch says where to start.
    pub fn note_lagged(&mut self) {
        self.established = false;
    }

    /// What the watch `rid` says, about at most so many users.
    pub fn ask(&mut self, rid: u64, most: usize) -> Question {
        let start = self.cursor.as_ref().map(EdgeCursor::last).or_else(|| self.first_start());
        let after_ver = start.filter(|_| !self.established);
        self.established = true;
        if self.cursor.is_none() {
            self.cursor = after_ver.map(|ver| EdgeCursor::after(ver, None));
        }
        let after_epoch =
            self.cursor.as_ref().filter(|_| after_ver.is_some()).and_then(EdgeCursor::epoch);
        let is_unasked = |waiting: &&mut Waiting<S>| {
            waiting.asked.is_none() && matches!(waiting.from, StartAt::Now { .. })
        };
        let mut unasked = self.waiting.iter_mut().filter(is_unasked);
        let mut users = Vec::new();
        for waiting in unasked.by_ref().take(most) {
            waiting.asked = Some(rid);
            users.push(waiting.who.user().clone());
        }
        let more = unasked.next().is_some();
        users.sort_unstable();
        users.dedup();
        Question { after_ver, after_epoch, users, more }
    }

    /// Where the first watch starts: where the earliest of those who wait wants to.
    fn first_start(&self) -> Option<u64> {
        let start = |waiting: &Waiting<S>| match waiting.from {
            StartAt::After(ver) => Some(ver),
            StartAt::Now { .. } => None,
        };
        self.waiting.iter().filter_map(start).min()
    }

    /// The owner has answered the watch `rid`. `is_member` tells of the users whom it named.
    pub fn answered(
        &mut self,
        rid: u64,
        head: Place,
        head_epoch: Option<Epoch>,
        is_member: impl Fn(&UserId) -> bool,
    ) -> Vec<Effect<S>> {
        let cursor = self.cursor.get_or_insert_with(|| EdgeCursor::after(head.ver, head_epoch));
        let cursor = cursor.last();
        self.head_ver = head.ver;
        if head.ver == cursor {
            self.place.get_or_insert(head);
        }
        let mut effects = Vec::new();
        for mut waiting in self.take_waiting(rid) {
            waiting.who.answered();
            // Who joined was a member then; the conversation itself tells when they are no longer.
            if matches!(waiting.from, StartAt::Now { .. }) && !is_member(waiting.who.user()) {
                match waiting.readds.after(0) {
                    Some(ver) => waiting.from = StartAt::After(ver),
                    None => {
                        effects.push(Effect::Detached(waiting.who));
                        continue;
                    }
                }
            }
            effects.extend(self.subscribe(waiting, cursor));
        }
        self.pause_pending(&mut effects);
        effects
    }

    /// Pauses those who wanted it, as far as it can be told now what they have.
    fn pause_pending(&mut self, effects: &mut Vec<Effect<S>>) {
        let Some(have) = self.place else { return };
        for subscriber in &mut self.subscribers {
            if subscriber.pause && subscriber.state.is_live_at(have.ver) {
                (subscriber.pause, subscriber.state) = (false, State::Paused);
                self.recent.get_or_insert_default();
                let to = subscriber.who.clone();
                effects.push(Effect::Backfill { to, have, overflow: None });
            }
        }
    }

    /// Those whom the answer to this watch concerns.
    fn take_waiting(&mut self, rid: u64) -> Vec<Waiting<S>> {
        let concerns = |waiting: &mut Waiting<S>| {
            waiting.asked == Some(rid) || matches!(waiting.from, StartAt::After(_))
        };
        self.waiting.extract_if(.., concerns).collect()
    }

    /// The owner knows no such conversation.
    pub fn refused(&mut self, rid: u64) -> Vec<Effect<S>> {
        let refused = self.take_waiting(rid).into_iter().map(|mut waiting| {
            waiting.who.answered();
            Effect::Detached(waiting.who)
        });
        refused.collect()
    }

    /// The owner could not answer the watch `rid` now. It is to be asked again.
    pub fn put_off(&mut self, rid: u64) {
        let named = self.waiting.iter_mut().filter(|waiting| waiting.asked == Some(rid));
        named.for_each(|waiting| waiting.asked = None);
        self.established = false;
    }

    /// The question for a hole was answered or failed. Returns after which `ver` there is still
    /// one.
    pub fn retry_hole(&mut self) -> Option<u64> {
        self.cursor.as_mut()?.retry()
    }

    /// A change came from the owner.
    pub fn offer(&mut self, event: E, outboxes: &mut impl Outboxes<S, E>) -> Vec<Effect<S>> {
        let mut effects = Vec::new();
        let Some(cursor) = &mut self.cursor else { return effects };
        let mut known = cursor.epoch();
        match cursor.offer(event.ver(), event.epoch(), event) {
            Next::Forked(event) => {
                self.go_back(&event, &mut effects);
                self.deliver(event, outboxes, &mut effects);
            }
            Next::Deliver(events) => {
                for event in events {
                    let epoch = event.epoch();
                    if known.is_none_or(|known| known < epoch) {
                        self.begin_term(&event);
                    }
                    known = Some(epoch);
                    self.deliver(event, outboxes, &mut effects);
                }
            }
            Next::Stale => {}
            Next::Hole { after_ver, ask } => {
                effects.extend(ask.then_some(Effect::Hole { after_ver }));
            }
        }
        effects
    }

    /// Everything from this change on replaces what was lost with a region: nobody has any of it.
    fn go_back(&mut self, event: &E, effects: &mut Vec<Effect<S>>) {
        let ver = event.ver() - 1;
        let known = event.seqs().map(|seqs| Place { ver, seq: seqs.before });
        let to = known.unwrap_or(Place { ver, seq: 0 });
        self.place = known;
        self.head_ver = ver;
        if let Some(recent) = &mut self.recent {
            recent.clear();
        }
        for subscriber in &mut self.subscribers {
            match subscriber.state {
                State::After(from) => subscriber.state = State::After(ver.min(from)),
                State::Paused => subscriber.note_term(to, event.epoch()),
                State::Live | State::Gone => {}
            }
        }
        for waiting in &mut self.waiting {
            if let StartAt::After(from) = &mut waiting.from {
                *from = ver.min(*from);
            }
        }
        effects.push(Effect::Forked { after_ver: ver });
    }

    /// The next change is the first of a later term. A subscriber whom a backfill has brought
    /// further has something of the older term behind it only if that was lost with a region.
    fn begin_term(&mut self, event: &E) {
        let (ver, epoch) = (event.ver() - 1, event.epoch());
        let known = event.seqs().map(|seqs| seqs.before).or(self.place.map(|place| place.seq));
        let before = Place { ver, seq: known.unwrap_or(0) };
        for subscriber in &mut self.subscribers {
            match subscriber.state {
                State::Paused => subscriber.note_term(before, epoch),
                State::After(_) => {
                    let ahead = subscriber.ahead.as_ref();
                    if ahead.is_some_and(|ahead| ahead.last_before(epoch) > ver) {
                        (subscriber.state, subscriber.ahead) = (State::Live, None);
                    }
                }
                State::Live | State::Gone => {}
            }
        }
    }

    /// The next change goes to everyone who is on.
    fn deliver(
        &mut self,
        event: E,
        outboxes: &mut impl Outboxes<S, E>,
        effects: &mut Vec<Effect<S>>,
    ) {
        let ver = event.ver();
        let seqs = event.seqs();
        let known_before = seqs.map(|seqs| seqs.before).or(self.place.map(|place| place.seq));
        let before = Place { ver: ver - 1, seq: known_before.unwrap_or(0) };
        let after = seqs.map(|seqs| seqs.after).or(known_before).map(|seq| Place { ver, seq });
        self.place = after;
        self.head_ver = self.head_ver.max(ver);
        let (mut is_paused, mut is_gone) = (false, false);
        for subscriber in &mut self.subscribers {
            match subscriber.state {
                State::Paused => {
                    is_paused = true;
                    continue;
                }
                State::Gone => continue,
                State::After(from) if ver <= from => continue,
                State::After(_) => (subscriber.state, subscriber.ahead) = (State::Live, None),
                State::Live => {}
            }
            if subscriber.pause && known_before.is_some() {
                (subscriber.pause, subscriber.state) = (false, State::Paused);
                is_paused = true;
                let to = subscriber.who.clone();
                effects.push(Effect::Backfill { to, have: before, overflow: None });
                continue;
            }
            match outboxes.push(&subscriber.who, &event) {
                Pushed::Queued if event.removes(subscriber.who.user()) => {
                    match subscriber.readds.after(ver) {
                        Some(readd) => subscriber.state = State::After(readd),
                        None => {
                            effects.push(Effect::Detached(subscriber.who.clone()));
                            subscriber.state = State::Gone;
                            is_gone = true;
                        }
                    }
                }
                Pushed::Queued => {}
                Pushed::Full => {
                    is_paused = true;
                    subscriber.state = State::Paused;
                    let overflow = Some(after.map_or(before.seq, |after| after.seq));
                    let to = subscriber.who.clone();
                    effects.push(Effect::Backfill { to, have: before, overflow });
                }
            }
        }
        if is_gone {
            self.subscribers.retain(|subscriber| subscriber.state != State::Gone);
        }
        if is_paused {
            let recent = self.recent.get_or_insert_default();
            recent.push_back(event);
            if recent.len() > RECENT_MAX {
                recent.pop_front();
            }
        }
    }

    /// Only for tests that a checker notices it: takes the owner's head for delivered.
    #[doc(hidden)]
    pub fn skip_to(&mut self, head: Place, epoch: Option<Epoch>) {
        if self.cursor.as_ref().is_some_and(|cursor| cursor.last() < head.ver) {
            (self.cursor, self.place) = (Some(EdgeCursor::after(head.ver, epoch)), Some(head));
        }
    }
}
