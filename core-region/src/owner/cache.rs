//! The conversations of a shard that are in memory: read from the projections when first asked for, forgotten when long
//! unused and projected.
//!
//! A request that cannot be decided yet waits in its conversation's queue, and all later ones of that conversation behind
//! it; those of other conversations pass.

use std::collections::VecDeque;

use conversation::dedupe::{DEDUPE_RECENT, Seen};
use conversation::sequencer::Conversation;
use lru::LruCache;
use wire::change::{Change, Event};
use wire::{ConversationId, Epoch, Slot};

use crate::intake::Input;

/// One conversation in memory.
pub(crate) struct Entry {
    /// With everything decided, acknowledged or not.
    pub(crate) conversation: Conversation,
    /// Number of its last committed message.
    pub(crate) committed_seq: u64,
    /// Number of its last committed change.
    pub(crate) committed_ver: u64,
    /// Of that change, as clients see it.
    pub(crate) committed_epoch: Epoch,
    /// The last slot with a change of it in this term.
    pub(crate) touched: Option<Slot>,
    /// Last `ver` that may have been anything but a message.
    pub(crate) last_turn_ver: u64,
    /// Decided and not committed changes that are not messages. While there are any, who may read what is not settled.
    pub(crate) turns_uncommitted: u32,
    /// Changes applied since it was loaded.
    pub(crate) applied: u64,
    /// Of these, projected.
    pub(crate) projected: u64,
    /// What has taken it to another shard, if it is away, stands before this slot.
    pub(crate) away_before: Slot,
    /// This owner has sent it there.
    has_left: bool,
}

impl Entry {
    /// As it was loaded, all of it committed, before this slot, and projected.
    pub(crate) fn new(conversation: Conversation, committed: Slot) -> Self {
        Self {
            committed_seq: conversation.head_seq(),
            committed_ver: conversation.head_ver(),
            committed_epoch: conversation.last_epoch(),
            last_turn_ver: conversation.head_ver(),
            conversation,
            touched: None,
            turns_uncommitted: 0,
            applied: 0,
            projected: 0,
            away_before: committed,
            has_left: false,
        }
    }

    /// A change was decided and applied; it goes into this slot.
    pub(crate) fn note_applied(&mut self, change: &Change, slot: Slot) {
        self.touched = Some(slot);
        self.applied += 1;
        if is_turn(change) {
            self.last_turn_ver = change.ver;
            self.turns_uncommitted += 1;
        }
        if matches!(change.event, Event::MovedOut(_)) {
            self.away_before = slot.next();
            self.has_left = true;
        }
    }

    /// Whether where it is may be told ([`Location::is_certain`](conversation::moving::Location::is_certain)).
    pub(crate) fn is_certain(&self) -> bool {
        self.has_left || self.conversation.location().is_certain()
    }

    /// A change of it was committed.
    pub(crate) fn note_committed(&mut self, change: &Change) {
        (self.committed_ver, self.committed_epoch) = (change.ver, change.epoch);
        if let Event::Message(message) = &change.event {
            self.committed_seq = message.seq;
        }
        if is_turn(change) {
            self.turns_uncommitted -= 1;
        }
    }

    /// Whether nothing would be lost if it were read anew.
    pub(crate) fn is_settled(&self) -> bool {
        self.applied == self.projected
    }

    /// Whether what the store said of a send when `projected_then` of the changes were projected is still all there is to
    /// know: everything since is in the conversation's own memory.
    pub(crate) fn covers_since(&self, projected_then: u64) -> bool {
        self.applied - projected_then <= DEDUPE_RECENT as u64
    }
}

/// Anything but a message.
fn is_turn(change: &Change) -> bool {
    !matches!(change.event, Event::Message(_))
}

/// What is known of a send from the store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lookup {
    /// Not asked.
    Unasked,
    /// Asked, not answered.
    Asked,
    /// Answered: what counts of it, and how many of the conversation's changes were projected when it was asked.
    Known { seen: Option<Seen>, projected_then: u64 },
    /// The store cannot say, now or later.
    Failed,
}

/// A request that waits.
pub(crate) struct QueuedRequest {
    pub(crate) input: Input,
    pub(crate) lookup: Lookup,
}

/// A conversation's place in memory.
pub(crate) struct CacheSlot {
    /// None: being read from the store.
    pub(crate) entry: Option<Entry>,
    /// In the order of arrival.
    pub(crate) waiting: VecDeque<QueuedRequest>,
    /// Ticket of the first one in the queue: one more for each that left it.
    pub(crate) head_ticket: u64,
    /// It stands in the list of those to be gone on with.
    pub(crate) runnable: bool,
}

impl CacheSlot {
    /// `life` tells it from other places of the same conversation, earlier or later: their tickets differ.
    fn new(incarnation: u32) -> Self {
        Self {
            entry: None,
            waiting: VecDeque::new(),
            head_ticket: u64::from(incarnation) << 32,
            runnable: false,
        }
    }

    /// The ticket of the last one in the queue.
    pub(crate) fn last_ticket(&self) -> u64 {
        self.head_ticket + self.waiting.len() as u64 - 1
    }

    /// The request with this ticket, if it still waits.
    pub(crate) fn ticket(&mut self, ticket: u64) -> Option<&mut QueuedRequest> {
        let index = usize::try_from(ticket.checked_sub(self.head_ticket)?).ok()?;
        self.waiting.get_mut(index)
    }

    /// Whether nothing would be lost if it were forgotten.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.entry.as_ref().is_some_and(Entry::is_settled)
    }
}

/// All of a shard.
pub(crate) struct Entries {
    places: LruCache<ConversationId, CacheSlot>,
    max: usize,
    lives: u32,
}

impl Entries {
    pub(crate) fn new(max: usize) -> Self {
        Self { places: LruCache::unbounded(), max, lives: 0 }
    }

    /// The place of a conversation, made if it is not there; and whether it was.
    pub(crate) fn place(&mut self, id: ConversationId) -> (&mut CacheSlot, bool) {
        let new = !self.places.contains(&id);
        if new {
            self.make_room();
            self.lives = self.lives.wrapping_add(1);
        }
        let incarnation = self.lives;
        (self.places.get_or_insert_mut(id, || CacheSlot::new(incarnation)), !new)
    }

    /// The place of a conversation, if there is one. Does not count as use.
    pub(crate) fn peek(&mut self, id: &ConversationId) -> Option<&mut CacheSlot> {
        self.places.peek_mut(id)
    }

    /// The place of a conversation that is about to be read anew: what the store said for those who wait there holds no more.
    pub(crate) fn renew(&mut self, id: ConversationId) -> &mut CacheSlot {
        let old = self.places.pop(&id);
        let (place, _) = self.place(id);
        if let Some(old) = old {
            place.entry = old.entry;
            place.waiting = old
                .waiting
                .into_iter()
                .map(|held| QueuedRequest { lookup: Lookup::Unasked, ..held })
                .collect();
        }
        place
    }

    /// Forgets a conversation that could not be read.
    pub(crate) fn forget(&mut self, id: &ConversationId) {
        self.places.pop(id);
    }

    /// Those in memory.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Forgets the longest unused that may be forgotten. When the few oldest are all in use, it grows instead.
    fn make_room(&mut self) {
        const LOOKED_AT: usize = 8;
        if self.places.len() < self.max {
            return;
        }
        for _ in 0..LOOKED_AT {
            let Some((id, place)) = self.places.pop_lru() else { return };
            if place.is_idle() {
                if self.places.len() < self.max {
                    return;
                }
            } else {
                self.places.put(id, place);
            }
        }
    }
}
