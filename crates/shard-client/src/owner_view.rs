//! The owner of each shard, as far as this node can tell. It follows from the world and from who is
//! alive, and is computed anew when a node comes or goes.

use std::sync::Arc;

use mesh::Membership;
use tokio::sync::watch;
use topology::World;
use topology::placement::{Live, Owners};
use wire::{NodeId, ShardId};

/// One view.
#[derive(Default)]
pub struct OwnerView {
    owners: Owners,
    membership: Arc<Membership>,
}

/// The task that keeps the view current.
pub struct Follow {
    membership: watch::Receiver<Arc<Membership>>,
    world: Arc<World>,
    views: watch::Sender<Arc<OwnerView>>,
}

impl OwnerView {
    /// The view as it changes, and the task that keeps it current.
    #[must_use]
    pub fn follow(
        mut membership: watch::Receiver<Arc<Membership>>,
        world: Arc<World>,
    ) -> (Follow, watch::Receiver<Arc<Self>>) {
        let first = Self::compute(&world, membership.borrow_and_update().clone());
        let (views, receiver) = watch::channel(Arc::new(first));
        (Follow { membership, world, views }, receiver)
    }

    fn compute(world: &World, membership: Arc<Membership>) -> Self {
        let live =
            Live::from_view(membership.nodes.iter().map(|(node, state)| (node, state.draining)));
        Self { owners: Owners::to_ask(world, &live), membership }
    }

    /// The node that should own the shard, or knows who does.
    #[must_use]
    pub fn owner(&self, shard: &ShardId) -> Option<&NodeId> {
        self.owners.of(shard)
    }

    /// Whether the node is alive.
    #[must_use]
    pub fn is_alive(&self, node: &NodeId) -> bool {
        self.membership.is_alive(node)
    }
}

impl Follow {
    /// Runs until the mesh has stopped.
    pub async fn run(mut self) {
        while self.membership.changed().await.is_ok() {
            let membership = self.membership.borrow_and_update().clone();
            self.views.send_replace(Arc::new(OwnerView::compute(&self.world, membership)));
        }
    }
}
