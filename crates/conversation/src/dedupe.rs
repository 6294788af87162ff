//! What an earlier send with the same `client_msg_id` became. Each conversation remembers 30 days:
//! the latest part in memory, all of it in the store's projection.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};
use wire::command::Draft;
use wire::limits::DEDUPE_MS;
use wire::{ClientMsgId, Epoch, Position, UserId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seen {
    pub seq: u64,
    /// The epoch of the message, as clients see it.
    pub epoch: Epoch,
    /// Milliseconds since 1970.
    pub ts_ms: u64,
    /// A hash of everything that the sender said ([`fingerprint`]).
    pub fingerprint: u64,
    /// Place in the log. A hit from the store counts only if [`crate::shard::Starts::owns`] this
    /// place: the row may be a trace of a message that was lost with its region.
    pub at: Position,
}

impl Seen {
    /// Whether it is still remembered.
    #[must_use]
    pub fn counts(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.ts_ms) <= DEDUPE_MS
    }
}

/// The same for the same content, on every machine and in every version, because it is stored. It
/// is neither a secret nor a signature: a sender who makes two of their own messages collide harms
/// only themself. It covers the kind of the body: take it before a body is sealed.
#[must_use]
pub fn fingerprint(draft: &Draft) -> u64 {
    let Draft { client_msg_id: _, body, reply_to, thread, mentions, meta, later } = draft;
    // Each part is hashed on top of the parts before it, so that no two lists of parts share an
    // input.
    let on = |hash: u64, part: &[u8]| xxh3_64_with_seed(part, hash);
    let seq = |hash: u64, seq: Option<u64>| on(hash, &seq.map_or([0; 8], u64::to_le_bytes));
    let (kind, parts) = body.parts();
    let mut hash = parts.into_iter().fold(u64::from(kind), on);
    hash = seq(hash, *reply_to);
    hash = seq(hash, *thread);
    hash = on(hash, meta.as_deref().unwrap_or_default().as_bytes());
    if !later.bytes().is_empty() {
        hash = on(!hash, later.bytes());
    }
    mentions.iter().fold(hash, |hash, user| on(hash, user.as_str().as_bytes()))
}

/// Sends remembered in memory, for each conversation.
pub const DEDUPE_RECENT: usize = 512;
/// Sends of which memory knows, for each conversation, at least that they happened: 8 bytes each
/// and their table.
pub const DEDUPE_KNOWN: usize = 65_536;

/// The part of the memory that is at hand: what the latest sends became, and the hashes of all
/// sends since it was complete. While those are complete, a send whose hash is not among them is
/// surely new, and the store is not asked. A collision of hashes costs one such question and
/// nothing else.
#[derive(Clone, Debug)]
pub struct Dedupe {
    /// By hash. The names beside it tell a collision from a match.
    recent: HashMap<u64, (UserId, ClientMsgId, Seen), AsIs>,
    order: VecDeque<u64>,
    /// None when the hashes are not complete, or no longer.
    known: Option<HashSet<u64, AsIs>>,
}

impl Dedupe {
    /// The memory of a conversation in which nothing was ever sent.
    #[must_use]
    pub fn complete() -> Self {
        Self { known: Some(HashSet::default()), ..Self::partial() }
    }

    /// The memory of a conversation with a past that only the store remembers.
    #[must_use]
    pub fn partial() -> Self {
        Self { recent: HashMap::default(), order: VecDeque::new(), known: None }
    }

    /// Whether nothing was ever sent under this name, so that the store need not be asked.
    #[must_use]
    pub fn is_surely_new(&self, sender: &UserId, client_msg_id: &ClientMsgId) -> bool {
        self.known.as_ref().is_some_and(|known| !known.contains(&key_hash(sender, client_msg_id)))
    }

    /// An upper estimate of what it takes in memory, bytes.
    #[must_use]
    pub fn estimated_bytes(&self) -> usize {
        // Names that are too long to stand inline.
        const NAMES_BYTES: usize = 96;
        let recent = size_of::<(u64, (UserId, ClientMsgId, Seen))>() + 1;
        let known = self.known.as_ref().map_or(0, HashSet::capacity);
        self.recent.capacity() * recent
            + self.recent.len() * NAMES_BYTES
            + self.order.capacity() * size_of::<u64>()
            + known * (size_of::<u64>() + 1) * 8 / 7
    }

    /// What this send became, as far as it is at hand.
    #[must_use]
    pub fn find(&self, sender: &UserId, client_msg_id: &ClientMsgId) -> Option<&Seen> {
        let (by, id, seen) = self.recent.get(&key_hash(sender, client_msg_id))?;
        (by == sender && id == client_msg_id).then_some(seen)
    }

    /// Remembers a send, in place of an earlier one under this name, and forgets the oldest over
    /// the bound. Of two names with one hash the newer is at hand; the store answers for the older.
    pub fn remember(&mut self, sender: &UserId, client_msg_id: &ClientMsgId, seen: Seen) {
        let hash = key_hash(sender, client_msg_id);
        if let Some(known) = &mut self.known {
            if known.len() < DEDUPE_KNOWN {
                known.insert(hash);
            } else {
                self.known = None;
            }
        }
        // Clones of ids copy inline text or count a reference up; they do not allocate.
        if self.recent.insert(hash, (sender.clone(), client_msg_id.clone(), seen)).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > DEDUPE_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }
}

/// A hasher for keys that are hashes already.
type AsIs = BuildHasherDefault<Hashed>;

#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn key_hash(sender: &UserId, client_msg_id: &ClientMsgId) -> u64 {
    // The sender's hash seeds the other, so that no two pairs share an input.
    xxh3_64_with_seed(client_msg_id.as_str().as_bytes(), xxh3_64(sender.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use wire::codec::Unknown;
    use wire::message::{Body, Opaque};

    use super::*;

    fn seen(seq: u64) -> Seen {
        Seen { seq, epoch: Epoch(1), ts_ms: 1_000, fingerprint: 7, at: Position::default() }
    }

    fn name(n: usize) -> (UserId, ClientMsgId) {
        (UserId::new(format!("u{}", n % 3)).unwrap(), ClientMsgId::new(format!("m{n}")).unwrap())
    }

    #[test]
    fn what_memory_forgot_is_not_taken_for_new() {
        let mut dedupe = Dedupe::complete();
        for n in 0..DEDUPE_RECENT + 10 {
            let (sender, id) = name(n);
            assert!(dedupe.is_surely_new(&sender, &id));
            dedupe.remember(&sender, &id, seen(n as u64 + 1));
        }
        let (sender, id) = name(3);
        assert_eq!(dedupe.find(&sender, &id), None, "over the bound");
        assert!(!dedupe.is_surely_new(&sender, &id), "but known to have been");
        let (sender, id) = name(DEDUPE_RECENT);
        assert_eq!(dedupe.find(&sender, &id).map(|seen| seen.seq), Some(DEDUPE_RECENT as u64 + 1));
    }

    #[test]
    fn memory_with_a_past_or_too_full_takes_nothing_for_new() {
        let (sender, id) = name(999_999);
        assert!(!Dedupe::partial().is_surely_new(&sender, &id));
        let mut dedupe = Dedupe::complete();
        for n in 0..=DEDUPE_KNOWN {
            let (sender, id) = name(n);
            dedupe.remember(&sender, &id, seen(1));
        }
        assert!(!dedupe.is_surely_new(&sender, &id));
        assert!(dedupe.recent.len() <= DEDUPE_RECENT && dedupe.order.len() <= DEDUPE_RECENT);
    }

    #[test]
    fn thirty_days_are_remembered_and_no_more() {
        assert!(seen(1).counts(1_000 + DEDUPE_MS));
        assert!(!seen(1).counts(1_001 + DEDUPE_MS));
        assert!(seen(1).counts(0), "a clock that stepped back forgets nothing");
    }

    fn opaque(scheme: &str, content: &'static str) -> Body {
        Body::Opaque(Opaque { scheme: scheme.into(), content: content.into() })
    }

    #[test]
    fn a_fingerprint_tells_every_field_apart() {
        let draft = Draft::text(ClientMsgId::new("x").unwrap(), "ab");
        let draft = Draft { reply_to: Some(1), ..draft };
        let others = [
            Draft { body: "a".into(), meta: Some("b".into()), ..draft.clone() },
            Draft { reply_to: None, thread: Some(1), ..draft.clone() },
            Draft { mentions: vec![UserId::new("ab").unwrap()], ..draft.clone() },
            Draft { meta: Some("{}".into()), ..draft.clone() },
            Draft { body: opaque("", "ab"), ..draft.clone() },
            Draft { body: opaque("a", "b"), ..draft.clone() },
            Draft { body: Body::Unknown(Unknown::new(4711, &b"ab"[..])), ..draft.clone() },
        ];
        for other in &others {
            assert_ne!(fingerprint(&draft), fingerprint(other), "{other:?}");
        }
        // Stored, so it must not change with a version of the hash.
        assert_eq!(fingerprint(&draft), 0x63f0_8fb2_c523_736f);
    }
}
