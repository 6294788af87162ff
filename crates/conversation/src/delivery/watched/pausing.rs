//! How a subscriber leaves the live events for a backfill, and rejoins them.

use std::collections::VecDeque;

use super::Watched;
use crate::delivery::subscriber::State;
use crate::delivery::{
    Delivered, Outboxes, Pause, Place, Progress, Pushed, Rejoined, Subscriber, SubscriberId,
};
use crate::edge_cursor::EdgeCursor;

impl<S: Subscriber, E: Delivered> Watched<S, E> {
    /// Takes a subscriber off the live events, because it is to be brought what it missed. None: it
    /// is not subscribed.
    pub fn pause(&mut self, id: SubscriberId) -> Option<Pause> {
        let Some(at) = self.position(id) else {
            let waiting = self.waiting.iter_mut().find(|waiting| waiting.who.id() == id)?;
            waiting.pause = true;
            return Some(Pause::Pending);
        };
        let subscriber = &mut self.subscribers[at];
        match (subscriber.state, self.place) {
            (State::Paused, _) => Some(Pause::Already),
            (state, Some(place)) if state.is_live_at(place.ver) => {
                (subscriber.pause, subscriber.state) = (false, State::Paused);
                self.recent.get_or_insert_default();
                Some(Pause::At(place))
            }
            // Which message stands where it begins is told by the first change that it gets.
            (State::Live | State::After(_), _) => {
                subscriber.pause = true;
                Some(Pause::Pending)
            }
            (State::Gone, _) => None,
        }
    }

    /// A paused subscriber asks to be live again, with what came meanwhile, if that is at hand.
    /// `progress` follows.
    pub fn rejoin(
        &mut self,
        id: SubscriberId,
        progress: &mut Progress,
        outboxes: &mut impl Outboxes<S, E>,
    ) -> Rejoined {
        let (Some(at), Some(cursor)) =
            (self.position(id), self.cursor.as_ref().map(EdgeCursor::last))
        else {
            return Rejoined::Gone;
        };
        let subscriber = &mut self.subscribers[at];
        if let Some(to) = subscriber.take_resume_at(progress) {
            *progress = Progress::from(to);
        }
        // The feed brings that term, too: rejoining before would deliver it twice.
        let known = self.cursor.as_ref().and_then(EdgeCursor::epoch);
        if known.is_some_and(|known| progress.is_beyond(known)) {
            return Rejoined::Missing;
        }
        let mut have = progress.have();
        let recent = self.recent.as_ref();
        let first = recent.and_then(VecDeque::front).map(Delivered::ver);
        if have.ver < cursor && first.is_none_or(|first| first > have.ver + 1) {
            return Rejoined::Missing;
        }
        let mut gone = false;
        for event in recent.into_iter().flatten() {
            if event.ver() <= have.ver {
                continue;
            }
            // What is at hand is of a lost history if the backfill has met a later one.
            let is_lost = progress.is_beyond(event.epoch());
            if is_lost {
                return Rejoined::Missing;
            }
            let is_known = progress.has_message(event.seqs());
            if !is_known && outboxes.push(&subscriber.who, event) == Pushed::Full {
                return Rejoined::Missing;
            }
            let seq = event.seqs().map_or(have.seq, |seqs| seqs.after);
            have = Place { ver: event.ver(), seq };
            if event.removes(subscriber.who.user()) {
                match subscriber.readds.after(event.ver()) {
                    Some(readd) => have.ver = readd,
                    None => gone = true,
                }
            }
            progress.brought(have, event.epoch());
            if gone {
                break;
            }
        }
        if gone {
            self.subscribers.swap_remove(at);
            self.forget_recent();
            return Rejoined::Gone;
        }
        if have.ver < self.head_ver || progress.is_short() {
            // The owner has named more, or the client knows more, and it is not here yet.
            return Rejoined::Missing;
        }
        let is_ahead = have.ver > cursor;
        subscriber.state = if is_ahead { State::After(have.ver) } else { State::Live };
        subscriber.ahead = is_ahead.then(|| Box::new(progress.clone()));
        self.forget_recent();
        Rejoined::Live { head_seq: have.seq }
    }
}
