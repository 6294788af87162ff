//! Frames to a client.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::content::{MessageContent, with_content};
use crate::change::{Change, Message, Role};
use crate::code::ErrorCode;
use crate::command::{Ack, message_id};
use crate::ids::{ConversationId, ConversationKind, Durability};

/// The envelope around every frame. The edge prints it once per event, whoever gets it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Envelope<P> {
    /// Of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the payload is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// The sender's own name for the message that this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_msg_id: Option<String>,
    /// The `id` of the client frame that this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re: Option<String>,
    /// By `type`.
    pub payload: P,
}

impl<P: Serialize> Envelope<P> {
    /// With a type and a payload, nothing else.
    #[must_use]
    pub fn new(kind: &str, payload: P) -> Self {
        Self {
            id: None,
            kind: kind.into(),
            conversation_id: None,
            client_msg_id: None,
            re: None,
            payload,
        }
    }

    /// Tells clients of a change. Its id is the same at every edge.
    #[must_use]
    pub fn of_change(change: &Change, kind: &str, payload: P) -> Self {
        let conversation_id = change.conversation.to_string();
        let id = Some(format!("{conversation_id}.{}", change.ver));
        Self { id, conversation_id: Some(conversation_id), ..Self::new(kind, payload) }
    }

    /// For the wire.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data in memory always serializes")
    }
}

/// `hello`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Of this connection.
    pub session_id: String,
    /// As the token says.
    pub user_id: String,
    /// As the token says.
    pub tenant: String,
    /// As the token says, or drawn by the edge.
    pub device_id: String,
    /// Name of the edge's region.
    pub region: String,
    /// Name of the edge.
    pub edge: String,
    /// Milliseconds since 1970.
    pub server_time_ms: u64,
    /// A client that is silent for twice as long is gone; so is a server.
    pub heartbeat_ms: u64,
    /// Ticket for `resume`.
    pub resume: String,
    /// What may be sent.
    pub limits: HelloLimits,
}

/// See [`Hello::limits`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloLimits {
    /// See [`crate::limits::FRAME_BYTES`].
    pub frame_bytes: u64,
    /// See [`crate::limits::BODY_BYTES`].
    pub body_bytes: u64,
}

/// `message.ack`, and the answer of `POST /v1/messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckPayload {
    /// The same for every retry.
    pub message_id: String,
    /// Dense from 1.
    pub seq: u64,
    /// Never falls.
    pub epoch: u64,
    /// Milliseconds since 1970.
    pub ts_ms: u64,
    /// How durable it is.
    pub durability: Durability,
    /// An earlier send counted.
    pub duplicate: bool,
}

impl AckPayload {
    /// The answer to the send of a message with this id.
    #[must_use]
    pub fn new(ack: &Ack, message_id: String, durability: Durability) -> Self {
        let Ack { seq, epoch, ts_ms, duplicate } = *ack;
        Self { message_id, seq, epoch: epoch.0, ts_ms, durability, duplicate }
    }
}

/// `message.new`, and a message of history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct MessagePayload {
    /// The same for every retry.
    pub message_id: String,
    /// Dense number of the message.
    pub seq: u64,
    /// Dense number of the change.
    pub ver: u64,
    /// Never falls.
    pub epoch: u64,
    /// Who.
    pub sender: String,
    /// From where; empty when the sender's token named no device.
    pub device_id: String,
    /// Milliseconds since 1970.
    pub ts_ms: u64,
    /// What.
    #[serde(flatten, skip_deserializing)]
    pub content: MessageContent,
    /// Why there is no text: `sealed`, `opaque` or `unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_kind: Option<String>,
    /// In history only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_msg_id: Option<String>,
    /// Appended again after the loss and return of a region.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recovered: bool,
}

with_content!(MessagePayload);

impl MessagePayload {
    /// The message of a change.
    #[must_use]
    pub fn new(change: &Change, message: &Message) -> Self {
        let Change { conversation, ver, epoch, ts_ms, .. } = change;
        let Message { seq, sender, device, draft, recovered, later: _ } = message;
        Self {
            message_id: message_id(conversation, message).to_string(),
            seq: *seq,
            ver: *ver,
            epoch: epoch.0,
            sender: sender.to_string(),
            device_id: device.as_ref().map(ToString::to_string).unwrap_or_default(),
            ts_ms: *ts_ms,
            content: MessageContent::of(draft),
            body_kind: draft.body.unreadable().map(str::to_owned),
            client_msg_id: None,
            recovered: *recovered,
        }
    }
}

/// `GET /v1/groups/{id}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPayload {
    /// Which.
    pub conversation_id: ConversationId,
    /// What kind.
    pub kind: ConversationKind,
    /// A group's name; null for a direct conversation.
    pub name: Option<String>,
    /// Residency zone, by name.
    pub zone: String,
    /// Where it lives, by name.
    pub home_region: String,
    /// Where it is served now, by name.
    pub acting_region: String,
    /// Of its messages.
    pub durability: Durability,
    /// Never falls.
    pub epoch: u64,
    /// Number of its last message.
    pub head_seq: u64,
    /// All its members.
    pub member_count: u32,
    /// A page of them.
    pub members: Vec<MemberPayload>,
    /// Ask with `?members_after=` this user for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_next: Option<String>,
}

/// See [`GroupPayload::members`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberPayload {
    /// The member.
    pub user_id: String,
    /// What they may do.
    pub role: Role,
    /// First seq that they may count as unread.
    pub joined_seq: u64,
}

/// `conversation.joined`: the conversation, and its new member's place in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedPayload {
    /// Which.
    pub conversation_id: ConversationId,
    /// What kind.
    pub kind: ConversationKind,
    /// A group's name; null for a direct conversation.
    pub name: Option<String>,
    /// Residency zone, by name.
    pub zone: String,
    /// Where it lives, by name.
    pub home_region: String,
    /// Where it is served now, by name.
    pub acting_region: String,
    /// Of its messages.
    pub durability: Durability,
    /// Of the change.
    pub epoch: u64,
    /// Dense number of the change.
    pub ver: u64,
    /// Number of its last message.
    pub head_seq: u64,
    /// All its members.
    pub member_count: u32,
    /// What the user may do.
    pub role: Role,
    /// First seq that the user may count as unread.
    pub joined_seq: u64,
}

/// `conversation.left`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftPayload {
    /// Dense number of the change.
    pub ver: u64,
    /// Of the change.
    pub epoch: u64,
    /// Who removed the user; perhaps the user.
    pub by: String,
}

/// `conversation.updated`: what changed, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatedPayload {
    /// Dense number of the change.
    pub ver: u64,
    /// Of the change.
    pub epoch: u64,
    /// Who asked for it; absent when an operator moved the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Now in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<AddedPayload>,
    /// Now out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// Still in, with another role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, Role>,
    /// All members after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_count: Option<u32>,
    /// Where it lives now, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home_region: Option<String>,
    /// Where it is served now, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acting_region: Option<String>,
}

/// See [`UpdatedPayload::added`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedPayload {
    /// The member.
    pub user_id: String,
    /// What they may do.
    pub role: Role,
}

/// `behind`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BehindPayload {
    /// First message not sent live.
    pub from_seq: u64,
    /// Last message not sent live.
    pub to_seq: u64,
}

/// `sync.done`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncDonePayload {
    /// Number of the last message of each conversation asked about.
    pub heads: BTreeMap<ConversationId, u64>,
}

/// `goaway`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoawayPayload {
    /// Not before.
    pub reconnect_after_ms: u64,
    /// URLs of other edges, best first.
    pub alternatives: Vec<String>,
    /// For people.
    pub reason: String,
}

/// `error`, and (with `type`, `title` and `status`) `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPayload {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// When it may be worth trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// `pong`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PongPayload {
    /// Milliseconds since 1970.
    pub server_time_ms: u64,
}

/// A frame from a server, as a client reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Always first.
    Hello(Hello),
    /// `message.ack`
    Ack(AckPayload),
    /// `message.new`
    Message(MessagePayload),
    /// `conversation.joined`
    Joined(JoinedPayload),
    /// `conversation.left`
    Left(LeftPayload),
    /// `conversation.updated`
    Updated(UpdatedPayload),
    /// `behind`
    Behind(BehindPayload),
    /// `sync.done`
    SyncDone(SyncDonePayload),
    /// `goaway`
    Goaway(GoawayPayload),
    /// `error`
    Error(ErrorPayload),
    /// `pong`
    Pong(PongPayload),
    /// A type that this version does not know. Clients skip it.
    Unknown(String),
}

/// Reads a frame from a server: its envelope without the payload, and the payload by its type.
///
/// # Errors
/// When it is not an envelope, or a known type with a payload that does not fit.
pub fn parse(text: &str) -> Result<(Envelope<()>, Event), serde_json::Error> {
    let raw: Envelope<Box<RawValue>> = serde_json::from_str(text)?;
    let payload = raw.payload.get();
    let event = match raw.kind.as_str() {
        "hello" => Event::Hello(serde_json::from_str(payload)?),
        "message.ack" => Event::Ack(serde_json::from_str(payload)?),
        "message.new" => Event::Message(serde_json::from_str(payload)?),
        "conversation.joined" => Event::Joined(serde_json::from_str(payload)?),
        "conversation.left" => Event::Left(serde_json::from_str(payload)?),
        "conversation.updated" => Event::Updated(serde_json::from_str(payload)?),
        "behind" => Event::Behind(serde_json::from_str(payload)?),
        "sync.done" => Event::SyncDone(serde_json::from_str(payload)?),
        "goaway" => Event::Goaway(serde_json::from_str(payload)?),
        "error" => Event::Error(serde_json::from_str(payload)?),
        "pong" => Event::Pong(serde_json::from_str(payload)?),
        other => Event::Unknown(other.to_owned()),
    };
    let Envelope { id, kind, conversation_id, client_msg_id, re, .. } = raw;
    Ok((Envelope { id, kind, conversation_id, client_msg_id, re, payload: () }, event))
}
