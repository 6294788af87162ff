//! Nothing of a zone stands in a region outside it.

use bytes::Bytes;
use conversation::projection::{FactsRow, StampedRow};
use conversation::shard::{FenceMode, Nonce};
use wire::{
    ConversationKind, Durability, Epoch, NodeId, RegionId, ShardId, Slot, TenantId, UserId, ZoneId,
};

use super::{Bench, NARROW, REGIONS, at, conversation};
use crate::contract::{Mark, StoreError};

pub(super) async fn cases(bench: &Bench<'_>) {
    a_zones_bytes_are_only_in_its_regions(bench).await;
    a_handle_outside_a_zone_may_not_even_ask(bench).await;
}

fn narrow(durability: Durability, n: u16) -> ShardId {
    ShardId { zone: NARROW, home: RegionId(1), durability, n }
}

async fn a_zones_bytes_are_only_in_its_regions(bench: &Bench<'_>) {
    const LOGGED: &[u8] = b"only-for-region-one-in-the-log";
    const PROJECTED: &str = "only-for-region-one-projected";
    for (n, durability) in [(900, Durability::Region), (901, Durability::MultiRegion)] {
        let (store, shard) = (bench.store(1), narrow(durability, n));
        let owner: NodeId = "r1/core/only-for-region-one".parse().expect("a node id");
        store.claim(shard, Epoch(0), &owner, Nonce(1), FenceMode::Read).await.expect("claimed");
        store.append(shard, at(1, 0), Bytes::from_static(LOGGED)).await.expect("appended");
        store.write_fence(shard, Epoch(1)).await.expect("fenced");
        store
            .write_mark(shard, &Mark::Consumer("only-for-region-one".into()), at(1, 1))
            .await
            .expect("marked");
        let facts = FactsRow {
            conversation: conversation(shard, 1, ConversationKind::Group),
            tenant: TenantId::new("demo").expect("a tenant"),
            name: Some(PROJECTED.into()),
            by: UserId::new("ann").expect("a user"),
            ts_ms: 1,
            at: at(1, 0),
        };
        let row = StampedRow::new(&facts, at(1, 0));
        store.project(shard, vec![row]).await.expect("projected");
    }
    for needle in [LOGGED, PROJECTED.as_bytes(), b"only-for-region-one"] {
        for region in REGIONS {
            let may = region == RegionId(1);
            assert_eq!(bench.subject.holds(region, needle).await, may, "region {}", region.0);
        }
    }
}

async fn a_handle_outside_a_zone_may_not_even_ask(bench: &Bench<'_>) {
    let shard = narrow(Durability::MultiRegion, 902);
    let outside = bench.store(2);
    let refused = StoreError::NotInZone { region: RegionId(2), zone: NARROW };
    assert_eq!(
        outside.append(shard, at(1, 0), Bytes::from_static(b"x")).await,
        Err(refused.clone())
    );
    assert_eq!(outside.read_log(shard, Slot(0), 1).await, Err(refused.clone()));
    assert_eq!(outside.lease(shard).await, Err(refused.clone()));
    assert_eq!(outside.fence(shard).await, Err(refused));
    let nowhere = ShardId { zone: ZoneId(77), ..shard };
    let unknown = StoreError::NotInZone { region: RegionId(1), zone: ZoneId(77) };
    assert_eq!(bench.store(1).fence(nowhere).await, Err(unknown));
    let homeless = ShardId { home: RegionId(3), ..shard };
    assert!(bench.store(1).append(homeless, at(1, 0), Bytes::from_static(b"x")).await.is_err());
}
