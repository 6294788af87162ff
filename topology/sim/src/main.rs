//! hearth-sim
use std::sync::Arc;
use hearth_sim::fault::*;
use hearth_sim::run::{RunOptions, run};
use hearth_sim::scenario::*;
fn main() -> anyhow::Result<()> {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let tick = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(5);
    let world = Arc::new(topology::World::default_world());
    let faults = vec![Planned { at_ms: 5_000, for_ms: Some(10_000), fault: Fault::LoseRegion { region: wire::RegionId(1) } }];
    let scenario = Scenario { name: "x".into(), about: String::new(), world, load_ms: 25_000, quiet_ms: 5_000, converge_ms: 30_000, tick_ms: tick, load: Load::default(), faults };
    let outcome = run(&scenario, &RunOptions { seed, everything: false, mutant: None, progress: None })?;
    for e in &outcome.timeline { println!("{:>8} {:<14} {}", e.at_ms, e.who, e.what); }
    println!("{} {} virtual {} ms cpu {} ms held {} {:#?} {:#?} {:#?}", outcome.seed, outcome.hash, outcome.virtual_ms, outcome.cpu_ms, outcome.held, outcome.broken, outcome.counts, outcome.incidents);
    println!("{:#?}", outcome.people);
    Ok(())
}
