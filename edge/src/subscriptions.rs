//! The interest of this edge in the conversations of one shard: which of them have sessions here, up to which `ver` each was
//! delivered, and who gets what comes next. From sessions that start and users who join; to the shard's
//! [link](crate::route::link), which watches at the owner what is wanted here.
//!
//! Kept under one lock per shard and never across an await. Who is a member is decided at the home alone. A session that starts
//! is attached after the owner has named its user among the members; one whose user joins, from the change on that made him
//! one; either is detached by the change that removes him.

mod place;
mod subscriber;
mod watched;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use wire::command::{Answer, Delivery, Refusal};
use wire::stream::ToOwner;
use wire::{ConversationId, UserId};

use crate::fanout::{Effects, Printer};
use crate::session::Session;
use crate::session::catch_up::Order;
pub(crate) use place::{At, Attached, From, Rejoined};
use subscriber::Asking;
use watched::Question;
pub(crate) use watched::Watched;

/// Users named in one watch; more are asked about in the next.
const USERS_PER_WATCH: usize = 1_000;

/// Held by everything that a starting session waits for; dropped when it is there.
pub(crate) type Guard = mpsc::Sender<std::convert::Infallible>;

/// See the module.
#[derive(Default)]
pub(crate) struct Interest {
    conversations: HashMap<ConversationId, Watched>,
    /// To be watched, or watched again, with the next frames.
    dirty: Vec<ConversationId>,
    /// Watches without an answer on the current stream.
    asked: HashMap<u64, ConversationId>,
    /// Without sessions, and since when.
    idle: Vec<(ConversationId, Instant)>,
    unwatch: Vec<ConversationId>,
    next_rid: u64,
}

impl Interest {
    /// A session is to get the events of a conversation from `from` on. Returns what has to be caught up first.
    #[must_use]
    pub(crate) fn attach(
        &mut self,
        session: &Arc<Session>,
        conversation: ConversationId,
        from: From,
        guard: Option<Guard>,
    ) -> Option<Order> {
        let is_new = session.note_attached(conversation)?;
        let watched = self.conversations.entry(conversation).or_default();
        match from {
            // The news that he is in again may be here before the change that puts him out.
            From::Ver(ver) if !is_new => {
                watched.note_again(session, ver);
                None
            }
            From::Now { .. } if !is_new => None,
            From::Ver(ver) => {
                let behind = watched.join(session, ver, guard);
                self.mark_dirty_if(conversation, Watched::is_unwatched);
                behind.map(|at| Order::Behind { conversation, at })
            }
            From::Now { .. } => {
                watched.asking.push(Asking::new(session.clone(), from, guard));
                self.mark_dirty(conversation);
                None
            }
        }
    }

    /// A session that was attached has ended.
    pub(crate) fn detach(&mut self, conversation: &ConversationId) {
        let Some(watched) = self.conversations.get_mut(conversation) else { return };
        watched.note_ended();
        if watched.is_unused() {
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
        self.asked.clear();
        self.unwatch.clear();
        let is_lost = |watched: &Watched| loses_interest() && watched.is_established();
        self.dirty = self
            .conversations
            .iter()
            .filter(|(_, watched)| !is_lost(watched))
            .map(|(id, _)| *id)
            .collect();
        for watched in self.conversations.values_mut() {
            watched.begin_stream();
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
            let Some(watched) = self.conversations.get_mut(&conversation) else { continue };
            // Odd: the even ones are those of commands and queries.
            let rid = self.next_rid * 2 + 1;
            self.next_rid += 1;
            let Question { after_ver, after_epoch, users, more } =
                watched.ask(rid, USERS_PER_WATCH);
            self.asked.insert(rid, conversation);
            frames.push(ToOwner::Watch { rid, conversation, after_ver, users, after_epoch });
            if more {
                self.dirty.push(conversation);
                break;
            }
            watched.dirty = false;
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
        let Some(watched) = self.conversations.get_mut(&conversation) else { return };
        match result {
            Ok(Answer::Watching { head_ver, head_seq, members, head_epoch }) => {
                // In the order of the question, which was sorted.
                let is_member = |user: &UserId| members.binary_search(user).is_ok();
                let head = At { ver: head_ver, seq: head_seq };
                let behind = watched.answered(&conversation, rid, head, head_epoch, is_member);
                let order = |(session, at)| (session, Order::Behind { conversation, at });
                effects.behind.extend(behind.into_iter().map(order));
            }
            Err(refusal) if refusal.code.is_retryable() => watched.put_off(rid),
            Ok(_) | Err(_) => watched.refused(&conversation, rid),
        }
        if watched.is_unused() {
            self.idle.push((conversation, Instant::now()));
        }
    }

    /// The owner could not answer a watch: it is asked again at the next tick.
    pub(crate) fn put_off(&mut self, rid: u64) {
        if let Some(watched) =
            self.asked.remove(&rid).and_then(|asked| self.conversations.get_mut(&asked))
        {
            watched.put_off(rid);
        }
    }

    /// Whether anything is known of a conversation.
    pub(crate) fn has(&self, conversation: &ConversationId) -> bool {
        self.conversations.contains_key(conversation)
    }

    /// Takes a conversation out, with all who get it: it is in another shard.
    pub(crate) fn take(&mut self, conversation: &ConversationId) -> Option<Watched> {
        self.asked.retain(|_, asked| asked != conversation);
        self.dirty.retain(|dirty| dirty != conversation);
        self.conversations.remove(conversation)
    }

    /// Takes in a conversation that was in another shard: it is watched here after the last `ver` delivered.
    pub(crate) fn put(&mut self, conversation: ConversationId, mut watched: Watched) {
        watched.begin_stream();
        watched.dirty = false;
        self.unwatch.retain(|unwatched| *unwatched != conversation);
        if watched.is_unused() {
            self.idle.push((conversation, Instant::now()));
        }
        self.conversations.insert(conversation, watched);
        if !follows_no_move() {
            self.mark_dirty(conversation);
        }
    }

    /// Changes came from the owner, by feed or in answer to a question for a hole.
    pub(crate) fn delivered(
        &mut self,
        delivery: Delivery,
        printer: &Printer,
        effects: &mut Effects,
    ) {
        let conversation = delivery.change.conversation;
        let Some(watched) = self.conversations.get_mut(&conversation) else { return };
        watched.offer(delivery, printer, effects);
        if watched.is_unused() {
            self.idle.push((conversation, Instant::now()));
        }
    }

    /// The question for a hole was answered, or failed: is there still one?
    pub(crate) fn hole_answered(&mut self, conversation: &ConversationId, effects: &mut Effects) {
        if let Some(after_ver) =
            self.conversations.get_mut(conversation).and_then(Watched::retry_hole)
        {
            effects.holes.push((*conversation, after_ver));
        }
    }

    /// The owner has dropped a watch: watch again after the last `ver`.
    pub(crate) fn lagged(&mut self, conversation: &ConversationId) {
        if let Some(watched) = self.conversations.get_mut(conversation) {
            watched.note_lagged();
            self.mark_dirty(*conversation);
        }
    }

    /// About once a second: gives up what has had no session for `linger`, and asks again what could not be answered.
    pub(crate) fn tick(&mut self, now: Instant, linger: Duration) {
        let idle = std::mem::take(&mut self.idle);
        for (conversation, since) in idle {
            match self.conversations.get(&conversation) {
                Some(watched) if watched.is_unused() => {
                    if now.duration_since(since) >= linger {
                        // What no stream was asked for needs no taking back, and so the queue stays short without one.
                        if self
                            .conversations
                            .remove(&conversation)
                            .is_some_and(|watched| watched.is_established())
                        {
                            self.unwatch.push(conversation);
                        }
                    } else {
                        self.idle.push((conversation, since));
                    }
                }
                _ => {}
            }
        }
        self.idle.sort_unstable_by_key(|(conversation, since)| (*conversation, *since));
        self.idle.dedup_by_key(|(conversation, _)| *conversation);
        let retry: Vec<_> =
            self.conversations.iter().filter(|(_, w)| w.retry).map(|(c, _)| *c).collect();
        for conversation in retry {
            self.mark_dirty(conversation);
        }
    }

    /// Takes a session off the live events of a conversation, because it is to be caught up from history. None when it is not
    /// attached.
    pub(crate) fn take_off(
        &mut self,
        session: &Session,
        conversation: &ConversationId,
    ) -> Option<Attached> {
        self.conversations.get_mut(conversation)?.take_off(session)
    }

    /// A session that was taken off has everything up to `have`: it is put on again, with what came meanwhile, if that is at
    /// hand.
    pub(crate) fn rejoin(
        &mut self,
        session: &Arc<Session>,
        conversation: &ConversationId,
        have: At,
        effects: &mut Effects,
    ) -> Rejoined {
        let Some(watched) = self.conversations.get_mut(conversation) else { return Rejoined::Gone };
        let rejoined = watched.rejoin(session, have, effects);
        if rejoined == Rejoined::Gone {
            session.note_detached(conversation);
        }
        rejoined
    }

    /// A session's user was removed from a conversation by the change `ver`: the session gets no more of it. Unless he is
    /// in again: then the place is returned after which he gets everything.
    pub(crate) fn remove(
        &mut self,
        session: &Session,
        conversation: &ConversationId,
        ver: u64,
    ) -> Option<At> {
        let watched = self.conversations.get_mut(conversation)?;
        if let Some(again) = watched.remove(session, ver) {
            return Some(again);
        }
        session.note_detached(conversation);
        if watched.is_unused() {
            self.idle.push((*conversation, Instant::now()));
        }
        None
    }

    fn mark_dirty_if(
        &mut self,
        conversation: ConversationId,
        is_wanted: impl Fn(&Watched) -> bool,
    ) {
        if self.conversations.get(&conversation).is_some_and(is_wanted) {
            self.mark_dirty(conversation);
        }
    }

    fn mark_dirty(&mut self, conversation: ConversationId) {
        if let Some(watched) = self.conversations.get_mut(&conversation) {
            watched.retry = false;
            if !watched.dirty {
                watched.dirty = true;
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
