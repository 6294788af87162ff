//! What a node's mesh is told at its start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use net::Net;
use wire::NodeId;

use crate::ca::Identity;

/// Options of [`crate::Mesh::start`].
#[derive(Clone)]
pub struct MeshOptions {
    /// Who this node is. Its certificate must say the same.
    pub node: NodeId,
    /// Its certificate, its key, and whom it trusts.
    pub identity: Identity,
    /// Where to listen (UDP). Port 0 takes a free one.
    pub bind: SocketAddr,
    /// What to tell the others to dial; the bound address when none.
    pub advertise: Option<SocketAddr>,
    /// Where sockets come from.
    pub net: Arc<dyn Net>,
    /// Nodes to join through, tried for ever. More are learnt by gossip and by [`crate::Mesh::add_peer`].
    pub peers: Vec<(NodeId, SocketAddr)>,
    /// Which life of this node this is: larger at every start. [`MeshOptions::new`] takes the wall clock in milliseconds.
    pub generation: u64,
    /// Makes stateless resets and connection ids, so that peers notice a restart at once. Stable for a node over its
    /// lives, secret to it; derived from its private key when none.
    pub secret: Option<[u8; 32]>,
    /// Seed of the jitter and of the gossip's choices.
    pub seed: u64,
    /// How fast losses are noticed.
    pub timings: Timings,
}

impl MeshOptions {
    /// With the defaults of the fields' documentation, no peers, and this moment as generation and seed.
    #[must_use]
    pub fn new(node: NodeId, identity: Identity, bind: SocketAddr, net: Arc<dyn Net>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            node,
            identity,
            bind,
            advertise: None,
            net,
            peers: Vec::new(),
            generation: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            secret: None,
            seed: u64::from(now.subsec_nanos()),
            timings: Timings::default(),
        }
    }
}

/// How fast losses are noticed.
#[derive(Clone, Debug)]
pub struct Timings {
    /// Gossip among the nodes of one region: a dead one is down within about 2 s.
    pub region: PoolTimings,
    /// Gossip among all nodes: a dead one is down within about 4 s.
    pub wide: PoolTimings,
}

/// One pool's.
#[derive(Clone, Debug)]
pub struct PoolTimings {
    /// Between two probes of a node.
    pub probe_period: Duration,
    /// After this without an answer others are asked to probe.
    pub probe_rtt: Duration,
    /// From suspect to down.
    pub suspicion: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            region: PoolTimings { probe_period: ms(400), probe_rtt: ms(150), suspicion: ms(900) },
            wide: PoolTimings { probe_period: ms(1000), probe_rtt: ms(350), suspicion: ms(1600) },
        }
    }
}
