//! Messages, as the log holds them and before they have a place in it.

mod body;

use serde::{Deserialize, Serialize};

use crate::codec::Later;
use crate::ids::{ClientMsgId, ConversationId, DeviceId, MessageId, UserId};

pub use body::{Body, Opaque, Sealed};

/// A message in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Message {
    /// Dense number of the message in its conversation, from 1.
    pub seq: u64,
    /// The user who sent it.
    pub sender: UserId,
    /// The device it was sent from, if the token named one.
    pub device: Option<DeviceId>,
    /// As its sender wrote it.
    pub draft: Draft,
    /// Appended again after the loss and return of a region.
    pub recovered: bool,
    /// Of a newer node. Stays when the message is recovered.
    #[serde(default)]
    pub later: Later,
}

/// What a sender writes: a message that has no seq yet. A field that is added here is in every
/// stored and sent form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Draft {
    /// The sender's own name for it.
    pub client_msg_id: ClientMsgId,
    /// A text has 1..16384 bytes.
    pub body: Body,
    /// The seq it replies to.
    pub reply_to: Option<u64>,
    /// The seq that started its thread.
    pub thread: Option<u64>,
    /// Users it mentions.
    pub mentions: Vec<UserId>,
    /// The sender's own JSON, as they wrote it.
    pub meta: Option<String>,
    /// Of a newer edge. Stays when the draft becomes a message.
    #[serde(default)]
    pub later: Later,
}

crate::record!(Message, Draft);

impl Draft {
    /// A text and nothing else.
    #[must_use]
    pub fn text(client_msg_id: ClientMsgId, text: impl Into<String>) -> Self {
        Self {
            client_msg_id,
            body: Body::Text(text.into()),
            reply_to: None,
            thread: None,
            mentions: Vec::new(),
            meta: None,
            later: Later::default(),
        }
    }
}

/// Derives what clients call a message.
#[must_use]
pub fn message_id(conversation: &ConversationId, message: &Message) -> MessageId {
    MessageId::derive(conversation, &message.sender, &message.draft.client_msg_id)
}
