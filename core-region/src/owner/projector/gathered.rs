//! Committed frames that wait to be projected together.

use std::sync::Arc;

use conversation::log::{LogFrame, change_bytes};
use wire::Slot;

/// Bounds of one batch. The changes stay below what a conversation remembers of its sends, so a
/// lookup of an older send never waits for a batch.
const CHANGES_MAX: usize = 512;
const BYTES_MAX: usize = 1024 * 1024;
/// Of the changes that a term lets wait for the projector, one batch takes one part in this many.
const PARTS: usize = 4;

/// In slot order. See the module.
pub(super) struct Gathered {
    frames: Vec<Arc<LogFrame>>,
    changes: usize,
    changes_max: usize,
    bytes: usize,
}

impl Gathered {
    /// `unprojected_max`: changes that the term lets wait.
    pub(super) fn new(unprojected_max: usize) -> Self {
        let changes_max = (unprojected_max / PARTS).clamp(1, CHANGES_MAX);
        Self { frames: Vec::new(), changes: 0, changes_max, bytes: 0 }
    }

    pub(super) fn add(&mut self, frame: Arc<LogFrame>) {
        self.changes += frame.changes.len();
        self.bytes += frame.changes.iter().map(change_bytes).sum::<usize>();
        self.frames.push(frame);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.changes >= self.changes_max || self.bytes >= BYTES_MAX
    }

    pub(super) fn first(&self) -> Option<Slot> {
        self.frames.first().map(|frame| frame.slot)
    }

    pub(super) fn take(&mut self) -> Vec<Arc<LogFrame>> {
        (self.changes, self.bytes) = (0, 0);
        std::mem::take(&mut self.frames)
    }
}

#[cfg(test)]
mod tests {
    use wire::change::{Change, Event, Left};
    use wire::{ConversationId, ConversationKind, Durability, Epoch, RegionId, ShardId, ZoneId};

    use super::*;

    fn frame(slot: u64) -> Arc<LogFrame> {
        let shard =
            ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::Region, n: 0 };
        let conversation = ConversationId { kind: ConversationKind::User, shard, unique: [1; 16] };
        let event = Event::Left(Left { conversation, at_ver: slot });
        let change = Change { conversation, ver: slot, epoch: Epoch(1), ts_ms: slot, event };
        Arc::new(LogFrame {
            epoch: Epoch(1),
            slot: Slot(slot),
            ts_ms: slot,
            changes: vec![change.into()],
        })
    }

    #[test]
    fn a_batch_is_a_part_of_what_the_term_lets_wait() {
        let mut gathered = Gathered::new(8);
        gathered.add(frame(4));
        assert!(!gathered.is_full());
        gathered.add(frame(5));
        assert!(gathered.is_full());
        assert_eq!((gathered.first(), gathered.take().len()), (Some(Slot(4)), 2));
        assert!(gathered.is_empty() && !gathered.is_full());
    }
}
