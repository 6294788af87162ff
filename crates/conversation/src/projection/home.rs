use serde::{Deserialize, Serialize};
use wire::{ConversationId, Position};

use crate::moving::Location;

use super::row::{ClusteringKey, Kind, Partition, WholeRow};

/// The shard that a conversation is in. No row: the one it was born in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeRow {
    pub conversation: ConversationId,
    pub location: Location,
    /// See [`HeadRow::at`](super::HeadRow::at).
    pub at: Position,
}

impl WholeRow for HomeRow {
    const KIND: Kind = Kind::Home;

    fn partition(&self) -> Partition {
        Partition::Conversation(self.conversation)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::Only
    }
}
