//! The model: claimants and owners that run the production machines, over a nasty store.
//!
//! **The store.** Three replicas, quorum two. A write is issued to all three and then arrives at each whenever it likes, or
//! never. It arrives *when somebody looks*: a read of a replica chooses which of the writes under
//! way have arrived there by then, and a write that is reported durable chooses which two replicas
//! have it. Since an arrival that nobody has looked at cannot be told from one that has not
//! happened, this leaves out no behaviour, and many fewer states to search. A quorum read takes its
//! two replicas one after the other, with anything in between. The lease row is one linearizable
//! register (Paxos inside is not modelled); a conditional write may be reported as unknown and land
//! at any time later.
//!
//! **Crashes** need no step of their own: a process that never moves again has crashed, a replica that is not asked is down.
//!
//! **What must hold**: what was acknowledged, or served as committed at the start of a term, stays the row that counts for
//! its slot: in the tail of every later takeover and by the starts in the lease row.

mod claimant;
mod owner;
mod state;
mod timed;

use bytes::Bytes;
use hearth_conversation::log::LogRow;
use hearth_conversation::shard::owner::FenceRead;
use hearth_conversation::shard::{
    Beat, Cas, Claimant, FenceMode, Incarnation, Lease, Nonce, Owner, Starts, Takeover,
};
use wire::{Durability, Epoch, NodeId, Position, RegionId, Slot};

pub(crate) use timed::Timed;

use crate::search::{Model, Step};
use timed::LifeState;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) slots: u64,
    pub(crate) epochs: u64,
    /// Processes that try to take the shard, each once.
    pub(crate) claimants: usize,
    /// Owners raise the checkpoint at any time.
    pub(crate) checkpoints: bool,
    /// With `fence = "lease"`; none: no process keeps a timed lease.
    pub(crate) timed: Option<Timed>,
    /// Search fewer states for the same answer: see [`State::reduce`] and the uses of this flag.
    pub(crate) reduced: bool,
}

impl Bounds {
    fn releases(&self) -> bool {
        self.timed.is_some_and(|timed| timed.releases)
    }
}

/// What is wrong with the drivers or the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    NoFenceRead,
    TailReadBeforeFence,
    NoRewrite,
    FenceNotMax,
    SealNotConditional,
    AcksOutOfOrder,
    StartsReadBeforeClaim,
    // Of the timed lease.
    ClockBeforeAppend,
    LeaseStartAtTheReply,
    ShortWait,
    MarginTooSmall,
    BlindRenewal,
    BlindClaim,
    WatchFromTheSend,
    RetryRestartsTheLease,
    BeatReused,
    AckAfterRelease,
    TailReadDuringTheWait,
    OwnModeObeyed,
}

pub(crate) struct World {
    pub(crate) bounds: Bounds,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) nodes: Vec<NodeId>,
}

const QUORUM: usize = 2;
const EPOCHS_MAX: u64 = 4;
/// Bits of [`Replica::asked`] for each actor: its read of the tail, and its reads of the fence.
const READS: usize = 9;

/// Rows, as bits; in (slot, epoch) order.
type Rows = u16;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    lease: Lease,
    /// Sorted: they are interchangeable.
    replicas: [Replica; 3],
    /// Fence writes issued, a bit for each epoch.
    fences: u8,
    /// Row writes issued.
    rows: Rows,
    /// Conditional writes with unknown outcome, still under way, by actor.
    late: Vec<(u8, Late)>,
    actors: Vec<Actor>,
    /// The epoch of the row that is committed at each slot.
    committed: Vec<Option<Epoch>>,
    checkpoint: Option<Position>,
    /// Ticks since the start; lives, by actor.
    now: u8,
    lives: Vec<LifeState>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Replica {
    fence: u8,
    rows: Rows,
    /// Which quorum reads under way have been here.
    asked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Late {
    Claim { observed: Epoch },
    Seal { epoch: Epoch, start: Slot },
    Renew { from: Beat },
    Break { incarnation: u8, beat: Beat },
    Release { epoch: Epoch, end: Slot },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Actor {
    Claimant {
        machine: Box<Takeover>,
        /// What the replicas asked so far have of the tail.
        tail: Rows,
        /// Mutants only: the tail read too early, the starts read too early.
        early_tail: Option<Rows>,
        early_starts: Option<Starts>,
    },
    Owner {
        owner: Owner,
        reads: Vec<Read>,
        /// Mutant only: durable and not acknowledged.
        durable: u8,
    },
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Read {
    id: usize,
    ticket: Option<FenceRead>,
    seen: u8,
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "shown in traces")]
pub(crate) enum Action {
    ReadLease(usize),
    Claim(usize),
    ClaimUnknown(usize),
    ClaimLands(usize),
    FenceAtQuorum(usize),
    ReadMarks(usize),
    ReadTailAtOne(usize),
    TailRewritten(usize),
    Seal(usize),
    SealUnknown(usize),
    SealLands(usize),
    Append(usize),
    AppendDurable(usize, u64),
    FenceReadStarts(usize),
    ReadFenceAtOne(usize),
    WriteCheckpoint(usize),
    Tick,
    Renew(usize),
    RenewUnknown(usize),
    RenewLands(usize),
    ReadRenewed(usize),
    ReadCores(usize),
    Waited(usize),
    BreakCores(usize),
    BreakUnknown(usize),
    BreakLands(usize),
    Acknowledge(usize),
    Release(usize),
    ReleaseUnknown(usize),
    ReleaseLands(usize),
}

static FRAMES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn bit(at: Position) -> usize {
    (at.slot.0 * EPOCHS_MAX + at.epoch.0 - 1) as usize
}

/// The frame that belongs at this place: no two places have the same.
fn frame(at: Position) -> Bytes {
    let bit = bit(at);
    Bytes::from_static(&FRAMES[bit..=bit])
}

fn log_rows(rows: Rows, from: Slot) -> Vec<LogRow> {
    (0..16u64)
        .filter(|bit| rows & (1 << bit) != 0)
        .map(|bit| Position { slot: Slot(bit / EPOCHS_MAX), epoch: Epoch(bit % EPOCHS_MAX + 1) })
        .filter(|at| at.slot >= from)
        .map(|at| LogRow { at, frame: frame(at) })
        .collect()
}

fn subsets(of: Rows) -> impl Iterator<Item = Rows> {
    // Counts down through the submasks.
    let mut next = Some(of);
    std::iter::from_fn(move || {
        let this = next?;
        next = (this != 0).then(|| (this - 1) & of);
        Some(this)
    })
}

type Steps = Vec<Step<State, Action>>;

impl Model for World {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        assert!(self.bounds.epochs <= EPOCHS_MAX && self.bounds.slots * EPOCHS_MAX <= 16);
        let claimant = |index: usize| Actor::Claimant {
            machine: Box::new(Takeover::new(self.claimant(index))),
            tail: 0,
            early_tail: None,
            early_starts: None,
        };
        State {
            lease: Lease::default(),
            replicas: [Replica::default(); 3],
            fences: 0,
            rows: 0,
            late: Vec::new(),
            actors: (0..self.bounds.claimants).map(claimant).collect(),
            committed: vec![None; self.bounds.slots as usize],
            checkpoint: None,
            now: 0,
            lives: self.lives_at_the_start(),
        }
    }

    fn steps(&self, state: &State, found: &mut Steps) {
        for (index, late) in state.late.iter().enumerate() {
            self.land(state, index, *late, found);
        }
        self.time_steps(state, found);
        let mut idle = [false; 2];
        for (actor, what) in state.actors.iter().enumerate() {
            match what {
                Actor::Claimant { machine, .. } => {
                    // Those that have not begun are all the same: one of them is enough to
                    // consider.
                    let untouched = **machine == Takeover::new(self.claimant(actor));
                    let kind = usize::from(self.fence_mode(actor) == FenceMode::Lease);
                    if !(untouched && idle[kind]) {
                        self.claimant_steps(state, actor, machine, found);
                    }
                    idle[kind] |= untouched;
                }
                Actor::Owner { owner, reads, durable } => {
                    self.owner_steps(state, actor, owner, reads, *durable, found);
                }
                Actor::Gone => {}
            }
        }
        // These two break what the reduction relies on.
        let reducible =
            !matches!(self.mutant, Some(Mutant::FenceNotMax | Mutant::SealNotConditional));
        for step in found.iter_mut() {
            if let Ok(state) = &mut step.to {
                if self.bounds.reduced && reducible {
                    state.reduce(self.bounds);
                }
                if let (true, Some(timed)) =
                    (self.bounds.reduced && self.time_is_reducible(), self.bounds.timed)
                {
                    state.reduce_time(timed, self.mutant == Some(Mutant::ClockBeforeAppend));
                }
                state.replicas.sort_unstable();
            }
        }
    }

    /// Every slot is committed, and the last possible epoch serves or has served.
    fn is_goal(&self, state: &State) -> bool {
        let last = Epoch(self.bounds.epochs);
        state.committed.iter().all(Option::is_some) && state.lease.starts.get(last).is_some()
    }
}

fn nonce(actor: usize) -> Nonce {
    Nonce(actor as u128 + 1)
}

impl World {
    fn claimant(&self, actor: usize) -> Claimant {
        let incarnation =
            self.bounds.timed.map(|_| Incarnation { nonce: nonce(actor), timing: self.timing() });
        Claimant {
            nonce: nonce(actor),
            region: RegionId(1),
            durability: Durability::MultiRegion,
            fence_mode: self.fence_mode(actor),
            incarnation,
        }
    }

    fn fence_mode(&self, actor: usize) -> FenceMode {
        match self.bounds.timed {
            Some(timed) if !timed.mixed || actor.is_multiple_of(2) => FenceMode::Lease,
            _ => FenceMode::Read,
        }
    }

    /// Whether anybody reads the fence.
    fn fence_counts(&self) -> bool {
        self.bounds.timed.is_none_or(|timed| timed.mixed)
    }

    /// These acknowledge when nobody should.
    fn time_is_reducible(&self) -> bool {
        !matches!(
            self.mutant,
            Some(Mutant::BlindRenewal | Mutant::BeatReused | Mutant::ClockBeforeAppend)
        )
    }

    /// A conditional write of which nobody knows what became.
    fn land(&self, state: &State, index: usize, (actor, late): (u8, Late), found: &mut Steps) {
        let actor = usize::from(actor);
        let mut to = state.clone();
        to.late.remove(index);
        let action = match late {
            Late::Claim { observed } => {
                to.lease = to
                    .lease
                    .claimed(observed, &self.nodes[actor], nonce(actor), self.fence_mode(actor))
                    .unwrap_or(to.lease);
                Action::ClaimLands(actor)
            }
            Late::Seal { epoch, start } => {
                self.seal(&mut to, actor, epoch, start);
                Action::SealLands(actor)
            }
            Late::Renew { from } => {
                self.renewal_lands(&mut to, actor, from);
                Action::RenewLands(actor)
            }
            Late::Break { incarnation, beat } => {
                self.broken(&mut to, usize::from(incarnation), beat);
                Action::BreakLands(actor)
            }
            Late::Release { epoch, end } => {
                to.lease = to.lease.released_at(epoch, nonce(actor), end).unwrap_or(to.lease);
                Action::ReleaseLands(actor)
            }
        };
        found.push(Step { action, to: to.starts_hold() });
    }

    fn seal(&self, to: &mut State, actor: usize, epoch: Epoch, start: Slot) -> Cas {
        if self.mutant == Some(Mutant::SealNotConditional) {
            to.lease.starts.insert(epoch, start);
            return Cas::Applied;
        }
        match to.lease.sealed_at(Durability::MultiRegion, epoch, nonce(actor), start) {
            Some(sealed) => {
                to.lease = sealed;
                Cas::Applied
            }
            None => Cas::Refused,
        }
    }
}
