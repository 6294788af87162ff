use bytes::Bytes;
use wire::NodeId;

use super::*;
use crate::log::LogRow;
use crate::shard::Starts;
use crate::shard::tail::TAIL_PAGE_ROWS;

mod timed;

const MINE: Nonce = Nonce(77);

fn node() -> NodeId {
    "r1/core/1".parse().unwrap()
}

fn at(epoch: u64, slot: u64) -> Position {
    Position { epoch: Epoch(epoch), slot: Slot(slot) }
}

fn row(epoch: u64, slot: u64) -> LogRow {
    LogRow { at: at(epoch, slot), frame: Bytes::from(format!("{epoch}/{slot}")) }
}

/// Epoch 1 from slot 0, epoch 2 from slot 2; both sealed.
fn lease() -> Lease {
    let starts = Starts::from_iter([(Epoch(1), Slot(0)), (Epoch(2), Slot(2))]);
    Lease {
        epoch: Epoch(2),
        owner: Some(node()),
        nonce: Nonce(2),
        sealed: true,
        starts,
        ..Lease::default()
    }
}

fn claimed() -> Lease {
    lease().claimed(Epoch(2), &node(), MINE, FenceMode::Read).unwrap()
}

fn me() -> Claimant {
    Claimant::untimed(MINE, RegionId(1), Durability::MultiRegion)
}

fn claim(observed: u64) -> Op {
    Op::Claim { observed: Epoch(observed), nonce: MINE, fence_mode: FenceMode::Read }
}

fn sealed_at(lease: &Lease, epoch: u64, nonce: Nonce, start: u64) -> Lease {
    lease.sealed_at(Durability::MultiRegion, Epoch(epoch), nonce, Slot(start)).unwrap()
}

fn over(lease: &Lease) -> Takeover {
    Takeover::over(lease, me()).unwrap()
}

/// Up to the read of the tail.
fn at_tail(checkpoint: Option<Position>, committed: Option<Position>) -> Takeover {
    let mut takeover = Takeover::new(me());
    assert_eq!(takeover.next(), Some(Op::ReadLease));
    takeover.on(OpResult::Lease(lease())).unwrap();
    assert_eq!(takeover.next(), Some(claim(2)));
    takeover.on(OpResult::Cas(Cas::Applied)).unwrap();
    assert_eq!(takeover.next(), Some(Op::ReadLease), "the starts are final only now");
    takeover.on(OpResult::Lease(claimed())).unwrap();
    assert_eq!(takeover.next(), Some(Op::WriteFence { epoch: Epoch(3) }));
    takeover.on(OpResult::Fenced).unwrap();
    assert_eq!(takeover.next(), Some(Op::ReadMarks { across: false }));
    takeover.on(OpResult::Marks { checkpoint, committed }).unwrap();
    takeover
}

fn at_seal(rows: Vec<LogRow>) -> Takeover {
    let mut takeover = at_tail(None, None);
    takeover.on(OpResult::Tail(rows)).unwrap();
    if matches!(takeover.next(), Some(Op::Rewrite { .. })) {
        takeover.on(OpResult::Rewritten).unwrap();
    }
    takeover
}

#[test]
fn a_takeover_goes_through_its_steps_in_order() {
    let mut takeover = at_tail(Some(at(2, 1)), Some(at(2, 3)));
    assert_eq!(takeover.next(), Some(Op::ReadTail { from: Slot(1), limit: TAIL_PAGE_ROWS }));
    // Void: epoch 1 at slot 2, epoch 2 at slot 1. A hole at slot 4.
    let rows = vec![row(1, 1), row(2, 1), row(1, 2), row(2, 2), row(2, 3), row(2, 5)];
    takeover.on(OpResult::Tail(rows)).unwrap();
    let kept = vec![row(1, 1), row(2, 2), row(2, 3)];
    assert_eq!(takeover.next(), Some(Op::Rewrite { rows: kept.clone() }));
    takeover.on(OpResult::Rewritten).unwrap();
    assert_eq!(takeover.next(), Some(Op::Seal { epoch: Epoch(3), nonce: MINE, start: Slot(4) }));
    takeover.on(OpResult::Cas(Cas::Applied)).unwrap();
    assert_eq!(takeover.next(), None);
    let term = takeover.finished().unwrap();
    assert_eq!((term.epoch, term.start, term.checkpoint), (Epoch(3), Slot(4), Slot(1)));
    assert_eq!(term.tail, kept);
    assert_eq!(term.starts.get(Epoch(3)), Some(Slot(4)));
    assert_eq!(term.committed(), at(3, 4));
}

#[test]
fn the_first_owner_of_a_shard_finds_nothing_and_starts_at_slot_zero() {
    let mut takeover = over(&Lease::default());
    takeover.on(OpResult::Cas(Cas::Applied)).unwrap();
    takeover
        .on(OpResult::Lease(
            Lease::default().claimed(Epoch(0), &node(), MINE, FenceMode::Read).unwrap(),
        ))
        .unwrap();
    takeover.on(OpResult::Fenced).unwrap();
    takeover.on(OpResult::Marks { checkpoint: None, committed: None }).unwrap();
    takeover.on(OpResult::Tail(vec![])).unwrap();
    assert_eq!(takeover.next(), Some(Op::Seal { epoch: Epoch(1), nonce: MINE, start: Slot(0) }));
}

#[test]
fn a_claim_with_unknown_outcome_is_settled_by_its_nonce() {
    for first in [OpResult::Unknown, OpResult::Cas(Cas::Refused)] {
        let mut takeover = over(&lease());
        takeover.on(first.clone()).unwrap();
        // Not there, or not yet: the same attempt again.
        takeover.on(OpResult::Lease(lease())).unwrap();
        assert_eq!(takeover.next(), Some(claim(2)));
        // The first attempt landed after all, so the second was refused.
        takeover.on(OpResult::Cas(Cas::Refused)).unwrap();
        takeover.on(OpResult::Lease(claimed())).unwrap();
        assert_eq!(takeover.epoch(), Some(Epoch(3)));

        let mut takeover = over(&lease());
        takeover.on(first).unwrap();
        let theirs = lease().claimed(Epoch(2), &node(), Nonce(5), FenceMode::Read).unwrap();
        let lost = TakeoverError::Superseded { epoch: Epoch(3), owner: Some(node()) };
        assert_eq!(takeover.on(OpResult::Lease(theirs)), Err(lost));
        assert_eq!(takeover.next(), None);
        assert_eq!(takeover.finished(), None);
    }
}

#[test]
fn what_fails_and_may_be_repeated_is_repeated() {
    let mut takeover = at_tail(None, None);
    let asked = takeover.next();
    takeover.on(OpResult::Unknown).unwrap();
    assert_eq!(takeover.next(), asked);
    takeover.on(OpResult::Tail(vec![row(1, 0), row(1, 1)])).unwrap();
    let asked = takeover.next();
    assert!(matches!(asked, Some(Op::Rewrite { .. })));
    takeover.on(OpResult::Unknown).unwrap();
    assert_eq!(takeover.next(), asked);
}

#[test]
fn a_seal_with_unknown_outcome_is_settled_by_reading_it() {
    for first in [OpResult::Unknown, OpResult::Cas(Cas::Refused)] {
        let rows = || vec![row(1, 0), row(1, 1)];
        let mut takeover = at_seal(rows());
        takeover.on(first.clone()).unwrap();
        takeover.on(OpResult::Lease(claimed())).unwrap();
        assert!(matches!(takeover.next(), Some(Op::Seal { .. })), "not there: again");
        takeover.on(first.clone()).unwrap();
        takeover.on(OpResult::Lease(sealed_at(&claimed(), 3, MINE, 2))).unwrap();
        assert_eq!(takeover.finished().unwrap().start, Slot(2));

        let mut takeover = at_seal(rows());
        takeover.on(first).unwrap();
        let newer = claimed().claimed(Epoch(3), &node(), Nonce(9), FenceMode::Read).unwrap();
        assert!(matches!(
            takeover.on(OpResult::Lease(newer)),
            Err(TakeoverError::Superseded { epoch: Epoch(4), .. })
        ));
    }
}

#[test]
fn a_second_takeover_in_the_middle_of_the_first_wins() {
    let mut first = at_seal(vec![row(1, 0), row(1, 1)]);
    // Meanwhile: claimed, fenced, read, sealed by another.
    let theirs = claimed().claimed(Epoch(3), &node(), Nonce(9), FenceMode::Read).unwrap();
    let sealed = sealed_at(&theirs, 4, Nonce(9), 2);
    first.on(OpResult::Cas(Cas::Refused)).unwrap();
    let lost = TakeoverError::Superseded { epoch: Epoch(4), owner: Some(node()) };
    assert_eq!(first.on(OpResult::Lease(sealed)), Err(lost));
    first.on(OpResult::Fenced).unwrap();
    assert_eq!(first.next(), None, "whatever is answered now changes nothing");
}

#[test]
fn a_tail_longer_than_a_page_is_read_page_by_page() {
    let mut takeover = at_tail(Some(at(2, 2)), None);
    let page = |slots: std::ops::Range<u64>| slots.map(|slot| row(2, slot)).collect::<Vec<_>>();
    let full = TAIL_PAGE_ROWS as u64;
    takeover.on(OpResult::Tail(page(2..2 + full))).unwrap();
    assert_eq!(takeover.next(), Some(Op::ReadTail { from: Slot(2 + full), limit: TAIL_PAGE_ROWS }));
    takeover.on(OpResult::Tail(page(2 + full..2 + full + 3))).unwrap();
    let Some(Op::Rewrite { rows }) = takeover.next() else { panic!("{takeover:?}") };
    assert_eq!(rows.len() as u64, full + 3);
}

#[test]
fn a_page_cut_inside_a_slot_is_not_a_hole() {
    let mut takeover = at_tail(Some(at(2, 2)), None);
    // More void rows in one slot than a page holds; the one that counts comes after them in no page
    // of this size.
    let void: Vec<_> = (0..TAIL_PAGE_ROWS as u64).map(|epoch| row(1_000 + epoch, 2)).collect();
    takeover.on(OpResult::Tail(void)).unwrap();
    assert_eq!(takeover.next(), Some(Op::ReadTail { from: Slot(2), limit: 2 * TAIL_PAGE_ROWS }));
}

#[test]
fn a_full_page_with_a_hole_in_it_ends_the_tail() {
    let mut takeover = at_tail(Some(at(2, 2)), None);
    let rows =
        std::iter::once(row(2, 2)).chain((4..3 + TAIL_PAGE_ROWS as u64).map(|slot| row(2, slot)));
    takeover.on(OpResult::Tail(rows.collect())).unwrap();
    assert_eq!(takeover.next(), Some(Op::Rewrite { rows: vec![row(2, 2)] }));
}

#[test]
fn a_log_that_lost_committed_rows_is_refused() {
    for (marks, rows, end, committed) in [
        ((None, Some(at(2, 4))), vec![row(1, 0), row(1, 1), row(2, 2)], 3, 4),
        // No mark says so, but epoch 2 was sealed there.
        ((None, None), vec![row(1, 0)], 1, 2),
        ((Some(at(2, 3)), Some(at(2, 5))), vec![row(2, 4)], 3, 5),
    ] {
        let mut takeover = at_tail(marks.0, marks.1);
        let lost = TakeoverError::LogTruncated { end: Slot(end), committed: Slot(committed) };
        assert_eq!(takeover.on(OpResult::Tail(rows)), Err(lost));
    }
}

#[test]
fn a_mark_of_a_lost_term_holds_only_up_to_the_fork() {
    let starts = Starts::from_iter([(Epoch(1), Slot(0)), (Epoch(2), Slot(2))]);
    assert_eq!(starts.bound(at(1, 9)), Slot(2));
    // Epoch 1 had acknowledged and projected up to slot 9 in a region that is lost; epoch 2 started
    // at 2 elsewhere.
    let takeover = at_tail(Some(at(1, 9)), Some(at(1, 9)));
    assert_eq!(takeover.next(), Some(Op::ReadTail { from: Slot(2), limit: TAIL_PAGE_ROWS }));
}

#[test]
fn a_lease_that_went_back_is_refused() {
    let mut takeover = over(&lease());
    takeover.on(OpResult::Cas(Cas::Applied)).unwrap();
    let lost = TakeoverError::LeaseWentBack { seen: Epoch(2), found: Epoch(0) };
    assert_eq!(takeover.on(OpResult::Lease(Lease::default())), Err(lost));
}

#[test]
fn an_answer_to_another_question_is_a_defect_and_ends_it() {
    let mut takeover = Takeover::new(me());
    assert_eq!(takeover.on(OpResult::Rewritten), Err(TakeoverError::Misled));
    assert_eq!(takeover.next(), None);
}
