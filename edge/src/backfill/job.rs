//! The way of one session through one conversation, as a state machine: what to ask next, and what
//! an answer means.

use conversation::delivery::{Place, Progress};
use tokio::time::Instant;
use wire::command::Query;

/// Messages or changes asked for at once. The home cuts a page by bytes as well.
pub(super) const PAGE: u16 = 100;

/// See the module.
#[derive(Debug)]
pub(super) struct Job {
    /// An answer to an older question than this is thrown away.
    pub(super) generation: u64,
    pub(super) step: Step,
    /// What it has, once the session is paused.
    pub(super) progress: Progress,
    /// The numbers of the `sync` frames that wait for it.
    pub(super) syncs: Vec<u64>,
    /// The session was too slow, it did not ask.
    pub(super) slow: bool,
    /// The home was asked whether the user may read.
    pub(super) probed: bool,
    /// When it began.
    pub(super) since: Instant,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Not attached, perhaps not a member: the home is asked first. `after`: the last seq that the
    /// client has.
    Probe { after: u64 },
    /// Attached soon; see [`conversation::delivery::Pause::Pending`].
    Await { after: u64 },
    /// Messages after this one, up to where the session was paused.
    Messages { after: u64 },
    /// Changes after what it has.
    Changes,
}

impl Job {
    pub(super) fn have(&self) -> Place {
        self.progress.have()
    }

    /// What to ask the home now, and whether in the user's name.
    /// Asks for at most so many messages or changes.
    pub(super) fn question(&self, limit: u16) -> Option<(Query, bool)> {
        match self.step {
            Step::Probe { after } => {
                Some((Query::History { before: None, after: Some(after), limit: 1 }, true))
            }
            Step::Await { .. } => None,
            Step::Messages { after } => {
                Some((Query::History { before: None, after: Some(after), limit }, true))
            }
            // A user who was removed must still be told so: the edge asks for itself, and stops at
            // that change.
            Step::Changes => Some((Query::Changes { after_ver: self.have().ver, limit }, false)),
        }
    }

    /// The session is paused at `have`, and its client has the messages up to `after`.
    pub(super) fn begin(&mut self, after: u64, have: Place) {
        self.progress = Progress::from(have);
        self.progress.claim(after);
        self.ask_after(after);
    }

    /// On with the messages after `after`, or with the changes if there are no more messages.
    pub(super) fn ask_after(&mut self, after: u64) {
        let is_done = after >= self.have().seq;
        self.step = if is_done { Step::Changes } else { Step::Messages { after } };
    }

    /// A new `sync` of the same conversation.
    pub(super) fn restart(&mut self, after: u64) {
        match self.step {
            Step::Probe { .. } => self.step = Step::Probe { after },
            Step::Await { .. } => self.step = Step::Await { after },
            Step::Messages { .. } | Step::Changes => {
                self.progress.claim(after);
                self.ask_after(after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_sync_starts_over_without_losing_the_place_of_the_changes() {
        let mut job = Job {
            generation: 1,
            step: Step::Changes,
            progress: Progress::from(Place { ver: 9, seq: 7 }),
            syncs: Vec::new(),
            slow: false,
            probed: false,
            since: Instant::now(),
        };
        for (after, step) in
            [(3, Step::Messages { after: 3 }), (7, Step::Changes), (0, Step::Messages { after: 0 })]
        {
            job.restart(after);
            assert_eq!((job.step, job.have().ver), (step, 9));
        }
    }
}
