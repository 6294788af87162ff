//! Options of a node's mesh.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net::Net;
use runtime::clock;
use wire::NodeId;
use wire::version::Features;

use crate::ca::Identity;

/// Options of [`crate::Mesh::start`].
#[derive(Clone)]
pub struct MeshOptions {
    /// This node. Its certificate must name it.
    pub node: NodeId,
    /// Its certificate, its key, and the authorities that it trusts.
    pub identity: Identity,
    /// Where to listen (UDP). Port 0 takes a free one.
    pub bind: SocketAddr,
    /// What to tell the others to dial; the bound address when none.
    pub advertise: Option<SocketAddr>,
    /// Where sockets come from.
    pub net: Arc<dyn Net>,
    /// Nodes to join through, tried for ever. More are learnt by gossip and by
    /// [`crate::Mesh::add_peer`].
    pub peers: Vec<(NodeId, SocketAddr)>,
    /// Numbers the starts of this node: larger at every one. [`MeshOptions::new`] takes the wall
    /// clock in milliseconds.
    pub incarnation: u64,
    /// Makes stateless resets, so that peers notice a restart on the same port at once. The same at
    /// every start of a node, and secret; derived from its private key when none.
    pub secret: Option<[u8; 32]>,
    /// Seed of the jitter, of connection ids and of the gossip's choices.
    pub seed: u64,
    /// How fast failures are detected.
    pub timings: Timings,
    /// What it can do: all that its program knows, or less while there are nodes of an older one.
    pub features: Features,
}

impl MeshOptions {
    /// With the defaults that the fields tell, no peers, and the wall clock as incarnation and
    /// seed.
    #[must_use]
    pub fn new(node: NodeId, identity: Identity, bind: SocketAddr, net: Arc<dyn Net>) -> Self {
        let now = clock::unix_time();
        Self {
            node,
            identity,
            bind,
            advertise: None,
            net,
            peers: Vec::new(),
            incarnation: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            secret: None,
            seed: u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or_default(),
            timings: Timings::default(),
            features: Features::all(),
        }
    }
}

/// How fast failures are detected. The same on all nodes of a mesh.
#[derive(Clone, Debug)]
pub struct Timings {
    /// Gossip among the nodes of one region. With the default a dead node is down after about 2 s:
    /// at most two periods until somebody probes it, one until the probe has failed, then the
    /// suspicion.
    pub region: PoolTimings,
    /// Gossip among all nodes, between regions up to 350 ms apart. With the default a dead node is
    /// down after about 4 s.
    pub wide: PoolTimings,
    /// A silent link sends this often, so that both ends hear something.
    pub keep_alive: Duration,
    /// A link that was silent for so long is not healthy: new channels go another way if there is
    /// one. At least three times `keep_alive`.
    pub link_silent: Duration,
    /// A link that was silent for so long is lost, and the channels on it are broken.
    pub link_idle: Duration,
    /// A dial that took so long has failed.
    pub dial: Duration,
    /// First pause before a node is dialled again; it doubles, with jitter.
    pub redial_min: Duration,
    /// Longest such pause.
    pub redial_max: Duration,
}

/// One gossip pool's. A dead node of a pool of a few dozen is down after at most about
/// 2 x `probe_period` + `probe_period` + `suspicion`.
#[derive(Clone, Debug)]
pub struct PoolTimings {
    /// Every node probes one other this often.
    pub probe_period: Duration,
    /// After so long without an answer three others are asked to probe it. More than the longest
    /// round trip.
    pub probe_rtt: Duration,
    /// A suspect has this long to say that it is alive.
    pub suspicion: Duration,
    /// News is passed on this often.
    pub gossip: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            region: PoolTimings {
                probe_period: ms(400),
                probe_rtt: ms(150),
                suspicion: ms(900),
                gossip: ms(100),
            },
            wide: PoolTimings {
                probe_period: ms(900),
                probe_rtt: ms(350),
                suspicion: ms(1500),
                gossip: ms(150),
            },
            keep_alive: ms(400),
            link_silent: ms(1250),
            link_idle: ms(3000),
            dial: ms(3000),
            redial_min: ms(100),
            redial_max: ms(2000),
        }
    }
}
