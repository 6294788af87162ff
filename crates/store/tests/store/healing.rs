//! A replica that has lost something: who may help, and when the store must refuse.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hearth_store::embedded::{
    Embedded, EmbeddedOptions, Finding, OpenError, OpenReport, RegionState,
};
use hearth_store::{Mark, Store};
use wire::{Durability, Epoch, NodeId, Position, RegionId, ShardId, Slot, ZoneId};

const REGIONS: [RegionId; 3] = [RegionId(1), RegionId(2), RegionId(3)];
/// All three regions.
const WIDE: ShardId = shard(1, Durability::MultiRegion);
/// Homed in region one of the same zone, acknowledged there alone.
const LOCAL: ShardId = shard(1, Durability::Region);
/// Region one alone.
const NARROW: ShardId = shard(2, Durability::Region);

const fn shard(zone: u16, durability: Durability) -> ShardId {
    ShardId { zone: ZoneId(zone), home: RegionId(1), durability, n: 0 }
}

fn options(dir: &Path) -> EmbeddedOptions {
    let names = ["one", "two", "three"].map(str::to_owned);
    let regions = REGIONS.into_iter().zip(names).collect();
    EmbeddedOptions::new(
        dir,
        regions,
        vec![(ZoneId(1), REGIONS.to_vec()), (ZoneId(2), vec![RegionId(1)])],
    )
}

fn at(slot: u64) -> Position {
    Position { epoch: Epoch(1), slot: Slot(slot) }
}

fn frame(slot: u64) -> Bytes {
    Bytes::from(format!("frame number {slot}"))
}

async fn fill(embedded: &Embedded, shard: ShardId, slots: std::ops::Range<u64>) {
    let store = embedded.store(RegionId(1));
    for slot in slots {
        store.append(shard, at(slot), frame(slot)).await.unwrap();
    }
}

async fn slots(store: &Arc<dyn Store>, shard: ShardId) -> Vec<u64> {
    store.read_log(shard, Slot(0), 10_000).await.unwrap().iter().map(|row| row.at.slot.0).collect()
}

/// A closed store with 50 rows in each of these shards.
async fn filled(shards: &[ShardId]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    for &shard in shards {
        fill(&embedded, shard, 0..50).await;
    }
    embedded.close();
    dir
}

fn journal(dir: &Path, region: &str) -> PathBuf {
    dir.join(region).join("store").join("0.jnl")
}

/// Flips a bit of the first row that says this.
fn spoil(file: &Path, row: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let place = bytes.windows(row.len()).position(|window| window == row.as_bytes()).unwrap();
    bytes[place] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

fn healed(report: &OpenReport) -> Option<(RegionId, u64, u64)> {
    report.regions.iter().find_map(|region| {
        region.findings.iter().find_map(|finding| match finding {
            Finding::Healed { fetched, salvaged, .. } => Some((region.region, *fetched, *salvaged)),
            _ => None,
        })
    })
}

#[tokio::test]
async fn a_destroyed_row_comes_from_the_others_and_what_stands_behind_it_is_saved() {
    let dir = filled(&[WIDE]).await;
    spoil(&journal(dir.path(), "two"), "frame number 20");
    let (embedded, report) = Embedded::open(options(dir.path())).unwrap();
    let (region, fetched, salvaged) = healed(&report).unwrap();
    assert_eq!((region, fetched), (RegionId(2), 1), "{report}");
    assert!(salvaged >= 29, "{report}");
    assert!(report.to_string().contains("healed"), "{report}");
    assert_eq!(embedded.restore(RegionId(2)).await.unwrap(), 0, "nothing is missing any more");
}

#[tokio::test]
async fn a_region_whose_folder_was_moved_away_is_filled_before_it_counts() {
    let dir = filled(&[WIDE]).await;
    std::fs::remove_dir_all(dir.path().join("three")).unwrap();
    let (embedded, report) = Embedded::open(options(dir.path())).unwrap();
    assert!(
        healed(&report).is_some_and(|(region, fetched, _)| region == RegionId(3) && fetched >= 50),
        "{report}"
    );
    embedded.kill(RegionId(1));
    embedded.kill(RegionId(2));
    embedded.restore(RegionId(2)).await.unwrap();
    assert_eq!(slots(&embedded.store(RegionId(3)), WIDE).await, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn two_damaged_replicas_of_three_are_refused() {
    let dir = filled(&[WIDE]).await;
    spoil(&journal(dir.path(), "two"), "frame number 20");
    spoil(&journal(dir.path(), "three"), "frame number 30");
    let before = std::fs::read(journal(dir.path(), "two")).unwrap();
    let Err(OpenError::Destroyed { why, .. }) = Embedded::open(options(dir.path())).map(|_| ())
    else {
        panic!("opened, or refused for another reason");
    };
    assert!(why.contains("1 are whole, and 2 are needed"), "{why}");
    assert!(
        std::fs::read(journal(dir.path(), "two")).unwrap() == before,
        "the damaged file was touched"
    );
}

#[tokio::test]
async fn what_one_region_alone_acknowledged_cannot_be_healed_but_its_loss_can_be_accepted() {
    for shard in [LOCAL, NARROW] {
        let dir = filled(&[shard]).await;
        spoil(&journal(dir.path(), "one"), "frame number 20");
        let error = Embedded::open(options(dir.path())).map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, OpenError::Destroyed { .. }), "{text}");
        assert!(
            text.contains("0.jnl")
                && text.contains("accept_loss")
                && text.contains("by this replica alone"),
            "{text}"
        );

        let accepting = EmbeddedOptions { accept_loss: vec![RegionId(1)], ..options(dir.path()) };
        let (embedded, report) = Embedded::open(accepting).unwrap();
        assert!(report.to_string().contains("loss accepted"), "{report}");
        let there = slots(&embedded.store(RegionId(1)), shard).await;
        // The others of a wide zone have a copy even so.
        let lost = usize::from(shard == NARROW);
        assert_eq!(there.len(), 50 - lost, "{there:?}");
        embedded.close();
        let (_, report) = Embedded::open(options(dir.path())).unwrap();
        assert!(report.regions.iter().all(|region| region.findings.is_empty()), "{report}");
    }
}

#[tokio::test]
async fn damage_before_a_zone_was_used_does_not_stop_that_zone() {
    // Region one is alone in zone 2, but has acknowledged nothing of it.
    let dir = filled(&[WIDE]).await;
    spoil(&journal(dir.path(), "one"), "frame number 49");
    let (embedded, report) = Embedded::open(options(dir.path())).unwrap();
    assert!(healed(&report).is_some(), "{report}");
    assert_eq!(slots(&embedded.store(RegionId(1)), WIDE).await, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_repair_of_a_new_region_that_was_cut_short_still_needs_the_others() {
    let dir = filled(&[WIDE]).await;
    std::fs::remove_dir_all(dir.path().join("three")).unwrap();
    // The repair cannot set aside what was there, and ends.
    std::fs::create_dir(dir.path().join("three")).unwrap();
    std::fs::write(dir.path().join("three/damaged"), "in the way of what is set aside").unwrap();
    assert!(Embedded::open(options(dir.path())).is_err());
    std::fs::remove_file(dir.path().join("three/damaged")).unwrap();
    spoil(&journal(dir.path(), "two"), "frame number 20");
    let error = Embedded::open(options(dir.path())).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Destroyed { .. }), "{error}");
}

#[tokio::test]
async fn nobody_else_may_look_into_the_folder_of_a_region() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = filled(&[WIDE]).await;
    let mode = std::fs::metadata(dir.path().join("two")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_database_that_vanished_is_filled_again() {
    let dir = filled(&[WIDE]).await;
    spoil(&journal(dir.path(), "two"), "frame number 20");
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    embedded.close();
    std::fs::remove_dir_all(dir.path().join("two").join("store")).unwrap();
    let (embedded, report) = Embedded::open(options(dir.path())).unwrap();
    assert!(healed(&report).is_some_and(|(_, fetched, _)| fetched >= 50), "{report}");
    assert_eq!(embedded.restore(RegionId(2)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_replica_damaged_while_it_was_killed_is_healed_when_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    fill(&embedded, WIDE, 0..50).await;
    embedded.kill(RegionId(2));
    // Its files are its own again once it can be opened.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while std::fs::File::open(dir.path().join("two/store/lock")).unwrap().try_lock().is_err() {
        assert!(std::time::Instant::now() < deadline, "the killed replica does not let go");
        tokio::task::yield_now().await;
    }
    spoil(&journal(dir.path(), "two"), "frame number 20");
    fill(&embedded, WIDE, 50..60).await;
    embedded.restore(RegionId(2)).await.unwrap();
    assert_eq!(embedded.status(RegionId(2)), RegionState::Open);
    embedded.kill(RegionId(1));
    assert_eq!(slots(&embedded.store(RegionId(2)), WIDE).await, (0..60).collect::<Vec<_>>());
    assert_eq!(embedded.restore(RegionId(2)).await.unwrap(), 0);
}

#[tokio::test]
async fn conditional_writes_of_a_new_process_outrank_those_of_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let node: NodeId = "r1/core/a".parse().unwrap();
    for round in 0..3 {
        let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
        let store = embedded.store(RegionId(1));
        assert_eq!(store.lease(WIDE).await.unwrap().epoch, Epoch(round));
        let nonce = conversation::shard::Nonce(u128::from(round));
        let claimed = store
            .claim(WIDE, Epoch(round), &node, nonce, conversation::shard::FenceMode::Read)
            .await
            .unwrap();
        assert_eq!(claimed, conversation::shard::Cas::Applied);
        embedded.close();
        // Even when the side files are gone.
        if round == 1 {
            for region in ["one", "two", "three"] {
                std::fs::remove_file(dir.path().join(region).join("commits")).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn marks_survive_a_close_and_a_copy_of_the_options_opens_the_same_store() {
    let dir = filled(&[WIDE]).await;
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    let store = embedded.store(RegionId(2));
    store.write_mark(WIDE, &Mark::Committed, at(7)).await.unwrap();
    embedded.close();
    let (embedded, _) = Embedded::open(options(dir.path())).unwrap();
    assert_eq!(embedded.store(RegionId(3)).mark(WIDE, &Mark::Committed).await, Ok(Some(at(7))));
    let second = Embedded::open(options(dir.path())).map(|_| ());
    assert!(matches!(second, Err(OpenError::InUse { .. })));
}
