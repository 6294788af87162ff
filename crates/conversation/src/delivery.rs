//! What each subscriber at an edge gets of a conversation, and when.
//!
//! An edge feeds these rules with what the owners of shards send and with what its sessions ask.
//! From the [`edge_cursor`](crate::edge_cursor), which puts the changes in order; to the outboxes
//! of the sessions. The rules never see a socket, a session or a clock: a subscriber is an id and a
//! user, and whatever remains to be done comes back as [`Effect`]s.
//!
//! | module | what it decides |
//! |---|---|
//! | [`watched`] | one conversation: which subscriber gets which change |
//! | [`progress`] | how far a backfill has come, across a fork |
//! | [`settling`] | when live events may reach a client that has just connected |

#![allow(missing_docs, reason = "only `edge` reads this")]

pub mod progress;
pub mod settling;
mod subscriber;
pub mod watched;

#[cfg(test)]
mod tests;

use wire::change::{Change, Event};
use wire::{Epoch, UserId};

pub use progress::Progress;
pub use settling::Settling;
pub use watched::{Question, Watched};

/// Names a subscriber, at one edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u64);

/// A subscriber, with whatever the driver keeps beside its id.
pub trait Subscriber: Clone {
    fn id(&self) -> SubscriberId;

    fn user(&self) -> &UserId;

    /// Whether it is gone and gets nothing more.
    fn has_ended(&self) -> bool;

    /// The owner has answered for it: it is subscribed now, or refused.
    fn answered(&mut self) {}
}

/// A change, as far as its delivery depends on it.
pub trait Delivered {
    fn ver(&self) -> u64;

    fn epoch(&self) -> Epoch;

    /// The last message before it, and at it. None where the change does not say.
    fn seqs(&self) -> Option<Seqs>;

    /// Whether the user is no longer a member after it.
    fn removes(&self, user: &UserId) -> bool;
}

/// The last message before a change, and at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seqs {
    pub before: u64,
    pub after: u64,
}

impl Delivered for Change {
    fn ver(&self) -> u64 {
        self.ver
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn seqs(&self) -> Option<Seqs> {
        let same = |seq| Some(Seqs { before: seq, after: seq });
        match &self.event {
            Event::Message(message) => {
                Some(Seqs { before: message.seq.saturating_sub(1), after: message.seq })
            }
            Event::MembersChanged(changed) => same(changed.head_seq),
            Event::Created(_) => same(0),
            // They do not say.
            Event::Joined(_)
            | Event::Left(_)
            | Event::MovedOut(_)
            | Event::MovedIn(_)
            | Event::Unknown(_) => None,
        }
    }

    fn removes(&self, user: &UserId) -> bool {
        // The list is sorted.
        matches!(&self.event, Event::MembersChanged(changed) if changed.removed.binary_search(user).is_ok())
    }
}

/// A place in a conversation: a change, and the last message at that change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub ver: u64,
    pub seq: u64,
}

/// From where on a subscriber wants events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartAt {
    /// From now on, but nothing before the change that made its user a member.
    Now { at_ver: u64 },
    /// After this change.
    After(u64),
}

/// What became of the wish to take a subscriber off the live events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// It is off, and has everything up to here.
    At(Place),
    /// It was off already.
    Already,
    /// It cannot be told yet what it has. It goes off, with an [`Effect::Backfill`], before its
    /// first event.
    Pending,
}

/// What became of the wish to be live again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejoined {
    /// It is live. All messages up to this one are queued for it.
    Live { head_seq: u64 },
    /// More is missing than is at hand or fits. The backfill goes on.
    Missing,
    /// It is not subscribed any more.
    Gone,
}

/// Where events go. It answers at once whether there is room.
pub trait Outboxes<S, E> {
    fn push(&mut self, to: &S, event: &E) -> Pushed;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Queued, or nothing that this subscriber is told.
    Queued,
    /// No room: nothing was queued.
    Full,
}

/// What the driver does after a rule has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<S> {
    /// The subscriber is off the live events. Bring it the changes after this place, then let it
    /// rejoin.
    Backfill {
        to: S,
        have: Place,
        /// It is off because its outbox was full: the last message that it is not getting live.
        overflow: Option<u64>,
    },
    /// The subscriber gets no more of this conversation.
    Detached(S),
    /// Ask the owner for the changes after this `ver`, which are missing.
    Hole { after_ver: u64 },
    /// What was delivered behind this `ver` was lost with a region.
    Forked { after_ver: u64 },
}
