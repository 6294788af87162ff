//! `fence = "lease"`: rules L1-L7 of the timed lease, each of them needed.
//!
//! Beside the races of `main.rs`, which are searched here too: a zombie whose lease ran out; a
//! pause between the append and the clock; a renewal that meets a claim; a renewal, a break and a
//! release with unknown outcome; an owner that lets go.

use crate::world::{Bounds, Mutant, Timed};
use crate::{bounds, fails, full, holds};

const TIMED: Timed = Timed { ticks: 3, beats: 2, mixed: false, releases: false };

fn timed(slots: u64, epochs: u64, claimants: usize) -> Bounds {
    Bounds { timed: Some(TIMED), ..bounds(slots, epochs, claimants) }
}

fn with(bounds: Bounds, change: impl FnOnce(&mut Timed)) -> Bounds {
    let mut timed = TIMED;
    change(&mut timed);
    Bounds { timed: Some(timed), ..bounds }
}

/// Long enough for a second takeover after a first.
fn long(slots: u64) -> Bounds {
    with(timed(slots, 3, 3), |timed| timed.ticks = 4)
}

#[test]
fn by_lease_one_slot_and_two_epochs_hold() {
    holds(timed(1, 2, 2));
}

#[test]
fn by_lease_two_slots_and_two_epochs_hold() {
    holds(timed(2, 2, 2));
}

#[test]
fn by_lease_one_slot_and_three_epochs_hold() {
    holds(long(1));
}

#[test]
fn owners_that_let_go_are_not_waited_for() {
    holds(with(timed(1, 2, 2), |timed| timed.releases = true));
}

#[test]
fn the_mode_may_change_with_every_claim() {
    holds(with(timed(1, 2, 2), |timed| timed.mixed = true));
}

#[test]
fn with_leases_what_the_reduction_leaves_out_makes_no_difference() {
    holds(Bounds { reduced: false, ..timed(1, 2, 2) });
}

#[test]
fn with_leases_larger_bounds_hold_too() {
    if full() {
        holds(with(timed(3, 2, 2), |timed| timed.beats = 3));
        holds(long(2));
        holds(with(timed(1, 3, 3), |timed| (timed.ticks, timed.beats) = (6, 3)));
        holds(with(long(1), |timed| (timed.ticks, timed.mixed) = (4, true)));
        holds(with(timed(2, 2, 2), |timed| (timed.mixed, timed.releases) = (true, true)));
        holds(with(timed(1, 3, 3), |timed| (timed.ticks, timed.releases) = (4, true)));
    }
}

#[test]
fn a_clock_read_before_the_append_acknowledges_what_nobody_keeps() {
    fails(Mutant::ClockBeforeAppend, timed(1, 2, 2));
}

#[test]
fn a_lease_counted_from_the_reply_outlives_the_wait() {
    fails(Mutant::LeaseStartAtTheReply, with(timed(1, 2, 2), |timed| timed.ticks = 4));
}

#[test]
fn a_claimant_who_does_not_wait_for_the_margin_comes_too_early() {
    fails(Mutant::ShortWait, timed(1, 2, 2));
}

#[test]
fn a_margin_smaller_than_the_drift_is_too_small() {
    fails(Mutant::MarginTooSmall, with(timed(1, 2, 2), |timed| timed.ticks = 5));
}

#[test]
fn a_renewal_that_does_not_ask_whether_it_is_broken_brings_a_zombie_back() {
    fails(Mutant::BlindRenewal, timed(1, 2, 2));
}

#[test]
fn a_claim_that_does_not_ask_whether_the_owner_was_renewed_takes_a_living_shard() {
    fails(Mutant::BlindClaim, timed(1, 2, 2));
}

#[test]
fn a_wait_from_before_the_question_is_too_short() {
    fails(Mutant::WatchFromTheSend, timed(1, 2, 2));
}

#[test]
fn a_retried_renewal_that_starts_the_lease_again_outlives_the_wait() {
    fails(Mutant::RetryRestartsTheLease, with(timed(1, 2, 2), |timed| timed.ticks = 4));
}

#[test]
fn a_beat_used_twice_hides_a_renewal() {
    fails(Mutant::BeatReused, timed(1, 2, 2));
}

#[test]
fn who_lets_go_and_acknowledges_still_loses_it() {
    fails(Mutant::AckAfterRelease, with(timed(1, 2, 2), |timed| timed.releases = true));
}

#[test]
fn a_tail_read_during_the_wait_misses_an_acknowledged_row() {
    fails(Mutant::TailReadDuringTheWait, timed(1, 2, 2));
}

#[test]
fn a_claimant_who_obeys_his_own_mode_does_not_wait_for_the_lease() {
    fails(Mutant::OwnModeObeyed, with(timed(1, 2, 2), |timed| timed.mixed = true));
}

#[test]
fn by_lease_too_acknowledging_out_of_slot_order_loses_what_is_behind_a_hole() {
    fails(Mutant::AcksOutOfOrder, timed(2, 2, 2));
}

#[test]
fn by_lease_too_a_tail_that_is_not_rewritten_is_lost_to_the_next_takeover() {
    fails(Mutant::NoRewrite, long(1));
}

#[test]
fn by_lease_too_a_blind_seal_cuts_off_what_was_committed() {
    fails(Mutant::SealNotConditional, long(1));
}
