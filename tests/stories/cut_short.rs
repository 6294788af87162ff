//! A start that is cut short, wherever: the next one comes up, with everything acknowledged.
//!
//! Each round kills a process right before another change of its files. An ordinary run takes some
//! of them, from a seed that it prints; `HEARTH_CUTS=all` takes every one, `HEARTH_SEED` repeats a
//! run.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use hearth_stories::cut::{self, Outcome};
use hearth_stories::http;
use hearth_stories::mesh::{self, Mesh};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use store::Store;
use store::embedded::{Embedded, EmbeddedOptions, Finding};
use wire::{Durability, Epoch, Position, RegionId, ShardId, Slot, ZoneId};

/// The folder of a child, in its environment.
const CHILD: &str = "HEARTH_CUT_CHILD";

const REGIONS: [(RegionId, &str); 3] =
    [(RegionId(1), "one"), (RegionId(2), "two"), (RegionId(3), "three")];

/// Says a skip, where nothing can be traced.
fn can_cut() -> bool {
    if !cut::is_possible() {
        test_cluster::skip("processes are traced on Linux and x86-64 alone");
    }
    cut::is_possible()
}

/// The changes before which a process of so many is killed.
fn cuts(total: u64, ordinarily: usize) -> BTreeSet<u64> {
    if std::env::var("HEARTH_CUTS").is_ok_and(|all| all == "all") {
        return (1..=total).collect();
    }
    let given = std::env::var("HEARTH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("HEARTH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    (0..ordinarily).map(|_| random.random_range(1..=total)).collect()
}

fn never(_: &str) -> bool {
    false
}

fn options(dir: &Path) -> EmbeddedOptions {
    let regions = REGIONS.map(|(id, name)| (id, name.to_owned())).to_vec();
    let ids = REGIONS.map(|(id, _)| id).to_vec();
    // Small, so that tables are written too.
    let memtable_bytes = 64 * 1024;
    EmbeddedOptions { memtable_bytes, ..EmbeddedOptions::new(dir, regions, vec![(ZoneId(1), ids)]) }
}

fn shard(n: u16) -> ShardId {
    let durability = if n == 0 { Durability::MultiRegion } else { Durability::Region };
    ShardId { zone: ZoneId(1), home: RegionId(1), durability, n }
}

fn at(slot: u64) -> Position {
    Position { epoch: Epoch(1), slot: Slot(slot) }
}

async fn append(store: &Arc<dyn Store>, slots: std::ops::Range<u64>) {
    for slot in slots {
        for n in 0..2 {
            let frame = Bytes::from(vec![slot as u8; 4 * 1024]);
            store.append(shard(n), at(slot), frame).await.unwrap();
            if std::env::var_os(CHILD).is_some() {
                // One write: a whole line, or nothing.
                std::io::stdout().write_all(format!("ack {n} {slot}\n").as_bytes()).unwrap();
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// What the children run; without one, nothing: a start, some writes, a region that dies and comes
/// back, an orderly end.
#[test]
fn the_child_starts_writes_and_restores_a_region() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let first = std::env::var("HEARTH_CUT_FROM").unwrap().parse().unwrap();
    runtime().block_on(async {
        let (embedded, _) = Embedded::open(options(Path::new(&dir))).unwrap();
        // Behind the harness' own words, which end in no line.
        println!("\nopened");
        let store = embedded.store(RegionId(1));
        append(&store, first..first + 10).await;
        embedded.kill(RegionId(2));
        append(&store, first + 10..first + 20).await;
        embedded.restore(RegionId(2)).await.unwrap();
        append(&store, first + 20..first + 30).await;
        embedded.close();
    });
}

fn child(dir: &Path, from: u64, cut_at: u64) -> Outcome {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "cut_short::the_child_starts_writes_and_restores_a_region"]);
    child.args(["--nocapture", "--test-threads=1"]);
    child.env(CHILD, dir).env("HEARTH_CUT_FROM", from.to_string());
    cut::run(&child, dir, cut_at, never)
}

fn acknowledged(outcome: &Outcome) -> BTreeSet<(u16, u64)> {
    let ack = |line: &String| {
        let (n, slot) = line.strip_prefix("ack ")?.split_once(' ')?;
        Some((n.parse().ok()?, slot.parse().ok()?))
    };
    outcome.said.iter().filter_map(ack).collect()
}

/// Opens what a killed process left, and finds everything in it.
fn check(dir: &Path, wanted: &BTreeSet<(u16, u64)>, cut_at: u64) {
    let (embedded, report) = Embedded::open(options(dir))
        .unwrap_or_else(|error| panic!("cut before change {cut_at}: refused: {error}"));
    let odd = |finding: &Finding| !matches!(finding, Finding::Created | Finding::TornTail { .. });
    assert!(
        !report.regions.iter().any(|region| region.findings.iter().any(odd)),
        "cut before change {cut_at}: {report}"
    );
    runtime().block_on(async {
        for n in 0..2 {
            let rows = embedded.store(RegionId(1)).read_log(shard(n), Slot(0), 1000).await.unwrap();
            let there: BTreeSet<_> = rows.iter().map(|row| (n, row.at.slot.0)).collect();
            let lost: Vec<_> = wanted.iter().filter(|(of, _)| *of == n).collect();
            let lost: Vec<_> = lost.into_iter().filter(|row| !there.contains(row)).collect();
            assert!(lost.is_empty(), "cut before change {cut_at}: {lost:?} are gone");
        }
        append(&embedded.store(RegionId(1)), 900..901).await;
        embedded.close();
    });
}

#[test]
fn a_store_cut_short_between_any_two_changes_of_its_files_opens_with_everything() {
    if !can_cut() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = child(dir.path(), 0, u64::MAX);
    assert!(whole.ended.is_some_and(|status| status.success()), "{:?}", whole.ended);
    assert_eq!(acknowledged(&whole).len(), 60);
    println!("{} changes of a first start", whole.changes);
    for cut_at in cuts(whole.changes, 12) {
        let dir = tempfile::tempdir().unwrap();
        let first = child(dir.path(), 0, cut_at);
        check(dir.path(), &acknowledged(&first), cut_at);
        // And a later start of what was left.
        let later = child(dir.path(), 100, cut_at);
        let both = acknowledged(&first).union(&acknowledged(&later)).copied().collect();
        check(dir.path(), &both, cut_at);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_hearth_up_cut_short_leaves_a_folder_that_the_next_one_takes() {
    if !can_cut() {
        return;
    }
    let up = |dir: &Path, at: u64| {
        let mut up = Command::new(mesh::hearth());
        up.args(["up", "--json", "--data"]).arg(dir);
        let dir = dir.to_owned();
        let (send, outcome) = std::sync::mpsc::sync_channel(1);
        // Tracing is a thread's own.
        std::thread::spawn(move || {
            send.send(cut::run(&up, &dir, at, |line| line.contains("ready")))
        });
        outcome.recv().unwrap()
    };
    let whole = tempfile::tempdir().unwrap();
    let total = up(whole.path(), u64::MAX).changes;
    println!("{total} changes of a first start");
    for cut_at in cuts(total, 3) {
        let dir = tempfile::tempdir().unwrap();
        let outcome = up(dir.path(), cut_at);
        // The last changes are those of its end, and not always as many.
        println!("cut before change {cut_at}, of {} done", outcome.changes);
        let mesh = Mesh::up_on(dir);
        let token = mesh.token("ann");
        let region = mesh.regions()[0].clone();
        let base = mesh.edge(&region);
        let group = crate::group(&base, &token, "first", &[]).await;
        let send = json!({"conversation_id": group, "client_msg_id": "one", "body": "hello"});
        let sent = http::post(&base, "/v1/messages", &token, send).await;
        assert_eq!(sent.status, 201, "cut before change {cut_at}: {}", sent.body);
    }
}
