//! A committed frame as rows: what it means to readers.
//!
//! Pure, deterministic and idempotent: any node may project any committed frame any number of
//! times. Each type of row is a file here ([`Projection`]) and says where its rows lie and what
//! they hold; a store keeps them as [`StampedRow`]s and knows no type. For each [`RowId`] the row
//! with the highest [`stamp`] counts (R5: a stamp ranks by epoch, so a late projection of a lost
//! term never wins). No row is ever deleted: a member who left has a row that says so. Rows of one
//! frame never share an id.
//!
//! Frames may be projected together ([`project_all`]): each row keeps its own stamp, and a row that
//! a later frame writes again is left out.
//!
//! The rows of one conversation are consistent once all of its committed frames are projected, not
//! before.

mod change;
mod dedupe;
mod facts;
mod head;
mod home;
mod inbox;
mod last_message;
mod load;
mod member;
mod message;
mod read_cursor;
mod role;
mod row;
mod value;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use wire::change::{Change, Created, Event, MembersChanged, Message, Recorded, Role};
use wire::{ConversationId, Position, UserId};

use crate::dedupe::{Seen, fingerprint};
use crate::log::LogFrame;
use crate::moving::{Location, stamp};

pub use self::change::{ChangeEntry, ChangeRow, Content, What, with_messages};
pub use self::dedupe::DedupeRow;
pub use self::facts::FactsRow;
pub use self::head::HeadRow;
pub use self::home::HomeRow;
pub use self::inbox::InboxRow;
pub use self::last_message::LastMessageRow;
pub use self::member::MemberRow;
pub use self::message::MessageRow;
pub use self::read_cursor::ReadCursorRow;
pub use self::role::RoleRow;
pub use self::row::{ClusteringKey, Kind, Partition, Projection, RowId, StampedRow, WholeRow};

/// The rows of a frame.
#[must_use]
pub fn project(frame: &LogFrame) -> Vec<StampedRow> {
    project_all(&[frame])
}

/// The rows of these frames. Of a row that several of them write again (a head, a last message, a
/// read cursor, a member) only the one with the highest stamp is there.
#[must_use]
pub fn project_all<F: Borrow<LogFrame>>(frames: &[F]) -> Vec<StampedRow> {
    let changes: usize = frames.iter().map(|frame| frame.borrow().changes.len()).sum();
    let mut rows = Rows {
        place: Position::default(),
        rows: Vec::with_capacity(6 * changes + 4),
        index: HashMap::new(),
    };
    for frame in frames.iter().map(Borrow::borrow) {
        rows.place = frame.at();
        for change in &frame.changes {
            rows.change(change, stamp(change, frame.at()));
        }
    }
    rows.rows
}

/// The rows of some frames so far.
struct Rows {
    /// In the log, of the frame at hand.
    place: Position,
    rows: Vec<StampedRow>,
    /// Where those stand that a later change may replace.
    index: HashMap<RowId, usize>,
}

impl Rows {
    fn put<T: Projection>(&mut self, row: &T, at: Position) {
        let row = StampedRow::new(row, at);
        if T::KIND.is_write_once() {
            self.rows.push(row);
            return;
        }
        match self.index.entry(row.id.clone()) {
            Entry::Occupied(there) => {
                let there = &mut self.rows[*there.get()];
                // A conversation that leaves and comes back in one frame has changes of two epochs.
                if there.stamp <= row.stamp {
                    *there = row;
                }
            }
            Entry::Vacant(free) => {
                free.insert(self.rows.len());
                self.rows.push(row);
            }
        }
    }

    fn change(&mut self, change: &Recorded, at: Position) {
        let conversation = change.conversation;
        let content = match change.event.message() {
            Some(message) => Content::Message(message.seq),
            None => Content::Change(change.bytes().clone()),
        };
        match &change.event {
            Event::Created(created) => self.created(change, created, at),
            Event::Message(message) => {
                self.put(
                    &MessageRow { conversation, seq: message.seq, change: change.bytes().clone() },
                    at,
                );
                self.message(change, message, at);
            }
            Event::MembersChanged(changed) => self.members_changed(conversation, changed, at),
            Event::Joined(joined) => self.put(
                &InboxRow {
                    stream: conversation,
                    conversation: joined.conversation,
                    name: joined.name.clone(),
                    joined_seq: joined.joined_seq,
                    at_ver: joined.at_ver,
                    left: false,
                    at,
                },
                at,
            ),
            Event::Left(left) => self.put(
                &InboxRow {
                    stream: conversation,
                    conversation: left.conversation,
                    name: None,
                    joined_seq: 0,
                    at_ver: left.at_ver,
                    left: true,
                    at,
                },
                at,
            ),
            Event::MovedOut(out) => self.home(conversation, Location::left(change, out), at),
            Event::MovedIn(moved) => self.home(conversation, Location::came(moved), at),
            // A newer node's: kept for those who catch up by `ver`, and counted.
            Event::Unknown(_) => {}
        }
        self.put(&ChangeRow { conversation, ver: change.ver, at: self.place, content }, at);
        let (epoch, ts_ms) = (change.epoch, change.ts_ms);
        self.put(&HeadRow { conversation, head_ver: change.ver, epoch, ts_ms, at }, at);
    }

    fn created(&mut self, change: &Change, created: &Created, at: Position) {
        let conversation = change.conversation;
        let facts = FactsRow {
            conversation,
            tenant: created.tenant.clone(),
            name: created.name.clone(),
            by: created.by.clone(),
            ts_ms: change.ts_ms,
            at,
        };
        self.put(&facts, at);
        for (user, role) in &created.members {
            self.member(conversation, user, Some(1), at);
            self.role(conversation, user, *role, at);
        }
    }

    fn message(&mut self, change: &Change, message: &Message, at: Position) {
        let conversation = change.conversation;
        let (seq, ts_ms) = (message.seq, change.ts_ms);
        self.put(&LastMessageRow { conversation, seq, ts_ms, at }, at);
        let seen = Seen {
            seq,
            epoch: change.epoch,
            ts_ms,
            fingerprint: fingerprint(&message.draft),
            at: self.place,
        };
        let dedupe = DedupeRow {
            conversation,
            sender: message.sender.clone(),
            client_msg_id: message.draft.client_msg_id.clone(),
            seen,
        };
        self.put(&dedupe, at);
        let user = message.sender.clone();
        self.put(&ReadCursorRow { conversation, user, read_seq: seq }, at);
    }

    fn members_changed(
        &mut self,
        conversation: ConversationId,
        changed: &MembersChanged,
        at: Position,
    ) {
        for (user, role) in &changed.added {
            self.member(conversation, user, Some(changed.head_seq + 1), at);
            self.role(conversation, user, *role, at);
        }
        for user in &changed.removed {
            self.member(conversation, user, None, at);
        }
        for (user, role) in &changed.roles {
            self.role(conversation, user, *role, at);
        }
    }

    /// Without a `joined_seq` the user is gone.
    fn member(
        &mut self,
        conversation: ConversationId,
        user: &UserId,
        joined_seq: Option<u64>,
        at: Position,
    ) {
        let (gone, joined_seq) = (joined_seq.is_none(), joined_seq.unwrap_or(0));
        self.put(&MemberRow { conversation, user: user.clone(), joined_seq, gone, at }, at);
    }

    fn role(&mut self, conversation: ConversationId, user: &UserId, role: Role, at: Position) {
        self.put(&RoleRow { conversation, user: user.clone(), role, at }, at);
    }

    fn home(&mut self, conversation: ConversationId, location: Location, at: Position) {
        self.put(&HomeRow { conversation, location, at }, at);
    }
}

#[cfg(test)]
mod tests;
