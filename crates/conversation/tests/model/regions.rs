//! The model of single-region shards across two regions: claimants, owners, their salvage and a
//! consumer run the production machines, over a store whose regions have quorums of their own.
//!
//! **The store.** What is written in one region is under way to the other from that moment on, and arrives when somebody looks.
//! In each region a write is *durable* or not: a quorum read there shows every durable write, and
//! of those that are under way any. That is a regular register for each row; it shows all that
//! three replicas could show, and more (a row that one read has shown may be missing in the next,
//! until somebody has written it again). A read of many rows must show what was durable when it
//! could first have been asked, and may show whatever is under way when it ends. The lease row and
//! the core leases are linearizable, as is what is written to them: conditional writes in doubt are
//! searched in `world.rs`, with the same machines.
//!
//! **Time** is what the timed leases make of it: when a claimant's wait is over, the leases that they saw have run out. That this
//! is so on clocks that are as bad as the margin bears, `world/timed.rs` searches. With `bad_clock`
//! it is not so.
//!
//! **Clients** send each message until it is acknowledged, to any owner.
//!
//! **Crashes** need no step of their own: a process that never moves again has crashed.
//!
//! **What must hold** stands in `check.rs`.

mod check;
mod claimant;
mod owner;
mod reader;

use bytes::Bytes;
use hearth_conversation::consumer::Consumer;
use hearth_conversation::log::LogRow;
use hearth_conversation::shard::takeover::Claimant;
use hearth_conversation::shard::{
    ClockError, FenceMode, Fork, Incarnation, Lease, Nonce, Owner, Salvage, Starts, Takeover,
    Timing,
};
use std::time::Duration;
use wire::{Durability, Epoch, NodeId, Position, RegionId, Slot};

use crate::search::{Model, Step};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) slots: u64,
    pub(crate) epochs: u64,
    pub(crate) messages: usize,
    /// The region of each process that tries to take the shard, once: 0 or 1. Those of one region
    /// stand together.
    pub(crate) claimants: &'static [usize],
    /// Leases do not end when they should.
    pub(crate) bad_clock: bool,
    /// Owners may let go.
    pub(crate) releases: bool,
    /// Owners ask the store about everything that was not sent in their own term.
    pub(crate) forgetful: bool,
    /// A consumer reads the log in this region.
    pub(crate) reader: Option<usize>,
}

/// What is wrong with the drivers or the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    LastClaimedCounts,
    OnlyTheCurrentLeaseBroken,
    CoresListedBeforeTheEpoch,
    NoLeaseCheck,
    NoLocalFence,
    DedupeTableBelieved,
    WallClockStamps,
    NoDedupeInSalvage,
    OldRegionNotFenced,
    OneReplicaRead,
    EarlyClose,
    SealAtTheMark,
    RowsCounted,
    StaleMarkReported,
    ReleasedEndIgnored,
    MarkBySlotAlone,
    NoRewind,
}

pub(crate) struct World {
    pub(crate) bounds: Bounds,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) nodes: Vec<NodeId>,
}

const SLOTS_MAX: u64 = 4;
const EPOCHS_MAX: u64 = 4;
const PLACES: usize = (SLOTS_MAX * EPOCHS_MAX) as usize;
const MESSAGES_MAX: usize = 2;

/// A set of places in the log, as bits, in (epoch, slot) order.
type Places = u16;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    lease: Lease,
    sites: [Site; 2],
    /// Which message stands in the row of each place, from 1; 0: no such row is under way.
    content: [u8; PLACES],
    /// Projections under way: where the memory of sends says that each message is.
    dedupe: [Places; MESSAGES_MAX],
    /// Committed marks under way.
    marks: u32,
    actors: Vec<Actor>,
    cores: Vec<Core>,
    /// Clients were told so.
    acked: [bool; MESSAGES_MAX],
    /// Acknowledged, or served as committed at the start of a term.
    committed: Places,
    reader: Option<Reader>,
}

/// A region's quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Site {
    /// Rows.
    durable: Places,
    fence: u8,
    /// Fences under way, a bit for each epoch.
    fences: u8,
    /// What the memory of sends says of each message: a place and one; 0: nothing.
    dedupe: [u8; MESSAGES_MAX],
}

/// The timed lease of an actor's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Core {
    registered: bool,
    broken: bool,
    /// It has run out by any good clock.
    over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Actor {
    Claimant {
        machine: Box<Takeover>,
        /// As it last read them.
        starts: Starts,
        /// What the read of the tail must show.
        must: Places,
        /// Mutant only: who was registered before the lease was read.
        listed: Option<u8>,
    },
    Owner(Box<Serving>),
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Serving {
    owner: Owner,
    start: Slot,
    starts: Starts,
    forks: Vec<Fork>,
    salvage: Option<Salvage>,
    /// What the read of the old region must show.
    must: Places,
    /// Messages that were found there and are not offered yet, from the last.
    stranded: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reader {
    consumer: Consumer,
    starts: Starts,
    /// The epoch of the row that it took for each slot.
    view: [u8; SLOTS_MAX as usize],
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "shown in traces")]
pub(crate) enum Action {
    ListCores(usize),
    ReadLease(usize),
    ReadCores(usize),
    WaitAndBreak(usize),
    Claim(usize),
    Fence(usize),
    ReadMarks(usize),
    ReadTail(usize),
    Rewrite(usize),
    Seal(usize),
    Append(usize, u8),
    AlreadySent(usize, u8),
    Durable(usize, u64),
    Acknowledge(usize),
    Fenced(usize),
    Release(usize),
    SalvageFence(usize),
    SalvageRead(usize),
    Recover(usize, u8),
    Recovered(usize),
    Close(usize),
    Consume,
}

fn bit(at: Position) -> usize {
    ((at.epoch.0 - 1) * SLOTS_MAX + at.slot.0) as usize
}

fn place(bit: usize) -> Position {
    Position { epoch: Epoch(bit as u64 / SLOTS_MAX + 1), slot: Slot(bit as u64 % SLOTS_MAX) }
}

fn places(of: Places) -> impl DoubleEndedIterator<Item = Position> {
    (0..PLACES).filter(move |bit| of & (1 << bit) != 0).map(place)
}

fn region(site: usize) -> RegionId {
    RegionId(site as u16 + 1)
}

fn site(region: RegionId) -> usize {
    usize::from(region.0) - 1
}

fn nonce(actor: usize) -> Nonce {
    Nonce(actor as u128 + 1)
}

static FRAMES: [u8; 3] = [0, 1, 2];

fn frame(message: u8) -> Bytes {
    Bytes::from_static(&FRAMES[usize::from(message)..=usize::from(message)])
}

type Steps = Vec<Step<State, Action>>;

impl Model for World {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        assert!(self.bounds.slots <= SLOTS_MAX && self.bounds.epochs <= EPOCHS_MAX);
        assert!(self.bounds.messages <= MESSAGES_MAX);
        let actor = |index| Actor::Claimant {
            machine: Box::new(Takeover::new(self.claimant(index))),
            starts: Starts::default(),
            must: 0,
            listed: None,
        };
        let mut acked = [true; MESSAGES_MAX];
        acked[..self.bounds.messages].fill(false);
        State {
            lease: Lease::default(),
            sites: Default::default(),
            content: [0; PLACES],
            dedupe: [0; MESSAGES_MAX],
            marks: 0,
            actors: (0..self.bounds.claimants.len()).map(actor).collect(),
            cores: vec![Core::default(); self.bounds.claimants.len()],
            acked,
            committed: 0,
            reader: self.bounds.reader.map(|_| Reader {
                consumer: Consumer::new(None),
                starts: Starts::default(),
                view: [0; SLOTS_MAX as usize],
            }),
        }
    }

    fn steps(&self, state: &State, found: &mut Steps) {
        let mut idle = [false; 2];
        for (actor, what) in state.actors.iter().enumerate() {
            match what {
                Actor::Claimant { machine, .. } => {
                    // Those of a region that have not begun are all the same: one of them is enough
                    // to consider.
                    let untouched = !state.cores[actor].registered;
                    let idle = &mut idle[self.bounds.claimants[actor]];
                    if !(untouched && *idle) {
                        self.claimant_steps(state, actor, machine, found);
                    }
                    *idle |= untouched;
                }
                Actor::Owner(serving) => self.owner_steps(state, actor, serving, found),
                Actor::Gone => {}
            }
        }
        if let Some(reader) = &state.reader {
            self.reader_steps(state, reader, found);
        }
        for step in found.iter_mut() {
            if let Ok(state) = &mut step.to {
                self.reduce(state);
            }
        }
    }

    /// Every message is acknowledged, the last possible epoch serves, and nothing is left to
    /// salvage.
    fn is_goal(&self, state: &State) -> bool {
        let last = state.lease.epoch == Epoch(self.bounds.epochs) && state.lease.sealed;
        last && state.lease.forks.is_empty() && state.acked.iter().all(|&acked| acked)
    }
}

impl World {
    fn claimant(&self, actor: usize) -> Claimant {
        let clocks = ClockError { rate_ppm_max: 0, granularity: Duration::ZERO };
        let timing = Timing::new(Duration::from_secs(2), Duration::from_secs(1), clocks)
            .expect("clocks are as told");
        Claimant {
            nonce: nonce(actor),
            region: region(self.bounds.claimants[actor]),
            durability: Durability::Region,
            fence_mode: FenceMode::Lease,
            incarnation: Some(Incarnation { nonce: nonce(actor), timing }),
        }
    }

    /// What the memory of sends may say of a message in a region: the place that ranks highest of
    /// those that are there.
    fn remembered(&self, state: &State, site: usize, message: u8) -> Vec<Option<Position>> {
        let index = usize::from(message) - 1;
        let durable = state.sites[site].dedupe[index];
        let mut answers = vec![durable.checked_sub(1).map(|bit| place(usize::from(bit)))];
        let floor = answers[0].map(|at| self.rank(at));
        let over = places(state.dedupe[index])
            .filter(|&at| floor.is_none_or(|floor| self.rank(at) > floor));
        answers.extend(over.map(Some));
        answers
    }

    /// By (epoch, slot); by a clock of the older region that goes ahead, the older epoch wins.
    fn rank(&self, at: Position) -> (u64, Slot) {
        let wall = self.mutant == Some(Mutant::WallClockStamps);
        (if wall { EPOCHS_MAX - at.epoch.0 } else { at.epoch.0 }, at.slot)
    }

    /// Forgets what nobody can tell any more.
    fn reduce(&self, state: &mut State) {
        let fenced = |actor: usize, epoch: Epoch| {
            u64::from(state.sites[self.bounds.claimants[actor]].fence) > epoch.0
                && self.mutant != Some(Mutant::NoLocalFence)
        };
        // An owner that will find the fence whenever it looks acknowledges nothing more, and what
        // it appends now it could have appended before.
        let gone: Vec<usize> = (state.actors.iter().enumerate())
            .filter(|(actor, what)| matches!(what, Actor::Owner(serving) if fenced(*actor, serving.owner.epoch())))
            .map(|(actor, _)| actor)
            .collect();
        for actor in gone {
            state.actors[actor] = Actor::Gone;
        }
        for site in &mut state.sites {
            // Fences that are not over the one that is there.
            site.fences &= u8::MAX.checked_shl(u32::from(site.fence) + 1).unwrap_or(0);
        }
    }
}

impl State {
    fn row(&self, at: Position) -> Option<LogRow> {
        let message = self.content[bit(at)];
        (message != 0).then(|| LogRow { at, frame: frame(message) })
    }

    /// The rows that a read from `from` on may show, as far as they count by these starts and have
    /// no hole: one answer for each place where it may end.
    fn readings(&self, from: Slot, starts: &Starts, must: Places) -> Vec<Vec<LogRow>> {
        let mut readings = Vec::new();
        let mut rows = Vec::new();
        for slot in (from.0..SLOTS_MAX).map(Slot) {
            let owner = starts.owner_of(slot);
            let Some(row) = owner.and_then(|epoch| self.row(Position { epoch, slot })) else {
                break;
            };
            if must & (1 << bit(row.at)) == 0 {
                readings.push(rows.clone());
            }
            rows.push(row);
        }
        readings.push(rows);
        readings
    }
}
