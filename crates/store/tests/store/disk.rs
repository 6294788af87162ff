//! A disk that is full, that is gone, and one that comes back.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hearth_store::StoreError;
use hearth_store::embedded::{Embedded, EmbeddedOptions, RegionState, Reserve};
use wire::{Durability, Epoch, Position, RegionId, ShardId, Slot, ZoneId};

const REGIONS: [RegionId; 3] = [RegionId(1), RegionId(2), RegionId(3)];
const WIDE: ShardId = shard(Durability::MultiRegion);
/// Homed in region two, and acknowledged there alone.
const LOCAL: ShardId = shard(Durability::Region);
const NONE_KEPT: Reserve = Reserve { bytes: 0, percent: 0 };
const MIB: usize = 1024 * 1024;

const fn shard(durability: Durability) -> ShardId {
    ShardId { zone: ZoneId(1), home: RegionId(2), durability, n: 0 }
}

fn options(dir: &Path, reserve: Reserve) -> EmbeddedOptions {
    let names = ["one", "two", "three"].map(str::to_owned);
    let regions = REGIONS.into_iter().zip(names).collect();
    let zones = vec![(ZoneId(1), REGIONS.to_vec())];
    EmbeddedOptions {
        reserve,
        memtable_bytes: MIB as u64,
        ..EmbeddedOptions::new(dir, regions, zones)
    }
}

/// A file system of its own in a folder; unmounted when dropped.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    /// None: it cannot be mounted here. Says so.
    fn mount(dir: &'a Path, mib: usize) -> Option<Self> {
        std::fs::create_dir_all(dir).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(dir)
            .output();
        if mount.is_ok_and(|mount| mount.status.success()) {
            return Some(Self(dir));
        }
        let why = "a small file system can be mounted by root alone";
        assert!(std::env::var_os("HEARTH_CI").is_none(), "nothing may be skipped in CI: {why}");
        println!("SKIPPED: {why}");
        None
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy".as_ref(), self.0.as_os_str()]).status();
    }
}

/// Takes what is left of a file system, but for so much.
fn fill(dir: &Path, but_mib: usize) {
    let ballast = dir.join("ballast");
    let mut bytes = Vec::new();
    while std::fs::write(&ballast, &bytes).is_ok() {
        bytes.resize(bytes.len() + MIB, 1);
    }
    bytes.truncate(bytes.len().saturating_sub((but_mib + 1) * MIB));
    std::fs::write(&ballast, &bytes).unwrap();
}

async fn append(
    embedded: &Embedded,
    at: RegionId,
    shard: ShardId,
    slot: u64,
) -> Result<(), StoreError> {
    let position = Position { epoch: Epoch(1), slot: Slot(slot) };
    embedded.store(at).append(shard, position, Bytes::from(vec![slot as u8; 64 * 1024])).await
}

async fn slots(embedded: &Embedded, at: RegionId, shard: ShardId) -> Vec<u64> {
    let rows = embedded.store(at).read_log(shard, Slot(0), 10_000).await.unwrap();
    rows.iter().map(|row| row.at.slot.0).collect()
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_less_than_its_reserve_takes_nothing_new_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let two = dir.path().join("two");
    let Some(_disk) = Small::mount(&two, 64) else { return };
    let reserve = Reserve { bytes: 8 * MIB as u64, percent: 100 };
    let (embedded, _) = Embedded::open(options(dir.path(), reserve)).unwrap();
    let store = embedded.store(RegionId(2));
    assert_eq!((store.refuses(LOCAL), store.refuses(WIDE)), (None, None));
    fill(&two, 6);
    until("the disk is short", || store.refuses(LOCAL).is_some()).await;
    let why = store.refuses(LOCAL).unwrap();
    assert!(why.contains("two is full") && why.contains("8 are kept free"), "{why}");
    assert_eq!(store.refuses(WIDE), None, "two of three take it");
    // What was begun, and what serving needs, is still written.
    append(&embedded, RegionId(2), LOCAL, 0).await.unwrap();
    assert_eq!(embedded.status(RegionId(2)), RegionState::Open);
    std::fs::remove_file(two.join("ballast")).unwrap();
    until("the disk has room", || store.refuses(LOCAL).is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_could_not_write_comes_back_by_itself_and_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let two = dir.path().join("two");
    let Some(_disk) = Small::mount(&two, 48) else { return };
    let (embedded, _) = Embedded::open(options(dir.path(), NONE_KEPT)).unwrap();
    let mut wide = 0;
    append(&embedded, RegionId(2), LOCAL, 0).await.unwrap();
    fill(&two, 2);
    while embedded.status(RegionId(2)) == RegionState::Open {
        append(&embedded, RegionId(1), WIDE, wide).await.unwrap();
        wide += 1;
        assert!(wide < 2_000, "the disk never was full");
    }
    let store = embedded.store(RegionId(2));
    let why = store.refuses(LOCAL).unwrap();
    assert!(why.contains("cannot be written: No space left"), "{why}");
    assert_eq!(store.refuses(WIDE), None);
    let refused = append(&embedded, RegionId(2), LOCAL, 1).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "at once: {refused}");
    for _ in 0..20 {
        append(&embedded, RegionId(1), WIDE, wide).await.unwrap();
        wide += 1;
    }

    std::fs::remove_file(two.join("ballast")).unwrap();
    until("it is back", || embedded.status(RegionId(2)) == RegionState::Open).await;
    assert_eq!(slots(&embedded, RegionId(2), LOCAL).await, [0]);
    append(&embedded, RegionId(2), LOCAL, 1).await.unwrap();
    // It counts again: with it alone of two, everything is there.
    embedded.restore(RegionId(2)).await.unwrap();
    embedded.kill(RegionId(1));
    assert_eq!(slots(&embedded, RegionId(2), WIDE).await, (0..wide).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_no_destroyed_database_when_the_store_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let two = dir.path().join("two");
    let Some(_disk) = Small::mount(&two, 48) else { return };
    let (embedded, _) = Embedded::open(options(dir.path(), NONE_KEPT)).unwrap();
    append(&embedded, RegionId(2), LOCAL, 0).await.unwrap();
    embedded.close();
    drop(embedded);
    fill(&two, 0);
    match Embedded::open(options(dir.path(), NONE_KEPT)) {
        // It needs no room to open.
        Ok((embedded, _)) => embedded.close(),
        Err(error) => assert!(error.to_string().contains("No space left"), "{error}"),
    }
    std::fs::remove_file(two.join("ballast")).unwrap();
    let (embedded, report) = Embedded::open(options(dir.path(), NONE_KEPT)).unwrap();
    assert!(!report.to_string().contains("healed"), "{report}");
    assert_eq!(slots(&embedded, RegionId(2), LOCAL).await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_vanishes_is_filled_from_the_others_before_it_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (embedded, _) = Embedded::open(options(dir.path(), NONE_KEPT)).unwrap();
    for slot in 0..30 {
        append(&embedded, RegionId(1), WIDE, slot).await.unwrap();
    }
    std::fs::remove_dir_all(dir.path().join("three")).unwrap();
    until("it is missed, and filled", || {
        embedded.status(RegionId(3)) == RegionState::Open
            && dir.path().join("three/commits").exists()
    })
    .await;
    embedded.restore(RegionId(3)).await.unwrap();
    embedded.kill(RegionId(1));
    assert_eq!(slots(&embedded, RegionId(3), WIDE).await, (0..30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vanished_folder_alone_had_is_not_passed_over_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let (embedded, _) = Embedded::open(options(dir.path(), NONE_KEPT)).unwrap();
    append(&embedded, RegionId(2), LOCAL, 0).await.unwrap();
    std::fs::remove_dir_all(dir.path().join("two")).unwrap();
    let told = || match embedded.status(RegionId(2)) {
        RegionState::Failed(why) => why.contains("by this replica alone"),
        _ => false,
    };
    until("it is told", told).await;
    // As it is when a killed region is to come back without its folder.
    embedded.kill(RegionId(3));
    std::fs::remove_dir_all(dir.path().join("three")).unwrap();
    embedded.kill(RegionId(2));
    let refused = embedded.restore(RegionId(2)).await.unwrap_err();
    assert!(refused.to_string().contains("by this replica alone"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_errs_stops_a_copy_and_it_is_back_when_the_disk_is() {
    let dir = tempfile::tempdir().unwrap();
    // No other test has regions of these numbers: the fail point is the whole process'.
    let [one, two] = [71, 72].map(RegionId);
    let regions = vec![(one, "one".to_owned()), (two, "two".to_owned())];
    let zones = vec![(ZoneId(1), vec![one, two])];
    let (embedded, _) = Embedded::open(EmbeddedOptions::new(dir.path(), regions, zones)).unwrap();
    let local = ShardId { home: two, ..LOCAL };
    append(&embedded, two, local, 0).await.unwrap();
    fail::cfg("broken-disk", "return(72)").unwrap();
    let error = append(&embedded, two, local, 1).await.unwrap_err();
    assert_eq!(error, StoreError::Unknown, "nobody knows what such a disk has written");
    let why = embedded.store(two).refuses(local).unwrap();
    assert!(why.contains("Input/output error"), "{why}");
    fail::remove("broken-disk");
    until("it is back", || embedded.status(two) == RegionState::Open).await;
    append(&embedded, two, local, 1).await.unwrap();
    assert_eq!(slots(&embedded, two, local).await, [0, 1]);
}
