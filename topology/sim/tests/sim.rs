//! The simulator, held to what it promises: the same seed is the same run, to the byte, in two
//! processes and in two threads; and what held goes on to hold. That a broken step of the protocol
//! is noticed, `mutants.rs` shows.
//!
//! `HEARTH_SIM_MINUTES` says for how long fresh seeds are explored; without it for [`CI_MINUTES`]
//! in CI (`HEARTH_CI`) and not at all elsewhere. `HEARTH_SEED` begins at a seed that was printed.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use hearth_sim::explore::{self, cores};
use hearth_sim::fault::Fault;
use hearth_sim::outcome::Outcome;
use hearth_sim::run::{RunOptions, run};
use hearth_sim::scenario::shipped::{SHIPPED, shipped};
use hearth_sim::scenario::{Scenario, with_fence, with_max_rpo};
use hearth_sim::{draw, report};
use topology::world::Fence;

/// Seeds that once failed, each with what it found. They hold now, and go on to. These were drawn
/// before there were scenes.
const KEPT_PLAIN: &[(u64, &str)] = &[
    (
        1_285,
        "a core that restarts after its wall clock was set back was never believed alive again",
    ),
    (
        1_157,
        "a replica that lost power forgot confirmed projections: not with `commitlog_sync: batch`",
    ),
    (6, "a sync that a home did not answer is asked for again"),
    (46, "an edge restarted after a power loss waits for its port"),
];
/// And these with scenes, before there were timed leases.
const KEPT: &[(u64, &str)] = &[
    (1_003_723, "two cores that began to drain at the same moment never heard of each other again"),
    (1_001_563, "what a client follows counts before the first message that comes"),
    (1_003_870, "the same, at another edge"),
    (1_000_526, "a drain that was ordered from a node that stood still came after its end"),
    (1_001_335, "the same, and its region had no other core"),
    (1_000_531, "a message that stands in a voided frame too is not at risk"),
];
/// And these with timed leases, before regions were failed over.
const KEPT_TIMED: &[(u64, &str)] = &[
    (5_000_025, "a claimant waited for ever for an owner that had let go meanwhile"),
    (5_000_256, "the same, under load"),
];

/// And these before single-region conversations moved.
const KEPT_FAILED_OVER: &[(u64, &str)] = &[
    (
        7_000_262,
        "a core that was restarted in the middle of a claim kept the timed lease that its successor waited for",
    ),
    (
        7_000_665,
        "a claim that lost its race across regions waited for the leases of those who live",
    ),
    (7_000_502, "the same, of a region that was failed over and back"),
    (
        7_001_362,
        "a core that died before its region was failed over could not let go, and the others of its region kept their leases",
    ),
];
/// And these with all of it.
const KEPT_MOVED: &[(u64, &str)] = &[
    (
        9_102_248,
        "what a core carries to a shard of its own region, which another serves because the region is failed over, found no road",
    ),
    (
        2_000_110,
        "a request that came before a new owner knew its unfinished moves, of which there were none, waited for ever",
    ),
];
/// Minutes for which CI explores fresh seeds. All tests of the simulator take about five minutes
/// on two cores.
const CI_MINUTES: f64 = 2.5;
/// Seeds with which a region is failed over and back.
const FAILED_OVER: RangeInclusive<u64> = 2..=9;
/// Seeds that every run of the tests explores, the same each time.
const EXPLORED: RangeInclusive<u64> = 1..=40;

fn run_of(scenario: &Scenario, seed: u64) -> Outcome {
    run(scenario, &RunOptions { seed, ..RunOptions::default() }).unwrap()
}

fn holds(outcome: &Outcome) {
    let Some(first) = outcome.broken.first() else { return };
    panic!(
        "seed {}: {} at {} ms: {}\nagain: hearth sim replay {}",
        outcome.seed, first.invariant, first.at_ms, first.what, outcome.seed
    );
}

#[test]
fn the_same_seed_is_the_same_run_to_the_byte_in_two_processes() {
    let hash = |seed: u64| {
        let command = ["run", "region-loss", "--json", "--seed", &seed.to_string()];
        let told = Command::new(env!("CARGO_BIN_EXE_hearth-sim")).args(command).output().unwrap();
        let outcome: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        outcome["hash"].as_str().unwrap().to_owned()
    };
    for seed in [11, 12] {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
        assert_ne!(hash(seed), hash(seed + 100), "another seed is another run");
    }
}

#[test]
fn the_same_seed_is_the_same_run_to_the_byte_in_two_threads_side_by_side() {
    let scenario_of = |seed| (draw::of_seed(seed), RunOptions { seed, ..RunOptions::default() });
    let mut hashes: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let seeds = [21, 22, 21, 23, 22, 22, 23, 21].into_iter();
    let tally = explore::explore(seeds, 4, None, scenario_of, |(seed, result), _| {
        hashes.entry(*seed).or_default().insert(result.as_ref().unwrap().hash.clone());
        false
    });
    assert_eq!((tally.unwrap().seeds, hashes.len()), (8, 3));
    assert!(hashes.values().all(|hashes| hashes.len() == 1), "{hashes:?}");
}

#[test]
fn seeds_that_once_failed_hold() {
    for (seed, found) in KEPT_PLAIN {
        println!("seed {seed}: {found}");
        holds(&run_of(&draw::plain(*seed), *seed));
    }
    for (seed, found) in KEPT {
        println!("seed {seed}: {found}");
        let drawn = without_failovers(without_region_moves(draw::of_seed(*seed)));
        let world = Arc::new(with_fence(&drawn.world, Fence::Read));
        holds(&run_of(&Scenario { world, ..drawn }, *seed));
    }
    for (seed, found) in KEPT_TIMED {
        println!("seed {seed}: {found}");
        holds(&run_of(&without_failovers(without_region_moves(draw::of_seed(*seed))), *seed));
    }
    for (seed, found) in KEPT_FAILED_OVER {
        println!("seed {seed}: {found}");
        holds(&run_of(&without_region_moves(draw::of_seed(*seed)), *seed));
    }
    for (seed, found) in KEPT_MOVED {
        println!("seed {seed}: {found}");
        holds(&run_of(&draw::of_seed(*seed), *seed));
    }
}

fn without_region_moves(mut scenario: Scenario) -> Scenario {
    scenario.load.region_moves_per_s = 0.0;
    scenario
}

fn without_failovers(mut scenario: Scenario) -> Scenario {
    scenario.faults.retain(|planned| !matches!(planned.fault, Fault::FailOver { .. }));
    scenario.world = Arc::new(with_max_rpo(&scenario.world, None));
    scenario
}

#[test]
fn every_scenario_that_comes_with_the_program_holds_faster_than_real_time() {
    for (name, _) in SHIPPED {
        let scenario = shipped(name).unwrap();
        let outcome = run(&scenario, &RunOptions { seed: 1, ..RunOptions::default() }).unwrap();
        println!(
            "{name}: {} virtual ms, {} CPU ms, {} acknowledged",
            outcome.virtual_ms, outcome.cpu_ms, outcome.counts.acked
        );
        holds(&outcome);
        assert!(outcome.counts.acked > 50, "{name}: hardly anything was said");
        let page = report::html(&outcome);
        assert!(page.contains(name) && page.contains(&outcome.hash), "{name}: the report names it");
    }
}

#[test]
fn a_region_that_is_failed_over_loses_nothing_for_good() {
    let scenario = shipped("region-failover").unwrap();
    for seed in FAILED_OVER {
        let outcome = run_of(&scenario, seed);
        holds(&outcome);
        let missing = outcome.counts.recovered;
        println!("seed {seed}: {missing} messages were missing until the region came back");
        assert!(missing > 0, "seed {seed}: there was nothing to bring back");
    }
}

#[test]
fn the_same_drawn_seeds_as_ever_hold() {
    explored_hold(EXPLORED, None);
}

#[test]
fn fresh_seeds_hold() {
    let asked =
        std::env::var("HEARTH_SIM_MINUTES").ok().map(|minutes| minutes.parse::<f64>().unwrap());
    let Some(minutes) = asked.or_else(|| std::env::var_os("HEARTH_CI").map(|_| CI_MINUTES)) else {
        println!("no fresh seeds are explored: set HEARTH_SIM_MINUTES");
        return;
    };
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let first =
        std::env::var("HEARTH_SEED").map_or(clock.as_secs() * 1_000, |seed| seed.parse().unwrap());
    explored_hold(first..=u64::MAX, Some(explore::in_minutes(minutes)));
}

fn explored_hold(seeds: RangeInclusive<u64>, deadline: Option<Instant>) {
    println!("HEARTH_SEED={}", seeds.start());
    let scenario_of = |seed| (draw::of_seed(seed), RunOptions { seed, ..RunOptions::default() });
    let mut failed = Vec::new();
    let tally = explore::explore(seeds, cores(), deadline, scenario_of, |(seed, result), _| {
        match result {
            Ok(outcome) if outcome.held => {}
            Ok(outcome) => {
                failed.push(format!("hearth sim replay {seed}: {:?}", outcome.broken.first()))
            }
            Err(error) => failed.push(format!("hearth sim replay {seed}: {error:#}")),
        }
        !failed.is_empty()
    });
    let tally = tally.unwrap();
    println!("{tally:?}");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(tally.acked > 0, "nothing was acknowledged in any of {} seeds", tally.seeds);
}
