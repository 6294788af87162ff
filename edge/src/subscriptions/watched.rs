//! One conversation that this edge watches.

use std::collections::VecDeque;
use std::sync::Arc;

use conversation::edge_cursor::{EdgeCursor, Next};
use wire::change::Event;
use wire::command::Delivery;
use wire::{ConversationId, Epoch, UserId};

use super::Guard;
use super::place::{At, Attached, From, Rejoined};
use super::subscriber::{Again, Asking, Delivering, Subscriber};
use crate::fanout::{Effects, Outcome, Printed, Printer};
use crate::session::Session;
use crate::session::catch_up::Order;

/// Changes kept for sessions that are being caught up, so that the last step needs no question.
const RECENT_MAX: usize = 256;

/// What a watch says.
pub(super) struct Question {
    pub(super) after_ver: Option<u64>,
    /// Of that change.
    pub(super) after_epoch: Option<Epoch>,
    /// Sorted.
    pub(super) users: Vec<UserId>,
    /// There are more of them.
    pub(super) more: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Watched {
    /// None until the owner has said where the conversation stands.
    cursor: Option<EdgeCursor<Delivery>>,
    /// The newest place known, at or after the cursor.
    head: At,
    subscribers: Vec<Subscriber>,
    pub(super) asking: Vec<Asking>,
    /// Subscribers whose session has ended, about.
    ended: usize,
    /// The last changes, while a subscriber is off.
    recent: Option<VecDeque<Printed>>,
    /// It is watched on the current stream: another watch there only asks about more users.
    established: bool,
    /// It stands in the list of those to be watched.
    pub(super) dirty: bool,
    /// To be watched again at the next tick.
    pub(super) retry: bool,
}

impl Watched {
    fn position(&self, session: &Session) -> Option<usize> {
        self.subscribers.iter().position(|subscriber| subscriber.session.number == session.number)
    }

    pub(super) fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.asking.is_empty()
    }

    /// A session has ended. Sweeping at each would be quadratic when thousands leave at once.
    pub(super) fn note_ended(&mut self) {
        self.ended += 1;
        if self.ended * 2 >= self.subscribers.len() + self.asking.len() {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        self.ended = 0;
        self.subscribers.retain(|subscriber| !subscriber.session.outbox.is_closed());
        self.asking.retain(|asking| !asking.session.outbox.is_closed());
        self.subscribers.shrink_to(self.subscribers.len() * 2);
        self.forget_recent();
    }

    /// The session's user was removed by the change `ver`. Returns after which place he is in again, if he is.
    pub(super) fn remove(&mut self, session: &Session, ver: u64) -> Option<At> {
        let at = self.position(session)?;
        let again = self.subscribers[at].again.after(ver);
        if again.is_none() {
            self.subscribers.swap_remove(at);
            self.forget_recent();
        }
        again.map(|ver| At { ver, seq: 0 })
    }

    /// The session is to get everything after `ver`, the change before the one that made its user a member. Returns where it
    /// must be caught up from, if others here were served beyond that.
    pub(super) fn join(
        &mut self,
        session: &Arc<Session>,
        ver: u64,
        guard: Option<Guard>,
    ) -> Option<At> {
        let Some(cursor) = self.cursor.as_ref().map(EdgeCursor::last) else {
            self.asking.push(Asking::new(session.clone(), From::Ver(ver), guard));
            return None;
        };
        self.subscribe(session.clone(), From::Ver(ver), cursor, Again::default())
    }

    fn subscribe(
        &mut self,
        session: Arc<Session>,
        from: From,
        cursor: u64,
        again: Again,
    ) -> Option<At> {
        let (state, behind) = match from {
            From::Now { at_ver } if at_ver > cursor + 1 => (Delivering::After(at_ver - 1), None),
            From::Ver(ver) if ver > cursor => (Delivering::After(ver), None),
            From::Ver(ver) if ver < cursor => {
                self.recent.get_or_insert_default();
                (Delivering::Off, Some(At { ver, seq: 0 }))
            }
            From::Now { .. } | From::Ver(_) => (Delivering::Live, None),
        };
        if self.subscribers.is_empty() {
            // Most conversations, and every user's own stream, have one here.
            self.subscribers.reserve_exact(1);
        }
        self.subscribers.push(Subscriber { session, state, again, back_to: None });
        behind
    }

    /// The user of a session that is attached was taken in again after `ver`: so he was put out in between, which this
    /// conversation itself tells sooner or later.
    pub(super) fn note_again(&mut self, session: &Session, ver: u64) {
        let again = match self.position(session) {
            Some(at) => &mut self.subscribers[at].again,
            None => {
                match self.asking.iter_mut().find(|asking| asking.session.number == session.number)
                {
                    Some(asking) => &mut asking.again,
                    None => return,
                }
            }
        };
        again.note(ver);
    }

    /// Whether the owner has not been asked yet where it stands.
    pub(super) fn is_unwatched(&self) -> bool {
        self.cursor.is_none()
    }

    fn forget_recent(&mut self) {
        if self.recent.is_some()
            && !self.subscribers.iter().any(|subscriber| subscriber.state == Delivering::Off)
        {
            self.recent = None;
        }
    }

    /// Whether the owner has been asked to watch it on the current stream.
    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    pub(super) fn begin_stream(&mut self) {
        self.dirty = true;
        self.retry = false;
        self.established = false;
        self.asking.iter_mut().for_each(|asking| asking.asked = None);
        if let Some(cursor) = &mut self.cursor {
            // The watch brings what is missing.
            cursor.retry();
        }
    }

    /// The owner no longer sends what comes: the next watch says where to start.
    pub(super) fn note_lagged(&mut self) {
        self.established = false;
    }

    /// What a watch says, about so many users at most.
    pub(super) fn ask(&mut self, rid: u64, most: usize) -> Question {
        let start = self.cursor.as_ref().map(EdgeCursor::last).or_else(|| self.first_wish());
        let after_ver = start.filter(|_| !self.established);
        self.established = true;
        if self.cursor.is_none() {
            self.cursor = after_ver.map(|ver| EdgeCursor::after(ver, None));
        }
        let after_epoch =
            self.cursor.as_ref().filter(|_| after_ver.is_some()).and_then(EdgeCursor::epoch);
        let is_waiting = |asking: &&mut Asking| {
            asking.asked.is_none() && matches!(asking.from, From::Now { .. })
        };
        let mut waiting = self.asking.iter_mut().filter(is_waiting);
        let mut users = Vec::new();
        for asking in waiting.by_ref().take(most) {
            asking.asked = Some(rid);
            users.push(asking.session.actor.user.clone());
        }
        let more = waiting.next().is_some();
        users.sort_unstable();
        users.dedup();
        Question { after_ver, after_epoch, users, more }
    }

    /// Where the first watch starts: where the earliest of those who wait wants to, when nobody is served yet.
    fn first_wish(&self) -> Option<u64> {
        let wish = |asking: &Asking| match asking.from {
            From::Ver(ver) => Some(ver),
            From::Now { .. } => None,
        };
        self.asking.iter().filter_map(wish).min()
    }

    /// The owner has answered a watch. Returns who must be caught up first, and from where.
    pub(super) fn answered(
        &mut self,
        conversation: &ConversationId,
        rid: u64,
        head: At,
        head_epoch: Option<Epoch>,
        is_member: impl Fn(&UserId) -> bool,
    ) -> Vec<(Arc<Session>, At)> {
        let cursor = self.cursor.get_or_insert_with(|| EdgeCursor::after(head.ver, head_epoch));
        if skips_gaps() && head.ver > cursor.last() {
            *cursor = EdgeCursor::after(head.ver, head_epoch);
        }
        let cursor = cursor.last();
        if head.ver > self.head.ver {
            self.head = head;
        }
        let mut behind = Vec::new();
        for Asking { session, from, mut again, .. } in self.take_asking(rid) {
            // He was a member when he joined; the conversation itself tells when he is no longer.
            let joined = match from {
                From::Now { .. } if !is_member(&session.actor.user) => {
                    again.after(0).map(From::Ver)
                }
                from => Some(from),
            };
            match joined {
                Some(from) => {
                    let at = self.subscribe(session.clone(), from, cursor, again);
                    behind.extend(at.map(|at| (session, at)));
                }
                None => session.note_detached(conversation),
            }
        }
        behind
    }

    /// Those whom the answer to this watch concerns.
    fn take_asking(&mut self, rid: u64) -> Vec<Asking> {
        let concerns =
            |asking: &mut Asking| asking.asked == Some(rid) || matches!(asking.from, From::Ver(_));
        self.asking.extract_if(.., concerns).collect()
    }

    /// The owner knows no such conversation.
    pub(super) fn refused(&mut self, conversation: &ConversationId, rid: u64) {
        for asking in self.take_asking(rid) {
            asking.session.note_detached(conversation);
        }
    }

    /// The owner could not answer now: the next tick asks again.
    pub(super) fn put_off(&mut self, rid: u64) {
        self.asking
            .iter_mut()
            .filter(|asking| asking.asked == Some(rid))
            .for_each(|asking| asking.asked = None);
        self.established = false;
        self.retry = true;
    }

    pub(super) fn retry_hole(&mut self) -> Option<u64> {
        self.cursor.as_mut()?.retry()
    }

    pub(super) fn offer(&mut self, delivery: Delivery, printer: &Printer, effects: &mut Effects) {
        let conversation = delivery.change.conversation;
        let Some(cursor) = &mut self.cursor else { return };
        match cursor.offer(delivery.change.ver, delivery.change.epoch, delivery) {
            Next::Forked(delivery) => {
                let printed = printer.print(delivery);
                self.go_back(At { ver: printed.ver() - 1, seq: self.seq_before(&printed) });
                self.deliver(printed, effects);
            }
            Next::Deliver(deliveries) => {
                for delivery in deliveries {
                    self.deliver(printer.print(delivery), effects);
                }
            }
            Next::Stale => {}
            Next::Hole { after_ver, ask } => {
                if ask {
                    effects.holes.push((conversation, after_ver));
                }
            }
        }
    }

    /// Everything after this place was lost with a region, and goes on otherwise: nobody has any of that.
    fn go_back(&mut self, to: At) {
        metrics::counter!("hearth_edge_forks_total").increment(1);
        self.head = to;
        if let Some(recent) = &mut self.recent {
            recent.clear();
        }
        for subscriber in &mut self.subscribers {
            match &mut subscriber.state {
                Delivering::After(ver) => *ver = to.ver.min(*ver),
                Delivering::Off => subscriber.back_to = Some(to),
                Delivering::Live | Delivering::Gone => {}
            }
        }
        for asking in &mut self.asking {
            if let From::Ver(ver) = &mut asking.from {
                *ver = to.ver.min(*ver);
            }
        }
    }

    /// The next change goes to everyone who is on.
    fn deliver(&mut self, printed: Printed, effects: &mut Effects) {
        let (ver, conversation) = (printed.ver(), printed.conversation());
        let before = At { ver: ver - 1, seq: self.seq_before(&printed) };
        let after = At { ver, seq: printed.seq_after().unwrap_or(before.seq) };
        if ver > self.head.ver {
            self.head = after;
        }
        let mut off = false;
        let mut gone = false;
        for subscriber in &mut self.subscribers {
            match subscriber.state {
                Delivering::Off => {
                    off = true;
                    continue;
                }
                Delivering::Gone => continue,
                Delivering::After(from) if ver <= from => continue,
                Delivering::After(_) | Delivering::Live => subscriber.state = Delivering::Live,
            }
            match printed.send(&subscriber.session, effects) {
                Outcome::Sent => {}
                Outcome::Last => match subscriber.again.after(ver) {
                    Some(again) => subscriber.state = Delivering::After(again),
                    None => {
                        subscriber.session.note_detached(&conversation);
                        subscriber.state = Delivering::Gone;
                        gone = true;
                    }
                },
                Outcome::Full => {
                    off = true;
                    subscriber.state = Delivering::Off;
                    crate::fanout::tell_behind(
                        &subscriber.session,
                        conversation,
                        before.seq,
                        after.seq,
                    );
                    effects.behind.push((
                        subscriber.session.clone(),
                        Order::Behind { conversation, at: before },
                    ));
                }
            }
        }
        if gone {
            self.subscribers.retain(|subscriber| subscriber.state != Delivering::Gone);
        }
        if off {
            let recent = self.recent.get_or_insert_default();
            recent.push_back(printed);
            if recent.len() > RECENT_MAX {
                recent.pop_front();
            }
        }
    }

    /// The last message before this change. Known from the change itself where it says; the head only then stands before it.
    fn seq_before(&self, printed: &Printed) -> u64 {
        match &printed.delivery().change.event {
            Event::Message(message) => message.seq - 1,
            Event::MembersChanged(changed) => changed.head_seq,
            Event::Created(_) => 0,
            _ => self.head.seq,
        }
    }

    pub(super) fn take_off(&mut self, session: &Session) -> Option<Attached> {
        let Some(at) = self.position(session) else {
            let asking = self.asking.iter().any(|asking| asking.session.number == session.number);
            return asking.then_some(Attached::Asking);
        };
        if self.subscribers[at].state == Delivering::Off {
            return Some(Attached::Off);
        }
        if self.cursor.as_ref().is_some_and(|cursor| cursor.last() > self.head.ver) {
            // Nobody has said yet which message stands there.
            return Some(Attached::Asking);
        }
        self.subscribers[at].state = Delivering::Off;
        self.recent.get_or_insert_default();
        // Between the cursor and a newer head the owner's word is the only consistent place.
        Some(Attached::TakenOff(self.head))
    }

    pub(super) fn rejoin(
        &mut self,
        session: &Arc<Session>,
        mut have: At,
        effects: &mut Effects,
    ) -> Rejoined {
        let (Some(at), Some(cursor)) =
            (self.position(session), self.cursor.as_ref().map(EdgeCursor::last))
        else {
            return Rejoined::Gone;
        };
        if let Some(to) = self.subscribers[at].back_to.take().filter(|to| to.ver < have.ver) {
            have = to;
        }
        let recent = self.recent.take().unwrap_or_default();
        let is_at_hand =
            have.ver >= cursor || recent.front().is_some_and(|first| first.ver() <= have.ver + 1);
        let mut outcome = if is_at_hand { Outcome::Sent } else { Outcome::Full };
        for printed in recent.iter().filter(|_| is_at_hand) {
            if printed.ver() <= have.ver {
                continue;
            }
            outcome = printed.send(session, effects);
            have = match outcome {
                Outcome::Sent => {
                    At { ver: printed.ver(), seq: printed.seq_after().unwrap_or(have.seq) }
                }
                Outcome::Last => match self.subscribers[at].again.after(printed.ver()) {
                    Some(again) => At { ver: again, seq: have.seq },
                    None => break,
                },
                Outcome::Full => break,
            };
            outcome = Outcome::Sent;
        }
        self.recent = Some(recent);
        let result = match outcome {
            Outcome::Full => Rejoined::Missing(have),
            Outcome::Last => {
                self.subscribers.swap_remove(at);
                Rejoined::Gone
            }
            Outcome::Sent => {
                self.subscribers[at].state =
                    if have.ver > cursor { Delivering::After(have.ver) } else { Delivering::Live };
                Rejoined::Live { head_seq: have.seq }
            }
        };
        self.forget_recent();
        result
    }
}

/// Only in the simulator's test of its own checker: elsewhere a fail point is nothing.
fn skips_gaps() -> bool {
    fail::fail_point!("gap-skipped", |_| true);
    false
}
