//! One pool of SWIM: foca under a thin driver that owns its timers and its outgoing datagrams. No
//! sockets here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use foca::{
    Config, Foca, NoCustomBroadcast, Notification, PeriodicParams, PostcardCodec, Runtime, State,
    Timer,
};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::SeedableRng;
use tokio::time::Instant;
use wire::{NodeId, RegionId};

use super::member::Member;
use crate::options::PoolTimings;
use crate::transport::DATAGRAM_BYTES;

/// Asked to probe a suspect; also how many are told each bit of news at once.
const HELPERS: usize = 3;
/// News is passed on so many times by each node: enough for hundreds of nodes.
const TRANSMISSIONS: u8 = 12;
/// Members exchange what they know this often, which repairs what gossip has missed.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Nodes that are down are asked this often whether they are: so two halves find each other again.
const ASK_DOWN: Duration = Duration::from_secs(2);
/// A dead node is remembered so long.
const REMEMBER_DOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// Who belongs to a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The nodes of one region.
    Region(RegionId),
    /// All.
    Wide,
}

impl Scope {
    fn tag(self) -> u8 {
        match self {
            Self::Region(_) => b'r',
            Self::Wide => b'w',
        }
    }

    fn holds(self, node: &NodeId) -> bool {
        match self {
            Self::Region(region) => node.region == region,
            Self::Wide => true,
        }
    }
}

/// One pool.
pub(super) struct Pool {
    scope: Scope,
    foca: Foca<Member, PostcardCodec, Pcg64Mcg, NoCustomBroadcast>,
    effects: Effects,
    suspicion: Duration,
    suspected: Vec<Suspicion>,
}

/// A member that nobody hears. It objects by a higher incarnation.
struct Suspicion {
    until: Instant,
    member: Member,
    incarnation: foca::Incarnation,
}

impl Suspicion {
    fn is_of(&self, member: &foca::Member<Member>) -> bool {
        self.incarnation == member.incarnation() && self.member == *member.id()
    }
}

impl Pool {
    pub(super) fn new(scope: Scope, me: Member, timings: &PoolTimings, seed: u64) -> Self {
        let foca = Foca::new(me, config(timings), Pcg64Mcg::seed_from_u64(seed), PostcardCodec);
        let effects = Effects { tag: scope.tag(), changed: true, ..Effects::default() };
        Self { scope, foca, effects, suspicion: timings.suspicion, suspected: Vec::new() }
    }

    pub(super) fn tag(&self) -> u8 {
        self.scope.tag()
    }

    pub(super) fn me(&self) -> &Member {
        self.foca.identity()
    }

    /// The members that are alive, without this node.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.foca.iter_members().map(foca::Member::id)
    }

    /// A datagram that came over the link of `from`, without its tag.
    pub(super) fn receive(&mut self, from: &NodeId, datagram: &[u8]) {
        match postcard::take_from_bytes::<foca::Header<Member>>(datagram) {
            Ok((header, _)) if header.src.node == *from && self.scope.holds(from) => {
                if header.dst != *self.me() {
                    // It knows what this node was before it changed, so foca drops the datagram. If
                    // both changed at once, each would write to what the other was, for ever: who
                    // the sender is now counts all the same.
                    let sender = foca::Member::alive(header.src);
                    let done =
                        self.foca.apply_many(std::iter::once(sender), true, &mut self.effects);
                    note(done, "the sender of stale gossip not noted");
                }
                let done = self.foca.handle_data(datagram, &mut self.effects);
                note(done, "gossip not understood");
            }
            Ok((header, _)) => {
                let claimed = &header.src.node;
                tracing::warn!(peer = %from, %claimed, "dropped gossip in the name of another node");
            }
            Err(error) => tracing::debug!(peer = %from, %error, "malformed gossip dropped"),
        }
    }

    /// Asks a node to let this one in, unless it is a member already or does not belong here.
    pub(super) fn announce(&mut self, node: &NodeId, addr: SocketAddr) {
        if self.scope.holds(node) && !self.members().any(|member| member.node == *node) {
            let done = self.foca.announce(Member::unknown(node.clone(), addr), &mut self.effects);
            note(done, "announcement failed");
        }
    }

    /// Nobody hears this incarnation of a node: suspects it, as a failed probe would.
    pub(super) fn suspect(&mut self, node: &NodeId, incarnation: u64, now: Instant) {
        let lives = |member: &&foca::Member<Member>| {
            member.id().node == *node && member.id().incarnation == incarnation
        };
        let Some(member) = self.foca.iter_members().find(lives) else { return };
        if self.suspected.iter().any(|suspicion| suspicion.is_of(member)) {
            return;
        }
        let (id, incarnation) = (member.id().clone(), member.incarnation());
        let update = foca::Member::new(id.clone(), incarnation, State::Suspect);
        self.suspected.push(Suspicion { until: now + self.suspicion, member: id, incarnation });
        let done = self.foca.apply_many(std::iter::once(update), true, &mut self.effects);
        note(done, "suspicion not told");
    }

    /// Declares down whom nobody heard for the time of a suspicion, and who has not objected.
    pub(super) fn give_up(&mut self, now: Instant) {
        let (due, waiting) =
            std::mem::take(&mut self.suspected).into_iter().partition(|one| one.until <= now);
        self.suspected = waiting;
        for suspicion in due {
            let suspicion: Suspicion = suspicion;
            let silent = |member: &foca::Member<Member>| {
                suspicion.is_of(member) && member.state() == State::Suspect
            };
            if self.foca.iter_members().any(silent) {
                let down = foca::Member::new(suspicion.member, suspicion.incarnation, State::Down);
                let done = self.foca.apply_many(std::iter::once(down), true, &mut self.effects);
                note(done, "death not told");
            }
        }
    }

    pub(super) fn set_draining(&mut self, draining: bool) {
        if self.me().draining != draining {
            let changed = Member { draining, ..self.me().changed() };
            self.effects.changed = true;
            let done = self.foca.change_identity(changed, &mut self.effects);
            note(done, "draining not told");
        }
    }

    pub(super) fn leave(&mut self) {
        let done = self.foca.leave_cluster(&mut self.effects);
        note(done, "leaving not told");
    }

    /// When the next timer is due.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.effects.timers.peek().map(|Reverse(due)| due.at)
    }

    /// Fires what is due.
    pub(super) fn fire(&mut self, now: Instant) {
        while self.next_timer().is_some_and(|at| at <= now) {
            let Some(Reverse(due)) = self.effects.timers.pop() else { return };
            let done = self.foca.handle_timer(due.timer, &mut self.effects);
            note(done, "gossip timer");
        }
    }

    /// Whether members may have come or gone since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.effects.changed)
    }

    /// Takes what is to be sent.
    pub(super) fn outgoing(&mut self) -> std::vec::Drain<'_, (NodeId, Bytes)> {
        self.effects.outgoing.drain(..)
    }
}

fn note(done: Result<(), foca::Error>, what: &'static str) {
    if let Err(error) = done {
        tracing::debug!(%error, what, "gossip");
    }
}

fn config(timings: &PoolTimings) -> Config {
    let periodic = |frequency, members| {
        Some(PeriodicParams {
            frequency,
            num_members: NonZeroUsize::new(members).unwrap_or(NonZeroUsize::MIN),
        })
    };
    Config {
        probe_period: timings.probe_period,
        probe_rtt: timings.probe_rtt,
        num_indirect_probes: NonZeroUsize::new(HELPERS).unwrap_or(NonZeroUsize::MIN),
        max_transmissions: NonZeroU8::new(TRANSMISSIONS).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: timings.suspicion,
        remove_down_after: Some(REMEMBER_DOWN),
        // One byte is the tag.
        max_packet_size: NonZeroUsize::new(DATAGRAM_BYTES - 1).unwrap_or(NonZeroUsize::MIN),
        notify_down_members: true,
        periodic_announce: periodic(EXCHANGE, 1),
        periodic_announce_to_down_members: periodic(ASK_DOWN, 2),
        periodic_gossip: periodic(timings.gossip, HELPERS),
    }
}

/// What foca wants done.
#[derive(Default)]
struct Effects {
    tag: u8,
    outgoing: Vec<(NodeId, Bytes)>,
    timers: BinaryHeap<Reverse<Due>>,
    timed: u64,
    changed: bool,
}

/// A timer; of those due at one moment the one that was set first comes first.
struct Due {
    at: Instant,
    n: u64,
    timer: Timer<Member>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.n).cmp(&(other.at, other.n))
    }
}

impl Runtime<Member> for &mut Effects {
    fn notify(&mut self, notification: Notification<'_, Member>) {
        self.changed = true;
        if let Notification::Rejoin(me) = notification {
            tracing::warn!(node = %me.node, "was believed dead; back again");
        }
    }

    fn send_to(&mut self, to: Member, data: &[u8]) {
        let mut datagram = BytesMut::with_capacity(1 + data.len());
        datagram.put_u8(self.tag);
        datagram.put_slice(data);
        self.outgoing.push((to.node, datagram.freeze()));
    }

    fn submit_after(&mut self, timer: Timer<Member>, after: Duration) {
        self.timed += 1;
        self.timers.push(Reverse(Due { at: Instant::now() + after, n: self.timed, timer }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Timings;

    fn pool(name: &str, seed: u64) -> Pool {
        let node: NodeId = name.parse().unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let me = Member { incarnation: 1, ..Member::unknown(node, addr) };
        Pool::new(Scope::Region(RegionId(1)), me, &Timings::default().region, seed)
    }

    /// Everything that is on its way arrives, and what is said to it, and so on.
    fn exchange(pools: &mut [Pool; 2]) {
        loop {
            let mut posts = Vec::new();
            for pool in pools.iter_mut() {
                let from = pool.me().node.clone();
                posts.extend(pool.outgoing().map(|(to, datagram)| (from.clone(), to, datagram)));
            }
            if posts.is_empty() {
                return;
            }
            for (from, to, datagram) in posts {
                let receiver = pools.iter_mut().find(|pool| pool.me().node == to).unwrap();
                receiver.receive(&from, &datagram[1..]);
            }
        }
    }

    fn knows_draining(pool: &Pool) -> bool {
        pool.members().next().is_some_and(|member| member.draining)
    }

    /// What the simulator found (seed 1003723): each went on to write to what the other had been,
    /// so both took every shard.
    #[tokio::test(start_paused = true)]
    async fn two_that_change_at_the_same_time_hear_of_it() {
        let mut pools = [pool("r1/core/1", 1), pool("r1/core/2", 2)];
        let (node, addr) = (pools[1].me().node.clone(), pools[1].me().addr);
        pools[0].announce(&node, addr);
        exchange(&mut pools);
        assert!(pools.iter().all(|pool| pool.members().count() == 1));
        for draining in [true, false, true] {
            pools.iter_mut().for_each(|pool| pool.set_draining(draining));
            for _ in 0..20 {
                tokio::time::advance(Duration::from_millis(100)).await;
                pools.iter_mut().for_each(|pool| pool.fire(Instant::now()));
                exchange(&mut pools);
            }
            assert!(
                pools.iter().all(|pool| knows_draining(pool) == draining),
                "within two seconds"
            );
        }
    }
}
