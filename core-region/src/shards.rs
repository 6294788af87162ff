//! Which shards this core serves. A supervisor watches who lives and tells each shard's [`runner`] who should own it; the
//! runner claims, serves, hands over. Who should own a shard is `topology`'s to say, who does is the conditional write's.

mod claim;
mod handover;
pub(crate) mod keeper;
mod runner;
pub(crate) mod standing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh::{Membership, Mesh};
use tokio::sync::{mpsc, watch};
use topology::World;
use topology::placement::{self, FailedOver, Live, Owners};
use wire::{NodeId, NodeRole, ShardId};

use self::keeper::Keepers;
use self::runner::{Runner, RunnerOptions};
use self::standing::{Directory, Standing};
use crate::consumers::Carriers;
use crate::intake::control::Invitations;
use crate::limits::Limits;
use crate::status::{Progress, Stage};
use crate::tasks::Tasks;
use store::Store;

/// How long a core that has just started waits to see all the others before it claims anything.
const SETTLE: Duration = Duration::from_millis(1_500);

/// Who should own a shard, as this core sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Desire {
    /// Not looked yet.
    Unknown,
    /// This core.
    Mine,
    /// That one.
    Theirs(NodeId),
    /// Nobody who lives, or this core, but it sees too little of the zone to act.
    Nobodys,
}

/// What all shards share.
#[derive(Clone)]
pub(crate) struct ShardsOptions {
    pub(crate) node: NodeId,
    pub(crate) world: Arc<World>,
    pub(crate) mesh: Mesh,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) tasks: Tasks,
    pub(crate) carriers: Carriers,
    pub(crate) keepers: Keepers,
    pub(crate) failed_over: watch::Receiver<FailedOver>,
}

/// All shards that this core may have to serve.
pub(crate) struct Shards {
    pub(crate) directory: Arc<Directory>,
    pub(crate) invitations: Invitations,
    pub(crate) progress: Vec<Arc<Progress>>,
    desires: HashMap<ShardId, watch::Receiver<Desire>>,
}

impl Shards {
    /// Starts the runners and their supervisor. `draining`: this core wants to own nothing.
    pub(crate) fn start(options: ShardsOptions, draining: watch::Receiver<bool>) -> Self {
        let mut standings = HashMap::new();
        let mut invitations = HashMap::new();
        let mut progress = Vec::new();
        let mut desires_out = HashMap::new();
        let mut desires = HashMap::new();
        for shard in servable(&options.world, &options.node) {
            let (standing_out, standing) = watch::channel(Standing::Elsewhere { owner: None });
            let (invitation_out, invitation) = mpsc::channel(1);
            let (desire_out, desire) = watch::channel(Desire::Unknown);
            let progress_of_shard = Arc::new(Progress::new(shard));
            standings.insert(shard, standing);
            invitations.insert(shard, invitation_out);
            progress.push(progress_of_shard.clone());
            desires_out.insert(shard, desire_out);
            desires.insert(shard, desire.clone());
            let runner = Runner::new(RunnerOptions {
                shard,
                shared: options.clone(),
                desire,
                draining: draining.clone(),
                invitation,
                standing: standing_out,
                progress: progress_of_shard,
            });
            options.tasks.spawn("shard", runner.run());
        }
        let tasks = options.tasks.clone();
        tasks.spawn_while_running("supervisor", supervise(options, draining, desires_out));
        Self { directory: Arc::new(Directory::new(standings)), invitations, progress, desires }
    }

    /// Whether everything that another could serve is served by another.
    pub(crate) fn is_drained(&self) -> bool {
        self.progress.iter().all(|progress| {
            let status = progress.status();
            let kept = self
                .desires
                .get(&status.shard)
                .is_some_and(|desire| *desire.borrow() == Desire::Nobodys);
            kept || matches!(status.stage, Stage::Elsewhere)
        })
    }
}

/// The shards of the node's zones: those of other regions may come to it when their home is lost.
fn servable(world: &World, node: &NodeId) -> Vec<ShardId> {
    let in_zone = |shard: &ShardId| {
        world.zone(shard.zone).is_some_and(|zone| zone.regions.contains(&node.region))
    };
    world.all_shards().into_iter().filter(in_zone).collect()
}

/// Tells every runner who should own its shard, at every change of who lives.
async fn supervise(
    options: ShardsOptions,
    mut draining: watch::Receiver<bool>,
    desires: HashMap<ShardId, watch::Sender<Desire>>,
) {
    let mut membership = options.mesh.membership();
    let mut failed_over = options.failed_over.clone();
    let all_there = membership.wait_for(|membership| sees_all_cores(&options.world, membership));
    // Late is not fatal: whoever comes later is given its shards then.
    let _ = tokio::time::timeout(SETTLE, all_there).await;
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
        for (shard, desire) in &desires {
            let desired = desired(&options, shard, &owners, &live);
            desire.send_if_modified(|old| {
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

fn desired(options: &ShardsOptions, shard: &ShardId, owners: &Owners, live: &Live) -> Desire {
    match owners.of(shard) {
        Some(owner) if *owner != options.node => Desire::Theirs(owner.clone()),
        Some(_) if placement::may_claim(&options.world, shard, &options.node, live) => Desire::Mine,
        _ => Desire::Nobodys,
    }
}

fn sees_all_cores(world: &World, membership: &Membership) -> bool {
    world
        .nodes()
        .iter()
        .filter(|node| node.role == NodeRole::Core)
        .all(|node| membership.is_alive(node))
}
