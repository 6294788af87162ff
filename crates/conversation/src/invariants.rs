//! What must hold over everything that clients saw: every acknowledged message once, in one order,
//! everywhere, with dense `seq`. The tests, `hearth replay` and the simulator feed the same
//! [`Checker`] and read the same [`Report`].
//!
//! A **lane** is a sequence of sends by one sender: within a lane, a later send has the higher seq.
//! An **observer** is one client's view of one conversation: the messages it was shown, in that
//! order. When the run is over, each observer that should have seen everything is declared
//! complete.
//!
//! A single-region conversation **may fork** ([`Checker::may_fork`]) when its region is lost and
//! failed over: messages that were not replicated are missing until the region returns. Other
//! messages then get the same seqs under a higher epoch, and replace the lost ones, which come back
//! at new seqs, marked as recovered. At the end every acknowledged message stands once, and exactly
//! the messages that came back are marked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use wire::change::{Change, Event};
use wire::client::event::MessagePayload;
use wire::command::Ack;
use wire::{ClientMsgId, ConversationId, Epoch, UserId};
use xxhash_rust::xxh3::xxh3_64;

/// Findings kept in words. All are counted.
const FINDINGS_MAX: usize = 100;

/// A message as a client was shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub seq: u64,
    pub ver: u64,
    pub epoch: Epoch,
    pub sender: UserId,
    pub client_msg_id: ClientMsgId,
    /// [`body_hash`].
    pub body_hash: u64,
    /// Marked as brought back from a region that was lost.
    pub recovered: bool,
}

impl Observed {
    /// The message of a change, if it is one.
    #[must_use]
    pub fn of(change: &Change) -> Option<Self> {
        let Event::Message(message) = &change.event else { return None };
        Some(Self {
            seq: message.seq,
            ver: change.ver,
            epoch: change.epoch,
            sender: message.sender.clone(),
            client_msg_id: message.draft.client_msg_id.clone(),
            // As a client sees it: a body that is no text is shown as empty.
            body_hash: body_hash(message.draft.body.text().unwrap_or_default()),
            recovered: message.recovered,
        })
    }

    /// A message that an edge sent, live or from history. `client_msg_id` is the sender's name for
    /// it, which live messages do not carry. None when it names no sender.
    #[must_use]
    pub fn of_payload(message: &MessagePayload, client_msg_id: ClientMsgId) -> Option<Self> {
        Some(Self {
            seq: message.seq,
            ver: message.ver,
            epoch: Epoch(message.epoch),
            sender: UserId::new(&message.sender).ok()?,
            client_msg_id,
            body_hash: body_hash(&message.content.body),
            recovered: message.recovered,
        })
    }
}

/// Bodies are compared by this hash.
#[must_use]
pub fn body_hash(body: &str) -> u64 {
    xxh3_64(body.as_bytes())
}

/// What is wrong. Each finding names the conversation; bodies are never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Acknowledged, and not shown to an observer that should have seen everything.
    Lost { seq: u64, observer: String },
    /// One send, two messages.
    SentTwice { seqs: (u64, u64) },
    /// One observer was shown a message twice.
    ShownTwice { seq: u64, observer: String },
    /// An observer was shown a message after a later one.
    OutOfOrder {
        seq: u64,
        /// The later message, shown before.
        after: u64,
        observer: String,
    },
    /// In one lane, a message sent later has the lower seq.
    LaneTurned { first: u64, then: u64 },
    /// Two observers, or an ack and an observer, disagree on the message at a seq, or on its body,
    /// `ver` or epoch.
    Disagreement { seq: u64, observer: String },
    /// A retry was acknowledged with another seq or epoch.
    AckChanged { was: u64, now: u64 },
    /// A later message has a lower epoch, or a `ver` that does not grow.
    WentBack { seq: u64 },
    /// Seqs that an observer should have seen and did not.
    Gap { from: u64, to: u64, observer: String },
    /// Marked as recovered although it stands where it was acknowledged, or moved and not marked.
    Flag { seq: u64, recovered: bool },
}

/// The count of a [`Report`] that a finding belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// [`Report::lost`].
    Lost,
    /// [`Report::duplicated`].
    Duplicated,
    /// [`Report::reordered`].
    Reordered,
    /// [`Report::gaps`].
    Gaps,
}

impl Finding {
    #[must_use]
    pub fn count(&self) -> Count {
        match self {
            Self::Lost { .. } => Count::Lost,
            Self::SentTwice { .. } | Self::ShownTwice { .. } => Count::Duplicated,
            Self::Gap { .. } => Count::Gaps,
            Self::OutOfOrder { .. }
            | Self::LaneTurned { .. }
            | Self::Disagreement { .. }
            | Self::AckChanged { .. }
            | Self::Flag { .. }
            | Self::WentBack { .. } => Count::Reordered,
        }
    }
}

/// The counts that decide, and their base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub sent: u64,
    pub acked: u64,
    /// Acknowledged messages that an observer should have seen and did not.
    pub lost: u64,
    /// Sends that became two messages, and messages shown twice.
    pub duplicated: u64,
    /// Order or content that differs between observers, acks and lanes; epochs or vers that fall;
    /// wrong marks of recovery.
    pub reordered: u64,
    /// Seqs missing from what an observer saw.
    pub gaps: u64,
    /// The first findings, in words.
    pub findings: Vec<(ConversationId, Finding)>,
}

impl Report {
    /// Whether everything held.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.gaps == 0
    }

    fn add(&mut self, conversation: ConversationId, finding: Finding, count: u64) {
        *match finding.count() {
            Count::Lost => &mut self.lost,
            Count::Duplicated => &mut self.duplicated,
            Count::Reordered => &mut self.reordered,
            Count::Gaps => &mut self.gaps,
        } += count;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push((conversation, finding));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, acked, lost, duplicated, reordered, gaps, findings } = self;
        write!(
            f,
            "{sent} sent, {acked} acked: {lost} lost, {duplicated} duplicated, {reordered} reordered, {gaps} gaps"
        )?;
        for (conversation, finding) in findings {
            write!(f, "\n  {conversation}: {finding:?}")?;
        }
        Ok(())
    }
}

type Name = (UserId, ClientMsgId);

/// The place of a message. The epoch counts only in a conversation that may fork; elsewhere it is
/// 0, so that a seq is there once.
type Place = (Epoch, u64);

/// Takes what clients saw, in any order between clients, and says what was wrong with it.
#[derive(Debug, Default)]
pub struct Checker {
    conversations: BTreeMap<ConversationId, History>,
    sent: u64,
    /// Findings that depend on the order of arrival.
    report: Report,
}

#[derive(Debug, Default)]
struct History {
    may_fork: bool,
    sends: HashMap<Name, Send>,
    /// Sends of each lane, in order.
    lanes: HashMap<u64, Vec<Name>>,
    /// Acks in order of arrival. More than one only where a fork may have voided the others.
    acks: HashMap<Name, Vec<Ack>>,
    /// The message at each place, as it was first seen.
    messages: BTreeMap<Place, Observed>,
    observers: BTreeMap<String, Observer>,
}

#[derive(Debug)]
struct Send {
    body_hash: u64,
}

#[derive(Debug, Default)]
struct Observer {
    last: Place,
    seen: HashSet<Place>,
    /// Should have seen everything from this seq on.
    complete_from: Option<u64>,
}

impl Checker {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The region of this conversation may be lost, and what it alone had come back later. Call it
    /// before anything else about the conversation.
    pub fn may_fork(&mut self, conversation: ConversationId) {
        self.conversations.entry(conversation).or_default().may_fork = true;
    }

    /// A client sent this for the first time, as the next of this lane. Retries are not reported.
    pub fn sent(
        &mut self,
        lane: u64,
        conversation: ConversationId,
        sender: &UserId,
        id: &ClientMsgId,
        body: &str,
    ) {
        let history = self.conversations.entry(conversation).or_default();
        let name = (sender.clone(), id.clone());
        if history.sends.insert(name.clone(), Send { body_hash: body_hash(body) }).is_none() {
            self.sent += 1;
            history.lanes.entry(lane).or_default().push(name);
        }
    }

    /// A client got this ack, to a first send or to a retry.
    pub fn acked(
        &mut self,
        conversation: ConversationId,
        sender: &UserId,
        id: &ClientMsgId,
        ack: &Ack,
    ) {
        let history = self.conversations.entry(conversation).or_default();
        let may_fork = history.may_fork;
        let acks = history.acks.entry((sender.clone(), id.clone())).or_default();
        let Some(last) = acks.last() else { return acks.push(ack.clone()) };
        if (last.seq, last.epoch) == (ack.seq, ack.epoch) {
            return;
        }
        if may_fork && ack.epoch > last.epoch {
            acks.push(ack.clone());
        } else {
            let finding = Finding::AckChanged { was: last.seq, now: ack.seq };
            self.report.add(conversation, finding, 1);
        }
    }

    /// An observer was shown this message now. Names of observers are for people.
    pub fn observed(&mut self, observer: &str, conversation: ConversationId, message: &Observed) {
        let history = self.conversations.entry(conversation).or_default();
        let seq = message.seq;
        let place = history.place(message.epoch, seq);
        let eyes = match history.observers.get_mut(observer) {
            Some(eyes) => eyes,
            None => history.observers.entry(observer.to_owned()).or_default(),
        };
        let observer = || observer.to_owned();
        if !eyes.seen.insert(place) {
            self.report.add(conversation, Finding::ShownTwice { seq, observer: observer() }, 1);
        } else if place < eyes.last {
            let finding = Finding::OutOfOrder { seq, after: eyes.last.1, observer: observer() };
            self.report.add(conversation, finding, 1);
        }
        eyes.last = eyes.last.max(place);
        let known = history.messages.entry(place).or_insert_with(|| message.clone());
        if *known != *message {
            self.report.add(conversation, Finding::Disagreement { seq, observer: observer() }, 1);
        }
    }

    /// This observer should have seen every message from `from_seq` on, even if it saw none.
    pub fn complete(&mut self, observer: &str, conversation: ConversationId, from_seq: u64) {
        let history = self.conversations.entry(conversation).or_default();
        history.observers.entry(observer.to_owned()).or_default().complete_from = Some(from_seq);
    }

    /// The result, now that everything was seen.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = self.report.clone();
        report.sent = self.sent;
        for (&conversation, history) in &self.conversations {
            report.acked += history.acks.len() as u64;
            let standing = history.standing();
            let places = history.check_once(conversation, &standing, &mut report);
            history.check_acks(conversation, &places, &mut report);
            history.check_order(conversation, &standing, &places, &mut report);
            history.check_observers(conversation, &standing, &mut report);
        }
        report
    }
}

impl History {
    fn place(&self, epoch: Epoch, seq: u64) -> Place {
        (if self.may_fork { epoch } else { Epoch(0) }, seq)
    }

    /// What counts at the end, by seq: places that no higher epoch has overwritten.
    fn standing(&self) -> BTreeMap<u64, Place> {
        let mut standing = BTreeMap::new();
        let (mut ends, mut epoch, mut lowest) = (u64::MAX, Epoch(u64::MAX), u64::MAX);
        for &place in self.messages.keys().rev() {
            if place.0 != epoch {
                (ends, epoch) = (lowest, place.0);
            }
            lowest = lowest.min(place.1);
            if place.1 < ends {
                standing.insert(place.1, place);
            }
        }
        standing
    }

    /// One send is one message. Returns where each stands.
    fn check_once(
        &self,
        conversation: ConversationId,
        standing: &BTreeMap<u64, Place>,
        report: &mut Report,
    ) -> HashMap<Name, Place> {
        let mut places: HashMap<Name, Place> = HashMap::new();
        for (seq, place) in standing {
            let message = &self.messages[place];
            let first = *places
                .entry((message.sender.clone(), message.client_msg_id.clone()))
                .or_insert(*place);
            if first != *place {
                report.add(conversation, Finding::SentTwice { seqs: (first.1, *seq) }, 1);
            }
        }
        places
    }

    /// An ack names the message that everyone sees at its place. What was acknowledged stands
    /// there, or was brought back.
    fn check_acks(
        &self,
        conversation: ConversationId,
        places: &HashMap<Name, Place>,
        report: &mut Report,
    ) {
        for (name, acks) in &self.acks {
            let observer = || "the ack".to_owned();
            let stands = places.get(name);
            for ack in acks {
                let seq = ack.seq;
                let Some(message) = self.messages.get(&self.place(ack.epoch, seq)) else {
                    continue;
                };
                let ours = (&message.sender, &message.client_msg_id) == (&name.0, &name.1);
                let same_body =
                    self.sends.get(name).is_none_or(|sent| sent.body_hash == message.body_hash);
                if !ours && stands.is_none() && !self.may_fork {
                    report.add(conversation, Finding::Lost { seq, observer: observer() }, 1);
                } else if !ours || !same_body || message.epoch != ack.epoch {
                    report.add(
                        conversation,
                        Finding::Disagreement { seq, observer: observer() },
                        1,
                    );
                }
            }
            let Some(first) = acks.first().filter(|_| self.may_fork) else { continue };
            let Some(stands) = stands else {
                report.add(conversation, Finding::Lost { seq: first.seq, observer: observer() }, 1);
                continue;
            };
            let recovered = self.messages[stands].recovered;
            let is_at = |ack: &Ack| (ack.epoch, ack.seq) == *stands;
            // The first ack of a message that came back before it was acknowledged already calls it
            // a duplicate.
            let is_wrong =
                if recovered { is_at(first) && !first.duplicate } else { !acks.iter().any(is_at) };
            if is_wrong {
                report.add(conversation, Finding::Flag { seq: stands.1, recovered }, 1);
            }
        }
        if !self.may_fork {
            for message in self.messages.values().filter(|message| message.recovered) {
                report.add(conversation, Finding::Flag { seq: message.seq, recovered: true }, 1);
            }
        }
    }

    /// Vers and epochs grow with seq, and every lane keeps its order, except for what was lost and
    /// brought back.
    fn check_order(
        &self,
        conversation: ConversationId,
        standing: &BTreeMap<u64, Place>,
        places: &HashMap<Name, Place>,
        report: &mut Report,
    ) {
        let mut before: Option<&Observed> = None;
        for message in standing.values().map(|place| &self.messages[place]) {
            if before
                .is_some_and(|before| message.ver <= before.ver || message.epoch < before.epoch)
            {
                report.add(conversation, Finding::WentBack { seq: message.seq }, 1);
            }
            before = Some(message);
        }
        let came_back = |name: &Name, place: &Place| {
            let first = self.acks.get(name).and_then(|acks| acks.first());
            self.messages[place].recovered
                || self.may_fork && first.is_some_and(|ack| (ack.epoch, ack.seq) != *place)
        };
        for lane in self.lanes.values() {
            let mut first = 0;
            let there = lane.iter().filter_map(|name| Some((name, places.get(name)?)));
            for (_, &(_, then)) in there.filter(|(name, place)| !came_back(name, place)) {
                if then < first {
                    report.add(conversation, Finding::LaneTurned { first, then }, 1);
                }
                first = first.max(then);
            }
        }
    }

    /// Every observer that should have seen everything has seen everything that counts.
    fn check_observers(
        &self,
        conversation: ConversationId,
        standing: &BTreeMap<u64, Place>,
        report: &mut Report,
    ) {
        let acks = self.acks.values().flatten();
        let acked: HashSet<Place> = acks.map(|ack| self.place(ack.epoch, ack.seq)).collect();
        // Where nothing is void, an ack alone proves that there is a message.
        let head_acked =
            acked.iter().map(|place| place.1).max().filter(|_| !self.may_fork).unwrap_or(0);
        let head = head_acked.max(standing.last_key_value().map_or(0, |(&seq, _)| seq));
        let mut lost = HashSet::new();
        for (name, observer) in &self.observers {
            let Some(from) = observer.complete_from else { continue };
            let mut missing: Option<(u64, u64)> = None;
            for seq in from..=head + 1 {
                let place = standing.get(&seq).copied().unwrap_or((Epoch(0), seq));
                if seq <= head && !observer.seen.contains(&place) {
                    if acked.contains(&place) && lost.insert(seq) {
                        report.add(conversation, Finding::Lost { seq, observer: name.clone() }, 1);
                    }
                    missing = Some((missing.map_or(seq, |(first, _)| first), seq));
                } else if let Some((from, to)) = missing.take() {
                    report.add(
                        conversation,
                        Finding::Gap { from, to, observer: name.clone() },
                        to - from + 1,
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
