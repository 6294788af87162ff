//! A core as its process sees it: started, looked at, drained, stopped.

use std::sync::Arc;
use std::time::Duration;

use conversation::moving::order::{MoveAnswer, MoveOrder, MoveProgress, MoveRequest};
use mesh::Mesh;
use node::Tasks;
use store::Store;
use tokio::sync::watch;
use topology::World;
use wire::change::Home;
use wire::command::{Answer, MeshCommand, Refusal};
use wire::version::Feature;
use wire::{ConversationId, ConversationKind, ErrorCode, NodeId, RegionId, ShardId};

use crate::consumers::Consumers;
use crate::intake::{self, Intake};
use crate::limits::Limits;
use crate::ownership::lease_renewal::LeaseRenewers;
use crate::ownership::{Ownership, OwnershipOptions};
use crate::replication::failover::{Failover, FailoverError, FailoverReport};
use crate::replication::follower::Followers;
use crate::replication::watermark;
use crate::status::CoreStatus;
use shard_client::{Response, ShardClient};

/// What a core is started with.
pub struct CoreOptions {
    /// Who it is: the same as the mesh proves.
    pub node: NodeId,
    /// The world, the same for all.
    pub world: Arc<World>,
    /// Its place in the mesh. The core takes all channels that are opened to it.
    pub mesh: Mesh,
    /// Its region's view of the store.
    pub store: Arc<dyn Store>,
    pub limits: Limits,
    /// What follows the logs of its shards.
    pub consumers: Consumers,
}

impl CoreOptions {
    /// With the default bounds.
    #[must_use]
    pub fn new(
        node: NodeId,
        world: Arc<World>,
        mesh: Mesh,
        store: Arc<dyn Store>,
        consumers: Consumers,
    ) -> Self {
        Self { node, world, mesh, store, limits: Limits::default(), consumers }
    }
}

/// A running core; cheap to clone. When the last handle is dropped, it ends where it stands, as if
/// the machine had failed: nothing acknowledged is lost, and another core goes on.
#[derive(Clone)]
pub struct Core {
    running: Arc<Running>,
}

struct Running {
    node: NodeId,
    world: Arc<World>,
    shard_client: ShardClient,
    mesh: Mesh,
    store: Arc<dyn Store>,
    shards: Ownership,
    failover: Failover,
    followers: Followers,
    draining: watch::Sender<bool>,
    tasks: Tasks,
}

impl Core {
    /// Claims the shards that it should serve and accepts streams. Call it inside the tokio runtime
    /// that is to drive it.
    #[must_use]
    pub fn start(options: CoreOptions) -> Self {
        let CoreOptions { node, world, mesh, store, limits, consumers } = options;
        let limits = Arc::new(limits);
        let tasks = Tasks::new("core");
        let shard_client = ShardClient::new(world.clone(), mesh.clone(), tasks.clone());
        let (draining, draining_in) = watch::channel(false);
        let lease_renewers = LeaseRenewers::start(&world, &node, &store, limits.lease, &tasks);
        let failover =
            Failover::start(node.clone(), world.clone(), mesh.clone(), store.clone(), &tasks);
        let followers =
            Followers::start(node.clone(), world.clone(), mesh.clone(), store.clone(), &tasks);
        let shards_options = OwnershipOptions {
            node: node.clone(),
            world: world.clone(),
            mesh: mesh.clone(),
            store: store.clone(),
            limits: limits.clone(),
            tasks: tasks.clone(),
            shard_client: shard_client.clone(),
            consumers,
            lease_renewers,
            failed_over: failover.known(),
        };
        let shards = Ownership::start(shards_options, draining_in.clone());
        let intake = Intake {
            world: world.clone(),
            mesh: mesh.clone(),
            shard_table: shards.shard_table.clone(),
            handoffs: shards.handoffs.clone(),
            limits,
            tasks: tasks.clone(),
            draining: draining_in,
        };
        tasks.spawn("intake", intake::run(Arc::new(intake)));
        Self {
            running: Arc::new(Running {
                node,
                world,
                shard_client,
                mesh,
                store,
                shards,
                failover,
                followers,
                draining,
                tasks,
            }),
        }
    }

    #[must_use]
    pub fn status(&self) -> CoreStatus {
        CoreStatus {
            draining: *self.running.draining.borrow(),
            panicked: self.running.tasks.panicked(),
            shards: self.running.shards.progress.iter().map(|progress| progress.status()).collect(),
            followers: self.running.followers.status(),
        }
    }

    /// Moves a conversation to a shard whose home is `to`, and resolves when it is served there; at
    /// once if it is there already. Any core of the conversation's zone can be asked. What users
    /// send during the move waits, and is sent on.
    ///
    /// Dropped, it goes on, unless its home has not heard of it yet.
    ///
    /// # Errors
    /// Why it does not move.
    pub async fn move_conversation(
        &self,
        conversation: ConversationId,
        to: RegionId,
    ) -> Result<Home, Refusal> {
        let born = conversation.shard;
        let shard = ShardId { home: to, ..born };
        if conversation.kind == ConversationKind::User {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                "a user's own stream stays where it was born",
            ));
        }
        let zone =
            self.running.world.zone(born.zone).filter(|_| self.running.world.has_shard(&born));
        let Some(zone) = zone else {
            return Err(Refusal::new(ErrorCode::NotFound, "no such conversation"));
        };
        if !zone.regions.contains(&self.running.node.region) {
            let message = format!("this core is not of its zone; ask one of zone {}", zone.name);
            return Err(Refusal::new(ErrorCode::ResidencyDenied, message));
        }
        if !self.running.world.has_shard(&shard) {
            let message =
                format!("region {} does not keep conversations of its zone and class", to.0);
            return Err(Refusal::new(ErrorCode::ResidencyDenied, message));
        }
        if let Some(node) = self.running.mesh.lacking(Feature::Moves) {
            let message = format!(
                "{node} lacks the feature \"{}\": upgrade it, and take the feature out of its \
                 [mesh] withhold_features",
                Feature::Moves
            );
            return Err(Refusal::new(ErrorCode::BadRequest, message));
        }
        self.running.drive_move(conversation, MoveOrder::new(born, shard), &zone.regions).await
    }

    /// Lets other regions serve the single-region shards of `region`, and resolves when they do.
    /// Any core of a zone that they share can be asked. Dropped, a decision that was written
    /// stands.
    ///
    /// # Errors
    /// Why not. Nothing is decided about a region that is lost unless the loss is accepted.
    pub async fn fail_over(
        &self,
        region: RegionId,
        accept_loss: bool,
    ) -> Result<FailoverReport, FailoverError> {
        self.running.failover.fail_over(region, accept_loss).await
    }

    /// Cancels that, and resolves when the region serves its shards again. Nothing is lost by it.
    /// Dropped as [`Core::fail_over`].
    ///
    /// # Errors
    /// Why not.
    pub async fn fail_back(&self, region: RegionId) -> Result<FailoverReport, FailoverError> {
        self.running.failover.fail_back(region).await
    }

    /// Gives every shard to its next owner, and resolves when that is done. Shards that nobody else
    /// can serve are kept until [`Core::stop`]. No request is lost: the edges ask the next owner.
    /// Dropped, it goes on draining.
    pub async fn drain(&self) {
        const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(20);
        self.running.mesh.set_draining(true);
        self.running.draining.send_replace(true);
        while !self.running.shards.is_drained() {
            tokio::time::sleep(DRAIN_POLL_INTERVAL).await;
        }
    }

    /// Ends a drain: this core takes shards again.
    pub fn undrain(&self) {
        self.running.mesh.set_draining(false);
        self.running.draining.send_replace(false);
    }

    /// Ends all terms in order: everything decided is committed, projected and answered. A term
    /// that has not ended by the deadline is dropped, which loses nothing acknowledged.
    pub async fn stop(&self, deadline: Duration) {
        self.running.tasks.stop(deadline).await;
    }
}

impl Running {
    async fn drive_move(
        &self,
        conversation: ConversationId,
        mut order: MoveOrder,
        zone: &[RegionId],
    ) -> Result<Home, Refusal> {
        loop {
            let MoveRequest { shard, to, needs_replicas } = order.next();
            if needs_replicas && !watermark::all_replicas_caught_up(&self.store, shard, zone).await
            {
                let message = format!(
                    "not every region of the zone has all messages of shard {shard}, and a \
                     single-region conversation moves only when they do: wait, or bring the \
                     missing region back"
                );
                return Err(Refusal::new(ErrorCode::HomeUnavailable, message));
            }
            let asked = self.shard_client.ask(shard, conversation, MeshCommand::Move { to });
            let answer = match asked.await {
                Response::Moved(home) => MoveAnswer::Moved(home),
                Response::Answered(Ok(Answer::Moving(home))) => MoveAnswer::Moving(home),
                Response::Answered(Err(refusal)) => return Err(refusal),
                Response::Answered(Ok(_)) => return Err(lost_sight()),
            };
            match order.on(answer) {
                MoveProgress::AskAgain => {}
                MoveProgress::Arrived(home) => return Ok(home),
                MoveProgress::LostSight => return Err(lost_sight()),
            }
        }
    }
}

fn lost_sight() -> Refusal {
    Refusal::new(ErrorCode::HomeUnavailable, "its home cannot be found; try again")
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.kill();
    }
}
