//! What single-region shards need across regions: the leases of cores, releases, forks, and the
//! quorum of a named region.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use conversation::log::LogRow;
use conversation::shard::{Beat, Cas, CoreLease, FenceMode, Nonce};
use futures_util::future::join_all;
use wire::{Durability, Epoch, NodeId, RegionId, Slot, ZoneId};

use super::{Bench, NARROW, WIDE, at};
use crate::contract::{CoreKey, StoreError};

/// A write that nobody waits for must have arrived by then.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

pub(super) async fn cases(bench: &Bench<'_>) {
    a_core_is_registered_once_and_renewed_beat_by_beat(bench).await;
    a_broken_core_is_renewed_no_more_and_a_renewed_one_is_not_broken(bench).await;
    of_a_renewal_and_a_break_at_once_one_is_applied(bench).await;
    the_cores_of_a_region_are_listed_and_no_others(bench).await;
    a_claim_says_how_its_term_is_served(bench).await;
    a_release_stands_until_the_next_seal(bench).await;
    a_seal_in_another_region_marks_a_fork_and_its_owner_closes_it(bench).await;
    a_region_is_failed_over_and_back_for_all_to_see(bench).await;
    class_region_is_kept_where_it_is_asked_for_and_comes_to_the_others_later(bench).await;
    outside_the_zone_no_region_is_asked(bench).await;
}

fn node(region: u16, name: &str) -> NodeId {
    format!("r{region}/core/{name}").parse().expect("a node id")
}

fn core(region: u16, incarnation: u128) -> CoreKey {
    CoreKey { zone: WIDE, region: RegionId(region), incarnation: Nonce(incarnation) }
}

async fn a_core_is_registered_once_and_renewed_beat_by_beat(bench: &Bench<'_>) {
    let (store, me, incarnation, of) =
        (bench.store(1), node(1, "renewed"), Nonce(101), core(1, 101));
    assert_eq!(store.core_lease(of).await, Ok(None));
    assert_eq!(
        store.renew_core(WIDE, &me, incarnation, Beat(0)).await,
        Ok(Cas::Refused),
        "it is not there"
    );
    assert_eq!(store.break_core(of, Beat(0)).await, Ok(Cas::Refused), "it is not there");
    assert_eq!(store.register_core(WIDE, &me, incarnation).await, Ok(Cas::Applied));
    assert_eq!(store.register_core(WIDE, &me, incarnation).await, Ok(Cas::Refused), "it is there");
    assert_eq!(
        store.renew_core(WIDE, &me, incarnation, Beat(2)).await,
        Ok(Cas::Refused),
        "another beat"
    );
    assert_eq!(store.renew_core(WIDE, &me, incarnation, Beat(1)).await, Ok(Cas::Applied));
    assert_eq!(
        store.renew_core(WIDE, &me, incarnation, Beat(1)).await,
        Ok(Cas::Refused),
        "a beat is never used twice"
    );
    let lease = CoreLease { node: me, incarnation, beat: Beat(2), broken: false };
    assert_eq!(bench.store(3).core_lease(of).await, Ok(Some(lease)), "and every region sees it");
}

async fn a_broken_core_is_renewed_no_more_and_a_renewed_one_is_not_broken(bench: &Bench<'_>) {
    let (store, claimant, me, incarnation, of) =
        (bench.store(1), bench.store(2), node(1, "broken"), Nonce(102), core(1, 102));
    store.register_core(WIDE, &me, incarnation).await.expect("registered");
    store.renew_core(WIDE, &me, incarnation, Beat(1)).await.expect("renewed");
    assert_eq!(claimant.break_core(of, Beat(1)).await, Ok(Cas::Refused), "it was renewed since");
    assert_eq!(claimant.break_core(of, Beat(2)).await, Ok(Cas::Applied));
    assert_eq!(store.renew_core(WIDE, &me, incarnation, Beat(2)).await, Ok(Cas::Refused));
    assert_eq!(claimant.break_core(of, Beat(2)).await, Ok(Cas::Applied), "it may be done again");
    assert_eq!(
        store.register_core(WIDE, &me, incarnation).await,
        Ok(Cas::Refused),
        "it is broken for ever"
    );
    let lease = store.core_lease(of).await.expect("readable").expect("there");
    assert_eq!((lease.beat, lease.broken), (Beat(2), true));
}

async fn of_a_renewal_and_a_break_at_once_one_is_applied(bench: &Bench<'_>) {
    let (store, claimant, me) = (bench.store(1), bench.store(2), node(1, "raced"));
    for n in 110..118 {
        let (incarnation, of) = (Nonce(n), core(1, n));
        store.register_core(WIDE, &me, incarnation).await.expect("registered");
        let (renewed, broken) = tokio::join!(
            store.renew_core(WIDE, &me, incarnation, Beat(1)),
            claimant.break_core(of, Beat(1))
        );
        assert!(matches!(
            (renewed, broken),
            (Ok(Cas::Applied), Ok(Cas::Refused)) | (Ok(Cas::Refused), Ok(Cas::Applied))
        ));
    }
}

async fn the_cores_of_a_region_are_listed_and_no_others(bench: &Bench<'_>) {
    let names = ["a", "b", "c"];
    let lives = || names.iter().zip(130u128..);
    let registrations = lives().map(|(name, incarnation)| {
        let store = bench.store(2);
        async move { store.register_core(WIDE, &node(2, name), Nonce(incarnation)).await }
    });
    assert!(join_all(registrations).await.iter().all(|registered| *registered == Ok(Cas::Applied)));
    bench.store(3).register_core(WIDE, &node(3, "a"), Nonce(140)).await.expect("registered");
    bench.store(2).renew_core(WIDE, &node(2, "b"), Nonce(131), Beat(1)).await.expect("renewed");
    bench.store(3).break_core(core(2, 132), Beat(1)).await.expect("broken");
    let mut listed = bench.store(1).core_leases(WIDE, RegionId(2)).await.expect("readable");
    listed.sort();
    let beats = [(Beat(1), false), (Beat(2), false), (Beat(1), true)];
    let wanted = lives().zip(beats).map(|((name, incarnation), (beat, broken))| CoreLease {
        node: node(2, name),
        incarnation: Nonce(incarnation),
        beat,
        broken,
    });
    assert_eq!(listed, wanted.collect::<Vec<_>>());
}

async fn a_claim_says_how_its_term_is_served(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let store = bench.store(1);
        for (epoch, mode) in (0..).zip([FenceMode::Lease, FenceMode::Read, FenceMode::Lease]) {
            let nonce = Nonce(u128::from(epoch) + 1);
            assert_eq!(
                store.claim(shard, Epoch(epoch), &node(1, "a"), nonce, mode).await,
                Ok(Cas::Applied)
            );
            assert_eq!(store.lease(shard).await.map(|lease| lease.fence_mode), Ok(mode));
            store.seal(shard, Epoch(epoch + 1), nonce, Slot(epoch)).await.expect("sealed");
            let acting = store.lease(shard).await.expect("readable").acting.expect("sealed");
            assert_eq!((acting.region, acting.fence_mode), (RegionId(1), mode));
        }
    }
}

async fn a_release_stands_until_the_next_seal(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let (home, away) = (bench.store(1), bench.store(2));
        home.claim(shard, Epoch(0), &node(1, "a"), Nonce(1), FenceMode::Lease)
            .await
            .expect("claimed");
        assert_eq!(
            home.release(shard, Epoch(1), Nonce(1), Slot(5)).await,
            Ok(Cas::Refused),
            "not sealed yet"
        );
        home.seal(shard, Epoch(1), Nonce(1), Slot(0)).await.expect("sealed");
        assert_eq!(
            home.release(shard, Epoch(1), Nonce(2), Slot(5)).await,
            Ok(Cas::Refused),
            "another's nonce"
        );
        assert_eq!(home.release(shard, Epoch(1), Nonce(1), Slot(5)).await, Ok(Cas::Applied));
        away.claim(shard, Epoch(1), &node(2, "a"), Nonce(2), FenceMode::Lease)
            .await
            .expect("claimed");
        assert_eq!(away.lease(shard).await.map(|lease| lease.released), Ok(Some(Slot(5))));
        assert_eq!(
            home.release(shard, Epoch(1), Nonce(1), Slot(6)).await,
            Ok(Cas::Refused),
            "claimed over"
        );
        away.seal(shard, Epoch(2), Nonce(2), Slot(5)).await.expect("sealed");
        let lease = away.lease(shard).await.expect("readable");
        assert_eq!((lease.released, lease.forks), (None, vec![]), "and nothing is left behind");
    }
}

async fn a_seal_in_another_region_marks_a_fork_and_its_owner_closes_it(bench: &Bench<'_>) {
    let shard = bench.shard(Durability::Region);
    let (home, away, far) = (bench.store(1), bench.store(2), bench.store(3));
    home.claim(shard, Epoch(0), &node(1, "a"), Nonce(1), FenceMode::Lease).await.expect("claimed");
    home.seal(shard, Epoch(1), Nonce(1), Slot(0)).await.expect("sealed");
    away.claim(shard, Epoch(1), &node(2, "a"), Nonce(2), FenceMode::Lease).await.expect("claimed");
    away.seal(shard, Epoch(2), Nonce(2), Slot(7)).await.expect("sealed");
    far.claim(shard, Epoch(2), &node(3, "a"), Nonce(3), FenceMode::Lease).await.expect("claimed");
    far.seal(shard, Epoch(3), Nonce(3), Slot(9)).await.expect("sealed");
    let forks = far.lease(shard).await.expect("readable").forks;
    let told: Vec<_> = forks.iter().map(|fork| (fork.epoch, fork.start, fork.from)).collect();
    assert_eq!(told, [(Epoch(2), Slot(7), RegionId(1)), (Epoch(3), Slot(9), RegionId(2))]);
    assert_eq!(forks[0].old.owner_of(Slot(8)), Some(Epoch(1)), "which owned what was left behind");
    assert_eq!(
        away.close_fork(shard, Epoch(2), Nonce(2), Epoch(2)).await,
        Ok(Cas::Refused),
        "claimed over"
    );
    assert_eq!(
        far.close_fork(shard, Epoch(3), Nonce(3), Epoch(1)).await,
        Ok(Cas::Refused),
        "no such fork"
    );
    assert_eq!(far.close_fork(shard, Epoch(3), Nonce(3), Epoch(2)).await, Ok(Cas::Applied));
    assert_eq!(
        far.close_fork(shard, Epoch(3), Nonce(3), Epoch(2)).await,
        Ok(Cas::Refused),
        "it is closed once"
    );
    assert_eq!(far.lease(shard).await.map(|lease| lease.forks), Ok(vec![forks[1].clone()]));
    assert_eq!(far.close_fork(shard, Epoch(3), Nonce(3), Epoch(3)).await, Ok(Cas::Applied));
    assert_eq!(far.lease(shard).await.map(|lease| lease.forks), Ok(vec![]));
}

async fn a_region_is_failed_over_and_back_for_all_to_see(bench: &Bench<'_>) {
    let store = bench.store(1);
    assert_eq!(store.failed_over(WIDE).await, Ok(BTreeSet::new()));
    assert_eq!(
        store.set_failed_over(WIDE, RegionId(2), false).await,
        Ok(Cas::Refused),
        "it is not"
    );
    assert_eq!(store.set_failed_over(WIDE, RegionId(2), true).await, Ok(Cas::Applied));
    assert_eq!(
        store.set_failed_over(WIDE, RegionId(2), true).await,
        Ok(Cas::Refused),
        "it is already"
    );
    assert_eq!(bench.store(3).set_failed_over(WIDE, RegionId(3), true).await, Ok(Cas::Applied));
    assert_eq!(
        bench.store(2).failed_over(WIDE).await,
        Ok(BTreeSet::from([RegionId(2), RegionId(3)]))
    );
    assert_eq!(bench.store(3).set_failed_over(WIDE, RegionId(2), false).await, Ok(Cas::Applied));
    assert_eq!(bench.store(2).set_failed_over(WIDE, RegionId(3), false).await, Ok(Cas::Applied));
    assert_eq!(store.failed_over(WIDE).await, Ok(BTreeSet::new()));
    let outside = bench.subject.store(RegionId(2)).failed_over(NARROW).await;
    assert_eq!(outside, Err(StoreError::NotInZone { region: RegionId(2), zone: NARROW }));
}

async fn class_region_is_kept_where_it_is_asked_for_and_comes_to_the_others_later(
    bench: &Bench<'_>,
) {
    let shard = bench.shard(Durability::Region);
    let (own, other) = (bench.subject.store(RegionId(2)), bench.subject.store(RegionId(3)));
    own.append(shard, at(1, 0), Bytes::from_static(b"kept in two")).await.expect("appended");
    own.write_fence(shard, Epoch(4)).await.expect("fenced");
    let row = LogRow { at: at(1, 0), frame: Bytes::from_static(b"kept in two") };
    for view in [own, other.at(RegionId(2))] {
        assert_eq!(view.read_log(shard, Slot(0), 10).await, Ok(vec![row.clone()]));
        assert_eq!(view.fence(shard).await, Ok(Epoch(4)));
    }
    let come = async {
        while other.read_log(shard, Slot(0), 10).await.expect("read").is_empty()
            || other.fence(shard).await.expect("read") < Epoch(4)
        {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(REPLICATION_TIMEOUT, come).await.expect("it comes to the other regions");
}

async fn outside_the_zone_no_region_is_asked(bench: &Bench<'_>) {
    let refused = |region: u16, zone| Err(StoreError::NotInZone { region: RegionId(region), zone });
    let outside = bench.subject.store(RegionId(2));
    assert_eq!(outside.register_core(NARROW, &node(2, "a"), Nonce(1)).await, refused(2, NARROW));
    assert_eq!(
        outside.core_leases(NARROW, RegionId(1)).await,
        Err(StoreError::NotInZone { region: RegionId(2), zone: NARROW })
    );
    let narrow = wire::ShardId { zone: NARROW, ..bench.shard(Durability::Region) };
    let view = bench.subject.store(RegionId(1)).at(RegionId(2));
    let append = view.append(narrow, at(1, 0), Bytes::from_static(b"x")).await;
    assert_eq!(append, Err(StoreError::NotInZone { region: RegionId(2), zone: NARROW }));
    let nowhere = bench.store(1).core_lease(CoreKey { zone: ZoneId(77), ..core(1, 1) }).await;
    assert!(matches!(nowhere, Err(StoreError::NotInZone { .. })));
}
