//! A region of the local mesh: its nodes, and what may be done to all of them at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use wire::{NodeId, NodeRole, RegionId};

use super::copy;
use super::material::Material;
use super::node::RunningNode;
use crate::api::{NodeStatus, RegionState, RegionStatus};
use crate::assembly::Node;
use crate::local_mesh::discovery::LocalRegion;

/// Sessions of a draining edge are asked to leave over this time.
const DRAIN_WINDOW: Duration = Duration::from_secs(2);
/// A drain that is not through by then is given up.
const DRAIN_WAIT: Duration = Duration::from_secs(30);

/// A region, running or not.
pub(super) struct Region {
    pub(super) id: RegionId,
    pub(super) about: LocalRegion,
    material: Arc<Material>,
    /// One change at a time; reading the status waits for none.
    changing: tokio::sync::Mutex<()>,
    now: Mutex<Now>,
}

struct Now {
    state: RegionState,
    nodes: Vec<RunningNode>,
}

impl Region {
    pub(super) fn new(material: &Arc<Material>, id: RegionId, about: LocalRegion) -> Self {
        let now = Mutex::new(Now { state: RegionState::Killed, nodes: Vec::new() });
        Self {
            id,
            about,
            material: Arc::clone(material),
            changing: tokio::sync::Mutex::default(),
            now,
        }
    }

    /// Starts every node; the replica is open already. Blocks.
    ///
    /// # Errors
    /// When one does not start; those that did run on.
    pub(super) fn start(&self) -> anyhow::Result<()> {
        let region = self.material.world.region(self.id).context("a region of the world")?;
        for node in region.nodes() {
            let node = RunningNode::start(&self.material, node)?;
            self.now().nodes.push(node);
        }
        self.now().state = RegionState::Up;
        Ok(())
    }

    /// Every node, every socket and the replica, at once and mid-write.
    ///
    /// # Errors
    /// When it is dead already.
    pub(super) async fn kill(self: &Arc<Self>) -> anyhow::Result<()> {
        // Not `changing`: death does not wait for a drain.
        let nodes = {
            let mut now = self.now();
            if now.state == RegionState::Killed {
                bail!("region {} is killed already; restore it first", self.about.name);
            }
            now.state = RegionState::Killed;
            std::mem::take(&mut now.nodes)
        };
        self.material.store.kill(self.id);
        blocking(move || {
            each_at_once(nodes, RunningNode::kill);
            Ok(())
        })
        .await
    }

    /// From killed or drained to up.
    ///
    /// # Errors
    /// When it is up, or its replica or a node does not start.
    pub(super) async fn restore(self: &Arc<Self>) -> anyhow::Result<()> {
        let _one = self.changing.lock().await;
        let state = self.now().state;
        match state {
            RegionState::Up | RegionState::Draining => {
                bail!("region {} is {state}; nothing to restore", self.about.name)
            }
            RegionState::Killed => {
                self.material.store.restore(self.id).await.context("the replica")?;
            }
            RegionState::Drained => self.stop().await?,
        }
        let this = Arc::clone(self);
        blocking(move || this.start()).await
    }

    /// Hands its shards to others, then asks its sessions to leave. It runs on, with nothing to do.
    ///
    /// # Errors
    /// When it is not up, or somebody does not take over in time.
    pub(super) async fn drain(self: &Arc<Self>) -> anyhow::Result<()> {
        let _one = self.changing.lock().await;
        {
            let mut now = self.now();
            if now.state != RegionState::Up {
                bail!(
                    "region {} is {}; only one that is up can be drained",
                    self.about.name,
                    now.state
                );
            }
            now.state = RegionState::Draining;
            now.nodes.iter().for_each(RunningNode::forget);
        }
        let drained = tokio::time::timeout(DRAIN_WAIT, self.drain_nodes()).await;
        let mut now = self.now();
        if now.state == RegionState::Killed {
            bail!("region {} was killed while it drained", self.about.name);
        }
        match drained {
            Ok(()) => {
                now.state = RegionState::Drained;
                Ok(())
            }
            Err(_) => {
                now.state = RegionState::Up;
                bail!(
                    "region {}: nobody took over all of it within {} s",
                    self.about.name,
                    DRAIN_WAIT.as_secs()
                )
            }
        }
    }

    async fn drain_nodes(&self) {
        let nodes: Vec<_> = self.now().nodes.iter().map(|running| running.node.clone()).collect();
        // All of them first, so that none hands over to the next.
        for node in &nodes {
            node.mesh.set_draining(true);
        }
        futures_util::future::join_all(nodes.iter().map(|node| node.drain(DRAIN_WINDOW))).await;
    }

    /// Ends every node in order; edges first, so that cores can still answer them.
    ///
    /// # Errors
    /// When the machine cannot run it.
    pub(super) async fn stop(&self) -> anyhow::Result<()> {
        self.stop_edges().await?;
        let cores = std::mem::take(&mut self.now().nodes);
        blocking(move || {
            each_at_once(cores, RunningNode::stop);
            Ok(())
        })
        .await
    }

    /// Ends the edges; their sessions get their answers and are told.
    ///
    /// # Errors
    /// When the machine cannot run it.
    pub(super) async fn stop_edges(&self) -> anyhow::Result<()> {
        let edges: Vec<_> = {
            let is_edge = |node: &mut RunningNode| node.node.id.role == NodeRole::Edge;
            self.now().nodes.extract_if(.., is_edge).collect()
        };
        blocking(move || {
            each_at_once(edges, RunningNode::stop);
            Ok(())
        })
        .await
    }

    /// No client is sent to its edges from now on.
    pub(super) fn forget(&self) {
        self.now().nodes.iter().for_each(RunningNode::forget);
    }

    /// One node, at once; the replica stays.
    ///
    /// # Errors
    /// When it does not run.
    pub(super) async fn kill_node(&self, id: &NodeId) -> anyhow::Result<()> {
        let node = {
            let mut now = self.now();
            let at = now.nodes.iter().position(|running| running.node.id == *id);
            now.nodes.remove(at.with_context(|| format!("node {id} does not run"))?)
        };
        blocking(move || {
            node.kill();
            Ok(())
        })
        .await
    }

    /// Starts one node that was killed.
    ///
    /// # Errors
    /// When it runs, the region does not, or it does not start.
    pub(super) async fn restore_node(&self, id: &NodeId) -> anyhow::Result<()> {
        let _one = self.changing.lock().await;
        {
            let now = self.now();
            if now.state != RegionState::Up {
                bail!("region {} is {}; restore the region", self.about.name, now.state);
            }
            if now.nodes.iter().any(|running| running.node.id == *id) {
                bail!("node {id} runs already");
            }
        }
        let (material, id) = (Arc::clone(&self.material), id.clone());
        let node = blocking(move || RunningNode::start(&material, id)).await?;
        self.now().nodes.push(node);
        Ok(())
    }

    /// One of its cores that runs and gives nothing away.
    pub(super) fn a_core(&self) -> Option<Node> {
        let now = self.now();
        let mut nodes = now.nodes.iter().map(|running| &running.node);
        nodes
            .find(|node| node.id.role == NodeRole::Core)
            .filter(|_| now.state == RegionState::Up)
            .cloned()
    }

    /// Its edges that run.
    pub(super) fn edges(&self) -> Vec<Node> {
        let now = self.now();
        let nodes = now.nodes.iter().map(|running| &running.node);
        nodes.filter(|node| node.id.role == NodeRole::Edge).cloned().collect()
    }

    pub(super) fn status(&self) -> RegionStatus {
        let now = self.now();
        let mut status = RegionStatus {
            name: self.about.name.clone(),
            state: now.state,
            zones: self.about.zones.clone(),
            nodes: Vec::new(),
            shards: Vec::new(),
            store: copy::status(&self.material.store, self.id),
        };
        for RunningNode { node, .. } in &now.nodes {
            status.shards.extend(node.serves());
            let (sessions, peers_up) = (node.sessions(), node.peers_up());
            status.nodes.push(NodeStatus { node: node.id.to_string(), sessions, peers_up });
        }
        status
    }

    /// Ready when the region is up, its copy takes writes and none of its nodes has a trouble. Why it is not ready, in sentences.
    pub(super) fn troubles(&self) -> Vec<String> {
        let now = self.now();
        let mut reasons = Vec::new();
        if now.state != RegionState::Up {
            reasons.push(format!("the region is {}", now.state));
        }
        let copy = copy::status(&self.material.store, self.id);
        reasons.extend(copy.and_then(|copy| copy.trouble).map(|why| format!("store: {why}")));
        for RunningNode { node, .. } in &now.nodes {
            reasons.extend(node.troubles().iter().map(|trouble| format!("{}: {trouble}", node.id)));
        }
        reasons
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each node in a thread of its own; returns when all are through.
fn each_at_once(nodes: Vec<RunningNode>, end: fn(RunningNode)) {
    std::thread::scope(|scope| {
        for node in nodes {
            scope.spawn(move || end(node));
        }
    });
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the work panicked")?
}
