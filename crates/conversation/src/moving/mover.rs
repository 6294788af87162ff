//! The driver's memory of moves that are not finished: what to offer to whom, and who has to wait for it.
//!
//! It follows the committed frames of a shard from a cursor, as every consumer does, and the cursor stays before the
//! first move that is not finished. So whoever owns the shard later starts where this one was (M2).
//!
//! The driver: [`Mover::take`] each committed frame in slot order, while there is [`Mover::has_room`]; tell how far all
//! of it can be read elsewhere ([`Mover::reach`]); make every one of [`Mover::offers`], again after a pause, for as long as it is
//! among them; [`Mover::arrived`] and [`Mover::taken_in`] when the other owner says so; write [`Mover::cursor`] down now and then.

use std::collections::VecDeque;

use wire::change::Event;
use wire::{ConversationId, Position, ShardId, Slot};

use crate::log::LogFrame;

/// Moves that are not finished, in one shard; further frames are not taken until one is.
pub const MOVES_OPEN_MAX: usize = 256;

/// To the owner of another shard: this conversation is yours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offer {
    /// Which.
    pub conversation: ConversationId,
    /// The move's number.
    pub n: u64,
    /// `ver` of its last change here.
    pub ver: u64,
    /// Where it comes from.
    pub from: ShardId,
    /// Whose owner takes it in.
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
    /// Those of a higher `before` behind those of a lower one.
    open: VecDeque<Open>,
    reached: Slot,
}

impl Mover {
    /// Of this shard, from the cursor that the last one left.
    #[must_use]
    pub fn new(shard: ShardId, cursor: Option<Position>) -> Self {
        Self { shard, next: cursor.unwrap_or_default(), open: VecDeque::new(), reached: Slot(0) }
    }

    /// The slot of the next frame to take.
    #[must_use]
    pub fn next_slot(&self) -> Slot {
        self.next.slot
    }

    /// Whether another frame may be taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open.len() < MOVES_OPEN_MAX
    }

    /// Takes a **committed** frame, the one at [`Mover::next_slot`]; another is passed over. (One that is not committed could be
    /// voided, and the conversation be in two shards.)
    pub fn take(&mut self, frame: &LogFrame) {
        if frame.slot != self.next.slot {
            return;
        }
        self.take_rebuilt(frame);
        self.skip_to(Position { slot: frame.slot.next(), ..frame.at() });
    }

    /// Takes a frame from [`Mover::next_slot`] on that was made again from the projections, because the log has it no longer
    /// ([`crate::rebuild`]). Those may come in any order; when all are taken, [`Mover::skip_to`]. A move that was finished long ago may
    /// be among them, and is offered again: whoever has taken it in says so.
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

    /// Everything before this slot can be read, log and projections, by every owner that any of the shards of this zone and
    /// class may have (M3, M5). Class `multi-region`: it is projected. Class `region`: it is so in every region.
    pub fn reach(&mut self, slot: Slot) {
        self.reached = self.reached.max(slot);
    }

    /// What is to be offered now.
    pub fn offers(&self) -> impl Iterator<Item = Offer> + '_ {
        self.open.iter().filter(|open| open.at < self.reached).map(|open| open.offer)
    }

    /// How many moves are not finished.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The other owner has taken it in. A region that is lost may still take that back, so it is offered on.
    pub fn arrived(&mut self, conversation: ConversationId, n: u64) {
        let offered =
            |open: &&mut Open| (open.offer.conversation, open.offer.n) == (conversation, n);
        self.open.iter_mut().filter(offered).for_each(|open| open.has_arrived = true);
    }

    /// The other owner has taken it in, and every region that may act for that shard has it.
    pub fn taken_in(&mut self, conversation: ConversationId, n: u64) {
        self.open.retain(|open| (open.offer.conversation, open.offer.n) != (conversation, n));
    }

    /// Whether those who ask for a conversation that has left may hear where to: it has arrived. `before`: what took
    /// it away stands before this slot. (Of one that this owner has sent away, the slot after; else the first of the term.)
    #[must_use]
    pub fn may_tell(&self, conversation: &ConversationId, before: Slot) -> bool {
        self.next.slot >= before
            && self
                .open
                .iter()
                .all(|open| open.has_arrived || open.offer.conversation != *conversation)
    }

    /// To be written down: every move before it is finished.
    #[must_use]
    pub fn cursor(&self) -> Position {
        self.open.front().map_or(self.next, |open| open.before)
    }
}
