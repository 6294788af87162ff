//! What the owner of a conversation answers, and what it tells those who watch.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::change::{Home, Recorded, Role};
use crate::code::ErrorCode;
use crate::codec::{self, CodecError, Head, Numbered, Reader, Unknown, numbered, pack};
use crate::ids::{ConversationId, Durability, Epoch, RegionId, UserId};

/// Where the message went: the payload of `message.ack`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Ack {
    /// Its number.
    pub seq: u64,
    /// The term in which it was committed.
    pub epoch: Epoch,
    /// When it was ordered, milliseconds since 1970.
    pub ts_ms: u64,
    /// True if an earlier send with this `client_msg_id` was the one that counted.
    pub duplicate: bool,
}

/// A conversation as its members see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct View {
    /// Which.
    pub conversation: ConversationId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// The region that serves it now.
    pub acting_region: RegionId,
    /// Of the last change.
    pub epoch: Epoch,
    /// Number of its last message.
    pub head_seq: u64,
    /// Number of its last change.
    pub head_ver: u64,
    /// A page of members, in the order of user ids. With a change that is delivered: none.
    pub members: Vec<MemberView>,
    /// Ask again after this user for more.
    pub members_next: Option<UserId>,
    /// All members.
    #[serde(default)]
    pub member_count: u32,
}

impl View {
    /// The class named in its acks.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.conversation.shard.durability
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct MemberView {
    /// The user.
    pub user_id: UserId,
    /// What they may do.
    pub role: Role,
    /// First seq that the user may count as unread.
    pub joined_seq: u64,
}

/// A line of the inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct InboxLine {
    /// Which conversation.
    pub conversation: ConversationId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// The `ver`, in that conversation, that made the user a member.
    pub at_ver: u64,
    /// First seq that the user may count as unread.
    pub joined_seq: u64,
    /// Number of its last message; 0 when asked without heads.
    pub head_seq: u64,
    /// All up to it is read; own sends count.
    pub read_seq: u64,
    /// When its last message was ordered; 0 if there is none.
    pub last_ts_ms: u64,
}

/// What a command or a query came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`UserCommand::Send`](super::UserCommand::Send).
    Ack(Ack),
    /// To commands that create or change, and to [`Query::View`](super::Query::View).
    View {
        /// As it is now.
        view: Box<View>,
        /// Whether this command created it.
        created: bool,
    },
    /// To [`Query::History`](super::Query::History).
    History {
        /// Oldest first.
        messages: Vec<Recorded>,
        /// Number of the last message.
        head_seq: u64,
        /// Number of the last change: live delivery goes on after it.
        head_ver: u64,
        /// More in the direction of the page.
        has_more: bool,
    },
    /// To [`Query::Changes`](super::Query::Changes).
    Changes {
        /// Oldest first.
        changes: Vec<Delivery>,
        /// Number of the last change.
        head_ver: u64,
    },
    /// To [`Query::Inbox`](super::Query::Inbox).
    Inbox {
        /// In the order of conversation ids.
        lines: Vec<InboxLine>,
        /// Ask again after this one for more.
        next: Option<ConversationId>,
        /// Number of the last change of the stream itself: live delivery goes on after it.
        head_ver: u64,
    },
    /// To a note: it is committed, or was already.
    Noted,
    /// To a watch: changes with a higher `ver` follow on this stream.
    Watching {
        /// Number of the last change.
        head_ver: u64,
        /// Number of the last message.
        head_seq: u64,
        /// Those of the named users who are members.
        members: Vec<UserId>,
        /// Of the last change; none: an older owner does not say.
        head_epoch: Option<Epoch>,
    },
    /// To [`MeshCommand::Move`](super::MeshCommand::Move): it goes, or has gone, there.
    Moving(Home),
    /// To [`MeshCommand::AcceptTransfer`](super::MeshCommand::AcceptTransfer): its arrival is
    /// committed.
    TransferAccepted {
        /// And it is in every region that may ever act for this shard: the offer need not be
        /// repeated.
        everywhere: bool,
    },
    /// From a newer owner.
    Unknown(Unknown),
}

impl Numbered for Answer {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Ack(ack) => pack(1, ack, out),
            Self::View { view, created } => pack(2, &(view, created), out),
            Self::History { messages, head_seq, head_ver, has_more } => {
                pack(3, &(messages, head_seq, head_ver, has_more), out)
            }
            Self::Changes { changes, head_ver } => pack(4, &(changes, head_ver), out),
            Self::Inbox { lines, next, head_ver } => pack(5, &(lines, next, head_ver), out),
            Self::Noted => pack(6, &(), out),
            Self::Watching { head_ver, head_seq, members, head_epoch } => {
                pack(7, &(head_ver, head_seq, members, head_epoch), out)
            }
            Self::Moving(home) => pack(8, home, out),
            Self::TransferAccepted { everywhere } => pack(9, everywhere, out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            1 => Self::Ack(fields.fields()?),
            2 => {
                let (view, created) = fields.fields()?;
                Self::View { view, created }
            }
            3 => {
                let (messages, head_seq, head_ver, has_more) = fields.fields()?;
                Self::History { messages, head_seq, head_ver, has_more }
            }
            4 => {
                let (changes, head_ver) = fields.fields()?;
                Self::Changes { changes, head_ver }
            }
            5 => {
                let (lines, next, head_ver) = fields.fields()?;
                Self::Inbox { lines, next, head_ver }
            }
            6 => Self::Noted,
            7 => {
                let (head_ver, head_seq, members) = fields.fields()?;
                let head_epoch = fields.later()?;
                Self::Watching { head_ver, head_seq, members, head_epoch }
            }
            8 => Self::Moving(fields.fields()?),
            9 => Self::TransferAccepted { everywhere: fields.fields()? },
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

numbered!(Answer);

/// A change on its way to an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Delivery {
    /// What changed.
    pub change: Recorded,
    /// With a change of members: the conversation right after it (or, in a replay, later), without
    /// its members.
    pub view: Option<Box<View>>,
}

impl Delivery {
    /// Its bytes inside a feed, made once for all streams that get it: see
    /// [`crate::stream::feed_frame`].
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        Self::encode(&self.change, &self.view)
    }

    /// As [`Delivery::to_bytes`]. Takes the bytes of the change as they are.
    #[must_use]
    pub fn encode(change: &Recorded, view: &Option<Box<View>>) -> Bytes {
        let mut fields = Vec::with_capacity(change.bytes().len() + 16);
        codec::write(&(change, view), &mut fields);
        let mut record = Vec::with_capacity(fields.len() + 4);
        codec::write(&fields, &mut record);
        record.into()
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(remote = "Self")]
#[error("{code}: {message}")]
pub struct Refusal {
    /// For programs.
    #[serde(with = "crate::code::by_name")]
    pub code: ErrorCode,
    /// For people. Never quotes what others wrote.
    pub message: String,
    /// When it may be worth trying again, milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// Without a hint when to retry.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }
}

crate::record!(Ack, View, MemberView, InboxLine, Delivery, Refusal);
