//! What comes into the owner task: from streams of edges and other cores, from the shard client of
//! this node, from the salvage.

use std::sync::Arc;

use wire::change::Change;
use wire::command::{Actor, Command, Query};
use wire::{ConversationId, Epoch, UserId};

use crate::intake::outbox::Outbox;

/// What a stream hands to the owner task of its shard.
pub(crate) struct Input {
    /// Where the answer goes.
    pub(crate) from: Arc<Outbox>,
    pub(crate) ask: Ask,
}

/// See [`Input`]. What comes from other nodes has passed the [gate](crate::intake::gate).
pub(crate) enum Ask {
    /// The stream is there: it wants to hear when the term ends.
    Attach,
    /// The stream is gone.
    Detach,
    /// See [`wire::stream::ToOwner::Command`].
    Command {
        /// Unique on the stream.
        rid: u64,
        actor: Actor,
        conversation: ConversationId,
        command: Command,
    },
    /// From [`crate::replication::salvage`]: what a region that was left still holds, to be
    /// appended again unless it is here.
    Recover {
        /// Unique on the stream, or not asked for.
        rid: u64,
        /// As it was committed there.
        stranded: Box<Change>,
        /// Of the first message of the conversation that was stranded.
        first_seq: u64,
    },
    /// See [`wire::stream::ToOwner::Query`].
    Query {
        /// Unique on the stream.
        rid: u64,
        /// Who asks; none: an edge, for itself.
        actor: Option<Actor>,
        conversation: ConversationId,
        query: Query,
    },
    /// See [`wire::stream::ToOwner::Watch`].
    Watch {
        /// Unique on the stream.
        rid: u64,
        conversation: ConversationId,
        /// Start after this `ver`; none: after the head.
        after_ver: Option<u64>,
        /// Which of these are members?
        users: Vec<UserId>,
        /// Of the change `after_ver`, as the edge has it.
        after_epoch: Option<Epoch>,
    },
    /// See [`wire::stream::ToOwner::Unwatch`].
    Unwatch { conversation: ConversationId },
}

impl Ask {
    /// Whether it may change the conversation.
    pub(crate) fn is_command(&self) -> bool {
        matches!(self, Self::Command { .. })
    }

    /// The number of a request that is answered from what the conversation is.
    pub(crate) fn rid(&self) -> Option<u64> {
        match self {
            Self::Command { rid, .. }
            | Self::Recover { rid, .. }
            | Self::Query { rid, .. }
            | Self::Watch { rid, .. } => Some(*rid),
            Self::Attach | Self::Detach | Self::Unwatch { .. } => None,
        }
    }
}
