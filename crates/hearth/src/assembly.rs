//! One node, of either kind, put together the same way whether it has a process of its own
//! ([`crate::node_process`]) or shares one with the whole mesh ([`crate::up`]): its place in the
//! mesh, and the core or the edge on it.

mod verifier;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use auth::Verifier;
use core_region::{Consumers, Core, CoreOptions, FailoverError, FailoverReport, InboxNotifier};

use edge::{Edge, EdgeOptions, EdgeUrls, Origins};
use mesh::{Mesh, MeshOptions};
use store::Store;
use topology::World;
use wire::{ConversationId, NodeId, TenantId, UserId};

pub(crate) use verifier::verifier;

use crate::api::{EndedSessions, FailoverShard, FailoverStatus, MoveStatus, ShardStatus};

/// What follows the shard logs of every core.
fn consumers() -> Consumers {
    Consumers::new().with(InboxNotifier::default)
}

/// A move that has not arrived by then is not waited for: it goes on by itself.
const MOVE_WAIT: Duration = Duration::from_secs(60);
/// Leaving the mesh may take so long.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// What a node is made of.
pub(crate) struct Plan {
    pub(crate) world: Arc<World>,
    pub(crate) mesh: MeshOptions,
    pub(crate) part: PartPlan,
}

/// What it does, and what it needs for that.
pub(crate) enum PartPlan {
    Core(CorePlan),
    Edge(EdgePlan),
}

/// What a core needs.
pub(crate) struct CorePlan {
    /// Its region's view of the store.
    pub(crate) store: Arc<dyn Store>,
    pub(crate) limits: core_region::Limits,
}

/// What an edge needs.
pub(crate) struct EdgePlan {
    pub(crate) bind: SocketAddr,
    pub(crate) public_url: String,
    pub(crate) verifier: Arc<Verifier>,
    /// The edges that clients may be sent to, given who lives.
    pub(crate) edges: Box<dyn FnOnce(&Mesh) -> EdgeUrls + Send>,
    /// The web pages that may use it.
    pub(crate) origins: Origins,
    pub(crate) limits: edge::Limits,
}

/// What an operator decides about a region.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failing {
    /// Others serve what lives there.
    Over {
        /// Although something would be missing.
        accept_loss: bool,
    },
    /// It serves that again.
    Back,
}

/// A running node; cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) mesh: Mesh,
    pub(crate) part: Part,
}

/// What a node does.
#[derive(Clone)]
pub(crate) enum Part {
    Core(Core),
    Edge(Edge),
}

impl Node {
    /// Starts it inside the current runtime.
    ///
    /// # Errors
    /// When a socket cannot be bound or a certificate is refused.
    pub(crate) async fn start(plan: Plan) -> anyhow::Result<Self> {
        let Plan { world, mesh: options, part } = plan;
        let (id, net) = (options.node.clone(), Arc::clone(&options.net));
        let mesh = Mesh::start(options)?;
        let part = match part {
            PartPlan::Core(CorePlan { store, limits }) => {
                let options = CoreOptions::new(id.clone(), world, mesh.clone(), store, consumers());
                Part::Core(Core::start(CoreOptions { limits, ..options }))
            }
            PartPlan::Edge(plan) => {
                let EdgePlan { bind, public_url, verifier, edges, origins, limits } = plan;
                let listener =
                    net.listen(bind).await.with_context(|| format!("cannot listen on {bind}"))?;
                let (node, edges) = (id.clone(), edges(&mesh));
                let mesh = mesh.clone();
                let options = EdgeOptions {
                    node,
                    world,
                    mesh,
                    listener,
                    public_url,
                    verifier,
                    edges,
                    origins,
                    limits,
                };
                Part::Edge(Edge::start(options)?)
            }
        };
        Ok(Self { id, mesh, part })
    }

    /// Gives its shards to others, or asks its sessions to leave, spread over `spread`. Resolves
    /// when that is through, which is never if nobody takes over; it runs on, with nothing to do.
    /// Dropped, it goes on refusing what is new.
    pub(crate) async fn drain(&self, spread: Duration) {
        self.mesh.set_draining(true);
        match &self.part {
            Part::Core(core) => core.drain().await,
            Part::Edge(edge) => edge.drain(spread).await,
        }
    }

    /// Takes shards or sessions again.
    pub(crate) fn undrain(&self) {
        match &self.part {
            Part::Core(core) => core.undrain(),
            Part::Edge(edge) => edge.undrain(),
        }
        self.mesh.set_draining(false);
    }

    /// Ends it in order; what has not ended after `wait` is dropped where it stands.
    pub(crate) async fn stop(&self, wait: Duration) {
        match &self.part {
            Part::Core(core) => core.stop(wait).await,
            Part::Edge(edge) => edge.stop(wait).await,
        }
        self.mesh.shutdown(LEAVE_WAIT).await;
    }

    /// Fails a region over, or back, and resolves when that is done; or says what would be missing.
    ///
    /// # Errors
    /// When this is no core, there is no such region, or it cannot be done.
    pub(crate) async fn fail(
        &self,
        world: &World,
        region: &str,
        order: Failing,
    ) -> anyhow::Result<FailoverStatus> {
        let Part::Core(core) = &self.part else { bail!("{} is an edge; ask a core", self.id) };
        let id = region_of(world, region)?.id;
        let decided = match order {
            Failing::Over { accept_loss } => core.fail_over(id, accept_loss).await,
            Failing::Back => core.fail_back(id).await,
        };
        let (decided, FailoverReport { zones, planned, shards }) = match decided {
            Ok(decided) => (true, decided),
            Err(FailoverError::WouldLose { shards, .. }) => {
                (false, FailoverReport { zones: vec![], planned: false, shards })
            }
            Err(error) => return Err(error.into()),
        };
        let shards = shards.into_iter().map(|outlook| FailoverShard {
            shard: outlook.shard.to_string(),
            owner: outlook.owner.map(|owner| owner.to_string()),
            missing_frames_min: outlook.frames_missing_min,
            window_ms: outlook.window_ms,
            since_ms: outlook.since_ms,
        });
        let zones = world
            .zones
            .iter()
            .filter(|zone| zones.contains(&zone.id))
            .map(|zone| zone.name.clone());
        let region = region.to_owned();
        Ok(FailoverStatus {
            region,
            zones: zones.collect(),
            decided,
            planned,
            shards: shards.collect(),
        })
    }

    /// Moves a conversation to a region, and resolves when it is served there.
    ///
    /// # Errors
    /// When this is no core, there is no such conversation or region, or it does not arrive in
    /// time.
    pub(crate) async fn move_conversation(
        &self,
        world: &World,
        conversation: &str,
        region: &str,
    ) -> anyhow::Result<MoveStatus> {
        let Part::Core(core) = &self.part else { bail!("{} is an edge; ask a core", self.id) };
        let id: ConversationId =
            conversation.parse().with_context(|| format!("{conversation:?}"))?;
        let to = region_of(world, region)?;
        let moved = tokio::time::timeout(MOVE_WAIT, core.move_conversation(id, to.id)).await;
        let Ok(moved) = moved else {
            bail!(
                "it has not arrived within {} s; it goes on by itself: ask again",
                MOVE_WAIT.as_secs()
            );
        };
        let placement = moved.map_err(|refusal| anyhow::anyhow!("{}", refusal.message))?;
        Ok(MoveStatus {
            conversation_id: id,
            region: to.name.clone(),
            shard: placement.shard.to_string(),
            moves: placement.generation,
        })
    }

    /// Ends the sessions of a tenant, or of one of its users.
    ///
    /// # Errors
    /// When this is no edge, or a name is none.
    pub(crate) fn end_sessions(
        &self,
        tenant: &str,
        user: Option<&str>,
    ) -> anyhow::Result<EndedSessions> {
        let Part::Edge(edge) = &self.part else { bail!("{} is a core; ask every edge", self.id) };
        let tenant = TenantId::new(tenant)?;
        let user = user.map(UserId::new).transpose()?;
        let sessions = edge.end_sessions(&tenant, user.as_ref());
        tracing::info!(%tenant, user = ?user, sessions, "an operator has ended sessions");
        Ok(EndedSessions { sessions })
    }

    /// How many other nodes it sees alive.
    pub(crate) fn peers_up(&self) -> usize {
        self.mesh.membership().borrow().nodes.len().saturating_sub(1)
    }

    /// Open sessions; for edges.
    pub(crate) fn sessions(&self) -> Option<u64> {
        match &self.part {
            Part::Core(_) => None,
            Part::Edge(edge) => Some(edge.status().sessions as u64),
        }
    }

    /// The shards that it serves.
    pub(crate) fn serves(&self) -> Vec<ShardStatus> {
        let Part::Core(core) = &self.part else { return Vec::new() };
        let status = core.status();
        let served = status.serving().map(|shard| ShardStatus {
            shard: shard.shard.to_string(),
            node: self.id.to_string(),
            epoch: shard.epoch,
            committed: shard.committed.checked_sub(1),
            forks: shard.forks,
        });
        served.collect()
    }

    /// Why it should get no work, as far as it knows by itself.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let mut panicked = self.mesh.panicked();
        let mut troubles = Vec::new();
        match &self.part {
            Part::Core(core) => {
                let status = core.status();
                panicked.extend(&status.panicked);
                if !status.is_settled() {
                    troubles.push("shards are being claimed".to_owned());
                }
            }
            Part::Edge(edge) => panicked.extend(edge.status().panicked),
        }
        troubles.extend(panicked.into_iter().map(panic_trouble));
        troubles
    }
}

/// What `/readyz` says of a task that has panicked.
pub(crate) fn panic_trouble(task: &str) -> String {
    format!("task {task} has panicked; restart the node")
}

fn region_of<'a>(world: &'a World, name: &str) -> anyhow::Result<&'a topology::world::Region> {
    let known =
        || world.regions.iter().map(|region| region.name.as_str()).collect::<Vec<_>>().join(", ");
    world
        .region_by_name(name)
        .with_context(|| format!("no region {name:?}; there are: {}", known()))
}
