//! Which shards this core serves. A supervisor watches the membership and tells each shard's
//! [`runner`] who should own it; the runner claims, serves and hands over. `topology` says who
//! should own a shard; a conditional write says who does.

mod claim;
mod handover;
pub(crate) mod lease_renewal;
mod runner;
pub(crate) mod state;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh::{Membership, Mesh};
use node::Tasks;
use tokio::sync::{mpsc, watch};
use topology::World;
use topology::placement::{self, FailedOver, Live, Owners};
use wire::{NodeId, NodeRole, ShardId};

use self::lease_renewal::LeaseRenewers;
use self::runner::{Runner, RunnerOptions};
use self::state::{ShardState, ShardTable};
use crate::consumers::Consumers;
use crate::intake::control::HandoffSenders;
use crate::limits::Limits;
use crate::status::{Progress, Stage};
use shard_client::ShardClient;
use store::Store;

/// A core that has just started waits this long to see all others before it claims anything.
const MEMBERSHIP_SETTLE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Who should own a shard, as this core sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DesiredOwner {
    Unknown,
    ThisCore,
    Other(NodeId),
    /// No live core, or this one, which sees too little of the zone to act.
    Nobody,
}

/// What all shards share.
#[derive(Clone)]
pub(crate) struct OwnershipOptions {
    pub(crate) node: NodeId,
    pub(crate) world: Arc<World>,
    pub(crate) mesh: Mesh,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) tasks: Tasks,
    pub(crate) shard_client: ShardClient,
    pub(crate) consumers: Consumers,
    pub(crate) lease_renewers: LeaseRenewers,
    pub(crate) failed_over: watch::Receiver<FailedOver>,
}

/// All shards that this core may have to serve.
pub(crate) struct Ownership {
    pub(crate) shard_table: Arc<ShardTable>,
    pub(crate) handoffs: HandoffSenders,
    pub(crate) progress: Vec<Arc<Progress>>,
    desired_owners: HashMap<ShardId, watch::Receiver<DesiredOwner>>,
}

impl Ownership {
    /// Starts the runners and their supervisor. `draining`: this core wants to own no shard.
    pub(crate) fn start(options: OwnershipOptions, draining: watch::Receiver<bool>) -> Self {
        let mut states = HashMap::new();
        let mut handoffs = HashMap::new();
        let mut progress = Vec::new();
        let mut desired_senders = HashMap::new();
        let mut desired_owners = HashMap::new();
        for shard in servable(&options.world, &options.node) {
            let (state_sender, state) = watch::channel(ShardState::Starting);
            let (handoff_sender, handoff) = mpsc::channel(1);
            let (desired_sender, desired_owner) = watch::channel(DesiredOwner::Unknown);
            let progress_of_shard =
                Arc::new(Progress::new(shard, options.node.clone(), state.clone()));
            states.insert(shard, state);
            handoffs.insert(shard, handoff_sender);
            progress.push(progress_of_shard.clone());
            desired_senders.insert(shard, desired_sender);
            desired_owners.insert(shard, desired_owner.clone());
            let runner = Runner::new(RunnerOptions {
                shard,
                shared: options.clone(),
                desired_owner,
                draining: draining.clone(),
                handoff,
                state: state_sender,
                progress: progress_of_shard,
            });
            options.tasks.spawn("shard", runner.run());
        }
        let tasks = options.tasks.clone();
        tasks.spawn_until_stop("supervisor", supervise(options, draining, desired_senders));
        Self { shard_table: Arc::new(ShardTable::new(states)), handoffs, progress, desired_owners }
    }

    /// Whether every shard that another core could serve is served by another.
    pub(crate) fn is_drained(&self) -> bool {
        self.progress.iter().all(|progress| {
            let status = progress.status();
            let kept = self
                .desired_owners
                .get(&status.shard)
                .is_some_and(|desired_owner| *desired_owner.borrow() == DesiredOwner::Nobody);
            kept || matches!(status.stage, Stage::Elsewhere)
        })
    }
}

/// The shards of the node's zones. Those of other regions come to it when their home is lost.
fn servable(world: &World, node: &NodeId) -> Vec<ShardId> {
    let in_zone = |shard: &ShardId| {
        world.zone(shard.zone).is_some_and(|zone| zone.regions.contains(&node.region))
    };
    world.all_shards().into_iter().filter(in_zone).collect()
}

/// Tells every runner who should own its shard, at every change of the membership.
async fn supervise(
    options: OwnershipOptions,
    mut draining: watch::Receiver<bool>,
    desired_owners: HashMap<ShardId, watch::Sender<DesiredOwner>>,
) {
    let mut membership = options.mesh.membership();
    let mut failed_over = options.failed_over.clone();
    let all_there = membership.wait_for(|membership| sees_all_cores(&options.world, membership));
    // A timeout is not fatal: a core that comes later is given its shards then.
    let _ = tokio::time::timeout(MEMBERSHIP_SETTLE_TIMEOUT, all_there).await;
    loop {
        let live =
            {
                let membership = membership.borrow_and_update();
                let drained = *draining.borrow_and_update();
                Live::from_view(membership.nodes.iter().map(|(node, state)| {
                    (node, state.draining || (drained && *node == options.node))
                }))
                .with_failed_over(failed_over.borrow_and_update().clone())
            };
        let owners = Owners::compute(&options.world, &live);
        for (shard, desired_owner) in &desired_owners {
            let desired = desired(&options, shard, &owners, &live);
            desired_owner.send_if_modified(|old| {
                let changed = *old != desired;
                *old = desired;
                changed
            });
        }
        tokio::select! {
            changed = membership.changed() => if changed.is_err() { return },
            changed = draining.changed() => if changed.is_err() { return },
            changed = failed_over.changed() => if changed.is_err() { return },
        }
    }
}

fn desired(
    options: &OwnershipOptions,
    shard: &ShardId,
    owners: &Owners,
    live: &Live,
) -> DesiredOwner {
    match owners.of(shard) {
        Some(owner) if *owner != options.node => DesiredOwner::Other(owner.clone()),
        Some(_) if placement::may_claim(&options.world, shard, &options.node, live) => {
            DesiredOwner::ThisCore
        }
        _ => DesiredOwner::Nobody,
    }
}

fn sees_all_cores(world: &World, membership: &Membership) -> bool {
    world
        .nodes()
        .iter()
        .filter(|node| node.role == NodeRole::Core)
        .all(|node| membership.is_alive(node))
}
