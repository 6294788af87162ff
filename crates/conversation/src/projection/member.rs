use serde::{Deserialize, Serialize};
use wire::{ConversationId, Position, UserId};

use super::row::{ClusteringKey, Kind, Partition, WholeRow};

/// A member, or a former one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    pub conversation: ConversationId,
    pub user: UserId,
    /// The first seq that may count as unread.
    pub joined_seq: u64,
    /// The user left or was removed. The row stays, so that an older one cannot bring them back.
    pub gone: bool,
    /// See [`HeadRow::at`](super::HeadRow::at).
    pub at: Position,
}

impl WholeRow for MemberRow {
    const KIND: Kind = Kind::Member;

    fn partition(&self) -> Partition {
        Partition::Conversation(self.conversation)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::User(self.user.clone())
    }
}
