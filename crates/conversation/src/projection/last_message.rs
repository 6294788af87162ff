use serde::{Deserialize, Serialize};
use wire::{ConversationId, Position};

use super::row::{ClusteringKey, Kind, Partition, WholeRow};

/// The last message of a conversation. A row of its own, because a change of members does not know
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMessageRow {
    pub conversation: ConversationId,
    /// The `head_seq` of the conversation; 0 without a row.
    pub seq: u64,
    /// When the message was ordered, milliseconds since 1970.
    pub ts_ms: u64,
    /// See [`HeadRow::at`](super::HeadRow::at).
    pub at: Position,
}

impl WholeRow for LastMessageRow {
    const KIND: Kind = Kind::LastMessage;

    fn partition(&self) -> Partition {
        Partition::Conversation(self.conversation)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::Only
    }
}
