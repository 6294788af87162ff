//! What may be read of a conversation.

use crate::codec::{CodecError, Head, Numbered, Reader, Unknown, numbered, pack};
use crate::ids::{ConversationId, UserId};

/// What may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// A page of messages. Neither bound: the newest page. `before`: the page that ends before it.
    /// `after`: the page that starts after it.
    History {
        /// Exclusive.
        before: Option<u64>,
        /// Exclusive.
        after: Option<u64>,
        /// At most so many messages.
        limit: u16,
    },
    /// Changes after `ver`, oldest first.
    Changes {
        /// Exclusive.
        after_ver: u64,
        /// At most so many changes.
        limit: u16,
    },
    /// The view of a conversation, members after `members_after`.
    View {
        /// Exclusive, in the order of user ids.
        members_after: Option<UserId>,
    },
    /// The actor's conversations. Asked of their own stream.
    Inbox {
        /// Exclusive.
        after: Option<ConversationId>,
        /// At most so many; 0 for all, without heads (what an edge asks when a session starts).
        limit: u16,
    },
    /// Asked by a newer node: its owner refuses it with `unknown_type`.
    Unknown(Unknown),
}

impl Numbered for Query {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::History { before, after, limit } => pack(1, &(before, after, limit), out),
            Self::Changes { after_ver, limit } => pack(2, &(after_ver, limit), out),
            Self::View { members_after } => pack(3, members_after, out),
            Self::Inbox { after, limit } => pack(4, &(after, limit), out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            1 => {
                let (before, after, limit) = fields.fields()?;
                Self::History { before, after, limit }
            }
            2 => {
                let (after_ver, limit) = fields.fields()?;
                Self::Changes { after_ver, limit }
            }
            3 => Self::View { members_after: fields.fields()? },
            4 => {
                let (after, limit) = fields.fields()?;
                Self::Inbox { after, limit }
            }
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

numbered!(Query);
