//! The ledger of a run: sends, acks, and messages shown to clients. Each entry also enters the
//! run's hash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use conversation::invariants::{Checker, Count, Observed};
use wire::client::event::{AckPayload, MessagePayload};
use wire::{ClientMsgId, ConversationId, Epoch, MessageId, RegionId, UserId};

use crate::outcome::{Broken, Counts};
use crate::timeline::Timeline;

/// Broken invariants kept in words.
const BROKEN_MAX: usize = 50;

/// One message, from its sender's side.
#[derive(Clone, Debug)]
pub struct Sent {
    pub conversation: ConversationId,
    /// By whom.
    pub sender: UserId,
    /// Its sender's region.
    pub region: RegionId,
    pub client_msg_id: ClientMsgId,
    /// First handed to a client, virtual milliseconds.
    pub sent_ms: u64,
    /// First acknowledged.
    pub acked_ms: Option<u64>,
    /// Refused for good; nobody waits for it.
    pub is_refused: bool,
}

/// A message shown to a guest, who may see only a part.
#[derive(Clone, Debug)]
pub struct GuestSaw {
    pub user: UserId,
    pub conversation: ConversationId,
    pub ver: u64,
    pub epoch: Epoch,
    pub at_ms: u64,
}

/// Shared by everyone who sends or watches; cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Mutex<Inner>>,
    /// The events of the run.
    pub timeline: Timeline,
}

#[derive(Default)]
struct Inner {
    origin_ms: u64,
    checker: Checker,
    sends: BTreeMap<String, Sent>,
    waiting: BTreeSet<String>,
    /// Conversations that may lose single-region messages until their region returns.
    forkable: BTreeSet<ConversationId>,
    /// The last epoch and seq of each conversation that was acknowledged or shown.
    heads: BTreeMap<ConversationId, (u64, u64)>,
    /// By observer and conversation that they must see completely: the last seq they saw.
    watching: BTreeMap<(String, ConversationId), (u64, u64)>,
    /// Messages shown to guests.
    shown: Vec<GuestSaw>,
    broken: Vec<Broken>,
    recovered: BTreeSet<String>,
    counts: Counts,
    reconnects: BTreeMap<RegionId, u64>,
    for_hash: Vec<u8>,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(timeline: Timeline) -> Self {
        Self { inner: Arc::default(), timeline }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Later times are relative to this moment.
    pub fn set_origin(&self, origin_ms: u64) {
        self.lock().origin_ms = origin_ms;
        self.timeline.set_origin(origin_ms);
    }

    /// Entries since the last call, for the hash.
    pub fn drain_for_hash(&self, into: impl FnOnce(&[u8])) {
        let mut inner = self.lock();
        into(&inner.for_hash);
        inner.for_hash.clear();
    }

    /// Allows this conversation to lose single-region messages until their region returns.
    pub fn may_fork(&self, conversation: ConversationId) {
        let mut inner = self.lock();
        inner.checker.may_fork(conversation);
        inner.forkable.insert(conversation);
    }

    /// This observer should see every message of the conversation.
    pub fn watches(&self, observer: &str, conversation: ConversationId) {
        self.lock().watching.entry((observer.to_owned(), conversation)).or_default();
    }

    /// Injector this send to a client, as the next of its lane.
    pub fn sending(
        &self,
        (lane, region): (u64, RegionId),
        conversation: ConversationId,
        sender: &UserId,
        id: &ClientMsgId,
        body: &str,
        now_ms: u64,
    ) {
        let name = MessageId::derive(&conversation, sender, id).to_string();
        let mut inner = self.lock();
        inner.note(now_ms, "send", &name);
        inner.checker.sent(lane, conversation, sender, id, body);
        inner.counts.sent += 1;
        inner.waiting.insert(name.clone());
        let sent = Sent {
            conversation,
            sender: sender.clone(),
            region,
            client_msg_id: id.clone(),
            sent_ms: now_ms,
            acked_ms: None,
            is_refused: false,
        };
        inner.sends.insert(name.clone(), sent);
        drop(inner);
        self.timeline.detail(sender.as_str(), || {
            format!("sends {} to {}", short(&name), short_conversation(&conversation))
        });
    }

    /// Records an ack, the first or a repeated one.
    pub fn acked(
        &self,
        conversation: ConversationId,
        sender: &UserId,
        id: &ClientMsgId,
        ack: &AckPayload,
        now_ms: u64,
    ) {
        let name = MessageId::derive(&conversation, sender, id).to_string();
        let mut inner = self.lock();
        inner.note(now_ms, "ack", &format!("{name} {} {} {}", ack.seq, ack.epoch, ack.duplicate));
        let told = wire::command::Ack {
            seq: ack.seq,
            epoch: Epoch(ack.epoch),
            ts_ms: ack.ts_ms,
            duplicate: ack.duplicate,
        };
        inner.checker.acked(conversation, sender, id, &told);
        if inner.waiting.remove(&name) {
            inner.counts.acked += 1;
            if let Some(sent) = inner.sends.get_mut(&name) {
                sent.acked_ms = Some(now_ms);
            }
        } else {
            inner.counts.resent += 1;
            if !ack.duplicate && !inner.forkable.contains(&conversation) {
                let what = format!(
                    "{sender} resent {name} after its ack, and the answer is not marked as a duplicate"
                );
                inner.broken("retry", now_ms, what);
            }
        }
        inner.reaches(conversation, (ack.epoch, ack.seq));
        drop(inner);
        let again = if ack.duplicate { ", a duplicate" } else { "" };
        self.timeline.detail(sender.as_str(), || {
            format!(
                "{} is acknowledged as seq {}, epoch {}{again}",
                short(&name),
                ack.seq,
                ack.epoch
            )
        });
    }

    /// Records a final refusal.
    pub fn refused(
        &self,
        conversation: ConversationId,
        sender: &UserId,
        id: &ClientMsgId,
        why: &str,
        now_ms: u64,
    ) {
        let name = MessageId::derive(&conversation, sender, id).to_string();
        let mut inner = self.lock();
        inner.note(now_ms, "refused", &format!("{name} {why}"));
        inner.waiting.remove(&name);
        if let Some(sent) = inner.sends.get_mut(&name) {
            sent.is_refused = true;
        }
        inner.broken(
            "refused",
            now_ms,
            format!("{sender}, a member, was refused a message: {why}"),
        );
    }

    /// Records a message shown to an observer, live or in history.
    pub fn shown(
        &self,
        observer: &str,
        conversation: ConversationId,
        message: &MessagePayload,
        now_ms: u64,
    ) {
        let mut inner = self.lock();
        inner.note(
            now_ms,
            observer,
            &format!("{} {} {}", message.message_id, message.seq, message.ver),
        );
        inner.counts.delivered += 1;
        // Live messages inject no client_msg_id; the message id identifies the send.
        let known = inner.sends.get(&message.message_id).map(|sent| sent.client_msg_id.clone());
        let Some(client_msg_id) = known else {
            let what = format!(
                "{observer} was shown seq {} of {conversation}, which no client has sent",
                message.seq
            );
            inner.broken("invented", now_ms, what);
            return;
        };
        if message.recovered {
            inner.recovered.insert(message.message_id.clone());
        }
        let Some(observed) = Observed::of_payload(message, client_msg_id) else { return };
        inner.checker.observed(observer, conversation, &observed);
        if let Some(seen) = inner.watching.get_mut(&(observer.to_owned(), conversation)) {
            *seen = (message.epoch, message.seq).max(*seen);
        }
        inner.reaches(conversation, (message.epoch, message.seq));
        drop(inner);
        self.timeline.detail(observer, || {
            format!("is shown seq {} of {}", message.seq, short_conversation(&conversation))
        });
    }

    /// Records a message shown to a guest.
    pub fn shown_to_guest(
        &self,
        user: &UserId,
        conversation: ConversationId,
        message: &MessagePayload,
        now_ms: u64,
    ) {
        let mut inner = self.lock();
        inner.note(now_ms, user.as_str(), &format!("{} {}", message.message_id, message.ver));
        let (ver, epoch) = (message.ver, Epoch(message.epoch));
        inner.shown.push(GuestSaw { user: user.clone(), conversation, ver, epoch, at_ms: now_ms });
    }

    /// Records a broken invariant.
    pub fn broken(&self, invariant: &str, now_ms: u64, what: String) {
        self.timeline.add("the checker", format!("{invariant}: {what}"));
        self.lock().broken(invariant, now_ms, what);
    }

    /// A session broke.
    pub fn reconnecting(&self, who: &str, region: RegionId, why: &str) {
        let mut inner = self.lock();
        *inner.reconnects.entry(region).or_default() += 1;
        inner.counts.reconnects += 1;
        drop(inner);
        self.timeline.detail(who, || format!("lost its session: {why}"));
    }

    /// One more of these.
    pub fn count(&self, which: impl FnOnce(&mut Counts)) {
        which(&mut self.lock().counts);
    }

    /// Number of unacknowledged sends.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Observers that lack an acknowledged or otherwise shown message, in words; the first few.
    /// Empty: none.
    #[must_use]
    pub fn behind(&self) -> Vec<String> {
        let inner = self.lock();
        let behind = inner.watching.iter().filter_map(|((observer, conversation), seen)| {
            let head = inner.heads.get(conversation).copied().unwrap_or_default();
            (*seen < head)
                .then(|| format!("{observer} has seen {} of {} in {conversation}", seen.1, head.1))
        });
        behind.take(5).collect()
    }

    /// The unacknowledged sends, in words; the first few.
    #[must_use]
    pub fn unacknowledged(&self) -> Vec<String> {
        let inner = self.lock();
        let waiting = inner.waiting.iter().filter_map(|name| inner.sends.get(name));
        let words = waiting.map(|sent| {
            format!(
                "{} to {} since {} ms",
                sent.sender,
                sent.conversation,
                sent.sent_ms.saturating_sub(inner.origin_ms)
            )
        });
        words.take(5).collect()
    }

    /// Whether this message was acknowledged by then.
    #[must_use]
    pub fn is_acked(&self, message_id: &str) -> bool {
        self.lock().sends.get(message_id).is_some_and(|sent| sent.acked_ms.is_some())
    }

    /// All sends, and where and how durable their conversations are.
    #[must_use]
    pub fn sends(&self) -> Vec<Sent> {
        self.lock().sends.values().cloned().collect()
    }

    /// Messages shown to guests.
    #[must_use]
    pub fn guests_saw(&self) -> Vec<GuestSaw> {
        self.lock().shown.clone()
    }

    /// Sessions that broke, by region.
    #[must_use]
    pub fn reconnects(&self) -> BTreeMap<RegionId, u64> {
        self.lock().reconnects.clone()
    }

    /// Ends the run, after every observer could see everything: broken invariants and totals.
    #[must_use]
    pub fn close(&self, now_ms: u64) -> (Vec<Broken>, Counts) {
        let mut inner = self.lock();
        let watching: Vec<(String, ConversationId)> = inner.watching.keys().cloned().collect();
        for (observer, conversation) in watching {
            inner.checker.complete(&observer, conversation, 1);
        }
        let report = inner.checker.report();
        let mut counts = inner.counts.clone();
        (counts.lost, counts.duplicated) = (report.lost, report.duplicated);
        (counts.reordered, counts.gaps) = (report.reordered, report.gaps);
        counts.recovered = inner.recovered.len() as u64;
        let groups = [
            ("lost", Count::Lost, report.lost),
            ("duplicated", Count::Duplicated, report.duplicated),
            ("reordered", Count::Reordered, report.reordered),
            ("gaps", Count::Gaps, report.gaps),
        ];
        for (invariant, which, count) in groups.into_iter().filter(|(_, _, count)| *count > 0) {
            let first = report.findings.iter().find(|(_, finding)| finding.count() == which);
            let first = first
                .map(|(conversation, finding)| format!("{conversation}: {finding:?}"))
                .unwrap_or_default();
            inner.broken(invariant, now_ms, format!("{count}; the first: {first}"));
        }
        (inner.broken.clone(), counts)
    }
}

impl Inner {
    fn reaches(&mut self, conversation: ConversationId, place: (u64, u64)) {
        let head = self.heads.entry(conversation).or_default();
        *head = place.max(*head);
    }

    fn broken(&mut self, invariant: &str, now_ms: u64, what: String) {
        let at_ms = now_ms.saturating_sub(self.origin_ms);
        self.note(now_ms, invariant, &what);
        if self.broken.len() < BROKEN_MAX {
            self.broken.push(Broken { invariant: invariant.to_owned(), at_ms, what });
        }
    }

    fn note(&mut self, now_ms: u64, who: &str, what: &str) {
        self.for_hash.extend_from_slice(&now_ms.to_be_bytes());
        self.for_hash.extend_from_slice(who.as_bytes());
        self.for_hash.push(b' ');
        self.for_hash.extend_from_slice(what.as_bytes());
    }
}

fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(8)..).unwrap_or(id)
}

fn short_conversation(conversation: &ConversationId) -> String {
    short(&conversation.to_string()).to_owned()
}
