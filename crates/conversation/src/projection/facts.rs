use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use wire::{ConversationId, Position, TenantId, UserId};

use super::row::{ClusteringKey, Kind, Partition, Projection};
use super::value;

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

impl Projection for FactsRow {
    const KIND: Kind = Kind::Facts;
    type Read = Self;

    fn partition(&self) -> Partition {
        Partition::Conversation(self.conversation)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::Only
    }

    fn value(&self) -> Bytes {
        value::encode(self)
    }

    fn read(value: &[u8]) -> Option<Self> {
        value::decode(value)
    }
}
