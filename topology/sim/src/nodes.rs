//! The nodes of the world: the production core and edge, put together as `hearth up` does it, on
//! simulated machines.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use auth::{DevIssuer, StreamKey, Verifier, VerifierOptions};
use core_region::{Consumers, Core, CoreOptions, InboxNotifier};
use edge::{Edge, EdgeOptions};
use mesh::{Identity, Mesh, MeshCa, MeshOptions};
use net::Net as _;
use store::Store;
use topology::World;
use wire::version::Features;
use wire::{NodeId, NodeRole, RegionId};

use crate::net::SimNet;

/// Port of every node's mesh.
const MESH_PORT: u16 = 7_000;
/// Port for clients.
const CLIENT_PORT: u16 = 8_080;

/// Processes that one edge may run, one after the other.
const LIVES_MAX: u16 = 200;

/// A running node.
pub struct Running {
    /// Its place in the mesh.
    pub mesh: Mesh,
    pub part: Part,
}

/// A node's role.
#[derive(Clone)]
pub enum Part {
    /// It orders messages.
    Core(Core),
    /// It ends WebSockets.
    Edge(Edge),
}

/// Filled when a node has started, emptied when it dies.
pub type Slot = Arc<Mutex<Option<Running>>>;

/// Shared by all nodes: world, keys, certificates.
pub struct Material {
    /// The world, the same for all.
    pub world: Arc<World>,
    /// Signs the tokens of clients.
    pub issuer: DevIssuer,
    verifier: Arc<Verifier>,
    identities: BTreeMap<NodeId, Identity>,
    open_edges: Mutex<BTreeMap<NodeId, String>>,
    urls: Mutex<BTreeMap<NodeId, String>>,
}

impl Material {
    /// Makes keys and certificates.
    ///
    /// # Errors
    /// When keys or certificates cannot be made.
    pub fn gather(world: Arc<World>) -> anyhow::Result<Self> {
        let ca = MeshCa::create()?;
        let mut identities = BTreeMap::new();
        for node in world.nodes() {
            let identity = ca.issue(&node).with_context(|| format!("a certificate for {node}"))?;
            identities.insert(node, identity);
        }
        let issuer = DevIssuer::from_seed(rand::random());
        let options = VerifierOptions {
            tenants: world.tenants.iter().map(|tenant| tenant.id.clone()).collect(),
            issuers: Vec::new(),
            dev: Some(issuer.public_key()),
            stream: StreamKey::from_seed(rand::random()),
        };
        let verifier = Arc::new(Verifier::new(options)?);
        Ok(Self {
            world,
            issuer,
            verifier,
            identities,
            open_edges: Mutex::default(),
            urls: Mutex::default(),
        })
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<NodeId, String>> {
        self.open_edges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn urls(&self) -> MutexGuard<'_, BTreeMap<NodeId, String>> {
        self.urls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of an edge, or its last one: a name server's answer.
    #[must_use]
    pub fn edge_url(&self, node: &NodeId) -> String {
        let known = self.urls().get(node).cloned();
        known.unwrap_or_else(|| format!("http://{}", SocketAddr::new(node_ip(node), CLIENT_PORT)))
    }

    /// Opens or closes the node for new clients.
    pub fn set_open(&self, node: &NodeId, is_open: bool) {
        if is_open && node.role == NodeRole::Edge {
            let url = self.edge_url(node);
            self.open().insert(node.clone(), url);
        } else {
            self.open().remove(node);
        }
    }

    fn edges_open(&self) -> Vec<(RegionId, String)> {
        self.open().iter().map(|(node, url)| (node.region, url.clone())).collect()
    }
}

/// The address of a node's machine.
#[must_use]
pub fn node_ip(node: &NodeId) -> IpAddr {
    let n = node.name.as_str().parse().unwrap_or(0);
    let role = if node.role == NodeRole::Core { 1 } else { 2 };
    ip(node.region, role, n)
}

/// The address of the machine of a region's clients.
#[must_use]
pub fn clients_ip(region: RegionId) -> IpAddr {
    ip(region, 9, 1)
}

/// An address that encodes region and role. A world has fewer than 256 regions. With more, two
/// machines would get one address, which the network refuses at the start.
fn ip(region: RegionId, role: u8, n: u8) -> IpAddr {
    Ipv4Addr::new(10, u8::try_from(region.0).unwrap_or(u8::MAX), role, n).into()
}

/// Options of one incarnation of a node.
#[derive(Clone, Debug)]
pub struct Life {
    /// Seed of its mesh's random choices.
    pub seed: u64,
    /// What it can do.
    pub features: Features,
}

/// The first task of a node's process: assembles the node and reports that it runs.
pub async fn main(
    material: Arc<Material>,
    node: NodeId,
    life: Life,
    store: Arc<dyn Store>,
    slot: Slot,
) {
    match assemble(&material, &node, life, store).await {
        Ok(running) => {
            material.set_open(&node, true);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        }
        Err(error) => tracing::error!(%node, error = format!("{error:#}"), "node did not start"),
    }
}

async fn assemble(
    material: &Arc<Material>,
    node: &NodeId,
    life: Life,
    store: Arc<dyn Store>,
) -> anyhow::Result<Running> {
    let address = |node: &NodeId| SocketAddr::new(node_ip(node), MESH_PORT);
    let identity = material.identities.get(node).context("a node of the world")?.clone();
    let mut options = MeshOptions::new(node.clone(), identity, address(node), Arc::new(SimNet));
    let others = material.world.nodes().into_iter().filter(|other| other != node);
    options.peers = others.map(|other| (other.clone(), address(&other))).collect();
    options.seed = life.seed;
    options.features = life.features;
    let mesh = Mesh::start(options)?;
    let world = Arc::clone(&material.world);
    let part = match node.role {
        NodeRole::Core => {
            let consumers = Consumers::new().with(InboxNotifier::default);
            let options = CoreOptions::new(node.clone(), world, mesh.clone(), store, consumers);
            Part::Core(Core::start(options))
        }
        NodeRole::Edge => {
            let listener = listen(node_ip(node)).await?;
            let public_url = format!("http://{}", listener.local_addr()?);
            material.urls().insert(node.clone(), public_url.clone());
            let lookup = Arc::clone(material);
            Part::Edge(Edge::start(EdgeOptions {
                node: node.clone(),
                world,
                mesh: mesh.clone(),
                listener,
                public_url,
                verifier: Arc::clone(&material.verifier),
                edges: Arc::new(move || lookup.edges_open()),
                origins: Arc::new(|_| true),
                limits: edge::Limits::default(),
            })?)
        }
    };
    Ok(Running { mesh, part })
}

/// Listens on the first port that no connection of an earlier process holds. In the simulated
/// kernel a half-closed connection holds its port for ever.
async fn listen(ip: IpAddr) -> io::Result<net::Listener> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for port in CLIENT_PORT..CLIENT_PORT + LIVES_MAX {
        match SimNet.listen(SocketAddr::new(ip, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}
