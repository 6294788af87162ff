//! What was decided: the entries of the shard log, which the feed carries on to every consumer.
//!
//! A change is a record whose event is numbered ([`codec`](crate::codec)). A node that does not
//! know the event, because a newer one wrote it, still knows the conversation and the `ver`, so its
//! cursor moves on ([`Event::Unknown`]).

mod lifecycle;
mod membership;
mod recorded;
mod relocation;
mod user_stream;

use serde::{Deserialize, Serialize};

use crate::codec::{
    CodecError, Head, Numbered, Reader, Record as _, Unknown, numbered, pack_record,
};
use crate::ids::{ConversationId, ConversationKind, Epoch};

pub use crate::message::Message;
pub use lifecycle::Created;
pub use membership::{MembersChanged, Role};
pub use recorded::Recorded;
pub use relocation::{Home, MovedIn, MovedOut, Tenure};
pub use user_stream::{Joined, Left};

/// One change of one conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Change {
    /// Where.
    pub conversation: ConversationId,
    /// Dense number of the change in its conversation, from 1.
    pub ver: u64,
    /// The term in which it was committed, as clients see it.
    pub epoch: Epoch,
    /// When its owner ordered it, milliseconds since 1970, by the owner's wall clock. For people;
    /// nothing is decided by it.
    pub ts_ms: u64,
    /// What.
    pub event: Event,
}

crate::record!(Change);

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all events are messages")]
pub enum Event {
    /// Always `ver` 1.
    Created(Created),
    /// A message.
    Message(Message),
    /// Members came, went, or have another role.
    MembersChanged(MembersChanged),
    /// In a user's own stream: they are now a member of a conversation.
    Joined(Joined),
    /// In a user's own stream: they no longer are.
    Left(Left),
    /// The last change in the log of a shard that the conversation leaves.
    MovedOut(MovedOut),
    /// The first change in the log of the shard that it comes to, right after [`Event::MovedOut`].
    MovedIn(MovedIn),
    /// Written by a newer node.
    Unknown(Unknown),
}

impl Numbered for Event {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Created(event) => pack_record(1, event, out),
            Self::Message(event) => {
                // A first guess of the size, so that the buffer does not grow step by step under
                // every message.
                out.reserve(event.draft.body.encoded_len() + 160);
                pack_record(2, event, out)
            }
            Self::MembersChanged(event) => pack_record(3, event, out),
            Self::Joined(event) => pack_record(4, event, out),
            Self::Left(event) => pack_record(5, event, out),
            Self::MovedOut(event) => pack_record(6, event, out),
            Self::MovedIn(event) => pack_record(7, event, out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            1 => Self::Created(fields.record()?),
            2 => Self::Message(fields.record()?),
            3 => Self::MembersChanged(fields.record()?),
            4 => Self::Joined(fields.record()?),
            5 => Self::Left(fields.record()?),
            6 => Self::MovedOut(fields.record()?),
            7 => Self::MovedIn(fields.record()?),
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

numbered!(Event);

/// The clients that are told of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// None.
    Nobody,
    /// The members, all in the same words.
    Members,
    /// The members, and those who no longer are: each is told what it means for them.
    EachMember,
    /// The user whose stream it is: their sessions join a conversation.
    Sessions,
}

/// What the rest of the code must know of an event beside its fields. Each match is exhaustive: a
/// new event answers all.
impl Event {
    /// Whether others may read or write after it, or elsewhere: reads and watches wait until it is
    /// committed.
    #[must_use]
    pub fn changes_membership(&self) -> bool {
        match self {
            Self::Message(_) => false,
            Self::Created(_)
            | Self::MembersChanged(_)
            | Self::Joined(_)
            | Self::Left(_)
            | Self::MovedOut(_)
            | Self::MovedIn(_) => true,
            // It may: only a newer node knows.
            Self::Unknown(_) => true,
        }
    }

    /// The message, if it is one.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::Message(message) => Some(message),
            Self::Created(_)
            | Self::MembersChanged(_)
            | Self::Joined(_)
            | Self::Left(_)
            | Self::MovedOut(_)
            | Self::MovedIn(_)
            | Self::Unknown(_) => None,
        }
    }

    /// The clients that an edge tells of it, in a conversation of this kind.
    #[must_use]
    pub fn audience(&self, kind: ConversationKind) -> Audience {
        match self {
            Self::Message(_) => Audience::Members,
            // A user's own stream is not a conversation to them.
            Self::Created(_) | Self::MembersChanged(_) if kind == ConversationKind::User => {
                Audience::Nobody
            }
            Self::Created(_) | Self::MembersChanged(_) => Audience::EachMember,
            Self::Joined(_) => Audience::Sessions,
            // For clients nothing has changed but the epoch, and who acts.
            Self::MovedIn(_) => Audience::Members,
            // The conversation itself tells the user.
            Self::Left(_) => Audience::Nobody,
            // Its arrival tells them.
            Self::MovedOut(_) => Audience::Nobody,
            // Only a newer node could tell them.
            Self::Unknown(_) => Audience::Nobody,
        }
    }

    /// Whether clients are shown the conversation as it is right after this event.
    #[must_use]
    pub fn view_needed(&self) -> bool {
        match self {
            Self::Created(_) | Self::MembersChanged(_) | Self::MovedIn(_) => true,
            Self::Message(_)
            | Self::Joined(_)
            | Self::Left(_)
            | Self::MovedOut(_)
            | Self::Unknown(_) => false,
        }
    }
}

impl Change {
    /// The binary form, as it stands in the log and in the feed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        self.write_fields(&mut bytes);
        bytes
    }

    /// The inverse of [`Change::to_bytes`].
    ///
    /// # Errors
    /// When the bytes are not a change, or lack a field of a kind that this version knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        Self::read_fields(bytes)
    }
}
