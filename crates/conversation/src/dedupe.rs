//! What a `client_msg_id` already became: 30 days of memory for each conversation, of which the latest part is here and
//! all of it in the store's projection.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use wire::change::Message;
use wire::command::Draft;
use wire::limits::DEDUPE_MS;
use wire::{ClientMsgId, Epoch, Position, UserId};
use xxhash_rust::xxh3::Xxh3;

/// What a send became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seen {
    /// The seq it got.
    pub seq: u64,
    /// The term in which, as clients see it.
    pub epoch: Epoch,
    /// When, milliseconds since 1970.
    pub ts_ms: u64,
    /// Of everything that the sender said ([`fingerprint_of_draft`]).
    pub fingerprint: u64,
    /// Where in the log. A hit from the store counts only if [`crate::shard::Starts::owns`] this place: the row may be
    /// the trace of a message that was lost with its region.
    pub at: Position,
}

impl Seen {
    /// Whether it is still remembered.
    #[must_use]
    pub fn counts(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.ts_ms) <= DEDUPE_MS
    }
}

/// Same for the same content, on every machine and in every version: it is stored. Not a secret and not a signature:
/// who makes two of his own messages collide cheats only himself.
#[must_use]
pub fn fingerprint_of_draft(draft: &Draft) -> u64 {
    fingerprint(&draft.body, draft.reply_to, draft.thread, &draft.mentions, draft.meta.as_deref())
}

/// That of the draft that became this message.
#[must_use]
pub fn fingerprint_of_message(message: &Message) -> u64 {
    fingerprint(&message.body, message.reply_to, message.thread, &message.mentions, message.meta.as_deref())
}

fn fingerprint(
    body: &str,
    reply_to: Option<u64>,
    thread: Option<u64>,
    mentions: &[UserId],
    meta: Option<&str>,
) -> u64 {
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(body.as_bytes());
    // 0 is no seq, so it can stand for none.
    part(&reply_to.unwrap_or(0).to_le_bytes());
    part(&thread.unwrap_or(0).to_le_bytes());
    part(meta.unwrap_or("").as_bytes());
    for user in mentions {
        part(user.as_str().as_bytes());
    }
    hash.digest()
}

/// The part of the memory that is at hand. When it is complete, what is not in it was never sent.
#[derive(Clone, Debug)]
pub struct Dedupe {
    recent: HashMap<(UserId, ClientMsgId), Seen>,
    order: VecDeque<(UserId, ClientMsgId)>,
    max: usize,
    complete: bool,
}

/// Sends remembered in memory, for each conversation.
pub const DEDUPE_RECENT: usize = 512;

impl Dedupe {
    /// Of a conversation that has just begun: complete, until more than `max` sends have been remembered.
    #[must_use]
    pub fn complete(max: usize) -> Self {
        Self { recent: HashMap::new(), order: VecDeque::new(), max, complete: true }
    }

    /// Of a conversation with a past that only the store remembers.
    #[must_use]
    pub fn partial(max: usize) -> Self {
        Self { complete: false, ..Self::complete(max) }
    }

    /// Whether what is not here was never sent.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What this send became, as far as it is at hand.
    #[must_use]
    pub fn find(&self, sender: &UserId, client_msg_id: &ClientMsgId) -> Option<&Seen> {
        // Clones of ids copy inline text or count a reference up; they do not allocate.
        self.recent.get(&(sender.clone(), client_msg_id.clone()))
    }

    /// Remembers; forgets the oldest over the bound. The same send again keeps the newer of the two.
    pub fn remember(&mut self, sender: &UserId, client_msg_id: &ClientMsgId, seen: Seen) {
        let key = (sender.clone(), client_msg_id.clone());
        if self.recent.insert(key.clone(), seen).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
            self.complete = false;
        }
    }
}
