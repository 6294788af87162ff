//! What names a message: the sender's own id for it, and the id that everyone derives from it.

use std::fmt;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::{BASE32, ConversationId, UserId, name};
use crate::limits;

/// A message, derived from what its sender called it: the same after a retry, a takeover or a
/// salvage.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// The id of the message that `sender` sent as `client_msg_id`.
    #[must_use]
    pub fn derive(
        conversation: &ConversationId,
        sender: &UserId,
        client_msg_id: &ClientMsgId,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(conversation.to_bytes());
        hash.update((sender.as_str().len() as u64).to_be_bytes());
        hash.update(sender.as_str().as_bytes());
        hash.update(client_msg_id.as_str().as_bytes());
        let mut out = [0; 16];
        out.copy_from_slice(&hash.finalize()[..16]);
        Self(out)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "msg_{}", BASE32.encode(&self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

name! {
    /// What a sender calls their message: 1..64 of `A-Za-z0-9_-`, remembered 30 days.
    ClientMsgId, "client_msg_id", |text| {
        if text.is_empty() {
            return Err("empty");
        }
        if text.len() > limits::CLIENT_MSG_ID_CHARS {
            return Err("longer than 64 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err("has a character other than A-Z, a-z, 0-9, _ and -");
        }
        Ok(())
    }
}
