//! Projection rows as cells.
//!
//! | kind | rest of the key | value |
//! |---|---|---|
//! | 0 facts, 1 head, 2 last message, 10 placement | - | the row (postcard) |
//! | 3 member, 8 read cursor, 9 role | user id | the row |
//! | 4 message | seq 8 | the change |
//! | 5 change | ver 8 | 2, place 16 and the change, or 3, place 16 and the seq of the message that it is: a body is kept once |
//! | 6 dedupe | length of sender 1, sender, `client_msg_id` | what it became |
//! | 7 inbox | conversation 23 | the row |

use std::collections::BTreeMap;

use bytes::Bytes;
use conversation::dedupe::Seen;
use conversation::projection::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::change::{Change, Event};
use wire::{ClientMsgId, ConversationId, Epoch, Position, Slot, UserId, ZoneId};

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
    Home = 10,
}

/// The start of all keys of a kind.
pub(crate) fn kind_prefix(zone: ZoneId, kind: Kind) -> [u8; 3] {
    let [high, low] = zone.0.to_be_bytes();
    [high, low, kind as u8]
}

pub(crate) fn key(conversation: ConversationId, kind: Kind, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(26 + rest.len());
    key.extend_from_slice(&kind_prefix(conversation.shard.zone, kind));
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
        Row::Dedupe(row) => {
            key(row.conversation, Kind::Dedupe, &dedupe_rest(&row.sender, &row.client_msg_id))
        }
        Row::Inbox(row) => key(row.stream, Kind::Inbox, &row.conversation.to_bytes()),
        Row::ReadCursor(row) => {
            key(row.conversation, Kind::ReadCursor, row.user.as_str().as_bytes())
        }
        Row::Home(row) => key(row.conversation, Kind::Home, &[]),
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
        Row::Change(row) => {
            let (epoch, slot) = (row.at.epoch.0.to_be_bytes(), row.at.slot.0.to_be_bytes());
            match row.seq {
                Some(seq) => [&[3], &epoch[..], &slot[..], &seq.to_be_bytes()[..]].concat().into(),
                None => [&[2], &epoch[..], &slot[..], &row.change[..]].concat().into(),
            }
        }
        Row::Dedupe(row) => encode(&row.seen),
        Row::Inbox(row) => encode(row),
        Row::ReadCursor(row) => encode(row),
        Row::Home(row) => encode(row),
    }
}

fn encode<T: Serialize>(row: &T) -> Bytes {
    postcard::to_stdvec(row).expect("plain data in memory always serializes").into()
}

/// See [`wire::codec::read`]: rows grow as everything else does.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    wire::codec::read(bytes).ok()
}

pub(crate) fn decode_seen(bytes: &[u8]) -> Option<Seen> {
    decode(bytes)
}

/// A row of kind change.
#[derive(Debug)]
pub(crate) struct ChangeEntry {
    pub(crate) at: Position,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Change(Box<Change>),
    /// The message with this seq.
    Message(u64),
}

impl ChangeEntry {
    pub(crate) fn seq(&self) -> Option<u64> {
        match self.what {
            What::Change(_) => None,
            What::Message(seq) => Some(seq),
        }
    }
}

pub(crate) fn change_entry(bytes: &[u8]) -> Option<ChangeEntry> {
    let (kind, rest) = bytes.split_first()?;
    let (at, rest) = place(rest)?;
    let what = match kind {
        2 => What::Change(Change::from_bytes(rest).ok()?.into()),
        3 => What::Message(u64::from_be_bytes(*rest.first_chunk()?)),
        _ => return None,
    };
    Some(ChangeEntry { at, what })
}

fn place(bytes: &[u8]) -> Option<(Position, &[u8])> {
    let (epoch, rest) = bytes.split_first_chunk::<8>()?;
    let (slot, rest) = rest.split_first_chunk::<8>()?;
    let (epoch, slot) = (Epoch(u64::from_be_bytes(*epoch)), Slot(u64::from_be_bytes(*slot)));
    Some((Position { epoch, slot }, rest))
}

/// The changes of these rows, as far as their messages are here: what is missing is on its way, and the caller asks again.
pub(crate) fn whole(entries: Vec<ChangeEntry>, messages: Vec<Change>) -> Vec<(Position, Change)> {
    let mut messages: BTreeMap<u64, Change> =
        messages.into_iter().filter_map(|change| Some((seq_of(&change)?, change))).collect();
    let whole = entries.into_iter().map_while(|entry| match entry.what {
        What::Change(change) => Some((entry.at, *change)),
        What::Message(seq) => Some((entry.at, messages.remove(&seq)?)),
    });
    whole.collect()
}

pub(crate) fn seq_of(change: &Change) -> Option<u64> {
    match &change.event {
        Event::Message(message) => Some(message.seq),
        _ => None,
    }
}
