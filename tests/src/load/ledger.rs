//! The record of everything that was sent, acknowledged and shown.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use client::Event;
use conversation::invariants::{Checker, Observed};
use wire::client::event::MessagePayload;
use wire::{ClientMsgId, ConversationId, Epoch, MessageId};

use super::{Acked, Writer};

const TROUBLES_MAX: usize = 30;

/// Epoch and seq.
pub(super) type Place = (u64, u64);

#[derive(Default)]
pub(super) struct Ledger(Mutex<Inner>);

#[derive(Default)]
pub(super) struct Inner {
    pub(super) checker: Checker,
    /// The sender's id of each message. Live events do not carry it.
    pub(super) ids: HashMap<String, ClientMsgId>,
    pub(super) acks: Vec<Acked>,
    pub(super) lanes: HashMap<u64, Wait>,
    /// The last place in each group that was acknowledged or shown to anybody: epoch and seq.
    pub(super) heads: HashMap<ConversationId, Place>,
    /// The last that each watcher saw of it.
    pub(super) seen: HashMap<(usize, ConversationId), Place>,
    /// Messages that came back from a lost region.
    pub(super) recovered: HashSet<String>,
    /// When each message was acknowledged first, by its shard's clock.
    pub(super) acked_ms: HashMap<String, u64>,
    pub(super) reconnects: u64,
    pub(super) troubles: Vec<String>,
}

/// The state of one writer.
pub(super) struct Wait {
    pub(super) home: usize,
    /// When the last message that was acknowledged was sent.
    pub(super) sent_last_acked: Option<Instant>,
}

impl Inner {
    pub(super) fn reaches(&mut self, conversation: ConversationId, place: Place) {
        let head = self.heads.entry(conversation).or_default();
        *head = place.max(*head);
    }

    pub(super) fn waits(&self, home: usize) -> impl Iterator<Item = &Wait> {
        self.lanes.values().filter(move |wait| wait.home == home)
    }
}

impl Ledger {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sending(&self, writer: &Writer, id: &ClientMsgId, body: &str) -> Instant {
        let conversation = writer.room.conversation;
        let mut inner = self.lock();
        inner
            .ids
            .insert(MessageId::derive(&conversation, &writer.user, id).to_string(), id.clone());
        inner.checker.sent(writer.lane, conversation, &writer.user, id, body);
        Instant::now()
    }

    pub(super) fn acked(
        &self,
        writer: &Writer,
        id: &ClientMsgId,
        sent: Instant,
        ack: &client::Ack,
    ) {
        let conversation = writer.room.conversation;
        let client::Ack { seq, epoch, ts_ms, duplicate, .. } = *ack;
        let ack = wire::command::Ack { seq, epoch: Epoch(epoch), ts_ms, duplicate };
        let mut inner = self.lock();
        inner.checker.acked(conversation, &writer.user, id, &ack);
        let name = MessageId::derive(&conversation, &writer.user, id).to_string();
        inner.acked_ms.entry(name).or_insert(ts_ms);
        inner.acks.push(Acked {
            home: writer.room.home,
            from: writer.from,
            sent,
            acked: Instant::now(),
        });
        inner.lanes.entry(writer.lane).and_modify(|wait| wait.sent_last_acked = Some(sent));
        inner.reaches(conversation, (epoch, seq));
    }

    pub(super) fn observe(
        &self,
        observer: &str,
        conversation: ConversationId,
        message: &MessagePayload,
    ) {
        let mut inner = self.lock();
        // One that nobody here sent stands for itself.
        let id = inner
            .ids
            .get(&message.message_id)
            .cloned()
            .or_else(|| ClientMsgId::new(&message.message_id).ok());
        let observed = id
            .and_then(|id| Observed::of_payload(message, id))
            .expect("a message has an id and a sender");
        inner.checker.observed(observer, conversation, &observed);
        inner.reaches(conversation, (message.epoch, message.seq));
        if message.recovered {
            inner.recovered.insert(message.message_id.clone());
        }
    }

    pub(super) fn heard(&self, who: &str, event: &Event) {
        match event {
            Event::Disconnected { why } => {
                self.lock().reconnects += 1;
                self.trouble(format!("{who}: {why}"));
            }
            Event::Error(error) => {
                self.trouble(format!("{who}: {}: {}", error.code, error.message))
            }
            Event::Closed { why } => self.trouble(format!("{who} was shut out: {why}")),
            _ => {}
        }
    }

    pub(super) fn trouble(&self, what: String) {
        let mut inner = self.lock();
        // The last ones tell most.
        if inner.troubles.len() == TROUBLES_MAX {
            inner.troubles.remove(0);
        }
        inner.troubles.push(what);
    }
}
