use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use wire::{ConversationId, Position};

use super::row::{ClusteringKey, Kind, Partition, WholeRow};

/// A conversation in a user's own stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRow {
    /// The user's own stream.
    pub stream: ConversationId,
    pub conversation: ConversationId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// The first seq that may count as unread.
    pub joined_seq: u64,
    /// The `ver`, in that conversation, of the last note that counted.
    pub at_ver: u64,
    /// The user left. The row stays, so that an older note cannot bring it back.
    pub left: bool,
    /// See [`HeadRow::at`](super::HeadRow::at).
    pub at: Position,
}

impl WholeRow for InboxRow {
    const KIND: Kind = Kind::Inbox;

    fn partition(&self) -> Partition {
        Partition::Conversation(self.stream)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::Conversation(self.conversation)
    }
}
