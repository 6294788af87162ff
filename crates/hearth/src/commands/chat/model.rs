//! What there is to show: rooms, their messages and members, the delivery of one's own. Pure.

use std::collections::{BTreeMap, VecDeque};

use client::Ack;
use time::{OffsetDateTime, UtcOffset};
use wire::client::event::{
    AddedPayload, GroupPayload, JoinedPayload, MemberPayload, MessagePayload, UpdatedPayload,
};
use wire::client::http::InboxEntry;
use wire::{
    ClientMsgId, ConversationId, ConversationKind, Durability, MessageId, TenantId, UserId,
};

use crate::text::harmless;

/// Messages kept of one room.
const MESSAGES_MAX: usize = 5_000;
/// Lines about this and that kept of one room, and of none.
const ASIDES_MAX: usize = 200;

pub(super) struct Model {
    pub(super) me: UserId,
    pub(super) tenant: TenantId,
    offset: UtcOffset,
    pub(super) link: Link,
    /// In the order in which they appeared.
    pub(super) rooms: Vec<Room>,
    pub(super) current: Option<usize>,
    /// What belongs to no room.
    pub(super) asides: VecDeque<String>,
    /// What happened since it was last taken, for those who show one line at a time.
    news: VecDeque<News>,
}

/// How the connection is.
pub(super) enum Link {
    Connecting,
    Up { region: String },
    Down { why: String },
}

/// One conversation.
pub(super) struct Room {
    pub(super) id: ConversationId,
    /// As it is called here: `#plans`, `@bob`.
    pub(super) title: String,
    pub(super) members: BTreeMap<String, MemberPayload>,
    pub(super) acting_region: String,
    /// The highest that was seen. A higher one may mean another acting region.
    epoch: u64,
    pub(super) durability: Durability,
    /// By seq.
    pub(super) messages: BTreeMap<u64, Shown>,
    /// One's own that nobody has shown back yet.
    pub(super) pending: Vec<Pending>,
    /// Each after the message of that seq.
    pub(super) asides: VecDeque<(u64, String)>,
    pub(super) unread: u64,
    /// Whether members and the newest page of history were asked for.
    pub(super) opened: bool,
}

/// A message in its place.
pub(super) struct Shown {
    pub(super) sender: String,
    pub(super) time: String,
    pub(super) body: String,
    /// One's own, from here.
    pub(super) delivery: Option<Durability>,
}

/// A message on its way.
pub(super) struct Pending {
    pub(super) message_id: String,
    pub(super) body: String,
    pub(super) state: Delivery,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Sending,
    Durable { seq: u64, durability: Durability },
    Failed(String),
}

/// For those who show one line at a time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Message { room: Option<String>, time: String, sender: String, body: String },
    Delivered { seq: u64, time: String, body: String, durability: Durability },
    Aside(String),
}

impl Model {
    pub(super) fn new(me: UserId, tenant: TenantId, offset: UtcOffset) -> Self {
        let link = Link::Connecting;
        let (rooms, current) = (Vec::new(), None);
        Self {
            me,
            tenant,
            offset,
            link,
            rooms,
            current,
            asides: VecDeque::new(),
            news: VecDeque::new(),
        }
    }

    /// What happened since the last call.
    pub(super) fn news(&mut self) -> impl Iterator<Item = News> {
        std::mem::take(&mut self.news).into_iter()
    }

    pub(super) fn room(&self) -> Option<&Room> {
        self.rooms.get(self.current?)
    }

    fn room_mut(&mut self, id: ConversationId) -> Option<&mut Room> {
        self.rooms.iter_mut().find(|room| room.id == id)
    }

    /// The number of the room called so, or numbered so from 1.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let by_number = name
            .parse::<usize>()
            .ok()
            .and_then(|n| n.checked_sub(1))
            .filter(|n| *n < self.rooms.len());
        let named = |room: &Room| {
            room.title == name || room.title[1..] == *name || room.id.to_string() == name
        };
        by_number.or_else(|| self.rooms.iter().position(named))
    }

    pub(super) fn connected(&mut self, region: &str) {
        let again = matches!(self.link, Link::Down { .. });
        let region = harmless(region);
        if again {
            self.aside(format!("connected again, to {region}"));
        } else if matches!(self.link, Link::Connecting) {
            self.aside(format!("connected to {region} as {}", harmless(self.me.as_str())));
        }
        self.link = Link::Up { region };
    }

    pub(super) fn disconnected(&mut self, why: &str) {
        let why = harmless(why);
        self.aside(format!("connection lost ({why}); looking for another edge"));
        self.link = Link::Down { why };
    }

    /// A line about this and that, where the user looks.
    pub(super) fn aside(&mut self, text: String) {
        self.news.push_back(News::Aside(text.clone()));
        match self.current {
            Some(n) => self.rooms[n].aside(text),
            None => push_bounded(&mut self.asides, text, ASIDES_MAX),
        }
    }

    /// A conversation as it is now; its place in the list.
    pub(super) fn upsert(&mut self, group: &GroupPayload) -> usize {
        let n = self.place(group.conversation_id, group.kind, group.name.as_deref());
        let me = self.me.as_str();
        let room = &mut self.rooms[n];
        if group.kind == ConversationKind::Direct {
            let other = group.members.iter().find(|member| member.user_id != me);
            room.title =
                format!("@{}", harmless(other.map_or(me, |member| member.user_id.as_str())));
        }
        room.acting_region = harmless(&group.acting_region);
        room.epoch = room.epoch.max(group.epoch);
        room.durability = group.durability;
        room.members =
            group.members.iter().map(|member| (member.user_id.clone(), member.clone())).collect();
        n
    }

    /// A line of the inbox.
    pub(super) fn listed(&mut self, entry: &InboxEntry) {
        let n = self.place(entry.conversation_id, entry.kind, entry.name.as_deref());
        self.rooms[n].unread = entry.unread;
    }

    fn place(&mut self, id: ConversationId, kind: ConversationKind, name: Option<&str>) -> usize {
        if let Some(n) = self.rooms.iter().position(|room| room.id == id) {
            return n;
        }
        let title = match (kind, name) {
            (ConversationKind::Direct, _) => "@…".to_owned(),
            (_, Some(name)) => format!("#{}", harmless(name)),
            (_, None) => "#…".to_owned(),
        };
        self.rooms.push(Room {
            id,
            title,
            members: BTreeMap::new(),
            acting_region: String::new(),
            epoch: 0,
            durability: id.shard.durability,
            messages: BTreeMap::new(),
            pending: Vec::new(),
            asides: VecDeque::new(),
            unread: 0,
            opened: false,
        });
        self.rooms.len() - 1
    }

    /// The user is in it now; its place in the list.
    pub(super) fn joined(&mut self, joined: &JoinedPayload) -> usize {
        let n = self.place(joined.conversation_id, joined.kind, joined.name.as_deref());
        let room = &mut self.rooms[n];
        room.acting_region = harmless(&joined.acting_region);
        room.epoch = room.epoch.max(joined.epoch);
        n
    }

    /// Members came or went; what changed is told.
    pub(super) fn updated(&mut self, id: ConversationId, update: &UpdatedPayload) {
        let Some(n) = self.rooms.iter().position(|room| room.id == id) else { return };
        let room = &mut self.rooms[n];
        room.epoch = room.epoch.max(update.epoch);
        if let Some(region) = &update.acting_region {
            room.acting_region = harmless(region);
        }
        for AddedPayload { user_id, role } in &update.added {
            let member = MemberPayload { user_id: user_id.clone(), role: *role, joined_seq: 0 };
            room.members.insert(user_id.clone(), member);
        }
        for user in &update.removed {
            room.members.remove(user);
        }
        for (user, role) in &update.roles {
            if let Some(member) = room.members.get_mut(user) {
                member.role = *role;
            }
        }
        let came = update.added.iter().map(|added| format!("+{}", added.user_id));
        let went = update.removed.iter().map(|user| format!("-{user}"));
        let changed = harmless(&came.chain(went).collect::<Vec<_>>().join(" "));
        if !changed.is_empty() {
            let text = format!("{}: {changed}", room.title);
            self.news.push_back(News::Aside(text.clone()));
            self.rooms[n].aside(text);
        }
    }

    pub(super) fn left(&mut self, id: ConversationId) {
        let Some(n) = self.rooms.iter().position(|room| room.id == id) else { return };
        let title = self.rooms.remove(n).title;
        self.current = match self.current {
            Some(current) if current == n => None,
            Some(current) if current > n => Some(current - 1),
            other => other,
        };
        self.aside(format!("you are no longer in {title}"));
    }

    /// Goes to a room.
    pub(super) fn switch(&mut self, n: usize) {
        self.current = Some(n);
        self.rooms[n].unread = 0;
    }

    /// Takes a message, live or of history. Returns whether the view of its room is to be asked
    /// for: the room is new, or another owner serves it.
    pub(super) fn message(
        &mut self,
        id: ConversationId,
        message: &MessagePayload,
        live: bool,
    ) -> bool {
        let known = self.rooms.len();
        let n = self.place(id, id.kind, None);
        let here = self.current == Some(n);
        let time = self.clock(message.ts_ms);
        let mine = message.sender == self.me.as_str();
        let room = &mut self.rooms[n];
        let view_is_stale = live && message.epoch > room.epoch;
        room.epoch = room.epoch.max(message.epoch);
        if room.messages.contains_key(&message.seq) {
            return view_is_stale;
        }
        let pending =
            room.pending.iter().position(|pending| pending.message_id == message.message_id);
        let pending = pending.map(|at| room.pending.remove(at));
        let shown = Shown {
            sender: harmless(&message.sender),
            time,
            body: match &message.body_kind {
                Some(kind) => format!("({} message)", harmless(kind)),
                None => harmless(&message.content.body),
            },
            delivery: pending.is_some().then_some(room.durability),
        };
        // One's own was told when it became durable.
        if pending.as_ref().is_none_or(|pending| pending.state == Delivery::Sending) {
            let (time, sender, body) =
                (shown.time.clone(), shown.sender.clone(), shown.body.clone());
            self.news.push_back(match pending {
                Some(_) => {
                    News::Delivered { seq: message.seq, time, body, durability: room.durability }
                }
                None => {
                    News::Message { room: (!here).then(|| room.title.clone()), time, sender, body }
                }
            });
        }
        room.messages.insert(message.seq, shown);
        while room.messages.len() > MESSAGES_MAX {
            room.messages.pop_first();
        }
        if live && !here && !mine {
            room.unread += 1;
        }
        view_is_stale || self.rooms.len() > known
    }

    /// One's own message goes on its way.
    pub(super) fn sending(
        &mut self,
        id: ConversationId,
        client_msg_id: &ClientMsgId,
        body: &str,
    ) -> String {
        let message_id = MessageId::derive(&id, &self.me, client_msg_id).to_string();
        let pending = Pending {
            message_id: message_id.clone(),
            body: harmless(body),
            state: Delivery::Sending,
        };
        if let Some(room) = self.room_mut(id) {
            room.pending.push(pending);
        }
        message_id
    }

    /// What became of it.
    pub(super) fn sent(
        &mut self,
        id: ConversationId,
        message_id: &str,
        outcome: Result<&Ack, String>,
    ) {
        let time = outcome.as_ref().ok().map(|ack| self.clock(ack.ts_ms)).unwrap_or_default();
        let Some(room) = self.rooms.iter_mut().find(|room| room.id == id) else { return };
        // It may have been shown back before its ack.
        let Some(pending) =
            room.pending.iter_mut().find(|pending| pending.message_id == message_id)
        else {
            return;
        };
        match outcome {
            Ok(ack) => {
                let (seq, durability) = (ack.seq, ack.durability);
                pending.state = Delivery::Durable { seq, durability };
                self.news.push_back(News::Delivered {
                    seq,
                    time,
                    body: pending.body.clone(),
                    durability,
                });
            }
            Err(why) => {
                pending.state = Delivery::Failed(harmless(&why));
                self.news.push_back(News::Aside(format!(
                    "not sent: {} ({})",
                    pending.body,
                    harmless(&why)
                )));
            }
        }
    }

    /// `12:30`, where the user is.
    fn clock(&self, ts_ms: u64) -> String {
        let at = i64::try_from(ts_ms / 1000)
            .ok()
            .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
        at.map(|at| at.to_offset(self.offset))
            .map_or_else(|| "--:--".to_owned(), |at| format!("{:02}:{:02}", at.hour(), at.minute()))
    }
}

impl Room {
    fn aside(&mut self, text: String) {
        let after = self.messages.last_key_value().map_or(0, |(seq, _)| *seq);
        push_bounded(&mut self.asides, (after, text), ASIDES_MAX);
    }

    /// The oldest message that is here.
    pub(super) fn first_seq(&self) -> Option<u64> {
        self.messages.first_key_value().map(|(seq, _)| *seq)
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    queue.push_back(item);
    if queue.len() > max {
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests;
