use serde::{Deserialize, Serialize};
use wire::{ConversationId, UserId};

use super::row::{ClusteringKey, Kind, Partition, WholeRow};

/// How far a user has read a conversation, or written in it.
///
/// It lies under the conversation: names of users are unique only inside a tenant, and a frame of
/// messages does not repeat the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCursorRow {
    pub conversation: ConversationId,
    pub user: UserId,
    pub read_seq: u64,
}

impl WholeRow for ReadCursorRow {
    const KIND: Kind = Kind::ReadCursor;

    fn partition(&self) -> Partition {
        Partition::Conversation(self.conversation)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::User(self.user.clone())
    }
}
