//! A planned handover, from both sides: the owner tells its successor that the shard is free, and
//! the successor waits for that instead of taking the shard.

use std::time::Duration;

use mesh::Mesh;
use wire::stream::{FromOwner, NodeReply, NodeRequest, Purpose};
use wire::{NodeId, ShardId};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells `successor` to claim the shard. A failure is only logged: gossip tells it the same later.
pub(super) async fn tell(mesh: &Mesh, shard: ShardId, successor: &NodeId) {
    let told = tokio::time::timeout(ANSWER_TIMEOUT, async {
        let channel = mesh.open(successor, Purpose::Control).await.ok()?;
        let (mut sender, mut receiver) = channel.split();
        sender.send(NodeRequest::Handover { rid: 1, shard }.to_bytes()).await.ok()?;
        let answer = NodeReply::from_bytes(&receiver.recv().await.ok()??).ok()?;
        matches!(answer, NodeReply::Done { rid: 1, result: Ok(()) }).then_some(())
    });
    if !matches!(told.await, Ok(Some(()))) {
        tracing::info!(%successor, "cannot tell the successor of the handover, it learns from gossip");
    }
}

/// Waits until `owner` says that it no longer serves the shard, or cannot be reached. Cancel safe.
pub(super) async fn wait_until_released(mesh: &Mesh, shard: ShardId, owner: &NodeId) {
    let Ok(channel) = mesh.open(owner, Purpose::Shard(shard)).await else { return };
    let (sender, mut receiver) = channel.split();
    while let Ok(Some(bytes)) = receiver.recv().await {
        if matches!(FromOwner::from_bytes(&bytes), Ok(FromOwner::End(_)) | Err(_)) {
            break;
        }
    }
    drop(sender);
}
