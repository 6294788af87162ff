//! The frames of a stretch of a shard's log, made again from what was projected of them: for a
//! consumer whose cursor is older than what the log still has.
//!
//! A projection remembers each change with its place. Read conversation by conversation, in the
//! order of `ver`, the changes that stood in the stretch are frames again, of one conversation
//! each. So each conversation's own order is kept, and that of several is not; a frame that the
//! consumer took before may come once more. Both is what at-least-once delivery allows.

use wire::change::{Event, Recorded};
use wire::{ConversationId, Position, ShardId, Slot};

use crate::log::LogFrame;
use crate::projection::HeadRow;
use crate::shard::Starts;

/// Slots that the log of a shard no longer has, all of which are projected.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Whose log.
    pub shard: ShardId,
    /// Of that shard.
    pub starts: Starts,
    /// The first slot.
    pub from: Slot,
    /// The first one behind it.
    pub until: Slot,
}

impl Gap {
    /// Whether a conversation with this head, which has never moved, may have changes in here.
    #[must_use]
    pub fn may_hold(&self, head: &HeadRow) -> bool {
        !self.is_before(head.at)
    }

    /// Whether everything that a conversation said up to this place stood before the gap.
    #[must_use]
    pub fn is_before(&self, at: Position) -> bool {
        self.starts.owns(at) && at.slot < self.from
    }

    /// Of a place that an older version did not write down nobody knows: so it is in here.
    fn holds(&self, at: Position) -> bool {
        at == Position::default()
            || (self.starts.owns(at) && self.from <= at.slot && at.slot < self.until)
    }

    /// Where the consumer goes on in the log.
    #[must_use]
    pub fn end(&self) -> Position {
        let before = self.until.0.checked_sub(1).and_then(|slot| self.starts.owner_of(Slot(slot)));
        Position { epoch: before.unwrap_or_default(), slot: self.until }
    }
}

/// The changes of one conversation on their way to frames.
#[derive(Debug)]
pub struct Rebuilt {
    /// The shard that it is in, as of the last change.
    shard: ShardId,
    /// May still grow.
    open: Option<LogFrame>,
}

impl Rebuilt {
    /// Of this conversation, from the first change that is shown on. One that has moved must be
    /// shown from its beginning.
    #[must_use]
    pub fn new(conversation: ConversationId) -> Self {
        Self { shard: conversation.shard, open: None }
    }

    /// Takes the next change in the order of `ver`, with its place. Returns the frame before it, if
    /// that was one of the gap's.
    pub fn take(&mut self, gap: &Gap, at: Position, change: Recorded) -> Option<LogFrame> {
        if let Event::MovedIn(moved) = &change.event {
            self.shard = moved.here.shard;
        }
        if self.shard != gap.shard || !gap.holds(at) {
            return self.open.take();
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.at() == at) {
            open.changes.push(change);
            return None;
        }
        let Position { epoch, slot } = at;
        self.open.replace(LogFrame { epoch, slot, ts_ms: change.ts_ms, changes: vec![change] })
    }

    /// There are no more changes. Returns the last frame.
    #[must_use]
    pub fn end(self) -> Option<LogFrame> {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::change::{Change, Home, MovedIn, MovedOut};
    use wire::codec::Unknown;
    use wire::{ConversationKind, Durability, Epoch, RegionId, ZoneId};

    use super::*;

    fn shard(n: u16) -> ShardId {
        ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::MultiRegion, n }
    }

    fn at(epoch: u64, slot: u64) -> Position {
        Position { epoch: Epoch(epoch), slot: Slot(slot) }
    }

    /// Of shard 1: epoch 1 from slot 0, epoch 2 from slot 10; slots 5 to 14 are missing.
    fn gap() -> Gap {
        let starts = [(Epoch(1), Slot(0)), (Epoch(2), Slot(10))].into_iter().collect();
        Gap { shard: shard(1), starts, from: Slot(5), until: Slot(15) }
    }

    fn id() -> ConversationId {
        ConversationId { kind: ConversationKind::Group, shard: shard(1), unique: [7; 16] }
    }

    fn change(ver: u64, event: Option<Event>) -> Recorded {
        let event = event.unwrap_or(Event::Unknown(Unknown::new(99, Bytes::new())));
        Change { conversation: id(), ver, epoch: Epoch(1), ts_ms: 1_000 + ver, event }.into()
    }

    /// Place of each frame and the vers in it.
    fn frames(changes: Vec<(Position, Recorded)>) -> Vec<(Position, Vec<u64>)> {
        let mut rebuilt = Rebuilt::new(id());
        let mut frames: Vec<_> = changes
            .into_iter()
            .filter_map(|(at, change)| rebuilt.take(&gap(), at, change))
            .collect();
        frames.extend(rebuilt.end());
        frames
            .iter()
            .map(|frame| (frame.at(), frame.changes.iter().map(|change| change.ver).collect()))
            .collect()
    }

    #[test]
    fn changes_of_one_place_are_one_frame_and_only_the_gap_counts() {
        let places = [
            at(1, 3),
            at(1, 4),
            at(1, 5),
            at(1, 5),
            at(1, 9),
            at(2, 10),
            at(2, 14),
            at(2, 14),
            at(2, 15),
        ];
        let changes = (1..).zip(places).map(|(ver, at)| (at, change(ver, None))).collect();
        let expected = vec![
            (at(1, 5), vec![3, 4]),
            (at(1, 9), vec![5]),
            (at(2, 10), vec![6]),
            (at(2, 14), vec![7, 8]),
        ];
        assert_eq!(frames(changes), expected);
    }

    #[test]
    fn what_a_lost_term_wrote_does_not_count_and_what_nobody_placed_does() {
        let places = [Position::default(), at(1, 12), at(2, 12)];
        let changes = (1..).zip(places).map(|(ver, at)| (at, change(ver, None))).collect();
        assert_eq!(frames(changes), vec![(Position::default(), vec![1]), (at(2, 12), vec![3])]);
    }

    #[test]
    fn of_a_conversation_that_was_elsewhere_meanwhile_only_what_stood_in_this_log_counts() {
        let placed = |n, shard| Home { generation: n, shard };
        let out = |n, to| {
            Some(Event::MovedOut(MovedOut {
                to: placed(n, shard(to)),
                head_seq: 0,
                tenures: vec![],
            }))
        };
        let came = |n, from, here| {
            let here = placed(n, shard(here));
            Some(Event::MovedIn(MovedIn {
                here,
                from: shard(from),
                epoch_base: Epoch(1),
                tenures: vec![],
            }))
        };
        let changes = vec![
            (at(1, 5), change(1, None)),
            (at(1, 6), change(2, out(1, 2))),
            // In the other shard's log slots of these numbers are something else.
            (at(1, 7), change(3, came(1, 1, 2))),
            (at(1, 8), change(4, out(2, 1))),
            (at(2, 11), change(5, came(2, 2, 1))),
            (at(2, 11), change(6, None)),
        ];
        assert_eq!(
            frames(changes),
            vec![(at(1, 5), vec![1]), (at(1, 6), vec![2]), (at(2, 11), vec![5, 6])]
        );
    }

    #[test]
    fn a_conversation_that_said_nothing_since_is_passed_over() {
        let head = |at| HeadRow { conversation: id(), head_ver: 3, epoch: Epoch(1), ts_ms: 1, at };
        assert!(!gap().may_hold(&head(at(1, 4))));
        assert!(gap().may_hold(&head(at(1, 5))));
        assert!(gap().may_hold(&head(at(2, 20))), "it may have spoken before, too");
        assert!(gap().may_hold(&head(at(2, 4))), "a lost term says nothing of what came before");
        assert!(gap().may_hold(&head(Position::default())));
        assert_eq!(gap().end(), at(2, 15));
    }
}
