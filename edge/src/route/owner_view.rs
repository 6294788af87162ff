//! Who owns what, as far as this edge can tell: computed anew when a node comes or goes.

use std::sync::Arc;

use mesh::Membership;
use tokio::sync::watch;
use topology::World;
use topology::placement::{Live, Owners};
use wire::{NodeId, ShardId};

/// One view.
#[derive(Default)]
pub(crate) struct OwnerView {
    owners: Owners,
    membership: Arc<Membership>,
}

/// The task that keeps the view current.
pub(crate) struct Follow {
    membership: watch::Receiver<Arc<Membership>>,
    world: Arc<World>,
    placement: watch::Sender<Arc<OwnerView>>,
}

impl OwnerView {
    pub(super) fn follow(
        mut membership: watch::Receiver<Arc<Membership>>,
        world: Arc<World>,
    ) -> (Follow, watch::Receiver<Arc<Self>>) {
        let first = Self::compute(&world, membership.borrow_and_update().clone());
        let (placement, receiver) = watch::channel(Arc::new(first));
        (Follow { membership, world, placement }, receiver)
    }

    fn compute(world: &World, membership: Arc<Membership>) -> Self {
        let live =
            Live::from_view(membership.nodes.iter().map(|(node, state)| (node, state.draining)));
        Self { owners: Owners::to_ask(world, &live), membership }
    }

    /// Who should own the shard, or knows who does.
    pub(super) fn owner(&self, shard: &ShardId) -> Option<&NodeId> {
        self.owners.of(shard)
    }

    /// Whether the node is alive.
    pub(super) fn is_alive(&self, node: &NodeId) -> bool {
        self.membership.is_alive(node)
    }
}

impl Follow {
    /// Runs until the mesh has stopped.
    pub(crate) async fn run(mut self) {
        while self.membership.changed().await.is_ok() {
            let membership = self.membership.borrow_and_update().clone();
            self.placement.send_replace(Arc::new(OwnerView::compute(&self.world, membership)));
        }
    }
}
