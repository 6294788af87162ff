//! Time, and the timed leases of the processes (rules L1-L7).
//!
//! Every claimant is a process with a life of its own, registered when time begins. Time goes in
//! ticks, whenever it likes.
//! **Clocks are bad**: each reading shows the tick or the one after it, so that any two readings of a clock are off by up to
//! one tick from the time between them, whichever way hurts; with a lease of two ticks and a margin
//! of one that is exactly as bad as the margin bears. Where only one of the two readings can hurt,
//! only that one is searched (`reduced`).

use std::time::Duration;

use hearth_conversation::shard::renewal::{Hold, Renew, Renewed};
use hearth_conversation::shard::{
    AckBy, Beat, Cas, ClockError, CoreLease, Nonce, Op, OpResult, Renewal, Timing, Uptime,
};

use super::{Action, Actor, Late, Mutant, State, Steps, World, nonce};
use crate::search::Step;

const TICK: Duration = Duration::from_millis(3);
const LEASE_TICKS: u32 = 2;
const MARGIN_TICKS: u32 = 1;

/// How much of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    pub(crate) ticks: u8,
    /// To which each life may come.
    pub(crate) beats: u64,
    /// Every second claimant reads the fence instead.
    pub(crate) mixed: bool,
    /// Owners may let go.
    pub(crate) releases: bool,
}

/// A life, as its row and its process have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LifeState {
    pub(super) beat: Beat,
    pub(super) broken: bool,
    /// None: nobody acknowledges by it any more.
    renewal: Option<Renewal>,
    /// Mutants only: what the process takes for the end of its lease, the clock at its last try to
    /// renew it, and when its term began.
    until: Option<Uptime>,
    tried: Option<Uptime>,
    began: Option<Uptime>,
}

fn clock(tick: u8, fast: bool) -> Uptime {
    Uptime(TICK * (u32::from(tick) + u32::from(fast)))
}

impl World {
    pub(super) fn timing(&self) -> Timing {
        let small = self.mutant == Some(Mutant::MarginTooSmall);
        let margin = if small { Duration::ZERO } else { TICK * MARGIN_TICKS };
        let rate_ppm_max = if small { 0 } else { 1_000_000 / LEASE_TICKS };
        let clocks = ClockError { rate_ppm_max, granularity: Duration::ZERO };
        Timing::new(TICK * LEASE_TICKS, margin, clocks).expect("the margin is what the clocks need")
    }

    pub(super) fn lives_at_the_start(&self) -> Vec<LifeState> {
        let incarnation = |actor| {
            let mut renewal = Renewal::new(nonce(actor), self.timing());
            renewal.next(clock(0, true)).expect("nobody broke it");
            renewal.on(Renewed::Cas(Cas::Applied)).expect("nobody broke it");
            LifeState {
                beat: Beat(1),
                broken: false,
                renewal: Some(renewal),
                until: None,
                tried: None,
                began: None,
            }
        };
        if self.bounds.timed.is_some() {
            (0..self.bounds.claimants).map(incarnation).collect()
        } else {
            Vec::new()
        }
    }

    /// Readings of a clock that can make a difference: `worst` is the one that hurts.
    fn readings(&self, state: &State, worst: bool) -> impl Iterator<Item = Uptime> + use<> {
        let (now, reduced) = (state.now, self.bounds.reduced);
        [false, true]
            .into_iter()
            .filter(move |&fast| !reduced || fast == worst)
            .map(move |fast| clock(now, fast))
    }

    pub(super) fn time_steps(&self, state: &State, found: &mut Steps) {
        let Some(timed) = self.bounds.timed else { return };
        let waits = |actor: &Actor| match actor {
            Actor::Claimant { machine, .. } => matches!(machine.next(), Some(Op::WaitUntil { .. })),
            _ => false,
        };
        // Time that passes while nobody waits only brings an owner's end nearer.
        let matters = !self.bounds.reduced || state.actors.iter().any(waits);
        let watched_early = self.mutant == Some(Mutant::WatchFromTheSend);
        if state.now < timed.ticks && (matters || watched_early) {
            let mut to = state.clone();
            to.now += 1;
            found.push(Step { action: Action::Tick, to: Ok(to) });
        }
        for (actor, what) in state.actors.iter().enumerate() {
            if let Actor::Owner { .. } = what {
                self.renewal_steps(state, actor, timed, found);
            }
        }
    }

    fn renewal_steps(&self, state: &State, actor: usize, timed: Timed, found: &mut Steps) {
        for now in self.readings(state, true) {
            let mut to = state.clone();
            let Some(renewal) = &mut to.lives[actor].renewal else { return };
            match renewal.next(now) {
                Ok(Renew::Beat { from, .. }) if from.0 < timed.beats => {
                    if self.mutant == Some(Mutant::RetryRestartsTheLease) {
                        to.lives[actor].tried = Some(now);
                    }
                    let mut unknown = to.with_late(actor, Late::Renew { from });
                    unknown.told(actor, Renewed::Unknown);
                    found.push(Step { action: Action::RenewUnknown(actor), to: Ok(unknown) });
                    let cas = self.renew(&mut to, actor, from);
                    let applied = cas == Cas::Applied;
                    to.told(actor, Renewed::Cas(cas));
                    if applied {
                        self.take_for_longer(&mut to, actor, now);
                    }
                    found.push(Step { action: Action::Renew(actor), to: Ok(to) });
                }
                Ok(Renew::Read { .. }) => {
                    let incarnation = &to.lives[actor];
                    let (beat, broken) = (incarnation.beat, incarnation.broken);
                    let row = CoreLease {
                        node: self.nodes[actor].clone(),
                        incarnation: nonce(actor),
                        beat,
                        broken,
                    };
                    let before = to.lives[actor].hold();
                    to.told(actor, Renewed::Row(Some(row)));
                    if to.lives[actor].hold() != before {
                        self.take_for_longer(&mut to, actor, now);
                    }
                    found.push(Step { action: Action::ReadRenewed(actor), to: Ok(to) });
                }
                _ => {}
            }
        }
    }

    /// What a wrong process takes for the end of its lease, when a beat is confirmed.
    fn take_for_longer(&self, to: &mut State, actor: usize, now: Uptime) {
        let incarnation = &mut to.lives[actor];
        let start = if self.mutant == Some(Mutant::LeaseStartAtTheReply) {
            Some(now)
        } else {
            incarnation.tried.take()
        };
        incarnation.until = start.map(|start| start.after(self.timing().holds()));
    }

    fn renew(&self, to: &mut State, actor: usize, from: Beat) -> Cas {
        let incarnation = &mut to.lives[actor];
        let row = CoreLease {
            node: self.nodes[actor].clone(),
            incarnation: nonce(actor),
            beat: incarnation.beat,
            broken: incarnation.broken,
        };
        match (row.renewed(from), self.mutant) {
            (_, Some(Mutant::BeatReused)) if !incarnation.broken => Cas::Applied,
            (_, Some(Mutant::BlindRenewal)) => {
                incarnation.beat = from.next();
                Cas::Applied
            }
            (Some(row), _) => {
                incarnation.beat = row.beat;
                Cas::Applied
            }
            (None, _) => Cas::Refused,
        }
    }

    pub(super) fn renewal_lands(&self, to: &mut State, actor: usize, from: Beat) {
        self.renew(to, actor, from);
    }

    pub(super) fn read_cores(&self, state: &State, actor: usize, found: &mut Steps) {
        let row = |(index, incarnation): (usize, &LifeState)| CoreLease {
            node: self.nodes[index].clone(),
            incarnation: nonce(index),
            beat: incarnation.beat,
            broken: incarnation.broken,
        };
        let leases: Vec<_> = state.lives.iter().enumerate().map(row).collect();
        for replied_at in self.readings(state, false) {
            let early = self.mutant == Some(Mutant::WatchFromTheSend);
            let replied_at = if early { clock(0, false) } else { replied_at };
            let to = self.tell(
                state.clone(),
                actor,
                OpResult::Cores { leases: leases.clone(), replied_at },
            );
            found.push(Step { action: Action::ReadCores(actor), to });
        }
    }

    pub(super) fn wait(&self, state: &State, actor: usize, until: Uptime, found: &mut Steps) {
        for now in self.readings(state, true) {
            let short = self.mutant == Some(Mutant::ShortWait);
            let enough = if short { now.after(TICK * MARGIN_TICKS) } else { now };
            if enough >= until {
                let to = self.tell(state.clone(), actor, OpResult::Clock(enough));
                found.push(Step { action: Action::Waited(actor), to });
            }
        }
    }

    pub(super) fn break_cores(
        &self,
        state: &State,
        actor: usize,
        lives: &[(Nonce, Beat)],
        found: &mut Steps,
    ) {
        let mut to = state.clone();
        let mut all = Cas::Applied;
        let mut unknown = state.clone();
        for &(incarnation, beat) in lives {
            let index = (0..self.bounds.claimants)
                .find(|&index| nonce(index) == incarnation)
                .expect("it was listed");
            if self.broken(&mut to, index, beat) == Cas::Refused
                && self.mutant != Some(Mutant::BlindClaim)
            {
                all = Cas::Refused;
            }
            unknown = unknown.with_late(actor, Late::Break { incarnation: index as u8, beat });
        }
        found.push(Step {
            action: Action::BreakCores(actor),
            to: self.tell(to, actor, OpResult::Cas(all)),
        });
        found.push(Step {
            action: Action::BreakUnknown(actor),
            to: self.tell(unknown, actor, OpResult::Unknown),
        });
    }

    pub(super) fn broken(&self, to: &mut State, incarnation: usize, beat: Beat) -> Cas {
        let LifeState { beat: found, broken, .. } = &mut to.lives[incarnation];
        if *found == beat {
            *broken = true;
            Cas::Applied
        } else {
            Cas::Refused
        }
    }

    /// Reads the clock and acknowledges what was durable before.
    pub(super) fn clock_steps(&self, state: &State, actor: usize, found: &mut Steps) {
        let Actor::Owner { owner, durable, .. } = &state.actors[actor] else { return };
        let out_of_order = self.mutant == Some(Mutant::AcksOutOfOrder);
        let Some(hold) = state.lives[actor].hold() else { return };
        for now in self.readings(state, false) {
            let early = self.mutant == Some(Mutant::ClockBeforeAppend);
            let now = state.lives[actor].began.filter(|_| early).unwrap_or(now);
            if now >= hold.until {
                continue;
            }
            let mut to = state.clone();
            if out_of_order && *durable != 0 {
                found.push(Step {
                    action: Action::Acknowledge(actor),
                    to: to.acknowledge_at_once(actor),
                });
            } else if let Some(ticket) = owner.start_clock_read() {
                let Actor::Owner { owner, .. } = &mut to.actors[actor] else { continue };
                let epoch = owner.epoch();
                let acked = owner.on_clock(ticket, now, Some(hold)).expect("the term goes on");
                found.push(Step {
                    action: Action::Acknowledge(actor),
                    to: to.acknowledged(epoch, acked),
                });
            }
        }
    }

    /// Lets the shard go, when nothing is open; the mutant always, and goes on.
    pub(super) fn release_steps(&self, state: &State, actor: usize, found: &mut Steps) {
        let goes_on = self.mutant == Some(Mutant::AckAfterRelease);
        let mut to = state.clone();
        let Actor::Owner { owner, .. } = &mut to.actors[actor] else { return };
        let epoch = owner.epoch();
        let end = if goes_on { Some(owner.committed().slot) } else { owner.release() };
        let Some(end) = end.filter(|_| state.lease.released.is_none()) else { return };
        if !goes_on {
            to.actors[actor] = Actor::Gone;
        }
        let unknown = to.with_late(actor, Late::Release { epoch, end });
        found.push(Step { action: Action::ReleaseUnknown(actor), to: Ok(unknown) });
        to.lease = to.lease.released_at(epoch, nonce(actor), end).unwrap_or(to.lease);
        found.push(Step { action: Action::Release(actor), to: Ok(to) });
    }
}

impl LifeState {
    fn hold(&self) -> Option<Hold> {
        let hold = self.renewal.as_ref()?.hold()?;
        Some(Hold { until: self.until.unwrap_or(hold.until), ..hold })
    }
}

impl State {
    fn told(&mut self, actor: usize, renewed: Renewed) {
        let incarnation = &mut self.lives[actor];
        // One that learns that it is broken stops; its rows stand as they are.
        if let Some(renewal) = &mut incarnation.renewal
            && renewal.on(renewed).is_err()
        {
            incarnation.renewal = None;
        }
    }

    pub(super) fn term_begins(&mut self, actor: usize) {
        let now = clock(self.now, false);
        if let Some(incarnation) = self.lives.get_mut(actor) {
            incarnation.began = Some(now);
        }
    }

    /// Forgets what lives nobody acknowledges by know of time, and owners whose time is over for
    /// good.
    pub(super) fn reduce_time(&mut self, timed: Timed, keep_began: bool) {
        let now = clock(self.now, false);
        for (actor, incarnation) in self.actors.iter_mut().zip(&mut self.lives) {
            if !keep_began {
                incarnation.began = None;
            }
            let expired = incarnation.hold().is_none_or(|hold| now >= hold.until);
            let last = incarnation.broken || incarnation.beat.0 >= timed.beats;
            let over = incarnation.renewal.is_none()
                || (expired && last && !may_be_confirmed(incarnation));
            match actor {
                Actor::Owner { owner, .. } if over && owner.ack_by() == AckBy::Lease => {
                    *actor = Actor::Gone;
                    incarnation.renewal = None;
                }
                Actor::Gone => incarnation.renewal = None,
                _ => {}
            }
        }
    }
}

/// Whether the process may still find out that its last beat was written.
fn may_be_confirmed(incarnation: &LifeState) -> bool {
    let at =
        |beat: Beat| incarnation.renewal.as_ref().is_some_and(|renewal| renewal.beat() == beat);
    !incarnation.broken && !at(incarnation.beat)
}
