//! Exhaustive check of the shard protocol (DESIGN 3.1), over the very machines that production
//! runs.
//!
//! The races that the design names, and where each is closed:
//!
//! | race | here | beside |
//! |---|---|---|
//! | zombie owner acknowledging after takeover; pause between check and write | every state of an owner beside a newer claimant; mutants `NoFenceRead`, `FenceNotMax` | `shard/owner.rs` |
//! | write landing after the tail was read | writes arrive when somebody looks; mutant `TailReadBeforeFence` | |
//! | tail row on a minority | a read of the tail asks any two; mutant `NoRewrite` | |
//! | conditional write with unknown outcome | `ClaimUnknown`, `SealUnknown`, and their landing at any time | `shard/takeover/tests.rs` |
//! | two claimers; a second takeover in the middle of the first | up to four claimants, at any step; mutants `SealNotConditional`, `StartsReadBeforeClaim` | `shard/takeover/tests.rs` |
//! | a hole in the pipeline | appends become durable in any order; mutant `AcksOutOfOrder` | `shard/owner.rs` |
//! | retry of a send across takeover | | `sequencer/tests.rs`, `tests/properties.rs` |
//! | late projection of a zombie | | `tests/properties.rs` |
//!
//! Moving a conversation between shards is a model of its own, in [`moving`]; what an edge delivers
//! to its clients another, in [`delivery`].
//!
//! The bounds here take seconds; `HEARTH_MODEL=full` searches larger ones. Every search prints how
//! many states it saw.

#![allow(clippy::unwrap_used)]

mod across;
mod delivery;
mod lease;
mod moving;
mod regions;
mod search;
mod world;

use std::time::Instant;

use search::Outcome;
use world::{Bounds, Mutant, World};

fn world(bounds: Bounds, mutant: Option<Mutant>) -> World {
    let nodes = (0..bounds.claimants).map(|n| format!("r1/core/{n}").parse().unwrap()).collect();
    World { bounds, mutant, nodes }
}

fn bounds(slots: u64, epochs: u64, claimants: usize) -> Bounds {
    Bounds { slots, epochs, claimants, checkpoints: false, timed: None, reduced: true }
}

/// Searches everything and finds nothing.
fn holds(bounds: Bounds) {
    let begun = Instant::now();
    let outcome = search::search(&world(bounds, None), 100_000_000);
    let Outcome { states, steps, depth, goals, violation } = outcome;
    println!(
        "{bounds:?}: {states} states, {steps} steps, depth {depth}, {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    if let Some(violation) = violation {
        panic!("{}\n{}", violation.what, told(&violation.trace));
    }
    assert!(goals > 0, "nothing of interest was reached");
}

/// Finds a violation, and says how short a trace leads to it.
fn fails(mutant: Mutant, bounds: Bounds) {
    let outcome = search::search(&world(bounds, Some(mutant)), 20_000_000);
    let violation = outcome
        .violation
        .unwrap_or_else(|| panic!("{mutant:?} was not caught in {} states", outcome.states));
    let (steps, states) = (violation.trace.len(), outcome.states);
    println!(
        "{mutant:?}: caught in {steps} steps ({states} states): {}\n{}",
        violation.what,
        told(&violation.trace)
    );
}

fn told<A: std::fmt::Debug>(trace: &[A]) -> String {
    trace.iter().map(|action| format!("  {action:?}\n")).collect()
}

/// Larger bounds, for a machine that has the time: `HEARTH_MODEL=full`.
fn full() -> bool {
    std::env::var("HEARTH_MODEL").is_ok_and(|value| value == "full")
}

#[test]
fn two_slots_and_two_epochs_hold() {
    holds(bounds(2, 2, 2));
}

#[test]
fn a_third_claimant_changes_nothing() {
    holds(bounds(2, 2, 3));
}

#[test]
fn one_slot_and_three_epochs_hold() {
    holds(bounds(1, 3, 3));
}

#[test]
fn a_moving_checkpoint_changes_nothing() {
    holds(Bounds { checkpoints: true, ..bounds(2, 2, 2) });
}

#[test]
fn what_the_reduction_leaves_out_makes_no_difference() {
    holds(Bounds { reduced: false, ..bounds(1, 2, 2) });
    if full() {
        holds(Bounds { reduced: false, ..bounds(2, 2, 2) });
    }
}

#[test]
fn larger_bounds_hold_too() {
    if full() {
        holds(bounds(3, 2, 2));
        holds(Bounds { checkpoints: true, ..bounds(1, 3, 3) });
        holds(bounds(1, 4, 4));
        holds(bounds(2, 3, 3));
    }
}

/// `HEARTH_SEED` walks again what failed.
#[test]
fn random_walks_through_larger_bounds_hold() {
    let seed = seed();
    let walks = if full() { 2_000_000 } else { 10_000 };
    for bounds in [
        bounds(3, 3, 4),
        bounds(4, 4, 4),
        Bounds { checkpoints: true, reduced: false, ..bounds(3, 4, 4) },
    ] {
        println!("HEARTH_SEED={seed}: {walks} walks, {bounds:?}");
        let (steps, goals, violation) = search::walk(&world(bounds, None), seed, walks);
        if let Some(violation) = violation {
            panic!("{}\n{}", violation.what, told(&violation.trace));
        }
        println!("  {steps} steps, {goals} walks got through");
        assert!(goals > 0, "nothing of interest was reached");
    }
}

fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let drawn = || RandomState::new().hash_one(0);
    std::env::var("HEARTH_SEED").ok().map_or_else(drawn, |seed| seed.parse().unwrap())
}

#[test]
fn without_the_fence_read_a_zombie_acknowledges_what_is_void() {
    fails(Mutant::NoFenceRead, bounds(1, 2, 2));
}

#[test]
fn a_tail_read_before_the_fence_is_written_misses_an_acknowledged_row() {
    fails(Mutant::TailReadBeforeFence, bounds(1, 2, 2));
}

#[test]
fn a_tail_that_is_not_rewritten_is_lost_to_the_next_takeover() {
    fails(Mutant::NoRewrite, bounds(1, 3, 3));
}

#[test]
fn a_fence_that_can_fall_lets_a_zombie_pass() {
    fails(Mutant::FenceNotMax, bounds(1, 2, 2));
}

#[test]
fn a_blind_seal_cuts_off_what_was_committed() {
    fails(Mutant::SealNotConditional, bounds(1, 3, 3));
}

#[test]
fn acknowledging_out_of_slot_order_loses_what_is_behind_a_hole() {
    fails(Mutant::AcksOutOfOrder, bounds(2, 2, 2));
}

#[test]
fn starts_read_before_the_claim_miss_a_seal_in_between() {
    fails(Mutant::StartsReadBeforeClaim, bounds(1, 2, 2));
}
