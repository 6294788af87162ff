use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wire::change::Recorded;
use wire::{ConversationId, Position};

use super::message::seq_of;
use super::row::{ClusteringKey, Kind, Partition, Projection};
use super::value;

/// Any change, for catching up by `ver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRow {
    pub conversation: ConversationId,
    pub ver: u64,
    /// The place in the log of its shard. The row counts only if
    /// [`Starts::owns`](crate::shard::Starts::owns) it.
    pub at: Position,
    pub content: Content,
}

/// What a [`ChangeRow`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// [`Recorded::bytes`].
    Change(Bytes),
    /// The [`MessageRow`](super::MessageRow) with this seq: a body is kept once.
    Message(u64),
}

/// A [`ChangeRow`] that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeEntry {
    pub at: Position,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Change(Box<Recorded>),
    /// The message with this seq.
    Message(u64),
}

/// As it is stored: the bytes of the change are empty where there is a seq.
#[derive(Serialize, Deserialize)]
struct Value<'a> {
    at: Position,
    seq: Option<u64>,
    #[serde(borrow)]
    change: &'a [u8],
}

impl Projection for ChangeRow {
    const KIND: Kind = Kind::Change;
    type Read = ChangeEntry;

    fn partition(&self) -> Partition {
        Partition::bucket(self.conversation, self.ver)
    }

    fn key(&self) -> ClusteringKey {
        ClusteringKey::Number(self.ver)
    }

    fn value(&self) -> Bytes {
        let at = self.at;
        match &self.content {
            Content::Change(change) => value::encode(&Value { at, seq: None, change }),
            Content::Message(seq) => value::encode(&Value { at, seq: Some(*seq), change: &[] }),
        }
    }

    fn read(value: &[u8]) -> Option<ChangeEntry> {
        let Value { at, seq, change } = value::decode(value)?;
        let what = match seq {
            Some(seq) => What::Message(seq),
            None => What::Change(Recorded::from_bytes(Bytes::copy_from_slice(change)).ok()?.into()),
        };
        Some(ChangeEntry { at, what })
    }
}

impl ChangeEntry {
    /// The seq of the message that the reader still has to fetch.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        match self.what {
            What::Change(_) => None,
            What::Message(seq) => Some(seq),
        }
    }
}

/// The changes of these entries with the messages they name, up to the first message that is
/// missing: it is on its way, and the caller asks again.
#[must_use]
pub fn with_messages(
    entries: Vec<ChangeEntry>,
    messages: Vec<Recorded>,
) -> Vec<(Position, Recorded)> {
    let mut messages: BTreeMap<u64, Recorded> =
        messages.into_iter().filter_map(|change| Some((seq_of(&change)?, change))).collect();
    let whole = entries.into_iter().map_while(|entry| match entry.what {
        What::Change(change) => Some((entry.at, *change)),
        What::Message(seq) => Some((entry.at, messages.remove(&seq)?)),
    });
    whole.collect()
}
