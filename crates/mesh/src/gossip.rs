//! Who lives: SWIM (foca), as datagrams on the links.
//!
//! Every node stands in two pools: that of its region, which notices a death fast, and that of all nodes. A pool's datagram
//! starts with the pool's tag. What a node says about itself must come over its own link. Draining is part of a node's
//! identity there, so that it spreads as fast as any news.
//!
//! SWIM probes one node at a time, so the last of many that die at once would be found late. The links know earlier: a
//! node whose link went silent here, and whom nobody reports to hear, is suspected without a probe. As with every suspicion
//! it has its time to object.
//!
//! SWIM suspects; it decides nothing.

mod member;
mod pool;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use wire::NodeId;

use crate::membership::{Membership, NodeState};
use crate::shared::Shared;
pub(crate) use member::Member;
use pool::{Pool, Scope};

/// Events that wait for the gossip's task; one more datagram is dropped, as the network may.
const EVENTS: usize = 1024;
/// How often nodes that are known but not members are asked to let us in.
const ANNOUNCE: Duration = Duration::from_secs(1);
/// How often it is looked who is not heard any more.
const LOOK: Duration = Duration::from_millis(200);

/// What happens to the gossip.
pub(crate) enum Event {
    Datagram { from: NodeId, datagram: Bytes },
    LinkUp(NodeId),
    Leave(oneshot::Sender<()>),
}

/// Feeds the gossip's task.
#[derive(Clone)]
pub(crate) struct GossipHandle {
    events: mpsc::Sender<Event>,
}

impl GossipHandle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(EVENTS);
        (Self { events }, received)
    }

    /// Full: dropped.
    pub(crate) fn datagram(&self, from: &NodeId, datagram: Bytes) {
        let _ = self.events.try_send(Event::Datagram { from: from.clone(), datagram });
    }

    /// Full: the next announcement does it.
    pub(crate) fn link_up(&self, peer: &NodeId) {
        let _ = self.events.try_send(Event::LinkUp(peer.clone()));
    }

    /// Tells the others that this node leaves. Done when the datagrams are with the transport.
    pub(crate) async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.events.send(Event::Leave(done)).await.is_ok() {
            let _ = left.await;
        }
    }
}

/// The gossip of one node.
pub(crate) struct Gossip {
    shared: Arc<Shared>,
    pools: [Pool; 2],
    membership: watch::Sender<Arc<Membership>>,
}

impl Gossip {
    pub(crate) fn new(
        shared: Arc<Shared>,
        membership: watch::Sender<Arc<Membership>>,
        seed: u64,
    ) -> Self {
        let me = Member {
            node: shared.node.clone(),
            addr: shared.addr,
            generation: shared.generation,
            change: 0,
            draining: *shared.draining.borrow(),
        };
        let region =
            Pool::new(Scope::Region(shared.node.region), me.clone(), &shared.timings.region, seed);
        let wide = Pool::new(Scope::Wide, me, &shared.timings.wide, seed.wrapping_add(1));
        let mut gossip = Self { shared, pools: [region, wide], membership };
        gossip.tell();
        gossip
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut draining = self.shared.draining.subscribe();
        let mut announce = tokio::time::interval(ANNOUNCE);
        let mut look = tokio::time::interval(LOOK);
        announce.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = self.pools.iter().filter_map(Pool::next_timer).min();
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Leave(done)) => {
                        self.leave();
                        let _ = done.send(());
                        // Not one word more: whoever hears himself called dead comes back.
                        return;
                    }
                    Some(event) => self.on(event),
                    None => return,
                },
                () = sleep_until(next) => {
                    let now = Instant::now();
                    self.pools.iter_mut().for_each(|pool| pool.fire(now));
                }
                _ = announce.tick() => self.announce(),
                _ = look.tick() => self.suspect(),
                changed = draining.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let draining = *draining.borrow_and_update();
                    self.pools.iter_mut().for_each(|pool| pool.set_draining(draining));
                }
            }
            self.post();
            self.tell();
        }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Datagram { from, mut datagram } => {
                if datagram.is_empty() {
                    return;
                }
                let body = datagram.split_off(1);
                if let Some(pool) = self.pools.iter_mut().find(|pool| pool.tag() == datagram[0]) {
                    pool.receive(&from, &body);
                }
            }
            Event::LinkUp(peer) => {
                let addr = self.shared.book.address(&peer);
                for pool in &mut self.pools {
                    if let Some(addr) = addr {
                        pool.announce(&peer, addr);
                    }
                }
            }
            Event::Leave(_) => self.leave(),
        }
    }

    fn leave(&mut self) {
        self.pools.iter_mut().for_each(Pool::leave);
        self.post();
    }

    /// Suspects whom nobody hears, and gives up whom nobody has heard for the time of a suspicion.
    fn suspect(&mut self) {
        let (now, unheard) = (Instant::now(), self.shared.book.unheard());
        for pool in &mut self.pools {
            unheard.iter().for_each(|(node, generation)| pool.suspect(node, *generation, now));
            pool.give_up(now);
        }
    }

    /// Asks every known node that is not a member to let this one in. Those that are down are asked for ever, too.
    fn announce(&mut self) {
        for (node, addr) in self.shared.book.addresses() {
            self.pools.iter_mut().for_each(|pool| pool.announce(&node, addr));
        }
    }

    /// Sends what the pools want to send, over links that are up; the rest is lost, as on any network.
    fn post(&mut self) {
        for pool in &mut self.pools {
            for (to, datagram) in pool.outgoing() {
                let Some(link) = self.shared.book.link(&to) else { continue };
                if let Err(error) = link.connection.send_datagram(datagram) {
                    tracing::debug!(node = %self.shared.node, peer = %to, %error, "gossip not sent");
                }
            }
        }
    }

    /// Publishes who lives, when it has changed, and passes on where they are. Whoever is met in one pool is dialled, and
    /// then asked into the other.
    fn tell(&mut self) {
        let changed = self.pools.each_mut().map(Pool::take_changed);
        if !changed.contains(&true) {
            return;
        }
        for member in self.pools.iter().flat_map(Pool::members) {
            self.shared.learn(&member.node, member.generation, member.addr);
        }
        let now = self.view();
        self.membership.send_if_modified(|known| {
            if **known == now {
                return false;
            }
            log_changes(&self.shared.node, known, &now);
            *known = Arc::new(now);
            true
        });
    }

    fn view(&self) -> Membership {
        let [region, wide] = &self.pools;
        let mut nodes = BTreeMap::new();
        let elsewhere =
            wide.members().filter(|member| member.node.region != self.shared.node.region);
        for member in region.members().chain(elsewhere).chain([wide.me()]) {
            let state = NodeState {
                draining: member.draining,
                addr: member.addr,
                generation: member.generation,
            };
            nodes.insert(member.node.clone(), state);
        }
        Membership { nodes }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn log_changes(me: &NodeId, before: &Membership, now: &Membership) {
    for (node, state) in &now.nodes {
        match before.nodes.get(node) {
            Some(known) if known == state => {}
            known => {
                let (generation, draining) = (state.generation, state.draining);
                tracing::info!(node = %me, peer = %node, generation, draining, new = known.is_none(), "node lives");
            }
        }
    }
    for node in before.nodes.keys().filter(|node| !now.nodes.contains_key(*node)) {
        tracing::info!(node = %me, peer = %node, "node is down");
    }
}
