//! What remains to be done after a change was delivered, once the lock of the interest is released.

use std::sync::Arc;

use conversation::delivery::Place;
use wire::ConversationId;

use crate::session::outbox::Bound;
use crate::session::state::Session;

/// See the module.
pub(crate) struct Effects {
    /// How much an outbox takes.
    pub(crate) bound: Bound,
    pub(crate) backfills: Vec<Backfill>,
    /// Sessions whose user is now in a conversation, and the change there that made them a member.
    pub(crate) joins: Vec<(Arc<Session>, ConversationId, u64)>,
    pub(crate) holes: Vec<Hole>,
}

/// A session is off the live events of a conversation. Bring it what came after `have`.
pub(crate) struct Backfill {
    pub(crate) session: Arc<Session>,
    pub(crate) conversation: ConversationId,
    pub(crate) have: Place,
    /// Its outbox was full.
    pub(crate) slow: bool,
}

/// Changes after `after_ver` are missing.
#[derive(Clone, Copy)]
pub(crate) struct Hole {
    pub(crate) conversation: ConversationId,
    pub(crate) after_ver: u64,
    /// The number of the stream on which it was noticed.
    pub(crate) stream: u64,
}

impl Effects {
    pub(crate) fn new(bound: Bound) -> Self {
        Self { bound, backfills: Vec::new(), joins: Vec::new(), holes: Vec::new() }
    }
}
