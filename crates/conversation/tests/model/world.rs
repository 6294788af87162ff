//! The model: claimants and owners that run the production machines, over a nasty store.
//!
//! **The store.** Three replicas, quorum two. A write is issued to all three and then arrives at each whenever it likes, or
//! never. It arrives *when somebody looks*: a read of a replica chooses which of the writes under way have arrived there
//! by then, and a write that is reported durable chooses which two replicas have it. Since an arrival that nobody has looked
//! at cannot be told from one that has not happened, this leaves out no behaviour, and many fewer states to search.
//! A quorum read takes its two replicas one after the other, with anything in between. The lease row is one linearizable
//! register (Paxos inside is not modelled); a conditional write may be reported as unknown and land at any time later.
//!
//! **Crashes** need no step of their own: a process that never moves again has crashed, a replica that is not asked is down.
//!
//! **What must hold**: what was acknowledged, or served as committed at the start of a term, stays the row that counts for
//! its slot: in the tail of every later takeover and by the starts in the lease row.

use bytes::Bytes;
use hearth_conversation::log::LogRow;
use hearth_conversation::shard::owner::{Appended, FenceRead};
use hearth_conversation::shard::{Cas, Do, Done, Lease, Lost, Nonce, Owner, Starts, Takeover, Term};
use wire::{Epoch, NodeId, Position, Slot};

use crate::search::{Model, Step};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) slots: u64,
    pub(crate) epochs: u64,
    /// Processes that try to take the shard, each once.
    pub(crate) claimants: usize,
    /// Owners raise the checkpoint at any time.
    pub(crate) checkpoints: bool,
    /// Search fewer states for the same answer: see [`State::reduce`] and the uses of this flag.
    pub(crate) reduced: bool,
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
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Replica {
    fence: u8,
    rows: Rows,
    /// Which quorum reads under way have been here.
    asked: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Late {
    Claim { observed: Epoch },
    Seal { epoch: Epoch, start: Slot },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Actor {
    Claimant {
        machine: Takeover,
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
            machine: Takeover::new(nonce(index)),
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
        }
    }

    fn steps(&self, state: &State, found: &mut Steps) {
        for (index, late) in state.late.iter().enumerate() {
            self.land(state, index, *late, found);
        }
        let mut idle = false;
        for (actor, what) in state.actors.iter().enumerate() {
            match what {
                Actor::Claimant { machine, .. } => {
                    // Those that have not begun are all the same: one of them is enough to consider.
                    let untouched = *machine == Takeover::new(nonce(actor));
                    if !(untouched && idle) {
                        self.claimant_steps(state, actor, machine, found);
                    }
                    idle |= untouched;
                }
                Actor::Owner { owner, reads, durable } => {
                    self.owner_steps(state, actor, owner, reads, *durable, found);
                }
                Actor::Gone => {}
            }
        }
        // These two break what the reduction relies on.
        let reducible = !matches!(self.mutant, Some(Mutant::FenceNotMax | Mutant::SealNotConditional));
        for step in found.iter_mut() {
            if let Ok(state) = &mut step.to {
                if self.bounds.reduced && reducible {
                    state.reduce();
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
    /// A conditional write of which nobody knows what became.
    fn land(&self, state: &State, index: usize, (actor, late): (u8, Late), found: &mut Steps) {
        let actor = usize::from(actor);
        let mut to = state.clone();
        to.late.remove(index);
        let action = match late {
            Late::Claim { observed } => {
                to.lease = to.lease.claimed(observed, &self.nodes[actor], nonce(actor)).unwrap_or(to.lease);
                Action::ClaimLands(actor)
            }
            Late::Seal { epoch, start } => {
                self.seal(&mut to, actor, epoch, start);
                Action::SealLands(actor)
            }
        };
        found.push(Step { action, to: to.starts_hold() });
    }

    fn seal(&self, to: &mut State, actor: usize, epoch: Epoch, start: Slot) -> Cas {
        if self.mutant == Some(Mutant::SealNotConditional) {
            to.lease.starts.insert(epoch, start);
            return Cas::Applied;
        }
        match to.lease.sealed_at(epoch, nonce(actor), start) {
            Some(sealed) => {
                to.lease = sealed;
                Cas::Applied
            }
            None => Cas::Refused,
        }
    }

    fn claimant_steps(&self, state: &State, actor: usize, machine: &Takeover, found: &mut Steps) {
        let Some(asked) = machine.next() else { return };
        match asked {
            Do::ReadLease => {
                let mut lease = state.lease.clone();
                let mut to = state.clone();
                if self.mutant == Some(Mutant::StartsReadBeforeClaim)
                    && let Actor::Claimant { early_starts, .. } = &mut to.actors[actor]
                {
                    lease.starts = early_starts.get_or_insert(lease.starts).clone();
                }
                let to = self.tell(to, actor, Done::Lease(lease));
                found.push(Step { action: Action::ReadLease(actor), to });
            }
            Do::Claim { observed, .. } => {
                if observed.0 >= self.bounds.epochs {
                    return;
                }
                let mut to = state.clone();
                let cas = match to.lease.claimed(observed, &self.nodes[actor], nonce(actor)) {
                    Some(claimed) => {
                        to.lease = claimed;
                        Cas::Applied
                    }
                    None => Cas::Refused,
                };
                found.push(Step { action: Action::Claim(actor), to: self.tell(to, actor, Done::Cas(cas)) });
                let to = state.with_late(actor, Late::Claim { observed });
                found.push(Step { action: Action::ClaimUnknown(actor), to: self.tell(to, actor, Done::Unknown) });
            }
            Do::WriteFence { epoch } => self.write_fence(state, actor, epoch, found),
            Do::ReadMarks => {
                let marks = Done::Marks { checkpoint: state.checkpoint, committed: state.checkpoint };
                found.push(Step { action: Action::ReadMarks(actor), to: self.tell(state.clone(), actor, marks) });
            }
            Do::ReadTail { from, .. } => self.read_tail(state, actor, from, found),
            Do::Rewrite { rows } => {
                if self.mutant == Some(Mutant::NoRewrite) {
                    let to = self.tell(state.clone(), actor, Done::Rewritten);
                    found.push(Step { action: Action::TailRewritten(actor), to });
                    return;
                }
                let mut worlds = vec![state.clone()];
                for row in &rows {
                    assert_eq!(row.frame, frame(row.at), "a row is rewritten as it is");
                    worlds = worlds.iter().flat_map(|world| world.with_durable(row.at)).collect();
                }
                for to in worlds {
                    let to = self.tell(to, actor, Done::Rewritten);
                    found.push(Step { action: Action::TailRewritten(actor), to });
                }
            }
            Do::Seal { epoch, start, .. } => {
                let mut to = state.clone();
                let cas = self.seal(&mut to, actor, epoch, start);
                let to = to.starts_hold().and_then(|to| self.tell(to, actor, Done::Cas(cas)));
                found.push(Step { action: Action::Seal(actor), to });
                let to = state.with_late(actor, Late::Seal { epoch, start });
                found.push(Step { action: Action::SealUnknown(actor), to: self.tell(to, actor, Done::Unknown) });
            }
        }
    }

    fn write_fence(&self, state: &State, actor: usize, epoch: Epoch, found: &mut Steps) {
        if self.mutant == Some(Mutant::TailReadBeforeFence)
            && let Actor::Claimant { early_tail: None, .. } = &state.actors[actor]
        {
            self.read_tail(state, actor, Slot(0), found);
            return;
        }
        let level = epoch.0 as u8;
        for (one, two) in [(0, 1), (0, 2), (1, 2)] {
            let mut to = state.clone();
            to.fences |= 1 << level;
            for replica in [one, two] {
                let fence = &mut to.replicas[replica].fence;
                *fence = if self.mutant == Some(Mutant::FenceNotMax) { level } else { level.max(*fence) };
            }
            found.push(Step { action: Action::FenceAtQuorum(actor), to: self.tell(to, actor, Done::Fenced) });
        }
    }

    /// Asks one replica for the tail; with the second, the read is complete.
    fn read_tail(&self, state: &State, actor: usize, from: Slot, found: &mut Steps) {
        if let Actor::Claimant { machine, early_tail: Some(early), .. } = &state.actors[actor]
            && matches!(machine.next(), Some(Do::ReadTail { .. }))
        {
            let to = self.tell(state.clone(), actor, Done::Tail(log_rows(*early, from)));
            found.push(Step { action: Action::ReadTailAtOne(actor), to });
            return;
        }
        let mine = 1 << (actor * READS);
        let asked = state.replicas.iter().filter(|replica| replica.asked & mine != 0).count();
        for (index, replica) in state.replicas.iter().enumerate().filter(|(_, replica)| replica.asked & mine == 0) {
            for arrived in subsets(state.rows & !replica.rows) {
                let mut to = state.clone();
                to.replicas[index].rows |= arrived;
                to.replicas[index].asked |= mine;
                let Actor::Claimant { tail, early_tail, machine, .. } = &mut to.actors[actor] else { continue };
                *tail |= to.replicas[index].rows;
                let to = if asked + 1 < QUORUM {
                    Ok(to)
                } else {
                    let rows = std::mem::take(tail);
                    if matches!(machine.next(), Some(Do::WriteFence { .. })) {
                        *early_tail = Some(rows);
                    }
                    for replica in &mut to.replicas {
                        replica.asked &= !mine;
                    }
                    let early = early_tail.is_some();
                    if early { Ok(to) } else { self.tell(to, actor, Done::Tail(log_rows(rows, from))) }
                };
                found.push(Step { action: Action::ReadTailAtOne(actor), to });
            }
        }
    }

    /// Tells the machine, and issues at once what it wants written: a write can only gain by being issued early.
    fn tell(&self, mut to: State, actor: usize, done: Done) -> Result<State, String> {
        let Actor::Claimant { machine, early_tail, .. } = &mut to.actors[actor] else { return Ok(to) };
        match machine.on(done) {
            Ok(()) => {}
            Err(Lost::Superseded { .. }) => {
                to.actors[actor] = Actor::Gone;
                return Ok(to);
            }
            Err(lost) => return Err(lost.to_string()),
        }
        match machine.next() {
            Some(Do::WriteFence { epoch }) if early_tail.is_some() || self.mutant != Some(Mutant::TailReadBeforeFence) => {
                to.fences |= 1 << epoch.0;
            }
            Some(Do::Rewrite { rows }) if self.mutant != Some(Mutant::NoRewrite) => {
                to.rows |= rows.iter().fold(0, |rows, row| rows | 1 << bit(row.at));
            }
            Some(Do::ReadMarks) if self.bounds.reduced && !self.bounds.checkpoints => {
                machine.on(Done::Marks { checkpoint: None, committed: None }).map_err(|lost| lost.to_string())?;
            }
            None => {
                let term = machine.clone().finished().ok_or("ended, neither lost nor finished")?;
                to.begin(actor, &term, self.bounds)?;
            }
            _ => {}
        }
        Ok(to)
    }

    fn owner_steps(
        &self,
        state: &State,
        actor: usize,
        owner: &Owner,
        reads: &[Read],
        durable: u8,
        found: &mut Steps,
    ) {
        let epoch = owner.epoch();
        let next = owner.next_slot();
        if next.0 < self.bounds.slots {
            let mut to = state.clone();
            to.append(actor);
            found.push(Step { action: Action::Append(actor), to: Ok(to) });
        }
        for slot in (next.0 - owner.in_flight() as u64..next.0).map(Slot) {
            let at = Position { epoch, slot };
            // An unknown outcome: the same frame in the same slot, unless it is known to be there by now.
            let again = owner.clone().on_append(slot, Appended::Unknown).expect("the term goes on");
            if again.is_none() || durable & (1 << slot.0) != 0 {
                continue;
            }
            assert_eq!(again, Some(LogRow { at, frame: frame(at) }));
            for mut to in state.with_durable(at) {
                if let Actor::Owner { owner, durable, .. } = &mut to.actors[actor] {
                    owner.on_append(slot, Appended::Durable).expect("the term goes on");
                    if self.mutant == Some(Mutant::AcksOutOfOrder) {
                        *durable |= 1 << slot.0;
                    }
                }
                found.push(Step { action: Action::AppendDurable(actor, slot.0), to: Ok(to) });
            }
        }
        self.start_fence_read(state, actor, durable, found);
        for (index, read) in reads.iter().enumerate() {
            self.read_fence(state, actor, index, read.id, found);
        }
        if self.bounds.checkpoints && state.checkpoint < Some(owner.committed()) {
            let mut to = state.clone();
            to.checkpoint = Some(owner.committed());
            found.push(Step { action: Action::WriteCheckpoint(actor), to: Ok(to) });
        }
    }

    fn start_fence_read(&self, state: &State, actor: usize, durable: u8, found: &mut Steps) {
        let mut to = state.clone();
        let Actor::Owner { owner, reads, .. } = &mut to.actors[actor] else { return };
        let read = if self.mutant == Some(Mutant::AcksOutOfOrder) {
            let id = usize::from(durable);
            if durable == 0 || reads.iter().any(|read| read.id == id) {
                return;
            }
            Read { id, ticket: None, seen: 0 }
        } else {
            let Some(ticket) = owner.start_fence_read() else { return };
            // Reads under way cover different slots, so how many slots are durable tells them apart.
            Read { id: reads.iter().map(|read| read.id).max().unwrap_or(0) + 1, ticket: Some(ticket), seen: 0 }
        };
        reads.push(read);
        let (index, id) = (reads.len() - 1, reads[reads.len() - 1].id);
        let action = Action::FenceReadStarts(actor);
        if self.mutant == Some(Mutant::NoFenceRead) {
            found.push(Step { action, to: to.fence_read(actor, index, Epoch(0)) });
        } else if self.bounds.reduced {
            // A read that had started earlier, before more was durable, would only acknowledge less.
            self.read_fence(&to, actor, index, id, found);
        } else {
            found.push(Step { action, to: Ok(to) });
        }
    }

    /// Asks one replica for the fence; with the second, the read is complete.
    fn read_fence(&self, state: &State, actor: usize, index: usize, id: usize, found: &mut Steps) {
        assert!(id < READS);
        let mine = 1 << (actor * READS + id);
        let asked = state.replicas.iter().filter(|replica| replica.asked & mine != 0).count();
        for (at, replica) in state.replicas.iter().enumerate().filter(|(_, replica)| replica.asked & mine == 0) {
            let arrives = |level: &u8| {
                let over = *level > replica.fence || self.mutant == Some(Mutant::FenceNotMax);
                *level == replica.fence || (over && state.fences & (1 << level) != 0)
            };
            for level in (0..=self.bounds.epochs as u8).filter(arrives) {
                let mut to = state.clone();
                to.replicas[at].fence = level;
                to.replicas[at].asked |= mine;
                let Actor::Owner { reads, .. } = &mut to.actors[actor] else { continue };
                let seen = level.max(reads[index].seen);
                reads[index].seen = seen;
                let to = if asked + 1 < QUORUM {
                    Ok(to)
                } else {
                    for replica in &mut to.replicas {
                        replica.asked &= !mine;
                    }
                    to.fence_read(actor, index, Epoch(u64::from(seen)))
                };
                found.push(Step { action: Action::ReadFenceAtOne(actor), to });
            }
        }
    }
}

impl State {
    fn with_late(&self, actor: usize, late: Late) -> Self {
        let mut to = self.clone();
        let late = (actor as u8, late);
        if !to.late.contains(&late) {
            to.late.push(late);
            to.late.sort_unstable();
        }
        to
    }

    /// The ways in which this row can have come to be at a quorum.
    fn with_durable(&self, at: Position) -> Vec<Self> {
        let row = 1 << bit(at);
        let has = |replica: &Replica| replica.rows & row != 0;
        if self.replicas.iter().filter(|replica| has(replica)).count() >= QUORUM {
            return vec![self.clone()];
        }
        let mut ways = Vec::new();
        for (one, two) in [(0, 1), (0, 2), (1, 2)] {
            // Where it is already, it is; whether it is at the third as well, only who looks there will know.
            if (0..3).all(|index| index == one || index == two || !has(&self.replicas[index])) {
                let mut to = self.clone();
                to.rows |= row;
                to.replicas[one].rows |= row;
                to.replicas[two].rows |= row;
                ways.push(to);
            }
        }
        ways
    }

    fn begin(&mut self, actor: usize, term: &Term, bounds: Bounds) -> Result<(), String> {
        for (slot, committed) in self.committed.iter().enumerate().map(|(slot, committed)| (Slot(slot as u64), committed)) {
            let Some(epoch) = *committed else { continue };
            let at = Position { epoch, slot };
            let kept = if slot < term.checkpoint {
                term.starts.owns(at)
            } else {
                term.tail.iter().any(|row| row.at == at && row.frame == frame(at))
            };
            if !kept || slot >= term.start {
                return Err(format!("{at:?} was committed and is not in the log of epoch {}", term.epoch.0));
            }
        }
        for row in &term.tail {
            self.commit(row.at)?;
        }
        self.actors[actor] = Actor::Owner { owner: Owner::new(term), reads: Vec::new(), durable: 0 };
        // A frame that never arrives is one that was not appended, so appending all at once leaves nothing out.
        if bounds.reduced {
            for _ in term.start.0..bounds.slots {
                self.append(actor);
            }
        }
        Ok(())
    }

    fn append(&mut self, actor: usize) {
        let Actor::Owner { owner, .. } = &mut self.actors[actor] else { return };
        let at = Position { epoch: owner.epoch(), slot: owner.next_slot() };
        let row = owner.append(frame(at)).expect("the term goes on");
        assert_eq!(row, LogRow { at, frame: frame(at) });
        self.rows |= 1 << bit(at);
    }

    fn fence_read(mut self, actor: usize, index: usize, fence: Epoch) -> Result<Self, String> {
        let Actor::Owner { owner, reads, durable } = &mut self.actors[actor] else { return Ok(self) };
        let read = reads.remove(index);
        let epoch = owner.epoch();
        let slots: Vec<u64> = match read.ticket {
            Some(ticket) => match owner.on_fence(ticket, Some(fence)) {
                Ok(acked) => acked.collect(),
                Err(_) => return Ok(self.stop(actor)),
            },
            // The mutant's own idea of what may be acknowledged.
            None if fence > epoch => return Ok(self.stop(actor)),
            None => (0..8).filter(|slot| read.id & (1 << slot) != 0).collect(),
        };
        *durable &= !slots.iter().fold(0, |mask, slot| mask | 1 << slot);
        for slot in slots.into_iter().map(Slot) {
            self.commit(Position { epoch, slot })?;
        }
        Ok(self)
    }

    fn stop(mut self, actor: usize) -> Self {
        self.actors[actor] = Actor::Gone;
        for replica in &mut self.replicas {
            replica.asked &= !(((1 << READS) - 1) << (actor * READS));
        }
        self
    }

    fn commit(&mut self, at: Position) -> Result<(), String> {
        let committed = &mut self.committed[at.slot.0 as usize];
        match committed {
            Some(epoch) if *epoch != at.epoch => {
                return Err(format!("slot {} was committed by epoch {} and by {}", at.slot.0, epoch.0, at.epoch.0));
            }
            _ => *committed = Some(at.epoch),
        }
        if self.lease.starts.owns(at) { Ok(()) } else { Err(format!("{at:?} is acknowledged, and is void")) }
    }

    /// What is committed counts by the starts, which is what consumers go by.
    fn starts_hold(self) -> Result<Self, String> {
        for (slot, epoch) in self.committed.iter().enumerate() {
            let Some(epoch) = *epoch else { continue };
            let at = Position { epoch, slot: Slot(slot as u64) };
            if !self.lease.starts.owns(at) {
                return Err(format!("{at:?} was committed and is void by the starts"));
            }
        }
        Ok(self)
    }

    /// Forgets what nobody can tell any more, so that states which differ only in that become one.
    fn reduce(&mut self) {
        // Rows of an epoch at or past the start of a newer one count for nobody who can still seal or serve.
        let void = log_rows(Rows::MAX, Slot(0)).iter().fold(0, |void, row| {
            let newer = self.lease.starts.iter().any(|(epoch, start)| epoch > row.at.epoch && start <= row.at.slot);
            if newer { void | 1 << bit(row.at) } else { void }
        });
        self.rows &= !void;
        // Conditional writes whose condition can never hold again.
        let Self { lease, late, .. } = self;
        late.retain(|(actor, late)| match late {
            Late::Claim { observed } => *observed == lease.epoch,
            Late::Seal { epoch, .. } => {
                *epoch == lease.epoch && lease.nonce == nonce(usize::from(*actor)) && !lease.sealed
            }
        });
        // An owner that has acknowledged everything does nothing more.
        let slots = self.committed.len() as u64;
        for actor in &mut self.actors {
            match actor {
                Actor::Claimant { tail, .. } => *tail &= !void,
                Actor::Owner { owner, reads, .. } if owner.committed().slot.0 == slots && reads.is_empty() => {
                    *actor = Actor::Gone;
                }
                _ => {}
            }
        }
        // A fence that is over nobody's epoch.
        let low = self.actors.iter().filter_map(|actor| match actor {
            Actor::Claimant { machine, .. } => Some(machine.epoch().unwrap_or(lease.epoch)),
            Actor::Owner { owner, .. } => Some(owner.epoch()),
            Actor::Gone => None,
        });
        let low = low.min().map_or(u8::MAX, |epoch| epoch.0 as u8);
        for replica in &mut self.replicas {
            replica.rows &= !void;
            if replica.fence <= low {
                replica.fence = 0;
            }
        }
        self.fences &= u8::MAX.checked_shl(u32::from(low) + 1).unwrap_or(0);
    }
}
