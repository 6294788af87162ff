//! A [`Position`] as the write time of a cell.
//!
//! Of two writes of one cell the servers keep the one with the later write time, and of two with
//! the same the greater bytes: what the contract asks of stamps. So the write time is the position
//! itself, epoch above slot. It counts no time, and all of it lies below 0: ScyllaDB refuses times
//! that lie days ahead, and a write that somebody makes by hand, at the time of day, is later than
//! any of ours and is seen at once.
//!
//! A table either has such write times in all of its writes or in none.

use wire::Position;

/// Slots of a shard: a thousand frames a second for 34 years.
const SLOT_BITS: u32 = 40;
/// Epochs as clients see them; those of a shard, for what never moved: one every five minutes for
/// 39 years. What moves adds them up, up to
/// [`EPOCH_TO_MOVE_MAX`](conversation::moving::EPOCH_TO_MOVE_MAX).
const EPOCH_BITS: u32 = 22;
/// Well above the least number there is, which the servers use as "never".
const ORIGIN: i64 = -(1 << (SLOT_BITS + EPOCH_BITS));

/// None: past the bounds.
pub(super) fn write_time(at: Position) -> Option<i64> {
    let (epoch, slot) = (at.epoch.0, at.slot.0);
    if epoch >> EPOCH_BITS != 0 || slot >> SLOT_BITS != 0 {
        return None;
    }
    Some(ORIGIN + i64::try_from(epoch << SLOT_BITS | slot).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::{Epoch, Slot};

    use super::*;

    fn at(epoch: u64, slot: u64) -> Position {
        Position { epoch: Epoch(epoch), slot: Slot(slot) }
    }

    #[test]
    fn write_times_lie_between_never_and_zero_and_end_at_their_bounds() {
        assert!(write_time(at(0, 0)).unwrap() > i64::MIN + 1);
        assert_eq!(write_time(at((1 << EPOCH_BITS) - 1, (1 << SLOT_BITS) - 1)), Some(-1));
        assert_eq!(write_time(at(1 << EPOCH_BITS, 0)), None);
        assert_eq!(write_time(at(0, 1 << SLOT_BITS)), None);
    }

    proptest! {
        #[test]
        fn write_times_order_as_positions_do(
            a in (0..1u64 << EPOCH_BITS, 0..1u64 << SLOT_BITS), b in (0..1u64 << EPOCH_BITS, 0..1u64 << SLOT_BITS),
        ) {
            let (a, b) = (at(a.0, a.1), at(b.0, b.1));
            prop_assert_eq!(write_time(a).cmp(&write_time(b)), a.cmp(&b));
        }
    }
}
