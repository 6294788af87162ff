//! What only a core may ask of a conversation.

use smol_str::SmolStr;

use crate::codec::{CodecError, Head, Reader, pack};
use crate::ids::{ConversationId, ShardId};

/// What cores change for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeshCommand {
    /// From the home of a conversation to a member's own stream: the user is now a member.
    NoteJoined {
        /// See [`crate::change::Joined`].
        conversation: ConversationId,
        /// A group's name.
        name: Option<SmolStr>,
        /// First seq that the user may count as unread.
        joined_seq: u64,
        /// Notes with a lower `at_ver` than the last one for this conversation change nothing.
        at_ver: u64,
    },
    /// As above: the user is a member no longer.
    NoteLeft {
        /// Which conversation.
        conversation: ConversationId,
        /// As above.
        at_ver: u64,
    },
    /// Moves the conversation to this shard, of the same zone and durability class.
    Move {
        /// Which shard.
        to: ShardId,
    },
    /// From the owner of the shard that a conversation has left to the owner of the one it goes to.
    AcceptTransfer {
        /// The move's number ([`Home::generation`](crate::change::Home::generation)).
        n: u64,
        /// `ver` of [`crate::change::Event::MovedOut`].
        ver: u64,
        /// Where it comes from.
        from: ShardId,
    },
}

impl MeshCommand {
    pub(super) fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::NoteJoined { conversation, name, joined_seq, at_ver } => {
                pack(64, &(conversation, name, joined_seq, at_ver), out)
            }
            Self::NoteLeft { conversation, at_ver } => pack(65, &(conversation, at_ver), out),
            Self::Move { to } => pack(66, to, out),
            Self::AcceptTransfer { n, ver, from } => pack(67, &(n, ver, from), out),
        }
    }

    pub(super) fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            64 => {
                let (conversation, name, joined_seq, at_ver) = fields.fields()?;
                Self::NoteJoined { conversation, name, joined_seq, at_ver }
            }
            65 => {
                let (conversation, at_ver) = fields.fields()?;
                Self::NoteLeft { conversation, at_ver }
            }
            66 => Self::Move { to: fields.fields()? },
            67 => {
                let (n, ver, from) = fields.fields()?;
                Self::AcceptTransfer { n, ver, from }
            }
            _ => return Ok(None),
        }))
    }
}
