use bytes::Bytes;
use wire::ConversationId;
use wire::change::{Change, Recorded};

use super::row::{ClusteringKey, Kind, Partition, Projection};

/// A message, for pages of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    pub conversation: ConversationId,
    pub seq: u64,
    /// [`Recorded::bytes`] of a message.
    pub change: Bytes,
}

impl Projection for MessageRow {
    const KIND: Kind = Kind::Message;
    type Read = Recorded;

    fn partition(&self) -> Partition {
        Partition::bucket(self.conversation, self.seq)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::Number(self.seq)
    }

    fn value(&self) -> Bytes {
        self.change.clone()
    }

    fn read(value: &[u8]) -> Option<Recorded> {
        Recorded::from_bytes(Bytes::copy_from_slice(value)).ok()
    }
}

/// The seq of a change that is a message.
pub(super) fn seq_of(change: &Change) -> Option<u64> {
    change.event.message().map(|message| message.seq)
}
