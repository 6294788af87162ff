//! Class `region` across two regions: rules R1-R8, each of them needed.
//!
//! The races that are closed here: two claimers of two regions; a second takeover in the middle of the first, across; a zombie of
//! a lost region on a good and on a bad clock; a dedupe row that arrives before its log row; a term that seals between the
//! look at the lease row and the claim; a release and a claim over it; an owner that dies in the middle of a salvage.

use std::time::Instant;

use crate::regions::{Bounds, Mutant, World};
use crate::search::{self, Outcome};
use crate::{full, told};

const HOME: usize = 0;
const AWAY: usize = 1;

fn bounds(slots: u64, messages: usize, claimants: &'static [usize]) -> Bounds {
    let epochs = claimants.len() as u64;
    Bounds {
        slots,
        epochs,
        messages,
        claimants,
        bad_clock: false,
        releases: false,
        forgetful: false,
        reader: None,
    }
}

fn world(bounds: Bounds, mutant: Option<Mutant>) -> World {
    let node = |(n, site): (usize, &usize)| format!("r{}/core/{n}", site + 1).parse().unwrap();
    World { bounds, mutant, nodes: bounds.claimants.iter().enumerate().map(node).collect() }
}

fn holds(bounds: Bounds) {
    let begun = Instant::now();
    let outcome = search::search(&world(bounds, None), 100_000_000);
    let Outcome { states, steps, depth, goals, violation } = outcome;
    println!("{bounds:?}: {states} states, {steps} steps, depth {depth}, {:.1} s", begun.elapsed().as_secs_f32());
    if let Some(violation) = violation {
        panic!("{}\n{}", violation.what, told(&violation.trace));
    }
    assert!(goals > 0, "nothing of interest was reached");
}

fn fails(mutant: Mutant, bounds: Bounds) {
    let outcome = search::search(&world(bounds, Some(mutant)), 20_000_000);
    let violation =
        outcome.violation.unwrap_or_else(|| panic!("{mutant:?} was not caught in {} states", outcome.states));
    let (steps, states) = (violation.trace.len(), outcome.states);
    println!("{mutant:?}: caught in {steps} steps ({states} states): {}\n{}", violation.what, told(&violation.trace));
}

#[test]
fn a_takeover_across_regions_and_its_salvage_hold() {
    holds(bounds(2, 1, &[HOME, AWAY]));
}

#[test]
fn two_messages_and_a_takeover_across_regions_hold() {
    holds(bounds(3, 2, &[HOME, AWAY]));
}
