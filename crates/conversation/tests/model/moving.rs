//! Exhaustive check of how a conversation moves between shards (DESIGN 3.8, rules M1-M6), over the
//! code that production runs: `Conversation`, `Mover`, `project`, `EdgeCursor`.
//!
//! **Three shards**, each a log whose owner may be replaced at any time: then of what was appended and not committed any
//! prefix stays. (That this is how a shard behaves is what the other model shows.) Frames are
//! projected any time after they are committed; requests, offers and deliveries may arrive late,
//! and again.
//!
//! **Class `region`**: what is projected in one region is in every region any time later; a fork (a region is lost) cuts from a
//! shard's log anything that is not, and those who own it then read what every region has, and what
//! came over of rows that were cut off: those that say what became of sends (F5), or all of them.
//!
//! **What must hold**: the changes of the conversation, over all shards, are one dense order; their epoch and time never
//! fall, and rise with a move; no send counts twice; what was acknowledged stays (class
//! `multi-region`); nobody is told of a move that never was; what is projected is what was
//! committed; an edge shows all of it in order. And from wherever things stand, everything can be
//! finished.
//!
//! Not modelled: salvage of what a fork cut off, several conversations, users' own streams (which
//! do not move), TTLs. Of the facts' mutants one has no meaning here, "own tail only": nothing is
//! carried along but the starts, for a conversation is taken in when all of it is projected (M3's
//! first way).

mod state;
mod steps;
mod table;

use std::time::Instant;

use wire::Durability;

use crate::full;
use crate::search::{self, Model, Outcome, Step};
use state::State;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    durability: Durability,
    messages: usize,
    moves: u8,
    crashes: u8,
    forks: u8,
    /// Whether deliveries to an edge are searched, too.
    edge: bool,
    /// Whether offers may arrive late and again, also those that nobody makes any more.
    late_offers: bool,
}

/// What is wrong with a driver, or with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    SendBehindMoveOut,
    UncommittedDrive,
    NoNumber,
    UnreplicatedMoveOut,
    ToldTooEarly,
    UnconfirmedTold,
    NoWaitForProjection,
    MemoryOnly,
    TableBelieved,
    RowsBelieved,
    StartsOfHereOnly,
    EpochReset,
    OffsetFromTheEpoch,
    OlderTime,
    StampedByPlace,
    DeliveryByArrival,
    OnlyTheOriginalDriver,
    StopAtTheFirstMoveIn,
    EdgeStartsAtTheHead,
}

pub(crate) struct World {
    bounds: Bounds,
    mutant: Option<Mutant>,
}

/// What of the frames that a fork cuts off the others can read, once and for all.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CameOver {
    Nothing,
    /// What became of sends.
    Sends,
    /// All rows.
    Rows,
}

/// Shards by number.
#[allow(dead_code, reason = "the numbers are told in traces")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// A send of this message arrives at this shard.
    Send(usize, usize),
    Move {
        from: usize,
        to: usize,
    },
    /// The offer of this move arrives.
    Offer {
        n: u64,
        to: usize,
    },
    Commit(usize),
    Project {
        shard: usize,
        seen_everywhere: bool,
    },
    EveryRegionHas(usize),
    /// Another owner, who keeps so many of the frames that were not committed.
    Takeover {
        shard: usize,
        keeps: usize,
    },
    /// A region is lost, and with it what this shard's log has from this slot on.
    Fork {
        shard: usize,
        cut: usize,
        came_over: CameOver,
    },
    Deliver {
        from: usize,
        ver: u64,
    },
}

type Steps = Vec<Step<State, Action>>;

impl Model for World {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let Bounds { durability, messages, moves, crashes, forks, .. } = self.bounds;
        State::new(durability, messages, (moves, crashes, forks))
    }

    fn steps(&self, state: &State, found: &mut Steps) {
        self.all_steps(state, found);
    }

    /// All that may happen has, and has been finished.
    fn is_goal(&self, state: &State) -> bool {
        (state.moves, state.crashes, state.forks) == (0, 0, 0) && self.is_done(state)
    }
}

const MULTI: Bounds = Bounds {
    durability: Durability::MultiRegion,
    messages: 1,
    moves: 2,
    crashes: 1,
    forks: 0,
    edge: false,
    late_offers: true,
};
const REGION: Bounds = Bounds {
    durability: Durability::Region,
    messages: 1,
    moves: 1,
    crashes: 0,
    forks: 1,
    edge: false,
    late_offers: true,
};

fn told(trace: &[Action]) -> String {
    trace.iter().map(|action| format!("  {action:?}\n")).collect()
}

fn holds(bounds: Bounds) {
    let begun = Instant::now();
    let Outcome { states, steps, depth, goals, violation } =
        search::search(&World { bounds, mutant: None }, 200_000_000);
    println!(
        "{bounds:?}: {states} states, {steps} steps, depth {depth}, {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    if let Some(violation) = violation {
        panic!("{}\n{}", violation.what, told(&violation.trace));
    }
    assert!(goals > 0, "nothing of interest was reached");
}

/// Nobody may count on an offer that was made long ago.
fn can_finish(bounds: Bounds) {
    let bounds = Bounds { late_offers: false, ..bounds };
    let begun = Instant::now();
    let world = World { bounds, mutant: None };
    match search::can_always_finish(&world, |state| world.is_done(state), 20_000_000) {
        Ok(states) => println!(
            "{bounds:?}: from all of {states} states, {:.1} s",
            begun.elapsed().as_secs_f32()
        ),
        Err(violation) => panic!("{}\n{}", violation.what, told(&violation.trace)),
    }
}

fn fails(mutant: Mutant, bounds: Bounds) {
    let outcome = search::search(&World { bounds, mutant: Some(mutant) }, 20_000_000);
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

fn cannot_finish(mutant: Mutant, bounds: Bounds) {
    let bounds = Bounds { late_offers: false, ..bounds };
    let world = World { bounds, mutant: Some(mutant) };
    let violation = search::can_always_finish(&world, |state| world.is_done(state), 20_000_000)
        .expect_err("a way to finish from everywhere");
    let steps = violation.trace.len();
    println!("{mutant:?}: caught in {steps} steps: {}\n{}", violation.what, told(&violation.trace));
}

#[test]
fn a_conversation_moves_twice_while_owners_die() {
    holds(Bounds { messages: 2, crashes: 2, ..MULTI });
    if full() {
        holds(Bounds { messages: 3, crashes: 2, ..MULTI });
        holds(Bounds { messages: 2, crashes: 3, ..MULTI });
    }
}

#[test]
fn a_conversation_moves_three_times() {
    holds(Bounds { moves: 3, ..MULTI });
    if full() {
        holds(Bounds { messages: 2, moves: 3, crashes: 2, ..MULTI });
        holds(Bounds { moves: 4, ..MULTI });
    }
}

#[test]
fn a_conversation_of_class_region_moves_while_a_region_is_lost() {
    holds(Bounds { messages: 2, ..REGION });
    holds(Bounds { moves: 2, ..REGION });
    holds(Bounds { crashes: 1, ..REGION });
    holds(Bounds { forks: 2, ..REGION });
    holds(Bounds { moves: 2, crashes: 1, ..REGION });
    if full() {
        holds(Bounds { messages: 2, moves: 2, ..REGION });
        holds(Bounds { messages: 2, crashes: 1, forks: 2, ..REGION });
    }
}

#[test]
fn an_edge_shows_everything_in_order() {
    holds(Bounds { crashes: 0, edge: true, ..MULTI });
    holds(Bounds { messages: 2, moves: 1, edge: true, ..MULTI });
    if full() {
        holds(Bounds { messages: 2, crashes: 2, edge: true, ..MULTI });
    }
}

#[test]
fn a_move_can_always_be_finished() {
    can_finish(Bounds { moves: 1, edge: true, ..MULTI });
    can_finish(Bounds { moves: 1, ..REGION });
    if full() {
        can_finish(Bounds { messages: 2, ..MULTI });
        can_finish(Bounds { messages: 2, moves: 2, ..REGION });
    }
}

#[test]
fn a_send_behind_move_out_is_decided_in_two_shards() {
    fails(Mutant::SendBehindMoveOut, MULTI);
}

#[test]
fn a_move_that_is_driven_before_it_is_committed_never_was() {
    fails(Mutant::UncommittedDrive, MULTI);
}

#[test]
fn without_a_number_a_late_offer_brings_a_conversation_back() {
    fails(Mutant::NoNumber, MULTI);
}

#[test]
fn a_move_out_that_not_every_region_has_is_cut_off_behind_the_move() {
    fails(Mutant::UnreplicatedMoveOut, REGION);
}

#[test]
fn who_is_told_too_early_hears_of_a_move_that_never_was() {
    fails(Mutant::ToldTooEarly, REGION);
}

#[test]
fn who_tells_of_another_shards_move_that_he_has_read_of_tells_of_one_that_never_was() {
    fails(Mutant::UnconfirmedTold, Bounds { moves: 2, crashes: 1, ..REGION });
}

#[test]
fn a_destination_that_does_not_wait_for_the_projection_sends_twice() {
    fails(Mutant::NoWaitForProjection, MULTI);
}

#[test]
fn a_destination_that_asks_its_memory_only_sends_twice() {
    fails(Mutant::MemoryOnly, MULTI);
}

#[test]
fn a_lost_message_is_taken_for_a_duplicate_when_the_table_is_believed() {
    fails(Mutant::TableBelieved, Bounds { messages: 2, ..REGION });
}

#[test]
fn rows_that_were_lost_with_a_region_are_nowhere_when_they_are_believed() {
    fails(Mutant::RowsBelieved, REGION);
}

#[test]
fn the_starts_of_another_shard_say_nothing_about_an_earlier_stay() {
    fails(Mutant::StartsOfHereOnly, REGION);
}

#[test]
fn an_epoch_that_starts_again_falls() {
    fails(Mutant::EpochReset, MULTI);
}

#[test]
fn an_offset_from_the_destinations_epoch_gives_new_changes_the_epoch_of_lost_ones() {
    fails(Mutant::OffsetFromTheEpoch, REGION);
}

#[test]
fn a_destination_with_a_slow_clock_goes_back_in_time() {
    fails(Mutant::OlderTime, MULTI);
}

#[test]
fn rows_stamped_by_their_place_in_one_log_outrank_newer_ones_of_another() {
    fails(Mutant::StampedByPlace, MULTI);
}

#[test]
fn an_edge_that_delivers_what_arrives_leaves_a_gap() {
    fails(Mutant::DeliveryByArrival, Bounds { crashes: 0, edge: true, ..MULTI });
}

#[test]
fn an_edge_that_starts_at_the_head_of_the_destination_leaves_a_gap() {
    fails(Mutant::EdgeStartsAtTheHead, Bounds { crashes: 0, edge: true, ..MULTI });
}

#[test]
fn a_move_that_only_its_first_driver_knows_dies_with_him() {
    cannot_finish(Mutant::OnlyTheOriginalDriver, Bounds { moves: 1, ..MULTI });
}

#[test]
fn a_move_that_stops_at_the_first_move_in_is_lost_with_a_region() {
    cannot_finish(Mutant::StopAtTheFirstMoveIn, REGION);
}
