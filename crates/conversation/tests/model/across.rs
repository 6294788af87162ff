//! Class `region` across two regions: rules R1-R8, each of them needed.
//!
//! The races that are closed here: two claimers of two regions; a second takeover in the middle of
//! the first, across; a zombie of a lost region on a good and on a bad clock; a dedupe row that
//! arrives before its log row; a term that seals between the look at the lease row and the claim; a
//! release and a claim over it; an owner that dies in the middle of a salvage.

use std::time::Instant;

use crate::regions::{Bounds, Mutant, World};
use crate::search::{self, Outcome};
use crate::{full, seed, told};

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
    println!(
        "{bounds:?}: {states} states, {steps} steps, depth {depth}, {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    if let Some(violation) = violation {
        panic!("{}\n{}", violation.what, told(&violation.trace));
    }
    assert!(goals > 0, "nothing of interest was reached");
}

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

#[test]
fn a_takeover_across_regions_and_its_salvage_hold() {
    holds(bounds(2, 1, &[HOME, AWAY]));
    holds(bounds(4, 2, &[HOME, AWAY]));
}

#[test]
fn a_second_takeover_in_the_middle_of_the_first_holds() {
    holds(bounds(2, 1, &[HOME, AWAY, AWAY]));
    holds(bounds(2, 1, &[HOME, HOME, AWAY]));
}

#[test]
fn there_and_back_again_holds() {
    holds(bounds(3, 1, &[HOME, AWAY, HOME]));
}

#[test]
fn with_a_bad_clock_everything_is_salvaged_still() {
    holds(Bounds { bad_clock: true, ..bounds(3, 2, &[HOME, AWAY]) });
    holds(Bounds { bad_clock: true, ..bounds(2, 1, &[HOME, AWAY, AWAY]) });
}

#[test]
fn a_planned_move_across_regions_holds() {
    holds(Bounds { releases: true, ..bounds(3, 2, &[HOME, AWAY]) });
    holds(Bounds { releases: true, ..bounds(2, 1, &[HOME, AWAY, AWAY]) });
}

#[test]
fn a_memory_of_sends_that_is_only_in_the_store_holds() {
    holds(Bounds { forgetful: true, ..bounds(3, 2, &[HOME, AWAY]) });
    holds(Bounds { forgetful: true, ..bounds(3, 1, &[HOME, AWAY, AWAY]) });
}

#[test]
fn consumers_in_both_regions_hold() {
    for reader in [HOME, AWAY] {
        holds(Bounds { reader: Some(reader), ..bounds(3, 2, &[HOME, AWAY]) });
    }
}

#[test]
fn across_regions_larger_bounds_hold_too() {
    if full() {
        holds(bounds(4, 2, &[HOME, AWAY, AWAY]));
        holds(bounds(2, 1, &[HOME, HOME, AWAY, AWAY]));
        holds(Bounds { bad_clock: true, ..bounds(4, 2, &[HOME, AWAY, AWAY]) });
        holds(Bounds { releases: true, ..bounds(4, 2, &[HOME, AWAY, AWAY]) });
        holds(Bounds { reader: Some(AWAY), ..bounds(3, 1, &[HOME, AWAY, HOME]) });
        holds(Bounds { bad_clock: true, reader: Some(HOME), ..bounds(3, 1, &[HOME, AWAY, AWAY]) });
    }
}

/// `HEARTH_SEED` walks again what failed.
#[test]
fn random_walks_across_regions_hold() {
    let seed = seed();
    let walks = if full() { 200_000 } else { 2_000 };
    let all = Bounds {
        bad_clock: false,
        releases: true,
        reader: Some(AWAY),
        ..bounds(4, 2, &[HOME, HOME, AWAY, AWAY])
    };
    for bounds in [all, Bounds { bad_clock: true, forgetful: true, reader: Some(HOME), ..all }] {
        println!("HEARTH_SEED={seed}: {walks} walks, {bounds:?}");
        let (steps, goals, violation) = search::walk(&world(bounds, None), seed, walks);
        if let Some(violation) = violation {
            panic!("{}\n{}", violation.what, told(&violation.trace));
        }
        println!("  {steps} steps, {goals} walks got through");
        assert!(goals > 0, "nothing of interest was reached");
    }
}

#[test]
fn a_claim_that_was_never_sealed_hides_the_region_that_is_left() {
    fails(Mutant::LastClaimedCounts, bounds(2, 1, &[HOME, AWAY, AWAY]));
}

#[test]
fn an_owner_before_the_last_one_acknowledges_when_only_the_last_ones_lease_is_broken() {
    fails(Mutant::OnlyTheCurrentLeaseBroken, bounds(2, 1, &[HOME, HOME, AWAY]));
}

#[test]
fn a_core_that_registers_between_the_list_and_the_look_at_the_epoch_is_missed() {
    fails(Mutant::CoresListedBeforeTheEpoch, bounds(2, 1, &[HOME, HOME, AWAY]));
}

#[test]
fn without_the_lease_the_region_that_is_left_acknowledges_what_is_void() {
    fails(Mutant::NoLeaseCheck, bounds(2, 1, &[HOME, AWAY]));
}

#[test]
fn without_the_fence_of_the_region_a_zombie_in_it_acknowledges_what_is_void() {
    fails(Mutant::NoLocalFence, bounds(2, 1, &[HOME, HOME]));
}

#[test]
fn a_memory_of_sends_that_is_believed_loses_what_it_remembers() {
    fails(Mutant::DedupeTableBelieved, bounds(2, 1, &[HOME, AWAY]));
}

#[test]
fn a_memory_of_sends_stamped_by_the_clock_on_the_wall_appends_twice() {
    fails(Mutant::WallClockStamps, Bounds { forgetful: true, ..bounds(3, 1, &[HOME, AWAY, AWAY]) });
}

#[test]
fn a_salvage_that_does_not_look_for_duplicates_appends_twice() {
    fails(Mutant::NoDedupeInSalvage, bounds(3, 1, &[HOME, AWAY]));
}

#[test]
fn a_region_that_is_not_fenced_acknowledges_behind_the_salvage_on_a_bad_clock() {
    fails(Mutant::OldRegionNotFenced, Bounds { bad_clock: true, ..bounds(2, 1, &[HOME, AWAY]) });
}

#[test]
fn one_replica_of_the_region_that_was_left_does_not_show_all() {
    fails(Mutant::OneReplicaRead, bounds(2, 1, &[HOME, AWAY]));
}

#[test]
fn a_fork_closed_before_all_is_committed_is_lost_with_its_owner() {
    fails(Mutant::EarlyClose, bounds(2, 1, &[HOME, AWAY, AWAY]));
}

#[test]
fn a_term_that_starts_at_the_mark_starts_behind_a_hole() {
    fails(Mutant::SealAtTheMark, bounds(2, 1, &[HOME, AWAY]));
}

#[test]
fn counting_rows_reports_as_missing_what_never_was_acknowledged() {
    fails(Mutant::RowsCounted, bounds(2, 1, &[HOME, AWAY]));
}

#[test]
fn a_mark_of_a_term_that_was_cut_reports_too_much() {
    fails(Mutant::StaleMarkReported, bounds(3, 2, &[HOME, AWAY, HOME]));
}

#[test]
fn a_claimant_who_ignores_the_released_end_cuts_what_was_acknowledged() {
    fails(Mutant::ReleasedEndIgnored, Bounds { releases: true, ..bounds(2, 1, &[HOME, AWAY]) });
}

#[test]
fn a_mark_without_its_epoch_lets_a_consumer_read_what_is_not_committed() {
    fails(Mutant::MarkBySlotAlone, Bounds { reader: Some(AWAY), ..bounds(2, 1, &[HOME, AWAY]) });
}

#[test]
fn a_cursor_that_does_not_rewind_passes_what_counts() {
    fails(Mutant::NoRewind, Bounds { reader: Some(AWAY), ..bounds(2, 1, &[HOME, AWAY]) });
}
