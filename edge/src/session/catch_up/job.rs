//! The way of one session through one conversation, as a state machine: what to ask next, and what an answer means.

use tokio::time::Instant;
use wire::command::Query;

use crate::subscriptions::At;

/// Messages or changes asked for at once. The home cuts a page by bytes as well.
const PAGE: u16 = 100;

/// See the module.
#[derive(Debug)]
pub(super) struct Job {
    /// An answer to an older question than this is thrown away.
    pub(super) generation: u64,
    pub(super) step: Step,
    /// The numbers of the `sync` frames that wait for it.
    pub(super) syncs: Vec<u64>,
    /// The session was too slow, it did not ask.
    pub(super) slow: bool,
    /// The home was asked whether the user may read.
    pub(super) knocked: bool,
    /// When it began.
    pub(super) since: Instant,
}

impl Job {
    /// The last change that it has brought, in its second step.
    pub(super) fn ver(&self) -> u64 {
        match self.step {
            Step::Changes { have } => have.ver,
            _ => 0,
        }
    }
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Not attached, perhaps not a member: the home is asked first.
    Knock {
        /// The last seq that the client has.
        after: u64,
    },
    /// Attached soon; see [`crate::subscriptions::Attached::Asking`].
    Await {
        /// The last seq that the client has.
        after: u64,
    },
    /// Messages after `after`, up to where the session was taken off.
    Messages {
        /// Exclusive.
        after: u64,
        /// Inclusive.
        up_to: At,
    },
    /// Changes after this place.
    Changes {
        /// Exclusive.
        have: At,
    },
}

impl Step {
    /// What to ask the home now, and whether in the user's name.
    pub(super) fn question(self) -> Option<(Query, bool)> {
        match self {
            Self::Knock { after } => {
                Some((Query::History { before: None, after: Some(after), limit: 1 }, true))
            }
            Self::Await { .. } => None,
            Self::Messages { after, .. } => {
                Some((Query::History { before: None, after: Some(after), limit: PAGE }, true))
            }
            // A user who was removed must still be told so: the edge asks for itself, and stops at that change.
            Self::Changes { have } => {
                Some((Query::Changes { after_ver: have.ver, limit: PAGE }, false))
            }
        }
    }

    /// A new `sync` of the same conversation, from `after`.
    pub(super) fn restart(self, after: u64) -> Self {
        match self {
            Self::Knock { .. } => Self::Knock { after },
            Self::Await { .. } => Self::Await { after },
            Self::Messages { up_to, .. } => Self::Messages { after, up_to },
            Self::Changes { have } => Self::Messages { after, up_to: have },
        }
        .skip_nothing()
    }

    /// No messages to ask for: on to the changes.
    pub(super) fn skip_nothing(self) -> Self {
        match self {
            Self::Messages { after, up_to } if after >= up_to.seq => Self::Changes { have: up_to },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_sync_starts_over_without_losing_the_place_of_the_changes() {
        let up_to = At { ver: 9, seq: 7 };
        let step = Step::Changes { have: up_to }.restart(3);
        assert_eq!(step, Step::Messages { after: 3, up_to });
        assert_eq!(step.restart(7), Step::Changes { have: up_to });
        assert_eq!(step.restart(0), Step::Messages { after: 0, up_to });
    }
}
