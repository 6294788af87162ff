//! The form in which a store keeps a row, whatever its type.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::limits::SEQS_PER_BUCKET;
use wire::{ClientMsgId, ConversationId, Position, UserId};

use super::value;

/// A type of row: how its rows are numbered, where they lie, and what they hold. A new one is a
/// file beside these, a [`Kind`], and a read in the store.
pub trait Projection {
    const KIND: Kind;

    /// What a reader gets from a value.
    type Read;

    fn partition(&self) -> Partition;

    fn key(&self) -> ClusteringKey;

    fn value(&self) -> Bytes;

    /// The inverse of [`Projection::value`]; nothing when this version cannot read it.
    fn read(value: &[u8]) -> Option<Self::Read>;
}

/// A [`Projection`] whose value is the row itself, all of its fields.
pub trait WholeRow: Serialize + DeserializeOwned {
    const KIND: Kind;

    fn partition(&self) -> Partition;

    fn key(&self) -> ClusteringKey;
}

impl<T: WholeRow> Projection for T {
    const KIND: Kind = <T as WholeRow>::KIND;
    type Read = Self;

    fn partition(&self) -> Partition {
        WholeRow::partition(self)
    }

    fn key(&self) -> ClusteringKey {
        WholeRow::key(self)
    }

    fn value(&self) -> Bytes {
        value::encode(self)
    }

    fn read(value: &[u8]) -> Option<Self> {
        value::decode(value)
    }
}

/// The type of a row, as it is stored: numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    Facts = 0,
    Head = 1,
    LastMessage = 2,
    Member = 3,
    Message = 4,
    Change = 5,
    Dedupe = 6,
    Inbox = 7,
    ReadCursor = 8,
    Role = 9,
    Home = 10,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Facts,
        Self::Head,
        Self::LastMessage,
        Self::Member,
        Self::Message,
        Self::Change,
        Self::Dedupe,
        Self::Inbox,
        Self::ReadCursor,
        Self::Role,
        Self::Home,
    ];

    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether a term writes a row of this kind once. Two contents of one such row then belong to
    /// two terms, one of which is lost. (One exception: a `client_msg_id` may come again once it
    /// was forgotten.)
    #[must_use]
    pub fn is_write_once(self) -> bool {
        match self {
            Self::Facts | Self::Message | Self::Change | Self::Dedupe => true,
            Self::Head
            | Self::LastMessage
            | Self::Member
            | Self::Inbox
            | Self::ReadCursor
            | Self::Role
            | Self::Home => false,
        }
    }

    /// Whether a partition holds one row of this kind at most ([`ClusteringKey::Only`]).
    #[must_use]
    pub fn is_single(self) -> bool {
        match self {
            Self::Facts | Self::Head | Self::LastMessage | Self::Home => true,
            Self::Member
            | Self::Role
            | Self::Message
            | Self::Change
            | Self::Dedupe
            | Self::Inbox
            | Self::ReadCursor => false,
        }
    }
}

/// The rows that are read and written together. A store has a table for each of these shapes, not
/// for each type of row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    /// Rows about a conversation or a user stream.
    Conversation(ConversationId),
    /// Numbered rows of a conversation, 2,048 of a kind in each: [`Partition::bucket`].
    Bucket(ConversationId, u64),
    /// Rows about the sends of one user to a conversation. A store may forget them after 30 days.
    Sender(ConversationId, UserId),
}

impl Partition {
    /// The partition of a row with this seq or ver; they start at 1 and are dense.
    #[must_use]
    pub fn bucket(conversation: ConversationId, n: u64) -> Self {
        Self::Bucket(conversation, n.saturating_sub(1) / SEQS_PER_BUCKET)
    }

    /// The last number in the bucket of `n`.
    #[must_use]
    pub fn last_of_bucket(n: u64) -> u64 {
        let bucket = n.saturating_sub(1) / SEQS_PER_BUCKET;
        (bucket + 1).saturating_mul(SEQS_PER_BUCKET)
    }

    #[must_use]
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Conversation(id) | Self::Bucket(id, _) | Self::Sender(id, _) => *id,
        }
    }
}

/// The place of a row among those of its kind in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClusteringKey {
    /// There is no other.
    Only,
    Number(u64),
    User(UserId),
    Conversation(ConversationId),
    Send(ClientMsgId),
}

impl ClusteringKey {
    /// Bytes that sort as the keys do.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            // Not empty: not every server bears empty keys.
            Self::Only => vec![0],
            Self::Number(n) => n.to_be_bytes().to_vec(),
            Self::User(user) => user.as_str().as_bytes().to_vec(),
            Self::Conversation(id) => id.to_bytes().to_vec(),
            Self::Send(id) => id.as_str().as_bytes().to_vec(),
        }
    }
}

/// Names a row over the whole store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId {
    pub partition: Partition,
    pub kind: Kind,
    pub key: ClusteringKey,
}

/// A row as it is stored. Of two with one id the one with the higher stamp counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StampedRow {
    pub id: RowId,
    pub stamp: Position,
    pub value: Bytes,
}

impl StampedRow {
    #[must_use]
    pub fn new<T: Projection>(row: &T, stamp: Position) -> Self {
        let id = RowId { partition: row.partition(), kind: T::KIND, key: row.key() };
        Self { id, stamp, value: row.value() }
    }

    /// The content, if the row is of this type and this version can read it.
    #[must_use]
    pub fn read<T: Projection>(&self) -> Option<T::Read> {
        (self.id.kind == T::KIND).then(|| T::read(&self.value)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_kind_leads_back_to_it() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::from_code(11), None);
    }

    #[test]
    fn a_bucket_ends_where_the_next_begins_and_keys_sort_as_numbers() {
        for n in [1, 2047, 2048] {
            assert_eq!(Partition::last_of_bucket(n), 2048);
        }
        assert_eq!(Partition::last_of_bucket(2049), 4096);
        assert_eq!(Partition::last_of_bucket(u64::MAX), u64::MAX);
        let keys = [1, 255, 256, u64::MAX].map(|n| ClusteringKey::Number(n).to_bytes());
        assert!(keys.is_sorted());
    }
}
