//! A node's place in the mesh: starting it, what its users may ask of it, and its end.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use quinn::{Endpoint, TokioRuntime};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::NodeId;
use wire::stream::Purpose;
use wire::version::Minor;

use crate::book::Book;
use crate::ca::Identity;
use crate::channel::Channel;
use crate::error::{OpenError, StartError};
use crate::gossip::{Gossip, GossipHandle};
use crate::membership::Membership;
use crate::open::{self, Way};
use crate::options::MeshOptions;
use crate::proof::IdentityError;
use crate::shared::{ACCEPT_QUEUE, Arrival, RELAYED_MAX, Shared};
use crate::socket::{self, Mute};
use crate::tls::Tls;
use crate::{accept, codes, transport};

/// A handle to this node's mesh; cheap to clone. When the last one is dropped, everything stops without a word, as in a
/// crash; [`Mesh::shutdown`] takes leave.
#[derive(Clone)]
pub struct Mesh {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    arrivals: tokio::sync::Mutex<mpsc::Receiver<Arrival>>,
    mute: Mute,
}

/// How it stands with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Who.
    pub peer: NodeId,
    /// A direct connection is up and something was heard on it lately.
    pub up: bool,
    /// Its measured round trip.
    pub rtt: Option<Duration>,
    /// The minor version of the protocol that it speaks; none: there is no link. May be one that this code does not know.
    pub minor: Option<u8>,
    /// Through whom a channel opened now would go first; none: directly, or not at all.
    pub relayed_via: Option<NodeId>,
}

impl Mesh {
    /// Binds, joins, and serves until the last handle is dropped or [`Mesh::shutdown`] is called. Call it inside the
    /// tokio runtime that shall drive it.
    ///
    /// # Errors
    /// As [`StartError`] says; nothing runs then.
    pub fn start(options: MeshOptions) -> Result<Self, StartError> {
        let MeshOptions {
            node,
            identity,
            bind,
            advertise,
            net,
            peers,
            generation,
            secret,
            seed,
            timings,
            minor,
        } = options;
        let tls = Tls::new(&node, identity)?;
        let secret = secret.unwrap_or_else(|| transport::secret_of(&tls));
        let server = transport::server(&tls, &timings)?;
        let mute = Mute::default();
        let failed = |error| StartError::Bind { bind, error };
        let socket = socket::wrap(net.udp(bind).map_err(failed)?, mute.clone()).map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        let config = transport::endpoint(&secret, generation, seed);
        let endpoint = Endpoint::new_with_abstract_socket(
            config,
            Some(server),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let (gossip, events) = GossipHandle::new();
        let (tell_membership, membership) = watch::channel(Arc::default());
        let (arrive, arrivals) = mpsc::channel(ACCEPT_QUEUE);
        let shared = Arc::new(Shared {
            book: Book::new(node.clone()),
            node,
            generation,
            minor,
            addr: advertise.unwrap_or(local),
            transport: transport::transport(&timings),
            timings,
            tls: RwLock::new(Arc::new(tls)),
            endpoint,
            gossip,
            draining: watch::Sender::new(false),
            membership,
            arrivals: arrive,
            relays: Arc::new(Semaphore::new(RELAYED_MAX)),
            dice: Mutex::new(StdRng::seed_from_u64(seed)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let gossip = Gossip::new(shared.clone(), tell_membership, shared.random());
        shared.spawn(gossip.run(events));
        shared.spawn(accept::accept(shared.clone()));
        for (peer, addr) in peers {
            shared.tell(&peer, addr);
        }
        tracing::info!(node = %shared.node, addr = %shared.addr, generation, "mesh started");
        Ok(Self {
            handle: Arc::new(Handle { shared, arrivals: tokio::sync::Mutex::new(arrivals), mute }),
        })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Who this node is.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.shared().node
    }

    /// Where others dial it.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared().addr
    }

    /// One more node to join through, for ever; a new address of a known one replaces the old.
    pub fn add_peer(&self, node: &NodeId, addr: SocketAddr) {
        self.shared().tell(node, addr);
    }

    /// A new channel to `peer`: over the direct link when it is healthy and not much slower, otherwise through a third
    /// region. Takes no round trip when the link is up. Gives up after 8 s. Cancel safe: the stream is given up.
    ///
    /// That a channel is open does not say that anybody accepts it: a peer that does not, resets it as busy.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    pub async fn open(&self, peer: &NodeId, purpose: Purpose) -> Result<Channel, OpenError> {
        open::open(self.shared(), peer, &purpose).await
    }

    /// The next channel that a peer has opened: who (proven), what for, and itself. `None` when the mesh has stopped.
    /// Cancel safe. 256 wait; one more is reset as busy.
    pub async fn accept(&self) -> Option<(NodeId, Purpose, Channel)> {
        let mut arrivals = self.handle.arrivals.lock().await;
        tokio::select! {
            () = self.shared().stop.cancelled() => None,
            arrival = arrivals.recv() => arrival,
        }
    }

    /// Who lives, this node included; told at every change.
    #[must_use]
    pub fn membership(&self) -> watch::Receiver<Arc<Membership>> {
        self.shared().membership.clone()
    }

    /// Shows another certificate, and trusts other authorities, from the next handshake on. The links that are up stay up:
    /// they were proven when they were made.
    ///
    /// # Errors
    /// When it is not this node's, or cannot be used for TLS. Nothing has changed then.
    pub fn renew(&self, identity: Identity) -> Result<(), IdentityError> {
        let shared = self.shared();
        let tls = Tls::new(&shared.node, identity)?;
        let server = transport::server(&tls, &shared.timings)?;
        *shared.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
        shared.endpoint.set_server_config(Some(server));
        tracing::info!(node = %shared.node, "certificate renewed");
        Ok(())
    }

    /// Tells everyone that this node goes away soon, or does not after all.
    pub fn set_draining(&self, draining: bool) {
        self.shared().draining.send_if_modified(|now| std::mem::replace(now, draining) != draining);
    }

    /// What it speaks.
    #[must_use]
    pub fn minor(&self) -> Minor {
        self.shared().minor
    }

    /// The first node that speaks an older version than this, of this node and those that it is linked with.
    #[must_use]
    pub fn speaks_before(&self, minor: Minor) -> Option<(NodeId, u8)> {
        let own = (self.node().clone(), self.minor().number());
        let linked =
            self.shared().book.links().into_iter().map(|link| (link.peer.clone(), link.minor));
        std::iter::once(own).chain(linked).find(|(_, speaks)| *speaks < minor.number())
    }

    /// How it stands with every known peer, by name.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        let status = |peer: NodeId| {
            let ways = open::ways(self.shared(), &peer)?;
            let relayed_via = match open::plan(&ways, true).into_iter().next() {
                Some(Way::Through(via)) => Some(via),
                _ => None,
            };
            let up = ways.direct.as_ref().is_some_and(|link| link.is_healthy());
            let (rtt, minor) = ways.direct.map(|link| (link.rtt(), link.minor)).unzip();
            Some(LinkStatus { peer, up, rtt, minor, relayed_via })
        };
        self.shared().book.nodes().into_iter().filter_map(status).collect()
    }

    /// Takes leave: the others see this node go at once instead of suspecting it. Waits until all channels are dropped and
    /// what they sent is acknowledged, but not longer than `deadline`; then closes every link. Opens and accepts fail
    /// from then on.
    pub async fn shutdown(&self, deadline: Duration) {
        let shared = self.shared();
        let end = Instant::now() + deadline;
        shared.draining.send_replace(true);
        let _ = timeout_at(end, shared.gossip.leave()).await;
        let quiet = async {
            for link in shared.book.links() {
                link.unused().await;
            }
        };
        let in_use = timeout_at(end, quiet).await.is_err();
        shared.endpoint.close(codes::GOODBYE, b"goodbye");
        shared.stop.cancel();
        shared.tasks.close();
        let _ = timeout_at(end, shared.tasks.wait()).await;
        let _ = timeout_at(end, shared.endpoint.wait_idle()).await;
        self.handle.mute.set();
        tracing::info!(node = %shared.node, in_use, "mesh stopped");
    }

    /// Falls silent at once, in both directions, as when the power fails: the peers see timeouts. For rehearsals.
    pub fn crash(&self) {
        self.handle.mute.set();
        self.shared().stop.cancel();
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("node", self.node()).field("addr", &self.local_addr()).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.mute.set();
        self.shared.stop.cancel();
        self.shared.endpoint.close(codes::ABORTED, b"");
    }
}
