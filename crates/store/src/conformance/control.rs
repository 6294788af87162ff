//! Lease and fence.

use conversation::shard::{Cas, FenceMode, Lease, Nonce};
use futures_util::future::join_all;
use wire::{Durability, Epoch, NodeId, Slot};

use super::{Bench, REGIONS};

pub(super) async fn cases(bench: &Bench<'_>) {
    an_unclaimed_shard_has_the_default_lease_and_no_fence(bench).await;
    a_claim_takes_the_next_term_once(bench).await;
    of_many_claims_at_once_exactly_one_is_applied(bench).await;
    a_seal_is_for_the_claim_that_still_stands_and_only_once(bench).await;
    the_fence_only_rises_and_every_region_sees_it(bench).await;
}

fn node(region: u16, name: &str) -> NodeId {
    format!("r{region}/core/{name}").parse().expect("a node id")
}

async fn an_unclaimed_shard_has_the_default_lease_and_no_fence(bench: &Bench<'_>) {
    for shard in bench.shards() {
        assert_eq!(bench.store(1).lease(shard).await, Ok(Lease::default()));
        assert_eq!(bench.store(1).fence(shard).await, Ok(Epoch(0)));
    }
}

async fn a_claim_takes_the_next_term_once(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let (one, two) = (bench.store(1), bench.store(2));
        assert_eq!(
            one.claim(shard, Epoch(0), &node(1, "a"), Nonce(7), FenceMode::Read).await,
            Ok(Cas::Applied)
        );
        assert_eq!(
            two.claim(shard, Epoch(0), &node(2, "b"), Nonce(8), FenceMode::Read).await,
            Ok(Cas::Refused),
            "{shard}"
        );
        let lease = bench.store(3).lease(shard).await.expect("readable");
        assert_eq!(
            (lease.epoch, lease.owner, lease.nonce),
            (Epoch(1), Some(node(1, "a")), Nonce(7))
        );
        assert!(!lease.sealed);
        assert_eq!(
            two.claim(shard, Epoch(1), &node(2, "b"), Nonce(8), FenceMode::Read).await,
            Ok(Cas::Applied)
        );
        assert_eq!(
            one.lease(shard).await.map(|lease| (lease.epoch, lease.nonce)),
            Ok((Epoch(2), Nonce(8)))
        );
    }
}

async fn of_many_claims_at_once_exactly_one_is_applied(bench: &Bench<'_>) {
    let shard = bench.shard(Durability::MultiRegion);
    for epoch in 0..8 {
        let claims = (0..12u16).map(|n| {
            let region = REGIONS[usize::from(n) % 3].0;
            let store = bench.store(region);
            async move {
                let nonce = Nonce(u128::from(epoch * 100 + u64::from(n)));
                (
                    nonce,
                    store
                        .claim(shard, Epoch(epoch), &node(region, "a"), nonce, FenceMode::Read)
                        .await,
                )
            }
        });
        let results = join_all(claims).await;
        let applied: Vec<Nonce> = results
            .iter()
            .filter(|(_, cas)| *cas == Ok(Cas::Applied))
            .map(|(nonce, _)| *nonce)
            .collect();
        assert_eq!(applied.len(), 1, "{results:?}");
        let lease = bench.store(1).lease(shard).await.expect("readable");
        assert_eq!((lease.epoch, lease.nonce), (Epoch(epoch + 1), applied[0]));
    }
}

async fn a_seal_is_for_the_claim_that_still_stands_and_only_once(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let store = bench.store(1);
        store
            .claim(shard, Epoch(0), &node(1, "a"), Nonce(1), FenceMode::Read)
            .await
            .expect("claimed");
        assert_eq!(
            store.seal(shard, Epoch(1), Nonce(2), Slot(0)).await,
            Ok(Cas::Refused),
            "another's nonce"
        );
        assert_eq!(
            store.seal(shard, Epoch(2), Nonce(1), Slot(0)).await,
            Ok(Cas::Refused),
            "another epoch"
        );
        assert_eq!(store.seal(shard, Epoch(1), Nonce(1), Slot(4)).await, Ok(Cas::Applied));
        assert_eq!(
            store.seal(shard, Epoch(1), Nonce(1), Slot(5)).await,
            Ok(Cas::Refused),
            "sealed already"
        );
        store
            .claim(shard, Epoch(1), &node(2, "b"), Nonce(3), FenceMode::Read)
            .await
            .expect("claimed");
        let lease = bench.store(3).lease(shard).await.expect("readable");
        assert!(!lease.sealed);
        assert_eq!(lease.starts.get(Epoch(1)), Some(Slot(4)), "a claim keeps the starts");
        assert_eq!(
            store.seal(shard, Epoch(1), Nonce(1), Slot(9)).await,
            Ok(Cas::Refused),
            "claimed over"
        );
        assert_eq!(store.seal(shard, Epoch(2), Nonce(3), Slot(9)).await, Ok(Cas::Applied));
        let starts: Vec<_> = store.lease(shard).await.expect("readable").starts.iter().collect();
        assert_eq!(starts, vec![(Epoch(1), Slot(4)), (Epoch(2), Slot(9))]);
    }
}

async fn the_fence_only_rises_and_every_region_sees_it(bench: &Bench<'_>) {
    for shard in bench.shards() {
        for (write, then) in [(3, 3), (2, 3), (3, 3), (7, 7), (1, 7)] {
            bench.store(2).write_fence(shard, Epoch(write)).await.expect("written");
            for region in REGIONS {
                assert_eq!(bench.store(region.0).fence(shard).await, Ok(Epoch(then)), "{shard}");
            }
        }
    }
}
