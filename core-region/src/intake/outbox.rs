//! What waits to leave on one shard stream: replies and the feed. The owner task fills it and never
//! waits for it; the stream's writer empties it.
//!
//! Replies are bounded by admission: a stream has a bounded number of open requests, and its reader
//! waits for room. The feed is bounded in bytes, and says no when it is full.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use wire::change::Home;
use wire::command::{Answer, Refusal};
use wire::stream::StreamEnd;
use wire::{ConversationId, NodeId};

/// What a request came to.
pub(crate) type Outcome = Result<Answer, Refusal>;

/// One thing on its way out.
#[derive(Debug, PartialEq)]
pub(crate) enum Out {
    Reply {
        rid: u64,
        outcome: Outcome,
        /// Whether the request was admitted, so that there is room for another one now.
        admitted: bool,
    },
    /// The conversation is in another shard.
    Moved {
        /// To which admitted request; none: a watch has ended.
        rid: Option<u64>,
        conversation: ConversationId,
        placement: Home,
    },
    /// An encoded delivery, shared by all streams that watch its conversation.
    Delivery(Bytes),
    /// This watch was dropped.
    Lagged(ConversationId),
    /// A frame of this kind is not known here.
    Unsupported(u16),
    /// Nothing follows.
    End(StreamEnd),
}

pub(crate) struct Outbox {
    /// Tells the streams of this process apart.
    id: u64,
    /// The proven name of the other end.
    peer: NodeId,
    waiting: Mutex<Waiting>,
    /// Something waits, or the outbox was closed.
    filled: Notify,
    /// Requests that may still be admitted.
    room: Semaphore,
    feed_bytes_max: usize,
    /// The feed was taken, or the outbox was closed.
    emptied: Notify,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Out>,
    feed_bytes: usize,
    /// No more is taken in: the stream has ended or is gone.
    closed: bool,
}

impl Outbox {
    /// Admits at most `requests` without an answer, holds at most `feed_bytes_max` of encoded feed.
    pub(crate) fn new(peer: NodeId, requests: usize, feed_bytes_max: usize) -> Self {
        Self {
            // Drawn, not counted: all cores of a process would share a count.
            id: rand::random(),
            peer,
            waiting: Mutex::default(),
            filled: Notify::new(),
            room: Semaphore::new(requests),
            feed_bytes_max,
            emptied: Notify::new(),
        }
    }

    /// Tells the streams of this process apart.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The proven name of the other end.
    pub(crate) fn peer(&self) -> &NodeId {
        &self.peer
    }

    /// Waits for room for one more request without an answer. Cancel safe.
    pub(crate) async fn admit(&self) {
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
    }

    /// Puts in the answer to an admitted request.
    pub(crate) fn reply(&self, rid: u64, outcome: Outcome) {
        self.push(Out::Reply { rid, outcome, admitted: true });
    }

    /// Puts in the refusal of a request that was not admitted.
    pub(crate) fn refuse(&self, rid: u64, refusal: Refusal) {
        self.push(Out::Reply { rid, outcome: Err(refusal), admitted: false });
    }

    /// Puts in a piece of the feed; false when there is no room for it, and then it was not put in.
    #[must_use]
    pub(crate) fn deliver(&self, encoded: &Bytes) -> bool {
        let mut waiting = self.lock();
        if waiting.closed {
            return true;
        }
        if waiting.feed_bytes + encoded.len() > self.feed_bytes_max && waiting.feed_bytes > 0 {
            return false;
        }
        waiting.feed_bytes += encoded.len();
        waiting.queue.push_back(Out::Delivery(encoded.clone()));
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// As [`Outbox::deliver`], but waits for room. Cancel safe.
    pub(crate) async fn deliver_when_room(&self, encoded: &Bytes) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.deliver(encoded) {
                return;
            }
            emptied.await;
        }
    }

    /// Says that a watch was dropped.
    pub(crate) fn lagged(&self, conversation: ConversationId) {
        self.push(Out::Lagged(conversation));
    }

    /// Says in which shard a conversation is, as the answer to an admitted request, or as the end
    /// of a watch (none).
    pub(crate) fn moved(&self, rid: Option<u64>, conversation: ConversationId, placement: Home) {
        self.push(Out::Moved { rid, conversation, placement });
    }

    /// Says that a frame was not understood.
    pub(crate) fn unsupported(&self, kind: u16) {
        self.push(Out::Unsupported(kind));
    }

    /// Puts in the last frame; what comes later is dropped.
    pub(crate) fn end(&self, end: StreamEnd) {
        let mut waiting = self.lock();
        if !waiting.closed {
            waiting.queue.push_back(Out::End(end));
            waiting.closed = true;
        }
        drop(waiting);
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// The stream is gone: drops what waits and what comes later.
    pub(crate) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.queue.clear();
        drop(waiting);
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// Waits until something is there and moves all of it to `taken`, oldest first. Returns false
    /// when the outbox is closed and empty. Cancel safe. One taker at a time.
    pub(crate) async fn take(&self, taken: &mut VecDeque<Out>) -> bool {
        loop {
            {
                let mut waiting = self.lock();
                if !waiting.queue.is_empty() {
                    std::mem::swap(&mut waiting.queue, taken);
                    waiting.feed_bytes = 0;
                    self.emptied.notify_waiters();
                    break;
                }
                if waiting.closed {
                    return false;
                }
            }
            self.filled.notified().await;
        }
        let answers = |out: &&Out| {
            matches!(out, Out::Reply { admitted: true, .. } | Out::Moved { rid: Some(_), .. })
        };
        let answered = taken.iter().filter(answers).count();
        self.room.add_permits(answered);
        true
    }

    /// How much waits to leave.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    fn push(&self, out: Out) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        waiting.queue.push_back(out);
        drop(waiting);
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that holds the lock can panic half way; a poisoned queue is still whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(requests: usize, feed_bytes: usize) -> Outbox {
        Outbox::new("r1/edge/1".parse().unwrap(), requests, feed_bytes)
    }

    async fn all(outbox: &Outbox) -> Vec<Out> {
        let mut taken = VecDeque::new();
        if outbox.take(&mut taken).await { taken.into() } else { Vec::new() }
    }

    #[tokio::test]
    async fn a_full_feed_says_no_and_answers_still_pass() {
        let outbox = outbox(10, 10);
        assert!(outbox.deliver(&Bytes::from_static(b"12345678")));
        assert!(!outbox.deliver(&Bytes::from_static(b"12345678")));
        outbox.reply(1, Ok(Answer::Noted));
        assert_eq!(all(&outbox).await.len(), 2);
        assert!(
            outbox.deliver(&Bytes::from_static(b"longer than the whole bound")),
            "one always fits"
        );
    }

    #[tokio::test]
    async fn a_stream_with_too_many_open_requests_waits_until_one_is_answered() {
        let outbox = outbox(2, 10);
        outbox.admit().await;
        outbox.admit().await;
        let third = outbox.admit();
        tokio::pin!(third);
        assert!(futures_util::poll!(&mut third).is_pending());
        outbox.reply(1, Ok(Answer::Noted));
        assert!(
            futures_util::poll!(&mut third).is_pending(),
            "not before it was taken to be written"
        );
        all(&outbox).await;
        third.await;
    }

    #[tokio::test]
    async fn nothing_follows_the_end() {
        let outbox = outbox(2, 10);
        outbox.end(StreamEnd::Stopping);
        outbox.reply(1, Ok(Answer::Noted));
        assert!(outbox.deliver(&Bytes::from_static(b"x")));
        assert_eq!(all(&outbox).await, vec![Out::End(StreamEnd::Stopping)]);
        assert!(all(&outbox).await.is_empty());
    }
}
