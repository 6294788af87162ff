//! The checker, checked: each step of the protocol that is broken on purpose is noticed by some
//! seed of the first few.
//!
//! A test program of its own, with one test: fail points are switched for the whole process.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use clap::ValueEnum as _;
use hearth_sim::draw;
use hearth_sim::explore::{self, cores};
use hearth_sim::mutant::{Mutant, SEEDS_MAX};
use hearth_sim::run::RunOptions;
use hearth_sim::scenario::shipped::shipped;
use hearth_sim::scenario::{Scenario, with_fence};
use topology::world::Fence;

#[test]
fn every_broken_step_is_noticed() {
    let mut unnoticed = Vec::new();
    for &mutant in Mutant::value_variants() {
        Mutant::arm(Some(mutant)).unwrap();
        match caught(mutant) {
            Some(told) => println!("{mutant}: {told}"),
            None => unnoticed.push(mutant.to_string()),
        }
    }
    Mutant::arm(None).unwrap();
    assert!(
        unnoticed.is_empty(),
        "not noticed by any of the seeds 1 to {SEEDS_MAX}: {}",
        unnoticed.join(", ")
    );
}

fn caught(mutant: Mutant) -> Option<String> {
    let scenario_of = move |seed| {
        let scenario = match mutant {
            // Other durabilities hardly exercise it.
            Mutant::LeaseNotWaitedFor => {
                let drawn = draw::of_seed(seed);
                Scenario { world: Arc::new(with_fence(&drawn.world, Fence::Lease)), ..drawn }
            }
            // Few drawn scenarios reach it.
            Mutant::SalvageUnflagged => shipped("region-failover").unwrap(),
            Mutant::HereIsEverywhere => shipped("moving-out-of-a-lost-region").unwrap(),
            _ => draw::of_seed(seed),
        };
        (scenario, RunOptions { seed, mutant: Some(mutant), ..RunOptions::default() })
    };
    let mut caught = None;
    let tally = explore::explore(1..=SEEDS_MAX, cores(), None, scenario_of, |(seed, result), _| {
        if let Ok(outcome) = result
            && let Some(first) = outcome.broken.first()
        {
            caught.get_or_insert_with(|| {
                format!("seed {seed} finds {}: {}", first.invariant, first.what)
            });
        }
        caught.is_some()
    });
    tally.unwrap();
    caught
}
