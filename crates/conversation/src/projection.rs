//! A committed frame as rows: what it means to those who read.
//!
//! Pure, deterministic and idempotent: any node may project any committed frame any number of times. Every row has a key
//! and a value and is written with a [`stamp`]; for each key the row with the highest stamp counts (R5: a stamp ranks by epoch,
//! so a late projection of a lost term never wins). No row is ever deleted: who has left is a row that says so. Rows of
//! one frame never share a key.
//!
//! What stands in the rows of one conversation is consistent once all of its committed frames are projected, not before.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use wire::change::{Change, Created, Event, MembersChanged, Message, Role};
use wire::{ClientMsgId, ConversationId, Epoch, Position, TenantId, UserId};

use crate::dedupe::{Seen, fingerprint_of_message};
use crate::log::LogFrame;
use crate::moving::{Location, stamp};

/// One row of a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// What a conversation was created as.
    Facts(FactsRow),
    /// How far a conversation has come.
    Head(HeadRow),
    /// Its last message.
    LastMessage(LastMessageRow),
    /// A member, or a former one.
    Member(MemberRow),
    /// What he may do.
    Role(RoleRow),
    /// A message, for pages of history.
    Message(MessageRow),
    /// Any change, for catching up by `ver`.
    Change(ChangeRow),
    /// What a `client_msg_id` became. May be forgotten 30 days after `seen.ts_ms`.
    Dedupe(DedupeRow),
    /// A conversation of a user.
    Inbox(InboxRow),
    /// How far a user has read, or written himself.
    ReadCursor(ReadCursorRow),
    /// In which shard a conversation is. No row: where it was born.
    Home(PlacementRow),
}

/// Key: conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsRow {
    /// Which.
    pub conversation: ConversationId,
    /// Whose.
    pub tenant: TenantId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// Who asked for it.
    pub by: UserId,
    /// When, milliseconds since 1970.
    pub ts_ms: u64,
    /// See [`HeadRow::at`].
    pub at: Position,
}

/// Key: conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRow {
    /// Which.
    pub conversation: ConversationId,
    /// Number of its last change.
    pub head_ver: u64,
    /// Of that change.
    pub epoch: Epoch,
    /// When it was ordered, milliseconds since 1970.
    pub ts_ms: u64,
    /// Its [`stamp`]: where in the log, but with the epoch as clients see it. The row counts only if the shard in which it was decided
    /// [owns](crate::shard::Starts::owns) that place: what is lost with its region may have come over as rows, or have been read there
    /// before. 0: of a version that did not say.
    pub at: Position,
}

/// Key: conversation. A row of its own, because a change of members does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMessageRow {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Number of its last message: `head_seq`. No row: 0.
    pub seq: u64,
    /// When it was ordered, milliseconds since 1970.
    pub ts_ms: u64,
    /// See [`HeadRow::at`].
    pub at: Position,
}

/// Key: conversation, user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Who.
    pub user: UserId,
    /// First seq that he may count as unread.
    pub joined_seq: u64,
    /// He has left or was removed: not a member.
    pub gone: bool,
    /// See [`HeadRow::at`].
    pub at: Position,
}

/// Key: conversation, user. A row of its own, because a change of role does not know when the member joined. Counts only
/// beside a [`MemberRow`] that is not gone; whoever joins gets one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRow {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Who.
    pub user: UserId,
    /// What he may do.
    pub role: Role,
    /// See [`HeadRow::at`].
    pub at: Position,
}

/// Key: conversation, seq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Which message.
    pub seq: u64,
    /// [`Change::to_bytes`] of an [`Event::Message`].
    pub change: Bytes,
}

/// Key: conversation, ver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRow {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Which change.
    pub ver: u64,
    /// If it is a message: its seq. A store may then keep the bytes once, with [`MessageRow`], and this reference here.
    pub seq: Option<u64>,
    /// Where in the log of its shard. The row counts only if [`Starts::owns`](crate::shard::Starts::owns) it.
    pub at: Position,
    /// [`Change::to_bytes`].
    pub change: Bytes,
}

/// Key: conversation, sender, `client_msg_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupeRow {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Who sent.
    pub sender: UserId,
    /// What he calls it.
    pub client_msg_id: ClientMsgId,
    /// What it became.
    pub seen: Seen,
}

/// Key: stream, conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRow {
    /// The user's own stream.
    pub stream: ConversationId,
    /// A conversation of his.
    pub conversation: ConversationId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// First seq that he may count as unread.
    pub joined_seq: u64,
    /// The `ver`, in that conversation, of the last note that counted.
    pub at_ver: u64,
    /// He is no longer in it. Kept, so that an older note cannot bring it back.
    pub left: bool,
    /// See [`HeadRow::at`].
    pub at: Position,
}

/// Key: conversation, user. (The tenant is the conversation's; a frame of messages does not repeat it, so the key cannot be
/// the user's stream.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCursorRow {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Who.
    pub user: UserId,
    /// All up to it is read.
    pub read_seq: u64,
}

/// Key: conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRow {
    /// Which conversation.
    pub conversation: ConversationId,
    /// In which shard.
    pub location: Location,
    /// See [`HeadRow::at`].
    pub at: Position,
}

/// The rows of a frame, by the stamp under which they are written ([`stamp`]): one stamp, but for conversations that have
/// moved.
#[must_use]
pub fn project(frame: &LogFrame) -> BTreeMap<Position, Vec<Row>> {
    let mut stamped: BTreeMap<Position, Rows> = BTreeMap::new();
    for change in &frame.changes {
        let stamp = stamp(change, frame.at());
        let room = 4 * frame.changes.len() + 4;
        let new = || Rows {
            at: stamp,
            place: frame.at(),
            rows: Vec::with_capacity(room),
            index: HashMap::new(),
        };
        stamped.entry(stamp).or_insert_with(new).change(change);
    }
    stamped.into_iter().map(|(stamp, rows)| (stamp, rows.rows)).collect()
}

/// The rows of one frame so far; of those that a later change of the frame replaces, where they stand.
struct Rows {
    /// Their stamp.
    at: Position,
    /// Of the frame.
    place: Position,
    rows: Vec<Row>,
    index: HashMap<Key, usize>,
}

#[derive(PartialEq, Eq, Hash)]
enum Key {
    Head(ConversationId),
    LastMessage(ConversationId),
    Member(ConversationId, UserId),
    Role(ConversationId, UserId),
    Inbox(ConversationId, ConversationId),
    ReadCursor(ConversationId, UserId),
    Home(ConversationId),
}

impl Rows {
    fn put(&mut self, key: Key, row: Row) {
        match self.index.entry(key) {
            Entry::Occupied(at) => self.rows[*at.get()] = row,
            Entry::Vacant(at) => {
                at.insert(self.rows.len());
                self.rows.push(row);
            }
        }
    }

    fn change(&mut self, change: &Change) {
        let conversation = change.conversation;
        let bytes = Bytes::from(change.to_bytes());
        let mut seq = None;
        match &change.event {
            Event::Created(created) => self.created(change, created),
            Event::Message(message) => {
                seq = Some(message.seq);
                self.rows.push(Row::Message(MessageRow {
                    conversation,
                    seq: message.seq,
                    change: bytes.clone(),
                }));
                self.message(change, message);
            }
            Event::MembersChanged(changed) => self.members_changed(conversation, changed),
            Event::Joined(joined) => self.inbox(InboxRow {
                stream: conversation,
                conversation: joined.conversation,
                name: joined.name.clone(),
                joined_seq: joined.joined_seq,
                at_ver: joined.at_ver,
                left: false,
                at: self.at,
            }),
            Event::Left(left) => self.inbox(InboxRow {
                stream: conversation,
                conversation: left.conversation,
                name: None,
                joined_seq: 0,
                at_ver: left.at_ver,
                left: true,
                at: self.at,
            }),
            Event::MovedOut(out) => self.placement(conversation, Location::left(change, out)),
            Event::MovedIn(moved) => self.placement(conversation, Location::came(moved)),
            // A newer node's: kept for those who catch up by `ver`, and counted.
            Event::Unknown(_) => {}
        }
        self.rows.push(Row::Change(ChangeRow {
            conversation,
            ver: change.ver,
            seq,
            at: self.place,
            change: bytes,
        }));
        let (epoch, ts_ms) = (change.epoch, change.ts_ms);
        let head = HeadRow { conversation, head_ver: change.ver, epoch, ts_ms, at: self.at };
        self.put(Key::Head(conversation), Row::Head(head));
    }

    fn created(&mut self, change: &Change, created: &Created) {
        let conversation = change.conversation;
        self.rows.push(Row::Facts(FactsRow {
            conversation,
            tenant: created.tenant.clone(),
            name: created.name.clone(),
            by: created.by.clone(),
            ts_ms: change.ts_ms,
            at: self.at,
        }));
        for (user, role) in &created.members {
            self.member(MemberRow {
                conversation,
                user: user.clone(),
                joined_seq: 1,
                gone: false,
                at: self.at,
            });
            self.role(conversation, user, *role);
        }
    }

    fn message(&mut self, change: &Change, message: &Message) {
        let conversation = change.conversation;
        let last =
            LastMessageRow { conversation, seq: message.seq, ts_ms: change.ts_ms, at: self.at };
        self.put(Key::LastMessage(conversation), Row::LastMessage(last));
        let seen = Seen {
            seq: message.seq,
            epoch: change.epoch,
            ts_ms: change.ts_ms,
            fingerprint: fingerprint_of_message(message),
            at: self.place,
        };
        self.rows.push(Row::Dedupe(DedupeRow {
            conversation,
            sender: message.sender.clone(),
            client_msg_id: message.client_msg_id.clone(),
            seen,
        }));
        let read =
            ReadCursorRow { conversation, user: message.sender.clone(), read_seq: message.seq };
        self.put(Key::ReadCursor(conversation, message.sender.clone()), Row::ReadCursor(read));
    }

    fn members_changed(&mut self, conversation: ConversationId, changed: &MembersChanged) {
        for (user, role) in &changed.added {
            let joined_seq = changed.head_seq + 1;
            self.member(MemberRow {
                conversation,
                user: user.clone(),
                joined_seq,
                gone: false,
                at: self.at,
            });
            self.role(conversation, user, *role);
        }
        for user in &changed.removed {
            self.member(MemberRow {
                conversation,
                user: user.clone(),
                joined_seq: 0,
                gone: true,
                at: self.at,
            });
        }
        for (user, role) in &changed.roles {
            self.role(conversation, user, *role);
        }
    }

    fn member(&mut self, row: MemberRow) {
        self.put(Key::Member(row.conversation, row.user.clone()), Row::Member(row));
    }

    fn role(&mut self, conversation: ConversationId, user: &UserId, role: Role) {
        let row = RoleRow { conversation, user: user.clone(), role, at: self.at };
        self.put(Key::Role(conversation, user.clone()), Row::Role(row));
    }

    fn placement(&mut self, conversation: ConversationId, location: Location) {
        let row = PlacementRow { conversation, location, at: self.at };
        self.put(Key::Home(conversation), Row::Home(row));
    }

    fn inbox(&mut self, row: InboxRow) {
        self.put(Key::Inbox(row.stream, row.conversation), Row::Inbox(row));
    }
}
