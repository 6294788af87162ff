//! The requests to one shard: those that the owner has, or gets next, and those that wait for their
//! turn behind them, fair to who asks.
//!
//! The owner takes requests as they come. So only a window of them is sent, and a user who asks for
//! much finds the window open for others.

use std::time::Instant;

use bytes::Bytes;
use shard_client::Pending;
use shard_client::pending::Request;
use wire::ConversationId;
use wire::command::Actor;
use wire::stream::ToOwner;
use wire::version::Feature;

use super::fair::{Asker, FairQueue};
use super::{Ask, Reply};

/// Requests without an answer that the owner has.
const WINDOW: usize = 1_024;
/// Bytes of them.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of requests that wait. Full: see [`super::fair`].
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// See the module.
pub(super) struct Requests {
    window: Pending<Reply>,
    waiting: FairQueue<Request<Reply>>,
}

impl Requests {
    /// For so many requests, those that wait included.
    pub(super) fn new(requests_max: usize) -> Self {
        let window = WINDOW.min(requests_max.div_ceil(2));
        Self {
            window: Pending::new(window, WINDOW_BYTES),
            waiting: FairQueue::new(requests_max - window, WAITING_BYTES_MAX),
        }
    }

    /// Adds a request. Returns the one that there is no room for, if there is one.
    #[must_use]
    pub(super) fn push(
        &mut self,
        conversation: ConversationId,
        ask: Ask,
        to: Reply,
        deadline: Instant,
    ) -> Option<Reply> {
        if self.waiting.is_empty() && !self.window.is_full() {
            let frame = |rid| ask.frame(rid, conversation);
            return self.window.push(conversation, frame, to, Some(deadline)).err();
        }
        let asker = ask.actor().map(asker);
        let request = Request::new(conversation, &ask.frame(0, conversation), to, Some(deadline));
        self.wait(asker, request)
    }

    fn wait(&mut self, asker: Asker, request: Request<Reply>) -> Option<Reply> {
        let bytes = request.frame().len();
        self.waiting.push(asker, request, bytes).map(Request::into_taker)
    }

    /// Takes out, in order, what is asked of a conversation and not answered.
    pub(super) fn take(&mut self, conversation: &ConversationId) -> Vec<Request<Reply>> {
        let mut taken = self.window.take(conversation);
        taken.extend(self.waiting.take_out(|request| request.conversation() == conversation));
        taken
    }

    /// Adds a request to another shard, where the conversation was. Returns the one that there is
    /// no room for, if there is one.
    #[must_use]
    pub(super) fn push_again(&mut self, request: Request<Reply>) -> Option<Reply> {
        if self.waiting.is_empty() && !self.window.is_full() {
            return self.window.push_again(request).err();
        }
        let asker = match ToOwner::from_bytes(request.frame()) {
            Ok(ToOwner::Command { actor, .. }) => Some(asker(&actor)),
            Ok(ToOwner::Query { actor, .. }) => actor.as_ref().map(asker),
            Ok(_) | Err(_) => None,
        };
        self.wait(asker, request)
    }

    /// A new stream: everything that the last owner had is to be sent again.
    pub(super) fn begin_stream(&mut self) {
        self.window.begin_stream();
    }

    /// The next frames to send, at most so many, and those for which the owner lacks a feature.
    pub(super) fn unsent(
        &mut self,
        most: usize,
        lacks: impl Fn(Option<Feature>) -> Option<Feature>,
    ) -> (Vec<Bytes>, Vec<(Reply, Feature)>) {
        while !self.window.is_full()
            && let Some(request) = self.waiting.pop()
        {
            // There is room, and only requests were put in.
            let pushed = self.window.push_again(request);
            debug_assert!(pushed.is_ok());
        }
        let refused = self.window.refused(most, lacks);
        (self.window.unsent(most), refused)
    }

    /// Whether there is something that could be sent now.
    pub(super) fn has_unsent(&self) -> bool {
        self.window.has_unsent() || (!self.waiting.is_empty() && !self.window.is_full())
    }

    /// Takes out the request that this answers, if it is still there, and whether others wait for
    /// its place.
    pub(super) fn answered(&mut self, rid: u64) -> (Option<Reply>, bool) {
        (self.window.answered(rid), !self.waiting.is_empty())
    }

    /// Takes out those whose time is over.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Reply> {
        let mut expired = self.window.expired(now);
        let waiting = self.waiting.take_out(|request| request.is_expired(now));
        expired.extend(waiting.into_iter().map(Request::into_taker));
        expired
    }

    /// How many there are, about.
    pub(super) fn len(&self) -> usize {
        self.window.len() + self.waiting.len()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty() && self.waiting.is_empty()
    }
}

fn asker(actor: &Actor) -> (wire::TenantId, wire::UserId) {
    (actor.tenant.clone(), actor.user.clone())
}
