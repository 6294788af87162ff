//! What a user asks of a conversation through an edge, and what its owner answers.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::change::{Change, Home, Role};
use crate::code::ErrorCode;
use crate::ids::{
    ClientMsgId, ConversationId, DeviceId, Durability, Epoch, MessageId, RegionId, ShardId,
    TenantId, UserId,
};

/// Who asks. The edge's gate has checked his token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    /// His tenant.
    pub tenant: TenantId,
    /// He.
    pub user: UserId,
    /// His device, if it said.
    pub device: Option<DeviceId>,
}

/// What may change a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A new group. The id was drawn by the edge; creating it twice is one creation.
    CreateGroup {
        /// Its name.
        name: SmolStr,
        /// Besides the creator.
        members: Vec<UserId>,
    },
    /// The direct conversation of the actor and another: created, or found.
    OpenDirect {
        /// The other.
        with: UserId,
    },
    /// A message.
    Send(Draft),
    /// All or nothing.
    ChangeMembers {
        /// Come in as members.
        add: Vec<UserId>,
        /// Go out.
        remove: Vec<UserId>,
        /// Get this role.
        roles: Vec<(UserId, Role)>,
    },
    /// From the home of a conversation to a member's own stream: he is in. Only a core may say it.
    NoteJoined {
        /// See [`crate::change::Joined`].
        conversation: ConversationId,
        /// A group's name.
        name: Option<SmolStr>,
        /// First seq that he may count as unread.
        joined_seq: u64,
        /// Notes with a lower `at_ver` than the last one for this conversation change nothing.
        at_ver: u64,
    },
    /// As above: he is out.
    NoteLeft {
        /// Which conversation.
        conversation: ConversationId,
        /// As above.
        at_ver: u64,
    },
    /// Move to this shard, of the same zone and class. Only a core may say it.
    Move {
        /// Which shard.
        to: ShardId,
    },
    /// From the owner of the shard that a conversation has left to the owner of the one it goes to: it is yours. Only a
    /// core may say it.
    AcceptTransfer {
        /// The move's number ([`Home::n`]).
        n: u64,
        /// `ver` of [`crate::change::Event::MovedOut`].
        ver: u64,
        /// Where it comes from.
        from: ShardId,
    },
}

/// A message that has no seq yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
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
}

/// What may be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// A page of messages. Neither bound: the newest page. `before`: the page that ends before it. `after`: the page
    /// that starts after it.
    History {
        /// Exclusive.
        before: Option<u64>,
        /// Exclusive.
        after: Option<u64>,
        /// At most.
        limit: u16,
    },
    /// Changes after `ver`, oldest first.
    Changes {
        /// Exclusive.
        after_ver: u64,
        /// At most.
        limit: u16,
    },
    /// The view of a conversation, members after `members_after`.
    View {
        /// Exclusive, in the order of user ids.
        members_after: Option<UserId>,
    },
    /// The actor's conversations. Asked of his own stream.
    Inbox {
        /// Exclusive.
        after: Option<ConversationId>,
        /// At most; 0 for all, without heads (what an edge asks when a session starts).
        limit: u16,
    },
}

/// Where the message went: the payload of `message.ack`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A page of members, in the order of user ids.
    pub members: Vec<MemberView>,
    /// Ask again after this user for more.
    pub members_next: Option<UserId>,
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
pub struct MemberView {
    /// He.
    pub user_id: UserId,
    /// What he may do.
    pub role: Role,
    /// First seq that he may count as unread.
    pub joined_seq: u64,
}

/// A line of the inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxLine {
    /// Which conversation.
    pub conversation: ConversationId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// The `ver`, in that conversation, that made him a member.
    pub at_ver: u64,
    /// First seq that he may count as unread.
    pub joined_seq: u64,
    /// Number of its last message; 0 when asked without heads.
    pub head_seq: u64,
    /// All up to it is read; own sends count.
    pub read_seq: u64,
    /// When its last message was ordered; 0 if there is none.
    pub last_ts_ms: u64,
}

/// What a command or a query came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Command::Send`].
    Ack(Ack),
    /// To commands that create or change, and to [`Query::View`].
    View {
        /// As it is now.
        view: Box<View>,
        /// Whether this command created it.
        created: bool,
    },
    /// To [`Query::History`].
    History {
        /// Oldest first.
        messages: Vec<Change>,
        /// Number of the last message.
        head_seq: u64,
        /// Number of the last change: live delivery goes on after it.
        head_ver: u64,
        /// More in the direction of the page.
        has_more: bool,
    },
    /// To [`Query::Changes`].
    Changes {
        /// Oldest first.
        changes: Vec<Delivery>,
        /// Number of the last change.
        head_ver: u64,
    },
    /// To [`Query::Inbox`].
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
        /// Of the last change; none: an older owner does not say. Travels behind the answer
        /// ([`Frame::Reply`](crate::mesh::Frame::Reply)).
        #[serde(skip)]
        head_epoch: Option<Epoch>,
    },
    /// To [`Command::Move`]: it goes, or has gone, there.
    Moving(Home),
    /// To [`Command::AcceptTransfer`]: its arrival is committed.
    TransferAccepted {
        /// And it is in every region that may ever act for this shard: the offer need not be repeated.
        everywhere: bool,
    },
}

/// A change on its way to an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// What changed.
    pub change: Change,
    /// With a change of members: the conversation right after it (or, in a replay, later).
    pub view: Option<Box<View>>,
}

impl Delivery {
    /// Its bytes inside a feed, made once for all streams that get it: see [`crate::mesh::feed_frame`].
    #[must_use]
    pub fn to_bytes(&self) -> bytes::Bytes {
        postcard::to_stdvec(self).expect("plain data in memory always serializes").into()
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// For programs.
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

/// Derives what clients call a message.
#[must_use]
pub fn message_id(conversation: &ConversationId, message: &crate::change::Message) -> MessageId {
    MessageId::derive(conversation, &message.sender, &message.client_msg_id)
}
