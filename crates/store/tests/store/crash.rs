//! Processes that are killed and files that are damaged: what was acknowledged is there, or the
//! store says why not.
//!
//! The child is this test binary, started again with `HEARTH_CRASH_CHILD`: it appends under load
//! and says on stdout what was acknowledged. `HEARTH_CRASH_ROUNDS` and `HEARTH_DAMAGE_ROUNDS` make
//! the tests longer, `HEARTH_DAMAGE_ROWS` (over 1,000) lets the damaged stores have more than one
//! journal; `HEARTH_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hearth_store::embedded::{Embedded, EmbeddedOptions, Finding, OpenError, OpenReport};
use hearth_store::{Mark, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wire::{Durability, Epoch, Position, RegionId, ShardId, Slot, ZoneId};

const NAMES: [&str; 3] = ["one", "two", "three"];
const WRITERS: u16 = 16;

/// A world of one region with class region, or of three with class multi-region.
fn options(dir: &Path, regions: usize) -> EmbeddedOptions {
    let all: Vec<(RegionId, String)> = (1..)
        .map(RegionId)
        .zip(NAMES.iter().map(|name| (*name).to_owned()))
        .take(regions)
        .collect();
    let ids = all.iter().map(|(id, _)| *id).collect();
    // Small, so that tables are written and journals end and vanish while the processes are killed.
    let memtable_bytes = 128 * 1024;
    EmbeddedOptions { memtable_bytes, ..EmbeddedOptions::new(dir, all, vec![(ZoneId(1), ids)]) }
}

fn shard(regions: usize, n: u16) -> ShardId {
    let durability = if regions == 1 { Durability::Region } else { Durability::MultiRegion };
    ShardId { zone: ZoneId(1), home: RegionId(1), durability, n }
}

fn at(slot: u64) -> Position {
    Position { epoch: Epoch(1), slot: Slot(slot) }
}

/// Different in every row, and long enough to spread over blocks.
fn frame(n: u16, slot: u64) -> Bytes {
    let mut random = StdRng::seed_from_u64(u64::from(n) << 48 | slot);
    let mut bytes = format!("frame {n} {slot} ").into_bytes();
    let longest = if slot.is_multiple_of(8) { 64 * 1024 } else { 600 };
    let length = random.random_range(0..longest);
    bytes.resize(bytes.len() + length, 0);
    random.fill(&mut bytes[..length]);
    bytes.into()
}

fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn seed() -> u64 {
    let seed = from_env("HEARTH_SEED", u64::from(std::process::id()));
    println!("HEARTH_SEED={seed}");
    seed
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The next slot of every shard.
type Heads = BTreeMap<u16, u64>;

/// Appends to every shard from its head on, until the end of the world or `count` rows each.
async fn load(
    store: Arc<dyn Store>,
    regions: usize,
    heads: &Heads,
    count: u64,
    says: impl Fn(u16, u64) + Clone + Send + Sync + 'static,
) {
    let writers = (0..WRITERS).map(|n| {
        let (store, says, shard) = (Arc::clone(&store), says.clone(), shard(regions, n));
        let first = heads.get(&n).copied().unwrap_or(0);
        tokio::spawn(async move {
            for slot in first..first.saturating_add(count) {
                store.append(shard, at(slot), frame(n, slot)).await.unwrap();
                says(n, slot);
                if slot.is_multiple_of(7) {
                    // What waits for no disk rides along.
                    store.write_mark(shard, &Mark::Committed, at(slot)).await.unwrap();
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// What the children run; without one, nothing.
#[test]
fn the_child_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var("HEARTH_CRASH_CHILD") else { return };
    let regions = from_env("HEARTH_CRASH_REGIONS", 1) as usize;
    let heads: Heads = serde_json::from_str(&std::env::var("HEARTH_CRASH_HEADS").unwrap()).unwrap();
    runtime().block_on(async {
        let (embedded, report) = Embedded::open(options(Path::new(&dir), regions)).unwrap();
        println!("\nopened {}", report.to_string().trim_end().replace('\n', "; "));
        // One write each: whole lines or, at the very end, a part of one.
        let says =
            |n, slot| std::io::stdout().write_all(format!("ack {n} {slot}\n").as_bytes()).unwrap();
        load(embedded.store(RegionId(1)), regions, &heads, u64::MAX, says).await;
    });
}

struct Child {
    process: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

fn spawn(dir: &Path, regions: usize, heads: &Heads) -> Child {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::the_child_appends_until_it_is_killed", "--nocapture"])
        .env("HEARTH_CRASH_CHILD", dir)
        .env("HEARTH_CRASH_REGIONS", regions.to_string())
        .env("HEARTH_CRASH_HEADS", serde_json::to_string(heads).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(process.stdout.take().unwrap());
    let (send, lines) = std::sync::mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        // A line without its end was not said.
        for line in stdout.split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    Child { process, lines }
}

impl Child {
    /// Lets it acknowledge at least `rows`, then a little more, kills it, and returns all that it
    /// acknowledged.
    fn kill_after(mut self, rows: usize, more: Duration) -> Vec<(u16, u64)> {
        let mut acknowledged = Vec::new();
        let mut kill_at = None;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            assert!(Instant::now() < deadline, "the child says nothing");
            if kill_at.is_some_and(|at| Instant::now() >= at) {
                self.process.kill().unwrap();
                self.process.wait().unwrap();
                acknowledged.extend(self.lines.iter().filter_map(|line| parse(&line)));
                return acknowledged;
            }
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(2)) {
                acknowledged.extend(parse(&line));
                if acknowledged.len() >= rows && kill_at.is_none() {
                    kill_at = Some(Instant::now() + more);
                }
            }
        }
    }
}

fn parse(line: &str) -> Option<(u16, u64)> {
    let mut words = line.strip_prefix("ack ")?.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Everything that was acknowledged is there and is what was written. Returns the heads.
async fn check(
    store: &Arc<dyn Store>,
    regions: usize,
    acknowledged: &BTreeSet<(u16, u64)>,
) -> Result<Heads, String> {
    let mut heads = Heads::new();
    for n in 0..WRITERS {
        let rows = store
            .read_log(shard(regions, n), Slot(0), 1_000_000)
            .await
            .map_err(|error| error.to_string())?;
        if let Some(row) = rows.iter().find(|row| row.frame != frame(n, row.at.slot.0)) {
            return Err(format!("shard {n} slot {} is not what was written", row.at.slot.0));
        }
        let there: BTreeSet<u64> = rows.iter().map(|row| row.at.slot.0).collect();
        let missing: Vec<u64> = acknowledged
            .range((n, 0)..=(n, u64::MAX))
            .map(|&(_, slot)| slot)
            .filter(|slot| !there.contains(slot))
            .collect();
        if !missing.is_empty() {
            return Err(format!("shard {n} lacks acknowledged slots {missing:?}"));
        }
        heads.insert(n, there.last().map_or(0, |last| last + 1));
    }
    Ok(heads)
}

fn killed_in_a_loop(regions: usize, rounds: u64) {
    let mut random = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut heads = Heads::new();
    for round in 0..rounds {
        let more = Duration::from_micros(random.random_range(0..30_000));
        let said =
            spawn(dir.path(), regions, &heads).kill_after(random.random_range(100..1_500), more);
        acknowledged.extend(said);
        heads = runtime().block_on(async {
            let (embedded, report) = Embedded::open(options(dir.path(), regions)).unwrap();
            let odd =
                |finding: &Finding| !matches!(finding, Finding::TornTail { .. } | Finding::Created);
            assert!(
                !report.regions.iter().any(|region| region.findings.iter().any(odd)),
                "round {round}: {report}"
            );
            let heads = check(&embedded.store(RegionId(1)), regions, &acknowledged).await;
            heads.unwrap_or_else(|what| panic!("round {round}: {what}"))
        });
    }
    println!("{} rows acknowledged over {rounds} kills, none missing", acknowledged.len());
}

#[test]
fn a_process_killed_in_a_loop_under_load_loses_nothing_acknowledged() {
    killed_in_a_loop(1, from_env("HEARTH_CRASH_ROUNDS", 10));
}

#[test]
fn three_replicas_killed_in_a_loop_under_load_lose_nothing_acknowledged() {
    killed_in_a_loop(3, from_env("HEARTH_CRASH_ROUNDS", 10).div_ceil(2));
}

/// Files of a closed store that hold anything, newest first.
fn files(dir: &Path) -> Vec<PathBuf> {
    fn collect(dir: &Path, out: &mut Vec<(std::time::SystemTime, PathBuf)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, out);
            } else if path.metadata().unwrap().len() > 0 {
                out.push((path.metadata().unwrap().modified().unwrap(), path));
            }
        }
    }
    let mut out = Vec::new();
    collect(dir, &mut out);
    out.sort();
    out.into_iter().rev().map(|(_, path)| path).collect()
}

/// Flips a bit, zeroes a stretch, or cuts: somewhere in the part of the file that holds anything.
fn damage(path: &Path, random: &mut StdRng) -> String {
    let mut bytes = std::fs::read(path).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1);
    // Mostly near the end, where what is newest stands.
    let place = if random.random_bool(0.5) {
        random.random_range(0..used)
    } else {
        used - 1 - random.random_range(0..used.min(2_000))
    };
    let what = match random.random_range(0..3) {
        0 => {
            let bit = random.random_range(0..8);
            bytes[place] ^= 1 << bit;
            format!("bit {bit} of byte {place} of {used} flipped")
        }
        1 => {
            let end = (place + random.random_range(1..4096)).min(used);
            bytes[place..end].fill(0);
            format!("bytes {place} to {end} of {used} zeroed")
        }
        _ => {
            bytes.truncate(place);
            format!("cut at byte {place} of {used}")
        }
    };
    std::fs::write(path, bytes).unwrap();
    format!("{}: {what}", path.display())
}

/// A closed store with `rows` rows in every shard, some of them in tables already if there were
/// enough of them.
fn filled(dir: &Path, regions: usize, rows: u64) -> BTreeSet<(u16, u64)> {
    let mut acknowledged = BTreeSet::new();
    for part in 0..2 {
        runtime().block_on(async {
            let (embedded, _) = Embedded::open(options(dir, regions)).unwrap();
            let heads = (0..WRITERS).map(|n| (n, part * rows)).collect();
            load(embedded.store(RegionId(1)), regions, &heads, rows, |_, _| {}).await;
            embedded.close();
        });
    }
    for n in 0..WRITERS {
        acknowledged.extend((0..2 * rows).map(|slot| (n, slot)));
    }
    acknowledged
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            // Journals are preallocated: keep the hole a hole.
            let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            let mut file = std::fs::File::create(&target).unwrap();
            file.write_all(&bytes[..used]).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
            let times = std::fs::FileTimes::new()
                .set_modified(path.metadata().unwrap().modified().unwrap());
            file.set_times(times).unwrap();
        }
    }
}

enum Outcome {
    Intact,
    Healed,
    Refused,
}

fn open_damaged(
    dir: &Path,
    regions: usize,
    acknowledged: &BTreeSet<(u16, u64)>,
    what: &str,
) -> Outcome {
    match Embedded::open(options(dir, regions)) {
        Ok((embedded, report)) => runtime().block_on(async {
            for region in 1..=regions as u16 {
                let checked = check(&embedded.store(RegionId(region)), regions, acknowledged).await;
                checked.unwrap_or_else(|lost| panic!("{what}: opened, but {lost}\n{report}"));
            }
            if has_healed(&report) { Outcome::Healed } else { Outcome::Intact }
        }),
        Err(error @ OpenError::Destroyed { .. }) => {
            let text = error.to_string();
            assert!(text.contains("region one") && text.contains("Cure: "), "{text}");
            let again = Embedded::open(options(dir, regions)).err().map(|error| error.to_string());
            assert!(again.is_some(), "{what}: refused only once: {text}");
            Outcome::Refused
        }
        Err(error) => panic!("{what}: refused without saying what is destroyed: {error}"),
    }
}

fn has_healed(report: &OpenReport) -> bool {
    report
        .regions
        .iter()
        .any(|region| region.findings.iter().any(|f| matches!(f, Finding::Healed { .. })))
}

#[test]
fn one_damaged_replica_alone_has_everything_or_refuses_clearly() {
    let mut random = StdRng::seed_from_u64(seed());
    let original = tempfile::tempdir().unwrap();
    let acknowledged = filled(original.path(), 1, from_env("HEARTH_DAMAGE_ROWS", 40));
    let (mut intact, mut refused) = (0, 0);
    for _ in 0..from_env("HEARTH_DAMAGE_ROUNDS", 30) {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        let files = files(dir.path());
        let file = &files[random.random_range(0..files.len().min(6))];
        let what = damage(file, &mut random);
        match open_damaged(dir.path(), 1, &acknowledged, &what) {
            Outcome::Intact => intact += 1,
            Outcome::Refused => refused += 1,
            Outcome::Healed => panic!("{what}: healed from nothing"),
        }
    }
    println!("{intact} opened with everything, {refused} refused");
    assert!(refused > 0, "no damage hit anything");
}

#[test]
fn one_damaged_replica_of_three_has_everything_after_healing() {
    let mut random = StdRng::seed_from_u64(seed());
    let original = tempfile::tempdir().unwrap();
    let acknowledged = filled(original.path(), 3, from_env("HEARTH_DAMAGE_ROWS", 40) / 2);
    let (mut intact, mut healed) = (0, 0);
    for _ in 0..from_env("HEARTH_DAMAGE_ROUNDS", 30).div_ceil(3) {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        let region = dir.path().join(NAMES[random.random_range(0..3)]);
        let files = files(&region);
        let what = damage(&files[random.random_range(0..files.len().min(6))], &mut random);
        match open_damaged(dir.path(), 3, &acknowledged, &what) {
            Outcome::Intact => intact += 1,
            Outcome::Healed => healed += 1,
            Outcome::Refused => panic!("{what}: two whole replicas were not enough"),
        }
        // And it stays whole.
        let (_, report) = Embedded::open(options(dir.path(), 3)).unwrap();
        assert!(!has_healed(&report), "{what}: {report}");
    }
    println!("{intact} opened with everything, {healed} healed");
    assert!(healed > 0, "no damage hit anything");
}
