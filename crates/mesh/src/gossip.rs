//! Which nodes are alive: SWIM (foca), as datagrams on the links.
//!
//! Every node is in two pools: that of its region, which detects a failure fast, and that of all
//! nodes. A pool's datagram starts with the pool's tag. What a node says about itself must come
//! over its own link. Draining is part of a node's identity there, so that it spreads as fast as
//! any news.
//!
//! SWIM probes one node at a time, so the last of many that die at once would be found late. The
//! links know earlier: a node whose link went silent here, and whom nobody reports to hear, is
//! suspected without a probe. As with every suspicion it has its time to object.
//!
//! SWIM suspects; it decides nothing.

pub(crate) mod handle;
mod member;
mod pool;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use wire::NodeId;

use self::handle::Event;
use crate::context::NodeContext;
use crate::dial;
use crate::membership::{Membership, NodeState};
pub(crate) use member::Member;
use pool::{Pool, Scope};

/// How often nodes that are known but not members are asked to let us in.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked who is not heard any more.
const SUSPECT_INTERVAL: Duration = Duration::from_millis(200);

/// The gossip of one node.
pub(crate) struct Gossip {
    ctx: Arc<NodeContext>,
    pools: [Pool; 2],
    membership: watch::Sender<Arc<Membership>>,
}

impl Gossip {
    pub(crate) fn new(
        ctx: Arc<NodeContext>,
        membership: watch::Sender<Arc<Membership>>,
        seed: u64,
    ) -> Self {
        let me = Member {
            node: ctx.node.clone(),
            addr: ctx.addr,
            incarnation: ctx.incarnation,
            change: 0,
            draining: *ctx.draining.borrow(),
        };
        let region =
            Pool::new(Scope::Region(ctx.node.region), me.clone(), &ctx.timings.region, seed);
        let wide = Pool::new(Scope::Wide, me, &ctx.timings.wide, seed.wrapping_add(1));
        let mut gossip = Self { ctx, pools: [region, wide], membership };
        gossip.publish();
        gossip
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut draining = self.ctx.draining.subscribe();
        let mut announce = tokio::time::interval(ANNOUNCE_INTERVAL);
        let mut look = tokio::time::interval(SUSPECT_INTERVAL);
        announce.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = self.pools.iter().filter_map(Pool::next_timer).min();
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Leave(done)) => {
                        self.leave();
                        let _ = done.send(());
                        // Not one word more: a member that hears itself called dead comes back.
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
            self.publish();
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
                let addr = self.ctx.peers.address(&peer);
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

    /// Suspects nodes that nobody hears, and gives them up after the time of a suspicion.
    fn suspect(&mut self) {
        let (now, unheard) = (Instant::now(), self.ctx.peers.unheard());
        for pool in &mut self.pools {
            unheard.iter().for_each(|(node, incarnation)| pool.suspect(node, *incarnation, now));
            pool.give_up(now);
        }
    }

    /// Asks every known node that is not a member to let this one in. Those that are down are asked
    /// for ever, too.
    fn announce(&mut self) {
        for (node, addr) in self.ctx.peers.addresses() {
            self.pools.iter_mut().for_each(|pool| pool.announce(&node, addr));
        }
    }

    /// Sends what the pools want to send, over links that are up; the rest is lost, as on any
    /// network.
    fn post(&mut self) {
        for pool in &mut self.pools {
            for (to, datagram) in pool.outgoing() {
                let Some(link) = self.ctx.peers.link(&to) else { continue };
                if let Err(error) = link.connection.send_datagram(datagram) {
                    tracing::debug!(node = %self.ctx.node, peer = %to, %error, "gossip not sent");
                }
            }
        }
    }

    /// Publishes which nodes are alive, when that has changed. A node met in one pool is dialled,
    /// and then asked into the other.
    fn publish(&mut self) {
        let changed = self.pools.each_mut().map(Pool::take_changed);
        if !changed.contains(&true) {
            return;
        }
        for member in self.pools.iter().flat_map(Pool::members) {
            dial::add_learned(&self.ctx, &member.node, member.incarnation, member.addr);
        }
        let now = self.view();
        self.membership.send_if_modified(|known| {
            if **known == now {
                return false;
            }
            log_changes(&self.ctx.node, known, &now);
            *known = Arc::new(now);
            true
        });
    }

    fn view(&self) -> Membership {
        let [region, wide] = &self.pools;
        let mut nodes = BTreeMap::new();
        let elsewhere = wide.members().filter(|member| member.node.region != self.ctx.node.region);
        for member in region.members().chain(elsewhere).chain([wide.me()]) {
            let state = NodeState {
                draining: member.draining,
                addr: member.addr,
                incarnation: member.incarnation,
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
                let (incarnation, draining) = (state.incarnation, state.draining);
                let new = known.is_none();
                tracing::info!(node = %me, peer = %node, incarnation, draining, new, "node is alive");
            }
        }
    }
    for node in before.nodes.keys().filter(|node| !now.nodes.contains_key(*node)) {
        tracing::info!(node = %me, peer = %node, "node is down");
    }
}
