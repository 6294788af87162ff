//! What was decided: the entries of the shard log, which the feed carries on to every consumer.
//!
//! A change is stored and sent as a fixed head and an event of a numbered kind. A node that meets a kind it does not
//! know, because a newer one wrote it, still knows the conversation and the `ver`, so its cursor moves on
//! ([`Event::Unknown`]); a known event with more fields than it knows loses only those.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::ids::{
    ClientMsgId, ConversationId, ConversationKind, DeviceId, Epoch, ShardId, Slot, TenantId, UserId,
};

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads and writes.
    Member,
    /// Adds and removes members too.
    Admin,
    /// Gives and takes roles too.
    Owner,
}

/// One change of one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub conversation: ConversationId,
    /// Dense number of the change in its conversation, from 1.
    pub ver: u64,
    /// The term in which it was committed, as clients see it.
    pub epoch: Epoch,
    /// When its owner ordered it, milliseconds since 1970, by the owner's wall clock. For people; nothing is decided by it.
    pub ts_ms: u64,
    /// What.
    pub event: Event,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Always `ver` 1.
    Created(Created),
    /// A message.
    Message(Message),
    /// Members came, went, or have another role.
    MembersChanged(MembersChanged),
    /// In a user's own stream: he is now a member of a conversation.
    Joined(Joined),
    /// In a user's own stream: he no longer is.
    Left(Left),
    /// The last change in the log of a shard that the conversation leaves.
    MovedOut(MovedOut),
    /// The first change in the log of the shard that it comes to, right after [`Event::MovedOut`].
    MovedIn(MovedIn),
    /// Written by a newer node.
    Unknown {
        /// Its number.
        kind: u16,
        /// Its bytes, kept so that they can be passed on.
        body: Bytes,
    },
}

/// See [`Event::Created`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Whose conversation it is.
    pub tenant: TenantId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// Who asked for it; owner of a group.
    pub by: UserId,
    /// All members with their roles, the creator included, sorted by user id.
    pub members: Vec<(UserId, Role)>,
}

/// See [`Event::Message`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Dense number of the message in its conversation, from 1.
    pub seq: u64,
    /// Who.
    pub sender: UserId,
    /// From which device, if it said.
    pub device: Option<DeviceId>,
    /// What the sender calls it.
    pub client_msg_id: ClientMsgId,
    /// 1..16384 bytes.
    pub body: String,
    /// The seq it replies to.
    pub reply_to: Option<u64>,
    /// The seq that started its thread.
    pub thread: Option<u64>,
    /// Who is meant.
    pub mentions: Vec<UserId>,
    /// The sender's own JSON, as text.
    pub meta: Option<String>,
    /// Appended again after the loss and return of a region.
    pub recovered: bool,
}

/// See [`Event::MembersChanged`]. All three lists are sorted and hold only what really changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersChanged {
    /// Who asked for it.
    pub by: UserId,
    /// Now in, with this role.
    pub added: Vec<(UserId, Role)>,
    /// Now out.
    pub removed: Vec<UserId>,
    /// Still in, with another role.
    pub roles: Vec<(UserId, Role)>,
    /// Head of the messages at that moment; an added member joined at the next one.
    pub head_seq: u64,
}

/// See [`Event::Joined`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Which conversation.
    pub conversation: ConversationId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// First seq that he may count as unread.
    pub joined_seq: u64,
    /// The `ver` of the change, in that conversation, that made him a member.
    pub at_ver: u64,
}

/// See [`Event::Left`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Which conversation.
    pub conversation: ConversationId,
    /// The `ver` of the change, in that conversation, that put him out.
    pub at_ver: u64,
}

/// In which shard a conversation is. Of two placements of one conversation the one with the higher `n` is the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Home {
    /// How often it has moved; 0: it is where it was born.
    pub generation: u64,
    /// The shard.
    pub shard: ShardId,
}

/// See [`Event::MovedOut`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedOut {
    /// Where it goes.
    pub to: Home,
    /// Number of its last message.
    pub head_seq: u64,
    /// The last shards that it has been in, this one included, oldest first: all in which anybody may still ask what a send became.
    /// Only in class `region`: a shard of the other class never forks.
    pub tenures: Vec<Tenure>,
}

/// See [`Event::MovedIn`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedIn {
    /// Where it is now.
    pub here: Home,
    /// The shard that it comes from.
    pub from: ShardId,
    /// The epoch that clients see is this plus the epoch of the shard, from here on: it was the epoch of
    /// [`Event::MovedOut`], so what comes is higher than all that was.
    pub epoch_base: Epoch,
    /// As in [`MovedOut`].
    pub tenures: Vec<Tenure>,
}

/// A time that a conversation spent in one shard, and what of that shard's log counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tenure {
    /// Which.
    pub shard: ShardId,
    /// As clients see them, the epochs of this stay are higher than this,
    pub after: Epoch,
    /// and not higher than this.
    pub until: Epoch,
    /// When it ended, milliseconds since 1970.
    pub ended_ts_ms: u64,
    /// The first slot of each epoch of the shard, as of the end: a row of another epoch is void.
    pub starts: Vec<(Epoch, Slot)>,
}

/// Bytes that are not a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: not a change of a version this node can read")]
pub struct ChangeError(&'static str);

#[derive(Serialize, Deserialize)]
struct Packed {
    conversation: ConversationId,
    ver: u64,
    epoch: Epoch,
    ts_ms: u64,
    kind: u16,
    #[serde(with = "as_bytes")]
    event: Vec<u8>,
    // Fields of later versions follow here and are skipped by this one.
}

mod as_bytes {
    use serde::{Deserialize, Deserializer, Serializer};
    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(bytes)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(d).map(<[u8]>::to_vec)
    }
}

impl Event {
    fn pack(&self) -> (u16, Vec<u8>) {
        fn body<T: Serialize>(event: &T) -> Vec<u8> {
            sized(event, 128)
        }
        fn sized<T: Serialize>(event: &T, bytes: usize) -> Vec<u8> {
            // A first guess of the size, so that the buffer does not grow step by step under every message.
            postcard::to_extend(event, Vec::with_capacity(bytes))
                .expect("plain data in memory always serializes")
        }
        match self {
            Self::Created(e) => (1, body(e)),
            Self::Message(e) => (2, sized(e, e.body.len() + 160)),
            Self::MembersChanged(e) => (3, body(e)),
            Self::Joined(e) => (4, body(e)),
            Self::Left(e) => (5, body(e)),
            Self::MovedOut(e) => (6, body(e)),
            Self::MovedIn(e) => (7, body(e)),
            Self::Unknown { kind, body } => (*kind, body.to_vec()),
        }
    }

    fn unpack(kind: u16, body: &[u8]) -> Result<Self, ChangeError> {
        /// Trailing bytes are fields of a later version.
        fn read<'a, T: Deserialize<'a>>(
            what: &'static str,
            body: &'a [u8],
        ) -> Result<T, ChangeError> {
            postcard::take_from_bytes(body)
                .map(|(event, _later)| event)
                .map_err(|_| ChangeError(what))
        }
        Ok(match kind {
            1 => Self::Created(read("created", body)?),
            2 => Self::Message(read("message", body)?),
            3 => Self::MembersChanged(read("members changed", body)?),
            4 => Self::Joined(read("joined", body)?),
            5 => Self::Left(read("left", body)?),
            6 => Self::MovedOut(read("moved out", body)?),
            7 => Self::MovedIn(read("moved in", body)?),
            kind => Self::Unknown { kind, body: Bytes::copy_from_slice(body) },
        })
    }
}

impl Change {
    /// The binary form, as it stands in the log and in the feed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, event) = self.event.pack();
        let packed = Packed {
            conversation: self.conversation,
            ver: self.ver,
            epoch: self.epoch,
            ts_ms: self.ts_ms,
            kind,
            event,
        };
        let sized = Vec::with_capacity(packed.event.len() + 64);
        postcard::to_extend(&packed, sized).expect("plain data in memory always serializes")
    }

    /// The inverse of [`Change::to_bytes`]; bytes of later versions at the end are skipped.
    ///
    /// # Errors
    /// When the bytes are not a change, or lack a field of a kind that this version knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChangeError> {
        let (packed, _later): (Packed, _) =
            postcard::take_from_bytes(bytes).map_err(|_| ChangeError("head"))?;
        Ok(Self {
            conversation: packed.conversation,
            ver: packed.ver,
            epoch: packed.epoch,
            ts_ms: packed.ts_ms,
            event: Event::unpack(packed.kind, &packed.event)?,
        })
    }
}

impl Serialize for Change {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_bytes(<&[u8]>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The kind of a conversation and its display facts, derived from its id and its [`Created`] event.
impl Created {
    /// The role a creator gets in a conversation of this kind.
    #[must_use]
    pub fn creator_role(kind: ConversationKind) -> Role {
        match kind {
            ConversationKind::Group => Role::Owner,
            ConversationKind::Direct | ConversationKind::User => Role::Member,
        }
    }
}
