//! What is asked of the owner of a shard.

use super::{UNSUPPORTED, frame};
use crate::codec::{CodecError, Head, Numbered, Reader, Unknown, pack};
use crate::command::{Actor, Command, Query};
use crate::ids::{ConversationId, Epoch, UserId};

/// A frame to the owner of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToOwner {
    /// Do this.
    Command {
        /// Named by the reply; unique on the stream.
        rid: u64,
        /// The user who asks.
        actor: Actor,
        /// The conversation to change.
        conversation: ConversationId,
        /// What to do.
        command: Command,
    },
    /// Tell me this.
    Query {
        /// As above.
        rid: u64,
        /// The user who asks; none when an edge asks for itself.
        actor: Option<Actor>,
        /// The conversation to read.
        conversation: ConversationId,
        /// What to read.
        query: Query,
    },
    /// Send me the changes of this conversation. Watching again is allowed, and asks about more
    /// users.
    Watch {
        /// As above.
        rid: u64,
        /// The conversation to watch.
        conversation: ConversationId,
        /// Start after this `ver`; none: after the head.
        after_ver: Option<u64>,
        /// Which of these are members?
        users: Vec<UserId>,
        /// Of the change `after_ver` as the edge has it; none: it does not know. After a fork
        /// another change may stand there, and the watch starts where they part.
        after_epoch: Option<Epoch>,
    },
    /// Send me no more changes of this conversation.
    Unwatch {
        /// The conversation.
        conversation: ConversationId,
    },
    /// The owner sent a frame of a kind that this node does not know.
    Unsupported {
        /// That kind.
        kind: u16,
    },
    /// A frame of a newer node.
    Unknown(Unknown),
}

frame!(ToOwner);

impl Numbered for ToOwner {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Command { rid, actor, conversation, command } => {
                pack(1, &(rid, actor, conversation, command), out)
            }
            Self::Query { rid, actor, conversation, query } => {
                pack(2, &(rid, actor, conversation, query), out)
            }
            Self::Watch { rid, conversation, after_ver, users, after_epoch } => {
                pack(3, &(rid, conversation, after_ver, users, after_epoch), out)
            }
            Self::Unwatch { conversation } => pack(4, conversation, out),
            Self::Unsupported { kind } => pack(UNSUPPORTED, kind, out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            1 => {
                let (rid, actor, conversation, command) = fields.fields()?;
                Self::Command { rid, actor, conversation, command }
            }
            2 => {
                let (rid, actor, conversation, query) = fields.fields()?;
                Self::Query { rid, actor, conversation, query }
            }
            3 => {
                let (rid, conversation, after_ver, users) = fields.fields()?;
                let after_epoch = fields.later()?;
                Self::Watch { rid, conversation, after_ver, users, after_epoch }
            }
            4 => Self::Unwatch { conversation: fields.fields()? },
            UNSUPPORTED => Self::Unsupported { kind: fields.fields()? },
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}
