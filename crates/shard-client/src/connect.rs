//! The way to an owner: opens a stream to it, and notices its death.

use std::sync::Arc;
use std::time::Duration;

use mesh::{Channel, Mesh};
use tokio::sync::watch;
use wire::stream::Purpose;
use wire::{NodeId, ShardId};

use crate::owner_view::OwnerView;

/// When opening a stream takes longer, another owner is tried.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens a stream of the shard. None when the owner cannot be reached in time, or dies meanwhile.
/// The owner may be this node: then the stream stays in memory. Cancel safe.
pub async fn open(
    mesh: &Mesh,
    views: &watch::Receiver<Arc<OwnerView>>,
    owner: &NodeId,
    shard: ShardId,
) -> Option<Channel> {
    let opened = tokio::select! {
        opened = mesh.open(owner, Purpose::Shard(shard)) => opened,
        () = died(views.clone(), owner), if owner != mesh.node() => return None,
        () = tokio::time::sleep(OPEN_TIMEOUT) => return None,
    };
    opened.inspect_err(|error| tracing::debug!(%error, %shard, "cannot reach a shard owner")).ok()
}

/// Waits until a node that was alive is said to be dead. That is only a guess: if the owner lives,
/// it says so when it is asked again. Never ends when the mesh has stopped. Cancel safe.
pub async fn died(mut views: watch::Receiver<Arc<OwnerView>>, node: &NodeId) {
    let is_known = views.wait_for(|view| view.is_alive(node)).await.is_ok();
    if !is_known || views.wait_for(|view| !view.is_alive(node)).await.is_err() {
        std::future::pending().await
    }
}
