//! One node of the local mesh: a runtime of its own with a core or an edge in it, so that killing
//! it is dropping it.

use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use mesh::MeshOptions;
use tokio::runtime::{Builder, Runtime};
use wire::{NodeId, NodeRole};

use super::material::Material;
use crate::assembly::{CorePlan, EdgePlan, Node, PartPlan, Plan};

/// A killed node's sockets are closed within this; longer, and a restart takes other ports.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// So long an edge that ends waits for the answers to its sessions.
const DRAIN_WAIT: Duration = Duration::from_secs(4);
/// An orderly stop may take so long.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// A running node.
pub(super) struct RunningNode {
    pub(super) node: Node,
    runtime: Option<Runtime>,
    material: Arc<Material>,
}

impl RunningNode {
    /// Starts it. Blocks: call it where that is allowed, outside of any runtime.
    ///
    /// # Errors
    /// When a socket cannot be bound or a certificate is refused.
    pub(super) fn start(material: &Arc<Material>, id: NodeId) -> anyhow::Result<Self> {
        let nodes = material.world.nodes().len();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads((cores / nodes).max(1))
            .thread_name(id.to_string())
            .enable_all()
            .build()
            .context("a runtime")?;
        let plan = plan(material, &id);
        let node = runtime.block_on(Node::start(plan)).with_context(|| format!("node {id}"))?;
        if id.role == NodeRole::Edge {
            let url = material.edge_url(&id);
            material.open_edges.lock().unwrap_or_else(PoisonError::into_inner).insert(id, url);
        }
        Ok(Self { node, runtime: Some(runtime), material: Arc::clone(material) })
    }

    /// Drops its tasks and sockets where they stand, as the death of its process would. Blocks as
    /// `start` does.
    pub(super) fn kill(mut self) {
        self.forget();
        self.node.mesh.crash();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(KILL_WAIT);
        }
    }

    /// Hands over what it has and ends. Blocks as `start` does.
    pub(super) fn stop(mut self) {
        self.forget();
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(async {
                if self.node.id.role == NodeRole::Edge {
                    // Sessions are told, and get the answers that they wait for.
                    let drain = self.node.drain(Duration::ZERO);
                    let _ = tokio::time::timeout(DRAIN_WAIT, drain).await;
                }
                self.node.stop(STOP_WAIT).await;
            });
            runtime.shutdown_timeout(KILL_WAIT);
        }
    }

    /// No client is sent to it from now on.
    pub(super) fn forget(&self) {
        self.material
            .open_edges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.node.id);
    }
}

fn plan(material: &Arc<Material>, id: &NodeId) -> Plan {
    let net = material.net(id.region);
    let mut mesh =
        MeshOptions::new(id.clone(), material.identity(id), material.ports.mesh(id), net);
    let others = material.world.nodes().into_iter().filter(|other| other != id);
    mesh.peers = others.map(|other| (other.clone(), material.ports.mesh(&other))).collect();
    let part = match id.role {
        NodeRole::Core => PartPlan::Core(CorePlan {
            store: material.store.store(id.region),
            limits: material.limits.core.clone(),
        }),
        NodeRole::Edge => {
            let lookup = Arc::clone(material);
            PartPlan::Edge(EdgePlan {
                bind: material.ports.edge(id),
                public_url: material.edge_url(id),
                // Everybody is on this machine.
                limits: edge::Limits { count_loopback: false, ..material.limits.edge.clone() },
                verifier: Arc::clone(&material.verifier),
                edges: Box::new(move |_| Arc::new(move || lookup.edges_open())),
                origins: Arc::new(|_| true),
            })
        }
    };
    Plan { world: Arc::clone(&material.world), mesh, part }
}
