use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use wire::{ConversationId, Position, TenantId, UserId};

use super::row::{ClusteringKey, Kind, Partition, WholeRow};

/// What a conversation was created as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsRow {
    pub conversation: ConversationId,
    pub tenant: TenantId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// The user who asked for it.
    pub by: UserId,
    /// Milliseconds since 1970.
    pub ts_ms: u64,
    /// See [`HeadRow::at`](super::HeadRow::at).
    pub at: Position,
}

impl WholeRow for FactsRow {
    const KIND: Kind = Kind::Facts;

    fn partition(&self) -> Partition {
        Partition::Conversation(self.conversation)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::Only
    }
}
