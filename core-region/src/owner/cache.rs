//! The conversations of a shard that are in memory: loaded from the projections when first asked
//! for, dropped when long unused and projected. Bounded by count and by bytes.

use conversation::request_queue::RequestQueue;
use lru::LruCache;
use wire::ConversationId;

use super::dedupe_lookup::QueuedRequest;
use super::entry::Entry;

/// Of the longest unused, so many are looked at for one that can be dropped. If all are in use, the
/// cache grows over its bound instead.
const CANDIDATES_MAX: usize = 8;

/// A conversation's place in memory.
pub(super) struct CacheSlot {
    /// None while it is loaded from the store.
    pub(super) entry: Option<Entry>,
    pub(super) queue: RequestQueue<QueuedRequest>,
    /// As measured last.
    bytes: usize,
}

impl CacheSlot {
    fn new(incarnation: u32) -> Self {
        Self { entry: None, queue: RequestQueue::new(incarnation), bytes: 0 }
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.entry.as_ref().is_some_and(Entry::is_settled)
    }
}

pub(super) struct ConversationCache {
    slots: LruCache<ConversationId, CacheSlot>,
    count_max: usize,
    bytes_max: usize,
    /// Of all slots, as measured.
    bytes: usize,
    incarnations: u32,
}

impl ConversationCache {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { slots: LruCache::unbounded(), count_max, bytes_max, bytes: 0, incarnations: 0 }
    }

    /// The slot of a conversation, made if it is not there; and whether it was.
    pub(super) fn slot(&mut self, id: ConversationId) -> (&mut CacheSlot, bool) {
        let new = !self.slots.contains(&id);
        if new {
            self.make_room(1);
            self.incarnations = self.incarnations.wrapping_add(1);
        }
        let incarnation = self.incarnations;
        (self.slots.get_or_insert_mut(id, || CacheSlot::new(incarnation)), !new)
    }

    /// The slot of a conversation, if there is one. Does not count as use.
    pub(super) fn peek(&mut self, id: &ConversationId) -> Option<&mut CacheSlot> {
        self.slots.peek_mut(id)
    }

    /// As [`Self::peek`], of one that is loaded.
    pub(super) fn entry(&mut self, id: &ConversationId) -> Option<&mut Entry> {
        self.peek(id)?.entry.as_mut()
    }

    /// The slot of a conversation that is about to be loaded anew: what the store said for those
    /// who wait there holds no more.
    pub(super) fn renew(&mut self, id: ConversationId) -> &mut CacheSlot {
        let old = self.pop(&id);
        let (slot, _) = self.slot(id);
        if let Some(old) = old {
            slot.entry = old.entry;
            slot.queue.adopt(old.queue, QueuedRequest::unasked);
        }
        slot
    }

    pub(super) fn forget(&mut self, id: &ConversationId) {
        self.pop(id);
    }

    fn pop(&mut self, id: &ConversationId) -> Option<CacheSlot> {
        let slot = self.slots.pop(id)?;
        self.bytes -= slot.bytes;
        Some(slot)
    }

    /// Measures a conversation that may have grown, and keeps the bound.
    pub(super) fn measure(&mut self, id: &ConversationId) {
        let Some(slot) = self.slots.peek_mut(id) else { return };
        let bytes = slot.entry.as_ref().map_or(0, |entry| entry.conversation.estimated_bytes());
        self.bytes = self.bytes - slot.bytes + bytes;
        slot.bytes = bytes;
        self.make_room(0);
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// An upper estimate of what all of them take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_over(&self, more: usize) -> bool {
        self.slots.len() + more > self.count_max || self.bytes > self.bytes_max
    }

    /// Drops the longest unused that can be dropped, until `more` fit in.
    fn make_room(&mut self, more: usize) {
        let mut candidates = CANDIDATES_MAX;
        while self.is_over(more) && candidates > 0 {
            // The one in use now stays, however large.
            if self.slots.len() + more <= 1 {
                return;
            }
            let Some((id, slot)) = self.slots.pop_lru() else { return };
            if slot.is_idle() {
                self.bytes -= slot.bytes;
            } else {
                candidates -= 1;
                self.slots.put(id, slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use conversation::sequencer::Conversation;
    use wire::{ConversationKind, Durability, RegionId, ShardId, Slot, ZoneId};

    use super::*;

    fn id(n: u8) -> ConversationId {
        let shard =
            ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::Region, n: 0 };
        ConversationId { kind: ConversationKind::Group, shard, unique: [n; 16] }
    }

    fn load(cache: &mut ConversationCache, n: u8) {
        let (slot, _) = cache.slot(id(n));
        slot.entry = Some(Entry::new(Conversation::empty(id(n)), Slot(0)));
        cache.measure(&id(n));
    }

    #[test]
    fn the_longest_unused_are_dropped_when_the_bytes_are_over_their_bound() {
        let one = Conversation::empty(id(1)).estimated_bytes();
        let mut cache = ConversationCache::new(1_000, 3 * one);
        for n in 1..=3 {
            load(&mut cache, n);
        }
        assert_eq!((cache.len(), cache.bytes()), (3, 3 * one));
        cache.slot(id(1));
        load(&mut cache, 4);
        assert!(cache.bytes() <= 3 * one, "{}", cache.bytes());
        assert!(cache.peek(&id(2)).is_none(), "unused for longest");
        assert!(cache.peek(&id(1)).is_some() && cache.peek(&id(4)).is_some());
    }

    #[test]
    fn one_that_is_being_loaded_or_is_the_only_one_stays() {
        let mut cache = ConversationCache::new(1_000, 1);
        load(&mut cache, 1);
        assert_eq!(cache.len(), 1);
        cache.slot(id(2));
        load(&mut cache, 3);
        assert!(cache.peek(&id(1)).is_none());
        assert!(cache.peek(&id(2)).is_some(), "being loaded");
    }

    #[test]
    fn the_count_is_bounded_too_and_what_is_forgotten_counts_no_more() {
        let mut cache = ConversationCache::new(2, usize::MAX);
        for n in 1..=5 {
            load(&mut cache, n);
        }
        assert_eq!(cache.len(), 2);
        cache.forget(&id(4));
        cache.forget(&id(5));
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }
}
