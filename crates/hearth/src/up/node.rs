//! One node of the local mesh: a runtime of its own with a core or an edge in it, so that killing it is dropping it.

use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use core_region::{Core, CoreOptions};
use edge::{Edge, EdgeOptions};
use mesh::{Mesh, MeshOptions};
use tokio::runtime::{Builder, Runtime};
use wire::{NodeId, NodeRole};

use super::material::Material;

/// A killed node's sockets are closed within this; longer, and a restart takes other ports.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// An orderly stop may take so long.
pub(super) const STOP_WAIT: Duration = Duration::from_secs(5);

/// A running node.
pub(super) struct RunningNode {
    pub(super) id: NodeId,
    pub(super) mesh: Mesh,
    pub(super) part: Part,
    runtime: Option<Runtime>,
    material: Arc<Material>,
}

/// What a node does.
#[derive(Clone)]
pub(super) enum Part {
    Core(Core),
    Edge(Edge),
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
        let (mesh, part) = runtime.block_on(assemble(material, &id)).with_context(|| format!("node {id}"))?;
        Ok(Self { id, mesh, part, runtime: Some(runtime), material: Arc::clone(material) })
    }

    /// Drops its tasks and sockets where they stand, as the death of its process would. Blocks as `start` does.
    pub(super) fn kill(mut self) {
        self.forget();
        self.mesh.crash();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(KILL_WAIT);
        }
    }

    /// Hands over what it has and ends. Blocks as `start` does.
    pub(super) fn stop(mut self) {
        self.forget();
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(async {
                match &self.part {
                    Part::Core(core) => core.stop(STOP_WAIT).await,
                    Part::Edge(edge) => edge.stop(STOP_WAIT).await,
                };
                self.mesh.shutdown(Duration::from_secs(1)).await;
            });
            runtime.shutdown_timeout(KILL_WAIT);
        }
    }

    /// No client is sent to it from now on.
    pub(super) fn forget(&self) {
        self.material.open_edges.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

async fn assemble(material: &Arc<Material>, id: &NodeId) -> anyhow::Result<(Mesh, Part)> {
    let net = material.net(id.region);
    let mut options = MeshOptions::new(id.clone(), material.identity(id), material.ports.mesh(id), Arc::clone(&net));
    let others = material.world.nodes().into_iter().filter(|other| other != id);
    options.peers = others.map(|other| (other.clone(), material.ports.mesh(&other))).collect();
    let mesh = Mesh::start(options)?;
    let world = Arc::clone(&material.world);
    let part = match id.role {
        NodeRole::Core => {
            let store = material.store.store(id.region);
            Part::Core(Core::start(CoreOptions::new(id.clone(), world, mesh.clone(), store)))
        }
        NodeRole::Edge => {
            let bind = material.ports.edge(id);
            let listener = net.listen(bind).await.with_context(|| format!("cannot listen on {bind}"))?;
            let (url, lookup) = (material.edge_url(id), Arc::clone(material));
            let edge = Edge::start(EdgeOptions {
                node: id.clone(),
                world,
                mesh: mesh.clone(),
                listener,
                public_url: url.clone(),
                verifier: Arc::clone(&material.verifier),
                edges: Arc::new(move || lookup.edges_open()),
                limits: edge::Limits::default(),
            })?;
            material.open_edges.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), url);
            Part::Edge(edge)
        }
    };
    Ok((mesh, part))
}
