//! The control channel: what nodes say to each other that concerns no conversation. An owner that
//! gives a shard up tells its successor here, which claims at once instead of waiting for gossip.

use std::collections::HashMap;
use std::sync::Arc;

use mesh::Channel;
use tokio::sync::mpsc;
use wire::command::Refusal;
use wire::stream::{NodeReply, NodeRequest};
use wire::{ErrorCode, NodeId, NodeRole, ShardId};

use super::Intake;

/// Where a handoff of a shard goes. Holds one; a second one says nothing new.
pub(crate) type HandoffSenders = HashMap<ShardId, mpsc::Sender<NodeId>>;

/// Serves the channel until the peer closes it.
pub(super) async fn run(intake: Arc<Intake>, peer: NodeId, channel: Channel) {
    let (mut sender, mut receiver) = channel.split();
    let stopping = intake.tasks.stopping();
    while let Some(Ok(Some(bytes))) = stopping.run_until_cancelled(receiver.recv()).await {
        let answer = match NodeRequest::from_bytes(&bytes) {
            Ok(NodeRequest::Handover { rid, shard }) => {
                NodeReply::Done { rid, result: handover(&intake, &peer, shard) }
            }
            Ok(NodeRequest::Unknown(unknown)) if unknown.is_skippable() => continue,
            Ok(NodeRequest::Unknown(unknown)) => NodeReply::Unsupported { kind: unknown.kind },
            Err(error) => {
                tracing::warn!(%error, "malformed frame, closing a control channel");
                return;
            }
        };
        if sender.send(answer.to_bytes()).await.is_err() {
            return;
        }
    }
}

fn handover(intake: &Intake, peer: &NodeId, shard: ShardId) -> Result<(), Refusal> {
    let in_zone =
        intake.world.zone(shard.zone).is_some_and(|zone| zone.regions.contains(&peer.region));
    let refused =
        || Refusal::new(ErrorCode::Forbidden, "not yours to hand over, or not mine to serve");
    if peer.role != NodeRole::Core || !in_zone {
        return Err(refused());
    }
    if *intake.draining.borrow() {
        return Err(Refusal::new(ErrorCode::Draining, "this core gives its own shards away"));
    }
    let handoff = intake.handoffs.get(&shard).ok_or_else(refused)?;
    // Full: a handoff waits already.
    let _ = handoff.try_send(peer.clone());
    Ok(())
}
