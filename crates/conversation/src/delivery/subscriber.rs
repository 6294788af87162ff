//! One subscriber of one conversation.

use wire::Epoch;

use super::{Place, Progress, StartAt};

/// Times that a user may be removed and added again while this edge is behind. Earlier ones are
/// forgotten.
const READDS_MAX: usize = 256;

/// One that waits for the owner's word: on its user, or on where the conversation stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting<S> {
    pub(super) who: S,
    pub(super) from: StartAt,
    /// The watch on the current stream that names it.
    pub(super) asked: Option<u64>,
    pub(super) readds: Readds,
    pub(super) pause: bool,
}

impl<S> Waiting<S> {
    pub(super) fn new(who: S, from: StartAt) -> Self {
        Self { who, from, asked: None, readds: Readds::default(), pause: false }
    }
}

/// One that gets the events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subscription<S> {
    pub(super) who: S,
    pub(super) state: State,
    pub(super) readds: Readds,
    /// It goes off before its first event.
    pub(super) pause: bool,
    /// Terms that began while it was off: after which place, and the epoch. Places and epochs
    /// ascend. If the subscriber has something of an older term behind such a place, that was lost
    /// with a region.
    pub(super) forks: Vec<(Place, Epoch)>,
    /// What a backfill has brought it beyond the cursor.
    pub(super) ahead: Option<Box<Progress>>,
}

impl<S> Subscription<S> {
    /// What is behind `at` is of this epoch or a later one.
    pub(super) fn note_term(&mut self, at: Place, epoch: Epoch) {
        self.forks.retain(|(known, _)| known.ver < at.ver);
        self.forks.push((at, epoch));
    }

    /// Where a backfill that has come so far must go back to, if it has something of a lost
    /// history.
    pub(super) fn take_resume_at(&mut self, progress: &Progress) -> Option<Place> {
        let forks = std::mem::take(&mut self.forks);
        let is_beyond = |(at, epoch): &(Place, Epoch)| progress.last_before(*epoch) > at.ver;
        forks.into_iter().find(is_beyond).map(|(at, _)| at)
    }
}

/// What a subscriber gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// Everything that comes.
    Live,
    /// What comes after this `ver`.
    After(u64),
    /// Nothing: a backfill brings it what it lacks.
    Paused,
    /// Nothing any more: its user is out.
    Gone,
}

impl State {
    /// Whether a subscriber has everything up to `ver`, where the conversation stands, and gets
    /// what comes.
    pub(super) fn is_live_at(self, ver: u64) -> bool {
        match self {
            Self::Live => true,
            Self::After(from) => from <= ver,
            Self::Paused | Self::Gone => false,
        }
    }
}

/// After which changes a user was added again; ascending. That news, from the user's own stream,
/// may come before the removal, which this conversation tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Readds(Vec<u64>);

impl Readds {
    pub(super) fn note(&mut self, ver: u64) {
        if let Err(at) = self.0.binary_search(&ver) {
            self.0.insert(at, ver);
            if self.0.len() > READDS_MAX {
                self.0.remove(0);
            }
        }
    }

    /// The user was removed by `ver`: after which change they are in again, if they are. It is
    /// asked again when a fork brings the same removal once more.
    pub(super) fn after(&self, ver: u64) -> Option<u64> {
        self.0.get(self.0.partition_point(|readd| *readd < ver)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_removal_is_followed_by_the_next_time_that_the_user_is_added() {
        let mut readds = Readds::default();
        for ver in [29, 9, 19, 9] {
            readds.note(ver);
        }
        assert_eq!(readds.after(5), Some(9));
        assert_eq!(readds.after(15), Some(19));
        assert_eq!(readds.after(40), None, "what came before the removal does not count");
        assert_eq!(readds.after(15), Some(19), "the removal came once more");
    }
}
