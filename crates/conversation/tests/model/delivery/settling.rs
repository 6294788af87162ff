//! The first moments of one connection: messages come, the client says what it has and then
//! something else, the edge places the `sync`, the socket takes what it may.
//!
//! A client whose first frame is a `sync` gets everything after what it has, once and in order.

use std::collections::VecDeque;

use hearth_conversation::delivery::Settling;

use crate::search::{self, Model, Outcome, Step};
use crate::told;

/// What was there before the connection.
const BEFORE: u8 = 2;
const MESSAGES: u8 = 5;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    settling: Settling,
    head: u8,
    outbox: VecDeque<u8>,
    written: u8,
    synced: bool,
    placed: bool,
    frames: u8,
    /// Not written yet of the answer to the `sync`: from, to.
    answer: Option<(u8, u8)>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Message,
    Sync,
    Frame,
    Place,
    Answer,
    Write,
}

struct Connection {
    /// Any frame lets events go.
    settles_early: bool,
}

impl Model for Connection {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        State {
            settling: Settling::begin(),
            head: BEFORE,
            outbox: VecDeque::new(),
            written: 0,
            synced: false,
            placed: false,
            frames: 2,
            answer: None,
        }
    }

    fn steps(&self, state: &State, found: &mut Vec<Step<State, Action>>) {
        let can_write = !state.settling.holds() && !state.outbox.is_empty();
        for (may, action) in [
            (state.head < MESSAGES, Action::Message),
            (!state.synced, Action::Sync),
            (state.synced && state.frames > 0, Action::Frame),
            (state.synced && !state.placed, Action::Place),
            (state.answer.is_some(), Action::Answer),
            (can_write, Action::Write),
        ] {
            if may {
                let mut to = state.clone();
                let done = self.step(&mut to, action);
                found.push(Step { action, to: done.map(|()| to) });
            }
        }
    }

    fn is_goal(&self, state: &State) -> bool {
        state.written == MESSAGES
    }
}

impl Connection {
    fn step(&self, state: &mut State, action: Action) -> Result<(), String> {
        match action {
            Action::Message => {
                state.head += 1;
                // While the answer is under way the client is off the live events, and it rejoins
                // with what came.
                match &mut state.answer {
                    Some((_, to)) => *to = state.head,
                    None => state.outbox.push_back(state.head),
                }
            }
            Action::Sync => {
                state.synced = true;
                state.settling.sync();
            }
            Action::Frame => {
                state.frames -= 1;
                state.settling.pass();
                if self.settles_early {
                    state.settling.placed();
                }
            }
            Action::Place => {
                state.placed = true;
                state.outbox.clear();
                state.answer = Some((1, state.head));
                state.settling.placed();
            }
            Action::Answer => {
                if let Some((from, to)) = state.answer {
                    state.outbox.push_back(from);
                    state.answer = (from < to).then_some((from + 1, to));
                }
            }
            Action::Write => {
                let next = state.outbox.pop_front().unwrap();
                if next != state.written + 1 {
                    return Err(format!("{next} is written after {}", state.written));
                }
                state.written = next;
            }
        }
        Ok(())
    }
}

#[test]
fn what_follows_a_sync_does_not_bring_live_events_before_its_answer() {
    let outcome = search::search(&Connection { settles_early: false }, 1_000_000);
    let Outcome { states, goals, violation, .. } = outcome;
    if let Some(violation) = violation {
        panic!("{}\n{}", violation.what, told(&violation.trace));
    }
    assert!(goals > 0, "nothing was written in {states} states");
}

#[test]
fn a_session_that_settles_too_early_is_noticed() {
    let outcome = search::search(&Connection { settles_early: true }, 1_000_000);
    let violation = outcome.violation.expect("messages out of order");
    println!("{}\n{}", violation.what, told(&violation.trace));
}
