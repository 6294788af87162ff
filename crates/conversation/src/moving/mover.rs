//! The driver's memory of unfinished moves: what to offer to which owner, and which clients have to
//! wait.
//!
//! It follows the committed frames of a shard from a cursor, as every consumer does. The cursor
//! stays before the first unfinished move, so a later owner of the shard starts where this one was
//! (M2).
//!
//! The driver calls [`Mover::take`] with each committed frame in slot order, while there is
//! [`Mover::has_room`]. It says how far everything can be read elsewhere ([`Mover::reach`]), and
//! makes every one of [`Mover::offers`] again and again for as long as it is listed. It calls
//! [`Mover::arrived`] and [`Mover::transfer_accepted`] when the other owner says so, and stores
//! [`Mover::cursor`] now and then.

use std::collections::VecDeque;

use wire::change::Event;
use wire::{ConversationId, Position, ShardId, Slot};

use crate::log::LogFrame;

/// Unfinished moves in one shard. Further frames wait until one is finished.
pub const MOVES_OPEN_MAX: usize = 256;

/// To the owner of another shard: this conversation is yours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offer {
    pub conversation: ConversationId,
    /// The generation that the move makes.
    pub n: u64,
    /// `ver` of its last change here.
    pub ver: u64,
    pub from: ShardId,
    /// The shard whose owner accepts it.
    pub to: ShardId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Open {
    offer: Offer,
    at: Slot,
    /// The cursor before its frame.
    before: Position,
    /// The other owner serves it.
    has_arrived: bool,
}

/// The moves out of one shard, from one cursor on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mover {
    shard: ShardId,
    next: Position,
    /// In the order of `before`.
    open: VecDeque<Open>,
    reached: Slot,
}

impl Mover {
    /// Starts from the cursor that the last driver of this shard stored.
    #[must_use]
    pub fn new(shard: ShardId, cursor: Option<Position>) -> Self {
        Self { shard, next: cursor.unwrap_or_default(), open: VecDeque::new(), reached: Slot(0) }
    }

    #[must_use]
    pub fn next_slot(&self) -> Slot {
        self.next.slot
    }

    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open.len() < MOVES_OPEN_MAX
    }

    /// Takes a **committed** frame, the one at [`Mover::next_slot`], and ignores any other. (An
    /// uncommitted frame could be voided, and the conversation be in two shards.)
    pub fn take(&mut self, frame: &LogFrame) {
        if frame.slot != self.next.slot {
            return;
        }
        self.take_rebuilt(frame);
        self.skip_to(Position { slot: frame.slot.next(), ..frame.at() });
    }

    /// Takes a frame from [`Mover::next_slot`] on that was rebuilt from the projections, because
    /// the log was trimmed ([`crate::rebuild`]). Rebuilt frames come in any order; after the last
    /// one, call [`Mover::skip_to`]. A move that was finished long ago may be among them and is
    /// offered again; the other owner says that it has it.
    pub fn take_rebuilt(&mut self, frame: &LogFrame) {
        for change in &frame.changes {
            let Event::MovedOut(out) = &change.event else { continue };
            let (conversation, ver) = (change.conversation, change.ver);
            let offer = Offer {
                conversation,
                n: out.to.generation,
                ver,
                from: self.shard,
                to: out.to.shard,
            };
            self.open.push_back(Open {
                offer,
                at: frame.slot,
                before: self.next,
                has_arrived: false,
            });
        }
    }

    /// Everything before this place is taken.
    pub fn skip_to(&mut self, next: Position) {
        self.next = next;
    }

    /// Everything before this slot can be read, log and projections, by every possible owner of the
    /// shards of this zone and class (M3, M5). Multi-region: it is projected. Single-region: it is
    /// projected in every region.
    pub fn reach(&mut self, slot: Slot) {
        self.reached = self.reached.max(slot);
    }

    /// The offers to make now.
    pub fn offers(&self) -> impl Iterator<Item = Offer> + '_ {
        self.open.iter().filter(|open| open.at < self.reached).map(|open| open.offer)
    }

    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The other owner has accepted it. A lost region may still take that back, so the offer is
    /// repeated.
    pub fn arrived(&mut self, conversation: ConversationId, n: u64) {
        let offered =
            |open: &&mut Open| (open.offer.conversation, open.offer.n) == (conversation, n);
        self.open.iter_mut().filter(offered).for_each(|open| open.has_arrived = true);
    }

    /// The other owner has accepted it, and every region that may act for that shard has it.
    pub fn taken_in(&mut self, conversation: ConversationId, n: u64) {
        self.open.retain(|open| (open.offer.conversation, open.offer.n) != (conversation, n));
    }

    /// Whether clients may hear where a conversation that left has gone: it has arrived. The change
    /// that took it away stands before slot `before`. (If this owner sent it away, that is the slot
    /// after it; else the first of the term.)
    #[must_use]
    pub fn may_tell(&self, conversation: &ConversationId, before: Slot) -> bool {
        self.next.slot >= before
            && self
                .open
                .iter()
                .all(|open| open.has_arrived || open.offer.conversation != *conversation)
    }

    /// The cursor to store: every move before it is finished.
    #[must_use]
    pub fn cursor(&self) -> Position {
        self.open.front().map_or(self.next, |open| open.before)
    }
}
