//! Durable appends a second of the embedded store, beside a bare group commit in the same run.
//!
//! ```text
//! cargo run --release -p hearth-store --example append_bench -- [--seconds 4] [--rounds 3]
//! [--appenders 64]
//!     [--regions 1|3] [--dir DIR]
//! ```
//!
//! The control is the least that can be durable: the same appenders, one thread that writes what
//! waits into one file, one `fdatasync`, and wakes them. It keeps no index and cannot read anything
//! back. Rounds alternate, so that both see the same machine; the figures are medians.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hearth_store::Store;
use hearth_store::embedded::{Embedded, EmbeddedOptions};
use tokio::sync::oneshot;
use wire::{Durability, Epoch, Position, RegionId, ShardId, Slot, ZoneId};

/// With the key of 23 bytes: 324.
const FRAME_BYTES: usize = 301;

struct Arguments {
    seconds: f64,
    rounds: usize,
    appenders: u16,
    regions: u16,
    dir: Option<PathBuf>,
}

impl Arguments {
    fn parse() -> Result<Self, String> {
        let mut this = Self { seconds: 4.0, rounds: 3, appenders: 64, regions: 1, dir: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().ok_or(format!("{word} wants a value"))?;
            let number =
                || value.parse::<f64>().map_err(|_| format!("{word}: {value} is not a number"));
            match word.as_str() {
                "--seconds" => this.seconds = number()?,
                "--rounds" => this.rounds = number()? as usize,
                "--appenders" => this.appenders = number()? as u16,
                "--regions" => this.regions = number()? as u16,
                "--dir" => this.dir = Some(value.into()),
                _ => return Err(format!("unknown option {word}")),
            }
        }
        Ok(this)
    }
}

/// What one round of one contender did.
struct Round {
    appends_per_s: f64,
    p50: Duration,
    p99: Duration,
    cpu_us_per_append: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse()?;
    let scratch = tempfile::tempdir()?;
    let dir = arguments.dir.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (mut bare, mut embedded) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        bare.push(runtime.block_on(bare_round(&arguments, &dir.join(format!("bare-{round}"))))?);
        embedded.push(
            runtime.block_on(embedded_round(&arguments, &dir.join(format!("store-{round}"))))?,
        );
    }
    report(&arguments, bare, embedded);
    Ok(())
}

fn report(arguments: &Arguments, bare: Vec<Round>, embedded: Vec<Round>) {
    let (bare, embedded) = (median(bare), median(embedded));
    println!(
        "{} appenders, {FRAME_BYTES} + 23 bytes, {} region(s)\n",
        arguments.appenders, arguments.regions
    );
    println!(
        "{:<24}{:>12}{:>12}{:>12}{:>16}",
        "", "appends/s", "p50 us", "p99 us", "CPU us/append"
    );
    for (name, round) in [("bare group commit", &bare), ("embedded store", &embedded)] {
        println!(
            "{name:<24}{:>12.0}{:>12}{:>12}{:>16.1}",
            round.appends_per_s,
            round.p50.as_micros(),
            round.p99.as_micros(),
            round.cpu_us_per_append
        );
    }
    let ratio = embedded.appends_per_s / bare.appends_per_s;
    println!("{:<24}{ratio:>12.2}\n", "ratio");
    println!(
        "{{\"bench\":\"embedded_append\",\"appenders\":{},\"regions\":{},\"bare_per_s\":{:.0},\"embedded_per_s\":{:.0},\
         \"ratio\":{ratio:.3},\"p50_us\":{},\"p99_us\":{},\"cpu_us\":{:.1}}}",
        arguments.appenders,
        arguments.regions,
        bare.appends_per_s,
        embedded.appends_per_s,
        embedded.p50.as_micros(),
        embedded.p99.as_micros(),
        embedded.cpu_us_per_append
    );
}

fn median(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|a, b| a.appends_per_s.total_cmp(&b.appends_per_s));
    let middle = rounds.len() / 2;
    rounds.swap_remove(middle)
}

/// Runs the appenders until the time is over. Each waits for its append before it begins the next.
async fn measure<F>(
    arguments: &Arguments,
    append: impl Fn(u16, u64) -> F + Clone + Send + 'static,
) -> Round
where
    F: Future<Output = ()> + Send,
{
    let (begun, cpu) = (Instant::now(), cpu());
    let length = Duration::from_secs_f64(arguments.seconds);
    let appenders = (0..arguments.appenders).map(|n| {
        let append = append.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            for slot in 0.. {
                let before = Instant::now();
                if before - begun >= length {
                    break;
                }
                append(n, slot).await;
                took.push(before.elapsed());
            }
            took
        })
    });
    let mut took = Vec::new();
    for appender in appenders.collect::<Vec<_>>() {
        took.extend(appender.await.expect("an appender does not panic"));
    }
    let elapsed = begun.elapsed();
    took.sort_unstable();
    let part = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    Round {
        appends_per_s: took.len() as f64 / elapsed.as_secs_f64(),
        p50: part(0.5),
        p99: part(0.99),
        cpu_us_per_append: (self::cpu() - cpu).as_secs_f64() * 1e6 / took.len() as f64,
    }
}

/// Processor time of this process so far. Linux; elsewhere nothing.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every Linux that there is.
    Duration::from_millis(ticks * 10)
}

fn frame(n: u16, slot: u64) -> Bytes {
    // Incompressible enough, and cheap.
    let mut word = (u64::from(n) << 40 | slot).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..FRAME_BYTES)
        .map(|_| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word as u8
        })
        .collect()
}

async fn embedded_round(
    arguments: &Arguments,
    dir: &Path,
) -> Result<Round, Box<dyn std::error::Error>> {
    let regions: Vec<(RegionId, String)> =
        (1..=arguments.regions).map(|n| (RegionId(n), format!("region-{n}"))).collect();
    let zone = (ZoneId(1), regions.iter().map(|(id, _)| *id).collect());
    let (embedded, _) = Embedded::open(EmbeddedOptions::new(dir, regions, vec![zone]))?;
    let durability =
        if arguments.regions == 1 { Durability::Region } else { Durability::MultiRegion };
    let store = embedded.store(RegionId(1));
    let round = measure(arguments, move |n, slot| {
        let store: Arc<dyn Store> = Arc::clone(&store);
        async move {
            let shard = ShardId { zone: ZoneId(1), home: RegionId(1), durability, n };
            let at = Position { epoch: Epoch(1), slot: Slot(slot) };
            store
                .append(shard, at, frame(n, slot))
                .await
                .expect("nothing is in the way of an append");
        }
    })
    .await;
    tokio::task::spawn_blocking(move || embedded.close()).await?;
    std::fs::remove_dir_all(dir)?;
    Ok(round)
}

async fn bare_round(
    arguments: &Arguments,
    path: &Path,
) -> Result<Round, Box<dyn std::error::Error>> {
    let (queue, waiting) = mpsc::sync_channel::<(Vec<u8>, oneshot::Sender<()>)>(4096);
    let mut file = File::create(path)?;
    let committer = std::thread::spawn(move || -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let mut woken = Vec::new();
        while let Ok(first) = waiting.recv() {
            for (record, done) in std::iter::once(first).chain(waiting.try_iter()) {
                bytes.extend_from_slice(&record);
                woken.push(done);
            }
            file.write_all(&bytes)?;
            file.sync_data()?;
            bytes.clear();
            for done in woken.drain(..) {
                let _ = done.send(());
            }
        }
        Ok(())
    });
    let round = measure(arguments, move |n, slot| {
        let queue = queue.clone();
        async move {
            let (done, written) = oneshot::channel();
            let mut record = Vec::with_capacity(FRAME_BYTES + 24);
            record.extend_from_slice(&u64::from(n).to_be_bytes());
            record.extend_from_slice(&slot.to_be_bytes());
            record.extend_from_slice(&1u64.to_be_bytes()[1..]);
            record.extend_from_slice(&frame(n, slot));
            queue.send((record, done)).expect("the committer lives");
            written.await.expect("the committer answers");
        }
    })
    .await;
    committer.join().map_err(|_| "the bare committer panicked")??;
    std::fs::remove_file(path)?;
    Ok(round)
}
