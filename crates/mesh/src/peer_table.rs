//! The peers of this node: where each can be dialled, which link to it is kept, and which links it
//! reports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use wire::NodeId;
use wire::stream::REPORTED_LINKS_MAX;

use crate::link::Link;
use crate::routes::{Detour, Leg, detours};

/// A report older than this says nothing any more: its relay may have lost its links.
const REPORT_AGE_MAX: Duration = Duration::from_secs(4);
/// Most nodes known; more are not taken in. A mesh is hundreds, so this only stops a flood.
const NODES_MAX: usize = 4096;

/// The peers of one node.
pub(crate) struct PeerTable {
    me: NodeId,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    /// Counts changes of links, for who waits for one.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Peer {
    /// As the operator named it.
    static_addr: Option<SocketAddr>,
    /// As its latest incarnation said, through gossip or by itself.
    learned: Option<(u64, SocketAddr)>,
    link: Option<Arc<Link>>,
    /// The last link that was lost.
    lost: Option<Lost>,
    /// Dials failed since the last link.
    failures: u32,
    /// Why the last one failed.
    why: String,
    /// Somebody wants it now: no pause before the next dial.
    wanted: Arc<Notify>,
    reported: BTreeMap<NodeId, Duration>,
    reported_at: Option<Instant>,
}

/// A link that is no more.
#[derive(Clone, Copy)]
struct Lost {
    id: u64,
    incarnation: u64,
}

/// What became of a new link.
pub(crate) enum Installed {
    /// It is kept, instead of that one if there was one.
    Kept(Option<Arc<Link>>),
    /// It is kept, instead of that one, which is known to be dead.
    KeptForDead(Arc<Link>),
    /// Another one is kept.
    Superseded,
}

/// What is known of the ways to a peer.
pub(crate) struct Ways {
    pub(crate) direct: Option<Arc<Link>>,
    pub(crate) detours: Vec<Detour>,
    /// The direct way was tried and failed, or was lost.
    pub(crate) broken: bool,
    pub(crate) why: String,
}

impl PeerTable {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, peers: Mutex::default(), changes: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes of any link from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.changes.subscribe();
        changes.mark_unchanged();
        changes
    }

    pub(crate) fn notify_change(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// The operator names an address. True when the peer is new.
    pub(crate) fn add_static(&self, node: &NodeId, addr: SocketAddr) -> bool {
        self.change(node, |peer| {
            if peer.static_addr.replace(addr) != Some(addr) {
                // Perhaps the news is that it moved: an older incarnation's address is no good.
                peer.failures = 0;
                peer.wanted.notify_one();
            }
        })
    }

    /// An incarnation of the node said where it is. True when the peer is new.
    pub(crate) fn add_learned(&self, node: &NodeId, incarnation: u64, addr: SocketAddr) -> bool {
        self.change(node, |peer| {
            if peer.learned.is_none_or(|(known, _)| known < incarnation) {
                peer.learned = Some((incarnation, addr));
                peer.wanted.notify_one();
            }
        })
    }

    fn change(&self, node: &NodeId, change: impl FnOnce(&mut Peer)) -> bool {
        if *node == self.me {
            return false;
        }
        let mut peers = self.lock();
        let new = !peers.contains_key(node);
        if new && peers.len() >= NODES_MAX {
            tracing::warn!(node = %self.me, peer = %node, "too many nodes, this one ignored");
            return false;
        }
        change(peers.entry(node.clone()).or_default());
        new
    }

    /// All peers and where they are.
    pub(crate) fn addresses(&self) -> Vec<(NodeId, SocketAddr)> {
        self.lock()
            .iter()
            .filter_map(|(node, peer)| Some((node.clone(), peer.address(0)?)))
            .collect()
    }

    /// Where to dial at the n-th attempt: what was told and what was learnt take turns.
    pub(crate) fn address(&self, node: &NodeId) -> Option<SocketAddr> {
        self.lock().get(node).and_then(|peer| peer.address(peer.failures))
    }

    /// Told when somebody wants a link now.
    pub(crate) fn wanted(&self, node: &NodeId) -> Arc<Notify> {
        self.lock().entry(node.clone()).or_default().wanted.clone()
    }

    /// The kept link.
    pub(crate) fn link(&self, node: &NodeId) -> Option<Arc<Link>> {
        self.lock().get(node)?.link.clone()
    }

    /// The name of the last link to it that was lost.
    pub(crate) fn lost(&self, node: &NodeId) -> Option<u64> {
        self.lock().get(node)?.lost.map(|lost| lost.id)
    }

    /// All kept links.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.lock().values().filter_map(|peer| peer.link.clone()).collect()
    }

    /// A dial failed. True at the first failure since the last link: worth a line in the log.
    pub(crate) fn failed(&self, node: &NodeId, why: String) -> bool {
        let first = self.lock().get_mut(node).is_some_and(|peer| {
            peer.failures = peer.failures.saturating_add(1);
            peer.why = why;
            peer.failures == 1
        });
        self.notify_change();
        first
    }

    /// Decides between a new link and the one that is kept. `lost` is what the dialler said it
    /// knows to be lost.
    pub(crate) fn install(&self, link: &Arc<Link>, lost: Option<u64>) -> Installed {
        let mut peers = self.lock();
        let peer = peers.entry(link.peer.clone()).or_default();
        if let Some(kept) = &peer.link
            && kept.connection.close_reason().is_none()
            && !replaces(&Facts::of(link), &Facts::of(kept), lost)
        {
            return Installed::Superseded;
        }
        let replaced = peer.link.replace(link.clone());
        peer.failures = 0;
        peer.why.clear();
        drop(peers);
        self.notify_change();
        match replaced {
            Some(dead) if dead.incarnation < link.incarnation || lost == Some(dead.id) => {
                Installed::KeptForDead(dead)
            }
            replaced => Installed::Kept(replaced),
        }
    }

    /// A link is lost. True when it was the kept one.
    pub(crate) fn lose(&self, link: &Arc<Link>) -> bool {
        let kept = self.lock().get_mut(&link.peer).is_some_and(|peer| {
            let kept = peer.link.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, link));
            if kept {
                peer.link = None;
                peer.lost = Some(Lost { id: link.id, incarnation: link.incarnation });
                peer.reported_at = None;
            }
            kept
        });
        self.notify_change();
        kept
    }

    /// Strikes a peer out that only gossip knew. False when there is a link to it or the operator
    /// named it.
    pub(crate) fn forget(&self, node: &NodeId) -> bool {
        let mut peers = self.lock();
        let gone =
            peers.get(node).is_some_and(|peer| peer.link.is_none() && peer.static_addr.is_none());
        if gone {
            peers.remove(node);
        }
        gone
    }

    /// Our healthy links and their round trips in microseconds, for `to`.
    pub(crate) fn report(&self, to: &NodeId) -> Vec<(NodeId, u32)> {
        let links = self.links().into_iter().filter(|link| link.peer != *to && link.is_healthy());
        let report = links.map(|link| {
            (link.peer.clone(), u32::try_from(link.rtt().as_micros()).unwrap_or(u32::MAX))
        });
        report.take(REPORTED_LINKS_MAX).collect()
    }

    /// A peer's healthy links.
    pub(crate) fn reported(&self, link: &Link, links: Vec<(NodeId, u32)>) {
        if let Some(peer) = self.lock().get_mut(&link.peer) {
            peer.reported = links
                .into_iter()
                .map(|(node, micros)| (node, Duration::from_micros(micros.into())))
                .collect();
            peer.reported_at = Some(Instant::now());
        }
    }

    /// Incarnations of peers to which the link went silent or was lost, and whom no peer reports to
    /// hear either. A node that hears nobody at all says nothing: the silence may be its own.
    pub(crate) fn unheard(&self) -> Vec<(NodeId, u64)> {
        let peers = self.lock();
        let silent = peers.iter().filter_map(|(node, peer)| match &peer.link {
            Some(link) if link.is_healthy() => None,
            Some(link) => Some((node, link.incarnation)),
            None => peer.lost.map(|lost| (node, lost.incarnation)),
        });
        let silent: Vec<_> = silent.collect();
        if silent.is_empty() || (peers.len() > 1 && !peers.values().any(Peer::is_healthy)) {
            return Vec::new();
        }
        let helpers = || peers.values().filter(|peer| peer.is_healthy() && peer.has_reported());
        let unheard = silent
            .into_iter()
            .filter(|(node, _)| !helpers().any(|peer| peer.reported.contains_key(*node)));
        unheard.map(|(node, incarnation)| (node.clone(), incarnation)).collect()
    }

    /// The ways to a peer; `drains` tells who goes away soon. None: nobody has told where it is.
    pub(crate) fn ways(&self, target: &NodeId, drains: impl Fn(&NodeId) -> bool) -> Option<Ways> {
        let peers = self.lock();
        let peer = peers.get(target)?;
        let legs = peers.iter().filter_map(|(via, relay)| {
            let link = relay.link.as_ref().filter(|link| link.is_healthy())?;
            let theirs = *relay.reported.get(target).filter(|_| relay.has_reported())?;
            Some(Leg { via: via.clone(), mine: link.rtt(), theirs, draining: drains(via) })
        });
        Some(Ways {
            direct: peer.link.clone(),
            detours: detours(self.me.region, target, legs),
            broken: peer.failures > 0 || peer.lost.is_some(),
            why: peer.why.clone(),
        })
    }

    /// Everybody known.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.lock().keys().cloned().collect()
    }
}

impl Peer {
    fn is_healthy(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_healthy())
    }

    /// Lately.
    fn has_reported(&self) -> bool {
        self.reported_at.is_some_and(|at| at.elapsed() < REPORT_AGE_MAX)
    }

    fn address(&self, attempt: u32) -> Option<SocketAddr> {
        let learned = self.learned.map(|(_, addr)| addr);
        if attempt.is_multiple_of(2) {
            learned.or(self.static_addr)
        } else {
            self.static_addr.or(learned)
        }
    }
}

/// What the choice between two links to one peer depends on: the same at both ends.
struct Facts {
    id: u64,
    incarnation: u64,
    dialled_by_smaller: bool,
}

impl Facts {
    fn of(link: &Link) -> Self {
        Self {
            id: link.id,
            incarnation: link.incarnation,
            dialled_by_smaller: link.dialled_by_smaller,
        }
    }
}

/// Does a new link replace the kept one? A later incarnation of the peer does; so does one whose
/// dialler knows that the kept one is lost. Otherwise both dialled at once, and that of the smaller
/// name is kept.
fn replaces(new: &Facts, kept: &Facts, lost: Option<u64>) -> bool {
    if new.incarnation != kept.incarnation {
        return new.incarnation > kept.incarnation;
    }
    lost == Some(kept.id) || new.dialled_by_smaller || !kept.dialled_by_smaller
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(id: u64, incarnation: u64, dialled_by_smaller: bool) -> Facts {
        Facts { id, incarnation, dialled_by_smaller }
    }

    #[test]
    fn when_both_dial_at_once_both_keep_the_one_of_the_smaller_name_whichever_comes_first() {
        let (smaller, larger) = (facts(1, 1, true), facts(2, 1, false));
        assert!(replaces(&smaller, &larger, None));
        assert!(!replaces(&larger, &smaller, None));
    }

    #[test]
    fn a_dialler_that_lost_the_kept_link_is_believed() {
        let (kept, new) = (facts(1, 1, true), facts(2, 1, false));
        assert!(replaces(&new, &kept, Some(1)));
        assert!(!replaces(&new, &kept, Some(77)), "it lost an older one: this is a race");
    }

    #[test]
    fn a_later_incarnation_always_wins_and_an_earlier_never() {
        assert!(replaces(&facts(2, 2, false), &facts(1, 1, true), None));
        assert!(!replaces(&facts(2, 1, true), &facts(1, 2, false), Some(1)));
    }

    #[test]
    fn static_and_learned_addresses_take_turns_and_a_later_incarnation_is_believed() {
        let peers = PeerTable::new("r1/core/1".parse().unwrap());
        let peer: NodeId = "r2/core/1".parse().unwrap();
        let [told, first, second] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(peers.address(&peer).is_none());
        assert!(peers.add_static(&peer, told));
        assert_eq!(peers.address(&peer), Some(told));
        assert!(!peers.add_learned(&peer, 5, first));
        assert_eq!(peers.address(&peer), Some(first));
        peers.add_learned(&peer, 4, told);
        assert_eq!(peers.address(&peer), Some(first), "an earlier incarnation is not believed");
        peers.add_learned(&peer, 6, second);
        assert_eq!(peers.address(&peer), Some(second));
        assert!(peers.failed(&peer, "no answer".to_owned()));
        assert_eq!(peers.address(&peer), Some(told));
        assert!(!peers.failed(&peer, "no answer".to_owned()));
        assert_eq!(peers.address(&peer), Some(second));
    }

    #[test]
    fn a_node_does_not_know_itself() {
        let me: NodeId = "r1/core/1".parse().unwrap();
        let peers = PeerTable::new(me.clone());
        assert!(!peers.add_static(&me, SocketAddr::from(([127, 0, 0, 1], 1))));
        assert!(peers.nodes().is_empty());
    }
}
