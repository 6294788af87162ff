//! How long a region that was away takes to catch up, and a store to open, by rows.
//!
//! ```text
//! cargo run --release -p hearth-store --example repair_bench -- [rows, default 100000]
//! ```

use std::time::Instant;

use bytes::Bytes;
use futures_util::future::try_join_all;
use hearth_store::embedded::{Embedded, EmbeddedOptions};
use wire::{Durability, Epoch, Position, RegionId, ShardId, Slot, ZoneId};

const SHARDS: u16 = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows: u64 = std::env::args().nth(1).map_or(Ok(100_000), |rows| rows.parse())?;
    let dir = tempfile::tempdir()?;
    let regions = vec![
        (RegionId(1), "one".into()),
        (RegionId(2), "two".into()),
        (RegionId(3), "three".into()),
    ];
    let zones = vec![(ZoneId(1), vec![RegionId(1), RegionId(2), RegionId(3)])];
    let options = EmbeddedOptions::new(dir.path(), regions, zones);
    let (embedded, _) = Embedded::open(options.clone())?;
    embedded.kill(RegionId(3));
    let store = embedded.store(RegionId(1));
    let begun = Instant::now();
    for slot in 0..rows / u64::from(SHARDS) {
        let appends = (0..SHARDS).map(|n| {
            let shard = ShardId {
                zone: ZoneId(1),
                home: RegionId(1),
                durability: Durability::MultiRegion,
                n,
            };
            let at = Position { epoch: Epoch(1), slot: Slot(slot) };
            store.append(shard, at, Bytes::from(format!("{n} {slot} ").repeat(40)))
        });
        try_join_all(appends).await?;
    }
    let filled = begun.elapsed();
    let begun = Instant::now();
    let missed = embedded.restore(RegionId(3)).await?;
    let caught_up = begun.elapsed();
    let begun = Instant::now();
    embedded.restore(RegionId(3)).await?;
    let walked = begun.elapsed();
    embedded.close();
    let begun = Instant::now();
    let (embedded, report) = Embedded::open(options)?;
    let opened = begun.elapsed();
    drop(embedded);
    let bytes: u64 = report.regions.iter().map(|region| region.checked_bytes).sum();
    println!(
        "{missed} rows written in {filled:.2?}; caught up in {caught_up:.2?}; walked again in {walked:.2?}"
    );
    println!("all three opened in {opened:.2?}, {bytes} bytes of tables checked");
    println!(
        "{{\"bench\":\"repair\",\"rows\":{missed},\"caught_up_ms\":{},\"walk_ms\":{},\"open_ms\":{}}}",
        caught_up.as_millis(),
        walked.as_millis(),
        opened.as_millis()
    );
    Ok(())
}
