use bytes::Bytes;
use wire::{ClientMsgId, ConversationId, UserId};

use super::row::{ClusteringKey, Kind, Partition, Projection};
use super::value;
use crate::dedupe::Seen;

/// What a `client_msg_id` became. May be forgotten 30 days after `seen.ts_ms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupeRow {
    pub conversation: ConversationId,
    pub sender: UserId,
    pub client_msg_id: ClientMsgId,
    pub seen: Seen,
}

impl Projection for DedupeRow {
    const KIND: Kind = Kind::Dedupe;
    type Read = Seen;

    fn partition(&self) -> Partition {
        Partition::Sender(self.conversation, self.sender.clone())
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::Send(self.client_msg_id.clone())
    }

    fn value(&self) -> Bytes {
        value::encode(&self.seen)
    }

    fn read(value: &[u8]) -> Option<Seen> {
        value::decode(value)
    }
}
