//! The interest of this edge in the conversations of one shard: which of them have sessions here,
//! and what the owner is told of that. From sessions that start and users who join; to the shard's
//! [link](crate::route::link).
//!
//! It drives [`conversation::delivery`], which decides who gets what: one lock a shard, never held
//! across an await. Effects that need another lock or a task are handed back, in [`Effects`].
//!
//! The home alone decides who is a member. A session that starts is attached after the owner has
//! named its user among the members, and one whose user joins, from the change on that made them
//! one. The change that removes them detaches it.

pub(crate) mod effects;
pub(crate) mod encoder;
pub(crate) mod recipient;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conversation::delivery::{
    Effect, Pause, Place, Progress, Question, Rejoined, StartAt, Watched,
};
use wire::command::{Answer, Delivery, Refusal};
use wire::stream::ToOwner;
use wire::{ConversationId, UserId};

use crate::session::state::Session;
use effects::{Backfill, Effects, Hole};
use encoder::{EncodedEvent, EventEncoder};
use recipient::{Guard, Recipient};

/// Users named in one watch; more are asked about in the next.
const USERS_PER_WATCH: usize = 1_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Interest {
    conversations: HashMap<ConversationId, Entry>,
    /// To be watched, or watched again, with the next frames.
    dirty: Vec<ConversationId>,
    /// Watches without an answer on the current stream.
    asked: HashMap<u64, ConversationId>,
    /// Without sessions, and since when.
    idle: Vec<(ConversationId, Instant)>,
    unwatch: Vec<ConversationId>,
    next_rid: u64,
    /// Streams to owners, so far.
    streams: u64,
}

/// A conversation that is watched.
#[derive(Default)]
pub(crate) struct Entry {
    watched: Watched<Recipient, EncodedEvent>,
    /// It stands in the list of those to be watched.
    dirty: bool,
    /// To be watched again at the next tick.
    retry: bool,
}

/// Interprets what the rules have decided for a conversation, as far as that is done under the
/// lock.
fn collect(
    conversation: ConversationId,
    stream: u64,
    decided: Vec<Effect<Recipient>>,
    effects: &mut Effects,
) {
    for effect in decided {
        match effect {
            Effect::Backfill { to: Recipient { session, .. }, have, overflow } => {
                if let Some(to_seq) = overflow {
                    encoder::tell_behind(&session, conversation, have.seq, to_seq);
                }
                let slow = overflow.is_some();
                effects.backfills.push(Backfill { session, conversation, have, slow });
            }
            Effect::Detached(who) => who.session.note_detached(&conversation),
            Effect::Hole { after_ver } => {
                effects.holes.push(Hole { conversation, after_ver, stream })
            }
            Effect::Forked { after_ver } => {
                metrics::counter!("hearth_edge_forks_total").increment(1);
                tracing::info!(%conversation, after_ver, "history forked, delivering the newer one");
            }
        }
    }
}

impl Interest {
    /// A session is to get the events of a conversation from `from` on.
    pub(crate) fn attach(
        &mut self,
        session: &Arc<Session>,
        conversation: ConversationId,
        from: StartAt,
        guard: Option<Guard>,
        effects: &mut Effects,
    ) {
        let Some(is_new) = session.note_attached(conversation) else { return };
        let watched = &mut self.conversations.entry(conversation).or_default().watched;
        let who = || Recipient::new(session.clone(), guard);
        match from {
            // The news that the user is in again may be here before the change that removes them.
            StartAt::After(ver) if !is_new => watched.note_readd(session.id(), ver),
            StartAt::Now { .. } if !is_new => {}
            StartAt::After(ver) => {
                let decided = watched.join(who(), ver);
                let is_unwatched = watched.is_unwatched();
                collect(conversation, self.streams, decided, effects);
                if is_unwatched {
                    self.mark_dirty(conversation);
                }
            }
            StartAt::Now { at_ver } => {
                watched.ask_for(who(), at_ver);
                self.mark_dirty(conversation);
            }
        }
    }

    /// A session that was attached has ended.
    pub(crate) fn detach(&mut self, conversation: &ConversationId) {
        let Some(entry) = self.conversations.get_mut(conversation) else { return };
        entry.watched.note_ended();
        self.note_if_idle(conversation);
    }

    fn note_if_idle(&mut self, conversation: &ConversationId) {
        if self.conversations.get(conversation).is_some_and(|entry| entry.watched.is_unused()) {
            self.idle.push((*conversation, Instant::now()));
        }
    }

    /// How many conversations are watched.
    pub(crate) fn len(&self) -> usize {
        self.conversations.len()
    }

    /// Whether [`Interest::frames`] has something.
    pub(crate) fn has_frames(&self) -> bool {
        !self.dirty.is_empty() || !self.unwatch.is_empty()
    }

    /// A new stream to the owner: everything is watched again, after the last `ver` delivered.
    pub(crate) fn begin_stream(&mut self) {
        self.streams += 1;
        self.asked.clear();
        self.unwatch.clear();
        let is_lost = |entry: &Entry| loses_interest() && entry.watched.is_established();
        self.dirty = self
            .conversations
            .iter()
            .filter(|(_, entry)| !is_lost(entry))
            .map(|(id, _)| *id)
            .collect();
        for entry in self.conversations.values_mut() {
            (entry.dirty, entry.retry) = (true, false);
            entry.watched.begin_stream();
        }
    }

    /// What the owner is to be told, at most `limit` frames.
    pub(crate) fn frames(&mut self, limit: usize) -> Vec<ToOwner> {
        let mut frames = Vec::new();
        while frames.len() < limit {
            let Some(conversation) = self.unwatch.pop() else { break };
            frames.push(ToOwner::Unwatch { conversation });
        }
        while frames.len() < limit {
            let Some(conversation) = self.dirty.pop() else { break };
            let Some(entry) = self.conversations.get_mut(&conversation) else { continue };
            // Odd: the even ones are those of commands and queries.
            let rid = self.next_rid * 2 + 1;
            self.next_rid += 1;
            let Question { after_ver, after_epoch, users, more } =
                entry.watched.ask(rid, USERS_PER_WATCH);
            self.asked.insert(rid, conversation);
            frames.push(ToOwner::Watch { rid, conversation, after_ver, users, after_epoch });
            if more {
                self.dirty.push(conversation);
                break;
            }
            entry.dirty = false;
        }
        frames
    }

    /// The owner's answer to a watch.
    pub(crate) fn watching(
        &mut self,
        rid: u64,
        result: Result<Answer, Refusal>,
        effects: &mut Effects,
    ) {
        let Some(conversation) = self.asked.remove(&rid) else { return };
        let Some(entry) = self.conversations.get_mut(&conversation) else { return };
        let watched = &mut entry.watched;
        match result {
            Ok(Answer::Watching { head_ver, head_seq, members, head_epoch }) => {
                // In the order of the question, which was sorted.
                let is_member = |user: &UserId| members.binary_search(user).is_ok();
                let head = Place { ver: head_ver, seq: head_seq };
                if skips_gaps() {
                    watched.skip_to(head, head_epoch);
                }
                let decided = watched.answered(rid, head, head_epoch, is_member);
                collect(conversation, self.streams, decided, effects);
            }
            Err(refusal) if refusal.code.is_retryable() => {
                watched.put_off(rid);
                entry.retry = true;
            }
            Ok(_) | Err(_) => collect(conversation, self.streams, watched.refused(rid), effects),
        }
        self.note_if_idle(&conversation);
    }

    /// The owner could not answer a watch: it is asked again at the next tick.
    pub(crate) fn put_off(&mut self, rid: u64) {
        let asked = self.asked.remove(&rid);
        if let Some(entry) = asked.and_then(|asked| self.conversations.get_mut(&asked)) {
            entry.watched.put_off(rid);
            entry.retry = true;
        }
    }

    /// Whether anything is known of a conversation.
    pub(crate) fn has(&self, conversation: &ConversationId) -> bool {
        self.conversations.contains_key(conversation)
    }

    /// Takes a conversation out, with all who get it: it is in another shard.
    pub(crate) fn take(&mut self, conversation: &ConversationId) -> Option<Entry> {
        self.asked.retain(|_, asked| asked != conversation);
        self.dirty.retain(|dirty| dirty != conversation);
        self.conversations.remove(conversation)
    }

    /// Takes in a conversation that was in another shard: it is watched here after the last `ver`
    /// delivered.
    pub(crate) fn put(&mut self, conversation: ConversationId, mut entry: Entry) {
        entry.watched.begin_stream();
        (entry.dirty, entry.retry) = (false, false);
        self.unwatch.retain(|unwatched| *unwatched != conversation);
        self.conversations.insert(conversation, entry);
        self.note_if_idle(&conversation);
        if !follows_no_move() {
            self.mark_dirty(conversation);
        }
    }

    /// A change came from the owner, by feed or in answer to a question for a hole.
    pub(crate) fn delivered(
        &mut self,
        delivery: Delivery,
        encoder: &EventEncoder,
        effects: &mut Effects,
    ) {
        let conversation = delivery.change.conversation;
        let Some(entry) = self.conversations.get_mut(&conversation) else { return };
        let decided = entry.watched.offer(encoder.encode(delivery), effects);
        if !decided.is_empty() {
            collect(conversation, self.streams, decided, effects);
            self.note_if_idle(&conversation);
        }
    }

    /// The question for a hole was answered, with changes or with a failure.
    pub(crate) fn hole_answered(
        &mut self,
        hole: Hole,
        changes: Vec<Delivery>,
        encoder: &EventEncoder,
        effects: &mut Effects,
    ) {
        let Hole { conversation, stream, .. } = hole;
        if stream != self.streams {
            // Another owner may have another history. Its watch brings what is missing, from the
            // fork on.
            return;
        }
        if changes.is_empty() {
            return self.lagged(&conversation);
        }
        for delivery in changes {
            self.delivered(delivery, encoder, effects);
        }
        let entry = self.conversations.get_mut(&conversation);
        if let Some(after_ver) = entry.and_then(|entry| entry.watched.retry_hole()) {
            effects.holes.push(Hole { conversation, after_ver, stream });
        }
    }

    /// The owner has dropped a watch: watch again after the last `ver`.
    pub(crate) fn lagged(&mut self, conversation: &ConversationId) {
        if let Some(entry) = self.conversations.get_mut(conversation) {
            entry.watched.note_lagged();
            self.mark_dirty(*conversation);
        }
    }

    /// About once a second: gives up what has had no session for `linger`, and asks again what
    /// could not be answered.
    pub(crate) fn tick(&mut self, now: Instant, linger: Duration) {
        let idle = std::mem::take(&mut self.idle);
        for (conversation, since) in idle {
            match self.conversations.get(&conversation) {
                Some(entry) if entry.watched.is_unused() => {
                    if now.duration_since(since) >= linger {
                        // What no stream was asked for needs no taking back, and so the queue stays
                        // short without one.
                        if self
                            .conversations
                            .remove(&conversation)
                            .is_some_and(|entry| entry.watched.is_established())
                        {
                            self.unwatch.push(conversation);
                        }
                    } else {
                        self.idle.push((conversation, since));
                    }
                }
                Some(_) | None => {}
            }
        }
        self.idle.sort_unstable_by_key(|(conversation, since)| (*conversation, *since));
        self.idle.dedup_by_key(|(conversation, _)| *conversation);
        let retry: Vec<_> =
            self.conversations.iter().filter(|(_, entry)| entry.retry).map(|(c, _)| *c).collect();
        for conversation in retry {
            self.mark_dirty(conversation);
        }
    }

    /// Takes a session off the live events of a conversation, because it is to be brought what it
    /// missed. None when it is not attached.
    pub(crate) fn pause(
        &mut self,
        session: &Session,
        conversation: &ConversationId,
    ) -> Option<Pause> {
        self.conversations.get_mut(conversation)?.watched.pause(session.id())
    }

    /// A session that was paused asks to be live again.
    pub(crate) fn rejoin(
        &mut self,
        session: &Session,
        conversation: &ConversationId,
        progress: &mut Progress,
        effects: &mut Effects,
    ) -> Rejoined {
        let entry = self.conversations.get_mut(conversation);
        let rejoined = entry
            .map_or(Rejoined::Gone, |entry| entry.watched.rejoin(session.id(), progress, effects));
        if rejoined == Rejoined::Gone {
            session.note_detached(conversation);
            self.note_if_idle(conversation);
        }
        rejoined
    }

    /// The change `ver` removed a session's user: the session gets no more of the conversation. If
    /// the user is in again, the place is returned after which they get everything.
    pub(crate) fn remove(
        &mut self,
        session: &Session,
        conversation: &ConversationId,
        ver: u64,
    ) -> Option<Place> {
        let entry = self.conversations.get_mut(conversation)?;
        let readd = entry.watched.remove(session.id(), ver);
        if readd.is_none() {
            session.note_detached(conversation);
            self.note_if_idle(conversation);
        }
        readd
    }

    fn mark_dirty(&mut self, conversation: ConversationId) {
        if let Some(entry) = self.conversations.get_mut(&conversation) {
            entry.retry = false;
            if !entry.dirty {
                entry.dirty = true;
                self.dirty.push(conversation);
            }
        }
    }
}

/// Only in the simulator's test of its own checker: elsewhere a fail point is nothing.
fn loses_interest() -> bool {
    fail::fail_point!("interest-lost", |_| true);
    false
}

/// As [`loses_interest`].
fn skips_gaps() -> bool {
    fail::fail_point!("gap-skipped", |_| true);
    false
}

/// As [`loses_interest`].
fn follows_no_move() -> bool {
    fail::fail_point!("move-not-followed", |_| true);
    false
}

#[cfg(test)]
impl Interest {
    /// Nothing is watched, and something still to be unwatched.
    pub(crate) fn to_unwatch(shard: wire::ShardId) -> Self {
        let conversation =
            ConversationId { kind: wire::ConversationKind::Group, shard, unique: [7; 16] };
        Self { unwatch: vec![conversation], ..Self::default() }
    }
}
