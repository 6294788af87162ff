use wire::{ConversationKind, RegionId, ZoneId};

use super::*;

const NOW: u64 = 1_700_000_000_000;

fn shard(n: u16, durability: Durability) -> ShardId {
    ShardId { zone: ZoneId(1), home: RegionId(1 + n), durability, n }
}

fn starts(of: &[(u64, u64)]) -> Starts {
    of.iter().map(|&(epoch, slot)| (Epoch(epoch), Slot(slot))).collect()
}

fn seen(visible: u64, epoch: u64, slot: u64) -> Seen {
    let at = Position { epoch: Epoch(epoch), slot: Slot(slot) };
    Seen { seq: 1, epoch: Epoch(visible), ts_ms: NOW, fingerprint: 1, at }
}

/// Moved from shard 0, in its epoch 3, to shard 1.
fn moved(durability: Durability, of: &Starts) -> Location {
    let born = Location::born_in(shard(0, durability));
    let moment =
        DecisionContext { now_ms: NOW, shard: shard(0, durability), epoch: Epoch(3), starts: of };
    let out = born.leave(moment, Epoch(3), shard(1, durability), 9).unwrap();
    Location { placement: out.to, arrived: true, epoch_base: Epoch(3), tenures: out.tenures }
}

#[test]
fn only_the_shard_it_is_in_serves_it_and_none_while_it_is_on_its_way() {
    let (from, to) = (shard(0, Durability::Region), shard(1, Durability::Region));
    let here = moved(Durability::Region, &starts(&[(3, 0)]));
    assert!(here.serves(to) && !here.serves(from));
    let on_its_way = Location { arrived: false, ..here };
    assert!(!on_its_way.serves(to) && !on_its_way.serves(from));
}

#[test]
fn the_epoch_that_clients_see_goes_on_from_the_last_shards() {
    let here = moved(Durability::MultiRegion, &starts(&[(3, 0)]));
    assert_eq!([1, 2].map(|epoch| here.visible(Epoch(epoch))), [Epoch(4), Epoch(5)]);
}

#[test]
fn a_send_of_an_earlier_shard_counts_by_that_shards_starts() {
    // Epoch 1 of shard 0 lost slot 4 to epoch 3; shard 1 knows nothing of that.
    let here = moved(Durability::Region, &starts(&[(1, 0), (3, 4)]));
    let there = starts(&[(1, 0), (2, 7)]);
    assert!(here.counts(&seen(1, 1, 3), &there));
    assert!(!here.counts(&seen(1, 1, 4), &there), "void in the shard it was decided in");
    assert!(here.counts(&seen(3, 3, 4), &there));
    assert!(here.counts(&seen(4, 1, 4), &there), "the same place in the shard that it is in now");
    assert!(!here.counts(&seen(4, 1, 7), &there), "void here");
}

#[test]
fn a_row_counts_by_the_starts_of_the_shard_in_which_it_was_written() {
    let stamp = |epoch, slot| Position { epoch: Epoch(epoch), slot: Slot(slot) };
    // Epoch 1 of shard 0 lost slot 4 to epoch 3; epoch 1 of shard 1, which clients see as 4, lost
    // slot 7.
    let (left, there) = (starts(&[(1, 0), (3, 4)]), starts(&[(1, 0), (2, 7)]));
    let here = moved(Durability::Region, &left);
    assert_eq!(here.judge(), shard(1, Durability::Region));
    for (row, counts) in [
        ((1, 3), true),
        ((1, 4), false),
        ((3, 4), true),
        ((4, 4), true),
        ((4, 7), false),
        ((5, 7), true),
    ] {
        assert_eq!(here.row_counts(stamp(row.0, row.1), &there), Some(counts), "{row:?}");
    }
    // On its way it may yet turn out that it never left: by what the shard that it left says now.
    let on_its_way = Location { arrived: false, ..here.clone() };
    assert_eq!(on_its_way.judge(), shard(0, Durability::Region));
    assert_eq!(on_its_way.row_counts(stamp(3, 9), &left), Some(true));
    assert_eq!(on_its_way.row_counts(stamp(3, 9), &starts(&[(1, 0), (3, 4), (5, 9)])), Some(false));
    assert!(here.is_certain() && !on_its_way.is_certain());
    let forgotten =
        Location { tenures: vec![Tenure { after: Epoch(2), ..here.tenures[0].clone() }], ..here };
    assert_eq!(forgotten.row_counts(stamp(2, 1), &there), None);
}

#[test]
fn a_conversation_of_a_class_that_never_forks_takes_no_starts_along() {
    let here = moved(Durability::MultiRegion, &starts(&[(1, 0), (3, 4)]));
    assert!(here.tenures.is_empty());
    assert!(here.counts(&seen(1, 1, 9), &starts(&[(1, 0)])));
}

#[test]
fn what_is_taken_along_is_bounded_and_forgotten_in_time() {
    let mut here = moved(Durability::Region, &starts(&[(3, 0)]));
    let leave = |here: &Location, now_ms, of: &Starts| {
        let moment =
            DecisionContext { now_ms, shard: here.placement.shard, epoch: Epoch(1), starts: of };
        let to = shard(2 + here.placement.generation as u16, Durability::Region);
        here.leave(moment, here.visible(Epoch(1)), to, 9)
    };
    let short = starts(&[(1, 0)]);
    while here.tenures.len() < TENURES_MAX {
        let out = leave(&here, NOW, &short).unwrap();
        here = Location { placement: out.to, tenures: out.tenures, ..here };
    }
    let refusal = leave(&here, NOW, &short).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.retry_after_ms),
        (ErrorCode::RateLimited, Some(DEDUPE_MS + 1))
    );
    let out = leave(&here, NOW + DEDUPE_MS + 1, &short).unwrap();
    assert_eq!(
        out.tenures.len(),
        TENURES_MAX,
        "a month later nobody asks what was sent in the first"
    );
    assert_eq!(out.tenures[0].after, here.tenures[1].after);
    let long: Starts = (0..=STARTS_MAX as u64).map(|n| (Epoch(n + 1), Slot(n))).collect();
    here.tenures.clear();
    assert_eq!(leave(&here, NOW, &long).unwrap_err().code, ErrorCode::BadRequest);
}

#[test]
fn it_stays_in_its_zone_and_class_and_below_the_last_epoch() {
    let here = Location::born_in(shard(0, Durability::MultiRegion));
    let of = starts(&[(1, 0)]);
    let moment =
        DecisionContext { now_ms: NOW, shard: here.placement.shard, epoch: Epoch(1), starts: &of };
    let to = shard(1, Durability::MultiRegion);
    for to in [shard(1, Durability::Region), ShardId { zone: ZoneId(2), ..to }] {
        assert_eq!(here.leave(moment, Epoch(1), to, 0).unwrap_err().code, ErrorCode::BadRequest);
    }
    assert!(here.leave(moment, Epoch(EPOCH_TO_MOVE_MAX.0 + 1), to, 0).is_err());
    assert!(here.leave(moment, EPOCH_TO_MOVE_MAX, to, 0).is_ok());
}

#[test]
fn of_two_placements_the_later_one_is_kept() {
    let placement = |n| Home { generation: n, shard: shard(1, Durability::Region) };
    assert!(supersedes(placement(1), None) && supersedes(placement(3), Some(placement(2))));
    assert!(
        !supersedes(placement(1), Some(placement(2)))
            && !supersedes(placement(2), Some(placement(2)))
    );
}

mod the_mover {
    use wire::ConversationId;
    use wire::change::{Event, Recorded};

    use super::*;
    use crate::log::LogFrame;
    use crate::moving::mover::MOVES_OPEN_MAX;

    fn frame(slot: u64, leaves: &[u8]) -> LogFrame {
        let changes = leaves.iter().map(|&unique| {
            let to = Home { generation: 1, shard: shard(1, Durability::MultiRegion) };
            let event = Event::MovedOut(MovedOut { to, head_seq: 4, tenures: vec![] });
            Change { conversation: id(unique), ver: 5, epoch: Epoch(2), ts_ms: NOW, event }
        });
        LogFrame {
            epoch: Epoch(2),
            slot: Slot(slot),
            ts_ms: NOW,
            changes: changes.map(Recorded::from).collect(),
        }
    }

    fn id(unique: u8) -> ConversationId {
        let shard = shard(0, Durability::MultiRegion);
        ConversationId { kind: ConversationKind::Group, shard, unique: [unique; 16] }
    }

    fn offered(mover: &Mover) -> Vec<ConversationId> {
        mover.offers().map(|offer| offer.conversation).collect()
    }

    #[test]
    fn a_move_is_offered_once_all_of_it_can_be_read_and_until_it_is_finished() {
        let mut mover = Mover::new(shard(0, Durability::MultiRegion), None);
        mover.take(&frame(0, &[]));
        mover.take(&frame(1, &[7]));
        assert!(offered(&mover).is_empty());
        mover.reach(Slot(1));
        assert!(offered(&mover).is_empty(), "its own frame is not there yet");
        mover.reach(Slot(2));
        assert_eq!((offered(&mover), offered(&mover)), (vec![id(7)], vec![id(7)]));
        mover.taken_in(id(7), 2);
        assert_eq!(offered(&mover).len(), 1, "that was another move");
        mover.taken_in(id(7), 1);
        assert!(offered(&mover).is_empty());
    }

    #[test]
    fn the_cursor_stays_before_the_first_move_that_is_not_finished() {
        let mut mover = Mover::new(shard(0, Durability::MultiRegion), None);
        mover.take(&frame(0, &[]));
        mover.take(&frame(1, &[7]));
        mover.take(&frame(2, &[8]));
        mover.taken_in(id(8), 1);
        let cursor = mover.cursor();
        assert_eq!(cursor, Position { epoch: Epoch(2), slot: Slot(1) });
        let mut later = Mover::new(shard(0, Durability::MultiRegion), Some(cursor));
        later.take(&frame(2, &[8]));
        assert_eq!(later.next_slot(), Slot(1), "a frame that is not the next one is passed over");
        later.take(&frame(1, &[7]));
        later.reach(Slot(3));
        assert_eq!(offered(&later), [id(7)]);
        mover.taken_in(id(7), 1);
        assert_eq!(mover.cursor().slot, Slot(3));
    }

    #[test]
    fn who_asks_waits_until_it_has_arrived() {
        let mut mover = Mover::new(shard(0, Durability::MultiRegion), None);
        assert!(!mover.may_tell(&id(7), Slot(1)), "what took it away is not even taken");
        mover.take(&frame(0, &[7]));
        assert!(!mover.may_tell(&id(7), Slot(1)));
        assert!(mover.may_tell(&id(8), Slot(1)));
        mover.arrived(id(7), 1);
        assert!(mover.may_tell(&id(7), Slot(1)));
        mover.reach(Slot(1));
        assert_eq!(offered(&mover), [id(7)], "a region may yet be lost, and its arrival with it");
        mover.taken_in(id(7), 1);
        assert!(mover.may_tell(&id(7), Slot(1)) && offered(&mover).is_empty());
    }

    #[test]
    fn moves_that_are_not_finished_are_bounded() {
        let mut mover = Mover::new(shard(0, Durability::MultiRegion), None);
        for slot in 0..MOVES_OPEN_MAX as u64 {
            assert!(mover.has_room());
            mover.take(&frame(slot, &[slot as u8]));
        }
        assert!(!mover.has_room());
    }
}
