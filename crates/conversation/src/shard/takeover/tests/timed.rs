//! Takeovers from owners who acknowledge by a timed lease, and across regions.

use std::time::Duration;

use super::*;
use crate::shard::Fork;
use crate::shard::core_lease::{Beat, ClockError, CoreLease, Uptime};
use crate::shard::lease::Acting;

const HOME: RegionId = RegionId(1);
const AWAY: RegionId = RegionId(2);

fn s(s: u64) -> Uptime {
    Uptime(Duration::from_secs(s))
}

/// Leases of 9 s with a margin of 1 s.
fn timed(region: RegionId, durability: Durability) -> Claimant {
    let clocks = ClockError { rate_ppm_max: 1_000, granularity: Duration::from_millis(1) };
    let timing = Timing::new(Duration::from_secs(9), Duration::from_secs(1), clocks).unwrap();
    let incarnation = Some(Incarnation { nonce: Nonce(70), timing });
    Claimant { nonce: MINE, region, durability, fence_mode: FenceMode::Lease, incarnation }
}

fn core(node: &str, incarnation: u128) -> CoreLease {
    CoreLease {
        node: node.parse().unwrap(),
        incarnation: Nonce(incarnation),
        beat: Beat(4),
        broken: false,
    }
}

/// Epoch 2, sealed at slot 2, in the home region; by lease.
fn home() -> Lease {
    let acting = Some(Acting { region: HOME, fence_mode: FenceMode::Lease });
    Lease { fence_mode: FenceMode::Lease, acting, ..lease() }
}

/// From another region, in class `region`, over this row.
fn across(lease: &Lease) -> Result<Takeover, TakeoverError> {
    Takeover::over(lease, timed(AWAY, Durability::Region))
}

fn broken(takeover: &mut Takeover, region: RegionId, lives: &[CoreLease]) {
    assert_eq!(takeover.next(), Some(Op::ReadCores { region }));
    takeover.on(OpResult::Cores { leases: lives.to_vec(), replied_at: s(100) }).unwrap();
    assert_eq!(takeover.next(), Some(Op::WaitUntil { until: s(110) }));
    takeover.on(OpResult::Clock(s(110))).unwrap();
    let lives = lives.iter().map(|core| (core.incarnation, core.beat)).collect();
    assert_eq!(takeover.next(), Some(Op::BreakCores { region, lives }));
    takeover.on(OpResult::Cas(Cas::Applied)).unwrap();
}

fn claim(takeover: &mut Takeover, observed: &Lease) -> Lease {
    let claim = Op::Claim { observed: observed.epoch, nonce: MINE, fence_mode: FenceMode::Lease };
    assert_eq!(takeover.next(), Some(claim));
    takeover.on(OpResult::Cas(Cas::Applied)).unwrap();
    let me: NodeId = format!("r{}/core/9", takeover.claimant.region.0).parse().unwrap();
    let claimed = observed.claimed(observed.epoch, &me, MINE, FenceMode::Lease).unwrap();
    takeover.on(OpResult::Lease(claimed.clone())).unwrap();
    claimed
}

#[test]
fn by_lease_the_owners_node_is_broken_before_the_claim() {
    let mut takeover = Takeover::over(&home(), timed(AWAY, Durability::MultiRegion)).unwrap();
    broken(&mut takeover, HOME, &[core("r1/core/1", 5), core("r1/core/1", 6)]);
    claim(&mut takeover, &home());
    assert_eq!(
        takeover.next(),
        Some(Op::WriteFence { epoch: Epoch(3) }),
        "the fence is written in either mode"
    );
    takeover.on(OpResult::Fenced).unwrap();
    takeover.on(OpResult::Marks { checkpoint: Some(at(2, 2)), committed: None }).unwrap();
    takeover.on(OpResult::Tail(vec![])).unwrap();
    takeover.on(OpResult::Cas(Cas::Applied)).unwrap();
    let term = takeover.finished().unwrap();
    assert_eq!((term.ack_by, term.incarnation, term.loss), (AckBy::Lease, Some(Nonce(70)), None));
}

#[test]
fn an_owner_that_let_go_is_not_waited_for_unless_it_was_claimed_over() {
    let released = Lease { released: Some(Slot(4)), ..home() };
    let takeover = Takeover::over(&released, timed(HOME, Durability::MultiRegion)).unwrap();
    assert!(matches!(takeover.next(), Some(Op::Claim { .. })));
    let claimed = released.claimed(Epoch(2), &node(), Nonce(9), FenceMode::Lease).unwrap();
    let takeover = Takeover::over(&claimed, timed(HOME, Durability::MultiRegion)).unwrap();
    assert_eq!(
        takeover.next(),
        Some(Op::ReadCores { region: HOME }),
        "who claimed it may seal and acknowledge"
    );
}

#[test]
fn an_owner_that_lives_is_looked_at_again_for_it_may_have_let_go() {
    let mut takeover = Takeover::over(&home(), timed(HOME, Durability::MultiRegion)).unwrap();
    takeover
        .on(OpResult::Cores { leases: vec![core("r1/core/1", 5)], replied_at: s(100) })
        .unwrap();
    takeover.on(OpResult::Clock(s(110))).unwrap();
    takeover.on(OpResult::Cas(Cas::Refused)).unwrap();
    assert_eq!(takeover.next(), Some(Op::ReadLease));
    takeover.on(OpResult::Lease(Lease { released: Some(Slot(4)), ..home() })).unwrap();
    assert!(matches!(takeover.next(), Some(Op::Claim { .. })));
}

#[test]
fn who_keeps_no_timed_lease_takes_from_nobody_who_does() {
    let untimed = |region, durability| Claimant::untimed(MINE, region, durability);
    assert_eq!(
        Takeover::over(&home(), untimed(HOME, Durability::MultiRegion)),
        Err(TakeoverError::NoTimedLease)
    );
    assert_eq!(
        Takeover::over(&home(), untimed(AWAY, Durability::Region)),
        Err(TakeoverError::NoTimedLease)
    );
    let mut takeover = Takeover::new(untimed(AWAY, Durability::Region));
    assert_eq!(takeover.on(OpResult::Lease(home())), Err(TakeoverError::NoTimedLease));
    assert!(
        Takeover::over(&home(), untimed(HOME, Durability::Region)).is_ok(),
        "inside the region the fence is enough"
    );
    let acting = Some(Acting { region: HOME, fence_mode: FenceMode::Read });
    let left = Lease { acting, ..home() };
    assert_eq!(
        across(&left),
        Err(TakeoverError::Untimed { region: HOME }),
        "nothing could prove that it has stopped"
    );
    assert!(across(&Lease { released: Some(Slot(2)), ..left }).is_ok(), "it said so itself");
}

#[test]
fn inside_the_region_nothing_is_broken() {
    let mut takeover = Takeover::over(&home(), timed(HOME, Durability::Region)).unwrap();
    claim(&mut takeover, &home());
    takeover.on(OpResult::Fenced).unwrap();
    assert_eq!(takeover.next(), Some(Op::ReadMarks { across: false }));
}

#[test]
fn another_region_breaks_all_cores_and_reports_what_is_missing() {
    let mut takeover = across(&home()).unwrap();
    broken(&mut takeover, HOME, &[core("r1/core/1", 5), core("r1/core/2", 6)]);
    claim(&mut takeover, &home());
    takeover.on(OpResult::Fenced).unwrap();
    assert_eq!(takeover.next(), Some(Op::ReadMarks { across: true }));
    takeover.on(OpResult::Marks { checkpoint: Some(at(2, 2)), committed: Some(at(2, 9)) }).unwrap();
    takeover.on(OpResult::Tail(vec![row(2, 2), row(2, 3), row(2, 5)])).unwrap();
    takeover.on(OpResult::Rewritten).unwrap();
    assert_eq!(takeover.next(), Some(Op::Seal { epoch: Epoch(3), nonce: MINE, start: Slot(4) }));
    takeover.on(OpResult::Unknown).unwrap();
    let sealed =
        home().claimed(Epoch(2), &"r2/core/9".parse().unwrap(), MINE, FenceMode::Lease).unwrap();
    let sealed = sealed.sealed_at(Durability::Region, Epoch(3), MINE, Slot(4)).unwrap();
    takeover.on(OpResult::Lease(sealed.clone())).unwrap();
    let term = takeover.finished().unwrap();
    assert_eq!(term.ack_by, AckBy::FenceAndLease);
    assert_eq!(term.loss, Some(Loss { from: HOME, frames_min: 5 }), "slots 4 to 8");
    assert_eq!(term.forks, sealed.forks);
    let old = Starts::from_iter([(Epoch(2), Slot(2))]);
    assert_eq!(term.forks, [Fork { epoch: Epoch(3), start: Slot(4), from: HOME, old }]);
}

#[test]
fn a_mark_of_an_older_term_proves_no_loss_beyond_what_that_term_kept() {
    let mut takeover = across(&home()).unwrap();
    broken(&mut takeover, HOME, &[core("r1/core/1", 5)]);
    claim(&mut takeover, &home());
    takeover.on(OpResult::Fenced).unwrap();
    // Epoch 1 had acknowledged up to 9, but of that only two slots were kept by epoch 2.
    takeover.on(OpResult::Marks { checkpoint: None, committed: Some(at(1, 9)) }).unwrap();
    takeover.on(OpResult::Tail(vec![row(1, 0)])).unwrap();
    takeover.on(OpResult::Rewritten).unwrap();
    takeover.on(OpResult::Cas(Cas::Applied)).unwrap();
    assert_eq!(takeover.finished().unwrap().loss, Some(Loss { from: HOME, frames_min: 1 }));
}

#[test]
fn after_a_release_the_other_region_waits_for_what_is_on_its_way() {
    let released = Lease { released: Some(Slot(4)), ..home() };
    let mut takeover = across(&released).unwrap();
    claim(&mut takeover, &released);
    takeover.on(OpResult::Fenced).unwrap();
    takeover.on(OpResult::Marks { checkpoint: Some(at(2, 2)), committed: None }).unwrap();
    takeover.on(OpResult::Tail(vec![row(2, 2)])).unwrap();
    assert_eq!(
        takeover.next(),
        Some(Op::ReadTail { from: Slot(3), limit: TAIL_PAGE_ROWS }),
        "slot 3 is missing"
    );
    takeover.on(OpResult::Tail(vec![])).unwrap();
    takeover.on(OpResult::Tail(vec![row(2, 3)])).unwrap();
    takeover.on(OpResult::Rewritten).unwrap();
    takeover.on(OpResult::Cas(Cas::Applied)).unwrap();
    let term = takeover.finished().unwrap();
    assert_eq!((term.start, term.loss, term.forks), (Slot(4), None, vec![]));
}

#[test]
fn a_region_that_sealed_just_before_the_claim_is_broken_before_the_log_is_read() {
    // Home had sealed, and another core of home had claimed over it, unsealed; away had died in a
    // claim before.
    let unsealed = home()
        .claimed(Epoch(2), &"r2/core/1".parse().unwrap(), Nonce(9), FenceMode::Lease)
        .unwrap();
    let mut takeover = Takeover::over(&unsealed, timed(HOME, Durability::Region)).unwrap();
    let sealed = unsealed.sealed_at(Durability::Region, Epoch(3), Nonce(9), Slot(3)).unwrap();
    claim(&mut takeover, &sealed);
    broken(&mut takeover, AWAY, &[core("r2/core/1", 5)]);
    assert_eq!(takeover.next(), Some(Op::WriteFence { epoch: Epoch(4) }));
}

#[test]
fn a_release_that_a_seal_took_back_is_no_release() {
    let released = Lease { released: Some(Slot(4)), ..home() };
    let unsealed = released
        .claimed(Epoch(2), &"r1/core/2".parse().unwrap(), Nonce(9), FenceMode::Lease)
        .unwrap();
    let mut takeover = across(&unsealed).unwrap();
    let sealed = unsealed.sealed_at(Durability::Region, Epoch(3), Nonce(9), Slot(4)).unwrap();
    claim(&mut takeover, &sealed);
    broken(&mut takeover, HOME, &[core("r1/core/2", 5)]);
    assert_eq!(takeover.next(), Some(Op::WriteFence { epoch: Epoch(4) }));
}
