//! Bodies of the HTTP interface. Requests refuse unknown fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::content::{MessageContent, with_content};
use super::event::MessagePayload;
use crate::change::Role;
use crate::code::ErrorCode;
use crate::ids::{ConversationId, ConversationKind, Durability};

/// `POST /v1/ws/token`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamTokenRequest {
    /// Optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTokenResponse {
    /// A stream token.
    pub token: String,
    /// Milliseconds since 1970.
    pub expires_at_ms: u64,
    /// Where to connect.
    pub url: String,
}

/// `POST /v1/conversations`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenConversation {
    /// Only `direct`.
    pub kind: ConversationKind,
    /// The other.
    pub user_id: String,
}

/// `POST /v1/groups`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateGroup {
    /// 1..256 bytes.
    pub name: String,
    /// Besides the caller.
    #[serde(default)]
    pub members: Vec<String>,
    /// By name; when absent, the nearest in the tenant's zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home_region: Option<String>,
    /// When absent, the tenant's class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// `POST /v1/groups/{id}/members`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeMembers {
    /// Come in as members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Go out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Get this role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, Role>,
}

/// `POST /v1/messages`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct PostMessage {
    /// Where.
    pub conversation_id: String,
    /// The sender's own name for it.
    pub client_msg_id: String,
    /// What.
    #[serde(flatten, skip_deserializing)]
    pub content: MessageContent,
}

with_content!(PostMessage);

/// `GET /v1/conversations/{id}/messages`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryResponse {
    /// Oldest first.
    pub messages: Vec<MessagePayload>,
    /// Number of the last message.
    pub head_seq: u64,
    /// More in the direction of the page.
    pub has_more: bool,
}

/// `GET /v1/inbox`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxResponse {
    /// The user's conversations.
    pub conversations: Vec<InboxEntry>,
    /// `?cursor=` of the next page; null on the last.
    pub next: Option<String>,
}

/// See [`InboxResponse::conversations`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxEntry {
    /// Which.
    pub conversation_id: ConversationId,
    /// What kind.
    pub kind: ConversationKind,
    /// A group's name.
    pub name: Option<String>,
    /// Number of its last message.
    pub head_seq: u64,
    /// All up to it is read.
    pub read_seq: u64,
    /// `head_seq - max(read_seq, joined_seq - 1)`
    pub unread: u64,
    /// When its last message was ordered; 0 if there is none.
    pub last_ts_ms: u64,
}

/// `GET /v1/limits`: what the caller may ask of an edge. A burst is what may come at once after a
/// pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsResponse {
    /// Messages a second.
    pub sends_per_second: u32,
    /// Messages at once.
    pub sends_burst: u32,
    /// New conversations a minute.
    pub conversations_per_minute: u32,
    /// New conversations at once.
    pub conversations_burst: u32,
    /// Users added to conversations, an hour.
    pub members_added_per_hour: u32,
    /// HTTP requests a minute.
    pub requests_per_minute: u32,
    /// Frames other than messages a second.
    pub frames_per_second: u32,
    /// Sessions from devices of one type.
    pub sessions_per_device_type: u32,
    /// Members of a group.
    pub group_members: u64,
    /// Users named by one change of members.
    pub members_per_change: u64,
    /// See [`crate::limits::FRAME_BYTES`].
    pub frame_bytes: u64,
    /// See [`crate::limits::BODY_BYTES`].
    pub body_bytes: u64,
    /// See [`crate::limits::HTTP_BODY_BYTES`].
    pub http_body_bytes: u64,
}

/// `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: the code says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people: the code's meaning.
    pub title: String,
    /// As in the status line.
    pub status: u16,
    /// For programs.
    pub code: ErrorCode,
    /// For people: this case.
    pub detail: String,
    /// When it may be worth trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// With `wrong_zone` and `draining`: URLs of edges to go to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
}
