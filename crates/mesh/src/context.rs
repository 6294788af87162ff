//! What the tasks of one node share. It starts none of them itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use quinn::{Endpoint, TransportConfig};
use rand::Rng;
use rand::rngs::StdRng;
use runtime::{Backoff, Tasks};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::NodeId;
use wire::stream::Purpose;
use wire::version::Features;

use crate::channel::Channel;
use crate::gossip::handle::GossipHandle;
use crate::membership::Membership;
use crate::options::Timings;
use crate::peer_table::PeerTable;
use crate::tls::Tls;

/// Channels opened by peers, or by this node to itself, that nobody has accepted yet. One more is
/// reset as busy.
pub(crate) const ACCEPT_QUEUE: usize = 256;
/// Channels that this node relays for others at once; one more is reset as busy.
pub(crate) const RELAYED_MAX: usize = 1024;

/// A channel that a peer has opened.
pub(crate) type Arrival = (NodeId, Purpose, Channel);

pub(crate) struct NodeContext {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    /// What it can do.
    pub(crate) features: Features,
    /// Where others dial it.
    pub(crate) addr: SocketAddr,
    pub(crate) timings: Timings,
    /// Replaced by a renewal: take it anew for every handshake.
    pub(crate) tls: RwLock<Arc<Tls>>,
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) endpoint: Endpoint,
    pub(crate) peers: PeerTable,
    pub(crate) gossip: GossipHandle,
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) membership: watch::Receiver<Arc<Membership>>,
    pub(crate) arrivals: mpsc::Sender<Arrival>,
    pub(crate) relays: Arc<Semaphore>,
    pub(crate) rng: Mutex<StdRng>,
    /// Counts the ends of channels from this node to itself.
    pub(crate) loopbacks: TaskTracker,
    pub(crate) tasks: Tasks,
    /// Cancelled when the node stops.
    pub(crate) stop: CancellationToken,
}

impl NodeContext {
    /// What this node shows and whom it trusts now.
    pub(crate) fn tls(&self) -> Arc<Tls> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs a task that is dropped when the node stops.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tasks.spawn_until_stop(name, task);
    }

    /// Whether a peer is about to leave.
    pub(crate) fn drains(&self, node: &NodeId) -> bool {
        self.membership.borrow().nodes.get(node).is_some_and(|state| state.draining)
    }

    pub(crate) fn random(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Between half of it and all of it, so that nodes do not act in step.
    pub(crate) fn jitter(&self, pause: Duration) -> Duration {
        let share = self.rng.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.5..1.0);
        pause.mul_f64(share)
    }

    /// The next pause of a backoff, from the node's own seed.
    pub(crate) fn next_pause(&self, backoff: &mut Backoff) -> Duration {
        backoff.next_pause_with(&mut *self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands a channel to whoever accepts. It is refused when nobody knows its purpose, and when
    /// too many wait.
    pub(crate) fn arrive(&self, arrival: Arrival) {
        if let (peer, Purpose::Unknown(unknown), _) = &arrival {
            let kind = unknown.kind;
            tracing::warn!(node = %self.node, %peer, kind, "unknown purpose, refusing a channel");
            return arrival.2.refuse(crate::codes::PURPOSE);
        }
        if let Err(error) = self.arrivals.try_send(arrival) {
            let (peer, purpose, channel) = error.into_inner();
            tracing::warn!(node = %self.node, %peer, ?purpose, "nobody accepts: channel refused");
            channel.refuse(crate::codes::BUSY);
        }
    }
}
