//! An order to move a conversation, driven from wherever it was given: asks the owner of the shard
//! it is thought to be in, follows it when it is elsewhere, and waits until it has arrived.

use wire::change::Home;
use wire::{Durability, ShardId};

/// What is known of one order.
#[derive(Clone, Copy, Debug)]
pub struct MoveOrder {
    to: ShardId,
    known: Home,
    /// The home that the order, or another one, has it on the way to.
    begun: Option<Home>,
}

/// What to ask next: the owner of `shard` to move it to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveRequest {
    pub shard: ShardId,
    /// `shard` itself once the move has begun: then this only waits for its end.
    pub to: ShardId,
    /// Ask only if all regions have what is acknowledged of the shard: the conversation cannot be
    /// written in before they have its move (M5).
    pub needs_replicas: bool,
}

/// How the owner answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveAnswer {
    /// The conversation is in another shard.
    Moved(Home),
    /// It moves there, or is there.
    Moving(Home),
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveProgress {
    AskAgain,
    /// It is served there.
    Arrived(Home),
    /// The answer contradicts what is known.
    LostSight,
}

impl MoveOrder {
    /// For a conversation born in `born`.
    #[must_use]
    pub fn new(born: ShardId, to: ShardId) -> Self {
        Self { to, known: Home { generation: 0, shard: born }, begun: None }
    }

    #[must_use]
    pub fn next(&self) -> MoveRequest {
        let shard = self.known.shard;
        // Once it has begun it is only asked after: a second order, while it moves on by another's,
        // would make both send it back and forth.
        let is_begun = self.begun.is_some();
        MoveRequest {
            shard,
            to: if is_begun { shard } else { self.to },
            needs_replicas: !is_begun
                && shard != self.to
                && self.to.durability == Durability::Region,
        }
    }

    pub fn on(&mut self, answer: MoveAnswer) -> MoveProgress {
        let found = match answer {
            MoveAnswer::Moving(home) if home.shard == self.known.shard => {
                return MoveProgress::Arrived(self.begun.unwrap_or(home));
            }
            MoveAnswer::Moving(home) => {
                self.begun = Some(home);
                return MoveProgress::AskAgain;
            }
            MoveAnswer::Moved(home) => home,
        };
        if let Some(begun) = self.begun.filter(|begun| begun.generation <= found.generation) {
            return MoveProgress::Arrived(begun);
        }
        if found.generation <= self.known.generation {
            return MoveProgress::LostSight;
        }
        self.known = found;
        MoveProgress::AskAgain
    }
}

#[cfg(test)]
mod tests {
    use wire::{RegionId, ZoneId};

    use super::*;

    fn shard(home: u16) -> ShardId {
        ShardId { zone: ZoneId(1), home: RegionId(home), durability: Durability::Region, n: 0 }
    }

    fn home(generation: u64, region: u16) -> Home {
        Home { generation, shard: shard(region) }
    }

    #[test]
    fn a_move_is_ordered_once_and_then_asked_after_until_it_has_arrived() {
        let mut order = MoveOrder::new(shard(1), shard(2));
        let first = MoveRequest { shard: shard(1), to: shard(2), needs_replicas: true };
        assert_eq!(order.next(), first);
        assert_eq!(order.on(MoveAnswer::Moving(home(1, 2))), MoveProgress::AskAgain);
        let after = MoveRequest { shard: shard(1), to: shard(1), needs_replicas: false };
        assert_eq!(order.next(), after);
        let arrived = MoveProgress::Arrived(home(1, 2));
        assert_eq!(order.on(MoveAnswer::Moved(home(1, 2))), arrived);
    }

    #[test]
    fn a_conversation_that_moved_before_is_followed() {
        let mut order = MoveOrder::new(shard(1), shard(3));
        assert_eq!(order.on(MoveAnswer::Moved(home(4, 2))), MoveProgress::AskAgain);
        assert_eq!(order.next().shard, shard(2));
        assert_eq!(order.on(MoveAnswer::Moved(home(4, 2))), MoveProgress::LostSight);
    }

    #[test]
    fn one_that_is_there_already_does_not_move() {
        let mut order = MoveOrder::new(shard(1), shard(1));
        assert!(!order.next().needs_replicas);
        let there = MoveProgress::Arrived(home(0, 1));
        assert_eq!(order.on(MoveAnswer::Moving(home(0, 1))), there);
    }

    #[test]
    fn a_begun_move_that_another_order_sends_on_has_arrived() {
        let mut order = MoveOrder::new(shard(1), shard(2));
        order.on(MoveAnswer::Moving(home(1, 2)));
        let arrived = MoveProgress::Arrived(home(1, 2));
        assert_eq!(order.on(MoveAnswer::Moved(home(2, 3))), arrived);
    }
}
