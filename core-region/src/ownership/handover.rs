//! A planned move, seen from both sides: the owner tells its successor that the shard is free, and the successor waits at
//! the owner's door instead of breaking it down.

use std::time::Duration;

use mesh::Mesh;
use wire::stream::{FromOwner, NodeReply, NodeRequest, Purpose};
use wire::{NodeId, ShardId};

/// How long the successor may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells `successor` that the shard is its to claim. It would find out by itself, later: so failure is only logged.
pub(super) async fn tell(mesh: &Mesh, shard: ShardId, successor: &NodeId) {
    let told = tokio::time::timeout(ANSWER_TIMEOUT, async {
        let channel = mesh.open(successor, Purpose::Control).await.ok()?;
        let (mut sender, mut receiver) = channel.split();
        sender.send(NodeRequest::Handover { rid: 1, shard }.to_bytes()).await.ok()?;
        let answer = NodeReply::from_bytes(&receiver.recv().await.ok()??).ok()?;
        matches!(answer, NodeReply::Done { rid: 1, result: Ok(()) }).then_some(())
    });
    if !matches!(told.await, Ok(Some(()))) {
        tracing::info!(%successor, "the successor could not be told of the handover");
    }
}

/// Waits until `owner` no longer serves the shard, by its own word or because it cannot be reached. Cancel safe.
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
