//! A node's place in the mesh: starting it, what its users may ask of it, and its end.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use quinn::{Endpoint, TokioRuntime};
use rand::SeedableRng;
use rand::rngs::StdRng;
use runtime::Tasks;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use wire::NodeId;
use wire::stream::Purpose;
use wire::version::{Feature, Features};

use crate::ca::Identity;
use crate::channel::Channel;
use crate::context::{ACCEPT_QUEUE, Arrival, NodeContext, RELAYED_MAX};
use crate::error::{OpenError, StartError};
use crate::gossip::Gossip;
use crate::gossip::handle::GossipHandle;
use crate::membership::Membership;
use crate::open::{self, Way};
use crate::options::MeshOptions;
use crate::peer_table::PeerTable;
use crate::proof::IdentityError;
use crate::socket::{self, Mute};
use crate::tls::Tls;
use crate::{accept, codes, dial, transport};

/// A handle to this node's mesh; cheap to clone. When the last one is dropped, everything stops
/// silently, as in a crash; [`Mesh::shutdown`] tells the peers.
#[derive(Clone)]
pub struct Mesh {
    handle: Arc<Handle>,
}

struct Handle {
    ctx: Arc<NodeContext>,
    arrivals: tokio::sync::Mutex<mpsc::Receiver<Arrival>>,
    mute: Mute,
}

/// The state of the link to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The node at the other end.
    pub peer: NodeId,
    /// A direct connection is up and something was heard on it lately.
    pub up: bool,
    /// Its measured round trip.
    pub rtt: Option<Duration>,
    /// Its features, as it told them when the link was made; none: there is no link.
    pub features: Option<Features>,
    /// Through whom a channel opened now would go first; none: directly, or not at all.
    pub relayed_via: Option<NodeId>,
}

impl Mesh {
    /// Binds, joins, and serves until the last handle is dropped or [`Mesh::shutdown`] is called.
    /// Call it inside the tokio runtime that shall drive it.
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
            incarnation,
            secret,
            seed,
            timings,
            features,
        } = options;
        let tls = Tls::new(&node, identity)?;
        let secret = secret.unwrap_or_else(|| transport::secret_of(&tls));
        let server = transport::server(&tls, &timings)?;
        let mute = Mute::default();
        let failed = |error| StartError::Bind { bind, error };
        let socket = socket::wrap(net.udp(bind).map_err(failed)?, mute.clone()).map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        let config = transport::endpoint(&secret, incarnation, seed);
        let endpoint = Endpoint::new_with_abstract_socket(
            config,
            Some(server),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let tasks = Tasks::new("mesh");
        let (gossip, events) = GossipHandle::new();
        let (membership_out, membership) = watch::channel(Arc::default());
        let (arrive, arrivals) = mpsc::channel(ACCEPT_QUEUE);
        let ctx = Arc::new(NodeContext {
            peers: PeerTable::new(node.clone()),
            node,
            incarnation,
            features,
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
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            loopbacks: TaskTracker::new(),
            stop: tasks.stopping(),
            tasks,
        });
        let gossip = Gossip::new(ctx.clone(), membership_out, ctx.random());
        ctx.spawn("gossip", gossip.run(events));
        ctx.spawn("accept", accept::accept(ctx.clone()));
        for (peer, addr) in peers {
            dial::add_static(&ctx, &peer, addr);
        }
        tracing::info!(node = %ctx.node, addr = %ctx.addr, incarnation, "mesh started");
        Ok(Self {
            handle: Arc::new(Handle { ctx, arrivals: tokio::sync::Mutex::new(arrivals), mute }),
        })
    }

    pub(crate) fn ctx(&self) -> &Arc<NodeContext> {
        &self.handle.ctx
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.ctx().node
    }

    /// Where others dial it.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.ctx().addr
    }

    /// One more node to join through, for ever; a new address of a known one replaces the old.
    pub fn add_peer(&self, node: &NodeId, addr: SocketAddr) {
        dial::add_static(self.ctx(), node, addr);
    }

    /// A new channel to `peer`: over the direct link when it is healthy and not much slower,
    /// otherwise through a third region. Takes no round trip when the link is up. Gives up after 8
    /// s. Cancel safe: the stream is given up. A channel to this node itself stays in its memory
    /// and arrives at its own [`Mesh::accept`].
    ///
    /// That a channel is open does not say that anybody accepts it: a peer that does not, resets it
    /// as busy.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    pub async fn open(&self, peer: &NodeId, purpose: Purpose) -> Result<Channel, OpenError> {
        open::open(self.ctx(), peer, &purpose).await
    }

    /// The next channel that a peer has opened: who (proven), what for, and itself. `None` when the
    /// mesh has stopped. Cancel safe. 256 wait; one more is reset as busy.
    pub async fn accept(&self) -> Option<(NodeId, Purpose, Channel)> {
        let mut arrivals = self.handle.arrivals.lock().await;
        tokio::select! {
            () = self.ctx().stop.cancelled() => None,
            arrival = arrivals.recv() => arrival,
        }
    }

    /// The nodes that are alive, this one included; updated at every change.
    #[must_use]
    pub fn membership(&self) -> watch::Receiver<Arc<Membership>> {
        self.ctx().membership.clone()
    }

    /// Shows another certificate, and trusts other authorities, from the next handshake on. The
    /// links that are up stay up: they were proven when they were made.
    ///
    /// # Errors
    /// When it is not this node's, or cannot be used for TLS. Nothing has changed then.
    pub fn renew(&self, identity: Identity) -> Result<(), IdentityError> {
        let ctx = self.ctx();
        let tls = Tls::new(&ctx.node, identity)?;
        let server = transport::server(&tls, &ctx.timings)?;
        *ctx.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
        ctx.endpoint.set_server_config(Some(server));
        tracing::info!(node = %ctx.node, "certificate renewed");
        Ok(())
    }

    /// Tells everyone that this node goes away soon, or does not after all.
    pub fn set_draining(&self, draining: bool) {
        self.ctx().draining.send_if_modified(|now| std::mem::replace(now, draining) != draining);
    }

    /// Tasks of this mesh that have panicked, oldest first. With one, the node should get no work.
    #[must_use]
    pub fn panicked(&self) -> Vec<&'static str> {
        self.ctx().tasks.panicked()
    }

    /// What this node can do, and tells its peers that it can.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.ctx().features
    }

    /// A node that lacks this feature, of this one and those that it is linked with.
    #[must_use]
    pub fn lacking(&self, feature: Feature) -> Option<NodeId> {
        if !self.features().has(feature) {
            return Some(self.node().clone());
        }
        let links = self.ctx().peers.links();
        let lacks = links.iter().find(|link| !link.features.has(feature));
        lacks.map(|link| link.peer.clone())
    }

    /// How it stands with every known peer, by name.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        let status = |peer: NodeId| {
            let ways = open::ways(self.ctx(), &peer)?;
            let relayed_via = match open::plan(&ways, true).into_iter().next() {
                Some(Way::Through(via)) => Some(via),
                _ => None,
            };
            let up = ways.direct.as_ref().is_some_and(|link| link.is_healthy());
            let (rtt, features) =
                ways.direct.map(|link| (link.rtt(), link.features.clone())).unzip();
            Some(LinkStatus { peer, up, rtt, features, relayed_via })
        };
        self.ctx().peers.nodes().into_iter().filter_map(status).collect()
    }

    /// Leaves the mesh: the peers see this node go at once instead of suspecting it. Waits until
    /// all channels are dropped and what they sent is acknowledged, but not longer than `deadline`;
    /// then closes every link. Opens and accepts fail from then on.
    pub async fn shutdown(&self, deadline: Duration) {
        let ctx = self.ctx();
        let end = Instant::now() + deadline;
        ctx.draining.send_replace(true);
        let _ = timeout_at(end, ctx.gossip.leave()).await;
        let quiet = async {
            for link in ctx.peers.links() {
                link.unused().await;
            }
            ctx.loopbacks.close();
            ctx.loopbacks.wait().await;
        };
        let in_use = timeout_at(end, quiet).await.is_err();
        ctx.endpoint.close(codes::SHUTDOWN, b"shutdown");
        ctx.tasks.stop(end.saturating_duration_since(Instant::now())).await;
        let _ = timeout_at(end, ctx.endpoint.wait_idle()).await;
        self.handle.mute.set();
        tracing::info!(node = %ctx.node, in_use, "mesh stopped");
    }

    /// Falls silent at once, in both directions, as when the power fails: the peers see timeouts.
    /// For failure rehearsals.
    pub fn crash(&self) {
        self.handle.mute.set();
        self.ctx().tasks.kill();
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
        self.ctx.tasks.kill();
        self.ctx.endpoint.close(codes::ABORTED, b"");
    }
}
