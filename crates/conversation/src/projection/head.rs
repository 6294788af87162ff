use serde::{Deserialize, Serialize};
use wire::{ConversationId, Epoch, Position};

use super::row::{ClusteringKey, Kind, Partition, WholeRow};

/// How far a conversation has come: its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRow {
    pub conversation: ConversationId,
    pub head_ver: u64,
    pub epoch: Epoch,
    /// When the change was ordered, milliseconds since 1970.
    pub ts_ms: u64,
    /// The [`stamp`](crate::moving::stamp): a place in the log, with the epoch as clients see it.
    /// The row counts only if its shard [owns](crate::shard::Starts::owns) that place: rows that
    /// are lost with a region may have been replicated or read before.
    pub at: Position,
}

impl WholeRow for HeadRow {
    const KIND: Kind = Kind::Head;

    fn partition(&self) -> Partition {
        Partition::Conversation(self.conversation)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::Only
    }
}
