use serde::{Deserialize, Serialize};
use wire::change::Role;
use wire::{ConversationId, Position, UserId};

use super::row::{ClusteringKey, Kind, Partition, WholeRow};

/// What a member may do. A row of its own, because a change of role does not know when the member
/// joined. Counts only beside a [`MemberRow`](super::MemberRow) that is not gone; every join writes
/// both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRow {
    pub conversation: ConversationId,
    pub user: UserId,
    pub role: Role,
    /// See [`HeadRow::at`](super::HeadRow::at).
    pub at: Position,
}

impl WholeRow for RoleRow {
    const KIND: Kind = Kind::Role;

    fn partition(&self) -> Partition {
        Partition::Conversation(self.conversation)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::User(self.user.clone())
    }
}
