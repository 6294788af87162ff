//! Projection rows as cells.
//!
//! | kind | rest of the key | value |
//! |---|---|---|
//! | 0 facts, 1 head, 2 last message, 10 placement | - | the row (postcard) |
//! | 3 member, 8 read cursor, 9 role | user id | the row |
//! | 4 message | seq 8 | the change |
//! | 5 change | ver 8 | 0 and the change, or 1 and the seq of the message that it is: a body is kept once |
//! | 6 dedupe | length of sender 1, sender, `client_msg_id` | what it became |
//! | 7 inbox | conversation 23 | the row |

use bytes::Bytes;
use conversation::dedupe::Seen;
use conversation::projection::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::change::{Change, Event};
use wire::{ClientMsgId, ConversationId, Position, UserId};

use crate::cell::{Cell, Table};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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
    Placement = 10,
}

pub(crate) fn key(conversation: ConversationId, kind: Kind, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(26 + rest.len());
    key.extend_from_slice(&conversation.shard.zone.0.to_be_bytes());
    key.push(kind as u8);
    key.extend_from_slice(&conversation.to_bytes());
    key.extend_from_slice(rest);
    key
}

pub(crate) fn dedupe_rest(sender: &UserId, client_msg_id: &ClientMsgId) -> Vec<u8> {
    let sender = sender.as_str().as_bytes();
    let length = u8::try_from(sender.len()).expect("user ids are at most 128 bytes");
    [&[length], sender, client_msg_id.as_str().as_bytes()].concat()
}

/// The cell of a row.
pub(crate) fn cell(row: &Row, stamp: Position) -> Cell {
    let key = match row {
        Row::Facts(row) => key(row.conversation, Kind::Facts, &[]),
        Row::Head(row) => key(row.conversation, Kind::Head, &[]),
        Row::LastMessage(row) => key(row.conversation, Kind::LastMessage, &[]),
        Row::Member(row) => key(row.conversation, Kind::Member, row.user.as_str().as_bytes()),
        Row::Role(row) => key(row.conversation, Kind::Role, row.user.as_str().as_bytes()),
        Row::Message(row) => key(row.conversation, Kind::Message, &row.seq.to_be_bytes()),
        Row::Change(row) => key(row.conversation, Kind::Change, &row.ver.to_be_bytes()),
        Row::Dedupe(row) => key(row.conversation, Kind::Dedupe, &dedupe_rest(&row.sender, &row.client_msg_id)),
        Row::Inbox(row) => key(row.stream, Kind::Inbox, &row.conversation.to_bytes()),
        Row::ReadCursor(row) => key(row.conversation, Kind::ReadCursor, row.user.as_str().as_bytes()),
        Row::Placement(row) => key(row.conversation, Kind::Placement, &[]),
    };
    Cell::new(Table::Projection, key, stamp, &value(row))
}

/// What stands in a row, whatever its key looks like in a store.
pub(crate) fn value(row: &Row) -> Bytes {
    match row {
        Row::Facts(row) => encode(row),
        Row::Head(row) => encode(row),
        Row::LastMessage(row) => encode(row),
        Row::Member(row) => encode(row),
        Row::Role(row) => encode(row),
        Row::Message(row) => row.change.clone(),
        Row::Change(row) => match row.seq {
            Some(seq) => [&[1], &seq.to_be_bytes()[..]].concat().into(),
            None => [&[0], &row.change[..]].concat().into(),
        },
        Row::Dedupe(row) => encode(&row.seen),
        Row::Inbox(row) => encode(row),
        Row::ReadCursor(row) => encode(row),
        Row::Placement(row) => encode(row),
    }
}

fn encode<T: Serialize>(row: &T) -> Bytes {
    postcard::to_stdvec(row).expect("plain data in memory always serializes").into()
}

/// Bytes behind the row are fields of a later version.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().map(|(row, _later)| row)
}

pub(crate) fn decode_seen(bytes: &[u8]) -> Option<Seen> {
    decode(bytes)
}

/// A row of kind change.
#[derive(Debug)]
pub(crate) enum ChangeEntry {
    Change(Box<Change>),
    /// The message with this seq.
    Message(u64),
}

impl ChangeEntry {
    pub(crate) fn seq(&self) -> Option<u64> {
        match self {
            Self::Change(_) => None,
            Self::Message(seq) => Some(*seq),
        }
    }
}

pub(crate) fn change_entry(bytes: &[u8]) -> Option<ChangeEntry> {
    match bytes.split_first()? {
        (0, change) => Change::from_bytes(change).ok().map(Box::new).map(ChangeEntry::Change),
        (1, seq) => Some(ChangeEntry::Message(u64::from_be_bytes(*seq.first_chunk()?))),
        _ => None,
    }
}

pub(crate) fn seq_of(change: &Change) -> Option<u64> {
    match &change.event {
        Event::Message(message) => Some(message.seq),
        _ => None,
    }
}
