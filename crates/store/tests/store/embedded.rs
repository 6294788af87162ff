//! The embedded store: the suite, and what happens when a region dies and returns.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hearth_store::conformance::{self, REGIONS, Subject};
use hearth_store::embedded::{Embedded, EmbeddedOptions, OpenError, RegionState};
use hearth_store::{Store, StoreError};
use wire::{Durability, Epoch, Position, RegionId, ShardId, Slot, ZoneId};

fn options(dir: &Path) -> EmbeddedOptions {
    let regions = vec![
        (RegionId(1), "one".into()),
        (RegionId(2), "two".into()),
        (RegionId(3), "three".into()),
    ];
    EmbeddedOptions::new(dir, regions, conformance::zones())
}

fn shard(durability: Durability) -> ShardId {
    ShardId { zone: ZoneId(1), home: RegionId(1), durability, n: 1 }
}

fn at(slot: u64) -> Position {
    Position { epoch: Epoch(1), slot: Slot(slot) }
}

fn frame(slot: u64) -> Bytes {
    Bytes::from(format!("frame {slot}"))
}

async fn append(store: &Arc<dyn Store>, shard: ShardId, slots: std::ops::Range<u64>) {
    let appends = slots.map(|slot| store.append(shard, at(slot), frame(slot)));
    for result in futures_util::future::join_all(appends).await {
        result.unwrap();
    }
}

async fn slots(store: &Arc<dyn Store>, shard: ShardId) -> Vec<u64> {
    let rows = store.read_log(shard, Slot(0), 100_000).await.unwrap();
    assert!(rows.iter().all(|row| row.frame == frame(row.at.slot.0)));
    rows.iter().map(|row| row.at.slot.0).collect()
}

struct Files {
    embedded: Arc<Embedded>,
    dir: tempfile::TempDir,
}

#[async_trait]
impl Subject for Files {
    fn store(&self, region: RegionId) -> Arc<dyn Store> {
        self.embedded.store(region)
    }

    async fn holds(&self, region: RegionId, needle: &[u8]) -> bool {
        let name = ["one", "two", "three"][usize::from(region.0) - 1];
        holds(&self.dir.path().join(name), needle)
    }
}

fn holds(path: &Path, needle: &[u8]) -> bool {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().any(|entry| holds(&entry.unwrap().path(), needle));
    }
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    conformance::suite(&Files { embedded, dir }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn far_regions_keep_the_contract_too_and_cost_a_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let delay = |_, _| Duration::from_millis(20);
    let (embedded, _) =
        Embedded::open(EmbeddedOptions { delay: Some(Arc::new(delay)), ..options(dir.path()) })
            .unwrap();
    let begun = std::time::Instant::now();
    append(&embedded.store(RegionId(1)), shard(Durability::MultiRegion), 0..1).await;
    assert!(begun.elapsed() >= Duration::from_millis(40));
    append(&embedded.store(RegionId(1)), shard(Durability::Region), 0..1).await;
    assert_eq!(slots(&embedded.store(RegionId(2)), shard(Durability::MultiRegion)).await, vec![0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_an_orderly_close() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let (embedded, report) = Embedded::open(options(dir.path())).unwrap();
        if round > 0 {
            assert!(report.regions.iter().all(|region| region.findings.is_empty()), "{report}");
        }
        for durability in [Durability::Region, Durability::MultiRegion] {
            let store = embedded.store(RegionId(1));
            assert_eq!(
                slots(&store, shard(durability)).await,
                (0..round * 100).collect::<Vec<_>>()
            );
            append(&store, shard(durability), round * 100..(round + 1) * 100).await;
        }
        embedded.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_region_answers_nothing_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    let [one, two, three] = REGIONS.map(|region| embedded.store(region));
    let wide = shard(Durability::MultiRegion);
    append(&one, wide, 0..10).await;
    embedded.kill(RegionId(1));
    assert_eq!(embedded.status(RegionId(1)), RegionState::Killed);
    assert_eq!(one.append(wide, at(10), frame(10)).await, Err(StoreError::Closed));
    assert_eq!(one.fence(wide).await, Err(StoreError::Closed));
    append(&two, wide, 10..20).await;
    assert_eq!(slots(&three, wide).await, (0..20).collect::<Vec<_>>());
    // Class region lives where it lives.
    let local = shard(Durability::Region);
    assert!(matches!(
        two.at(RegionId(1)).append(local, at(0), frame(0)).await,
        Err(StoreError::Unavailable { .. })
    ));
    embedded.kill(RegionId(2));
    assert!(matches!(
        three.append(wide, at(20), frame(20)).await,
        Err(StoreError::Unavailable { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_region_catches_up_and_stands_in_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    let [one, two, three] = REGIONS.map(|region| embedded.store(region));
    let wide = shard(Durability::MultiRegion);
    append(&one, wide, 0..10).await;
    embedded.kill(RegionId(3));
    append(&one, wide, 10..500).await;
    one.write_fence(wide, Epoch(4)).await.unwrap();
    let missed = embedded.restore(RegionId(3)).await.unwrap();
    assert!(missed >= 491, "{missed}");
    embedded.kill(RegionId(1));
    embedded.restore(RegionId(3)).await.unwrap();
    assert_eq!(slots(&three, wide).await, (0..500).collect::<Vec<_>>());
    assert_eq!(two.fence(wide).await, Ok(Epoch(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_killed_and_restored_under_load_lose_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    let wide = shard(Durability::MultiRegion);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers = (0..4u64).map(|writer| {
        let (store, stopped) = (embedded.store(RegionId(1)), stopped.clone());
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                let slot = n * 4 + writer;
                if *stopped.borrow() {
                    break;
                }
                // Unknown and unavailable: the same frame at the same place again.
                while store.append(wide, at(slot), frame(slot)).await.is_err() {
                    tokio::task::yield_now().await;
                }
                acknowledged.push(slot);
            }
            acknowledged
        })
    });
    let writers: Vec<_> = writers.collect();
    for round in 0..6 {
        let victim = RegionId(2 + round % 2);
        embedded.kill(victim);
        embedded.restore(victim).await.unwrap();
    }
    stop.send(true).unwrap();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    acknowledged.sort_unstable();
    for region in REGIONS {
        assert_eq!(slots(&embedded.store(region), wide).await, acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_nobody_waits_for_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    let local = shard(Durability::Region);
    append(&embedded.store(RegionId(1)), local, 0..50).await;
    embedded.close();
    assert!(
        holds(&dir.path().join("two"), b"frame 49")
            && holds(&dir.path().join("three"), b"frame 49")
    );
}

#[tokio::test]
async fn a_folder_of_another_format_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    embedded.close();
    drop(embedded);
    let format = dir.path().join("one").join("format");
    let ours = std::fs::read_to_string(&format).unwrap();
    std::fs::remove_file(&format).unwrap();
    for found in ["1", "3"] {
        let Err(error) = Embedded::open(options(dir.path())) else { panic!("it opened") };
        assert!(matches!(error, OpenError::OtherFormat { .. }), "{error}");
        assert!(error.to_string().contains(&format!("has format {found}")), "{error}");
        assert_eq!(format.exists(), found == "3");
        std::fs::write(&format, "3\n").unwrap();
    }
    std::fs::write(&format, ours).unwrap();
    Embedded::open(options(dir.path())).unwrap();
}
