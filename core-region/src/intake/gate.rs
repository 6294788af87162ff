//! Who may ask what of a shard: the peer's certificate says which role and region speaks, the world says what that role
//! and region may say. Pure; every frame of every stream passes here before the shard's task sees it.

use topology::World;
use topology::world::Serve;
use wire::command::{Actor, Command, Query, Refusal};
use wire::mesh::Frame;
use wire::{ConversationId, ConversationKind, ErrorCode, NodeId, NodeRole, ShardId};

/// Whether this peer may open a stream of the shard at all: its region must be in the zone or, for an edge, be allowed
/// to carry the zone's frames in transit.
#[must_use]
pub(crate) fn may_open(world: &World, shard: &ShardId, peer: &NodeId) -> bool {
    match peer.role {
        NodeRole::Core => world.zone(shard.zone).is_some_and(|zone| zone.regions.contains(&peer.region)),
        NodeRole::Edge => matches!(world.edge_serves(peer.region, shard.zone), Serve::Yes),
    }
}

/// Whether this peer may ask this on its stream of the shard.
///
/// # Errors
/// Why not, for the one who asked.
pub(crate) fn check(world: &World, shard: &ShardId, peer: &NodeId, frame: &Frame) -> Result<(), Refusal> {
    match frame {
        Frame::Command { actor, conversation, command, .. } => {
            belongs(world, shard, conversation)?;
            tenant_lives_here(world, shard, actor)?;
            command_from(peer.role, command)?;
            names_itself(world, conversation, actor, command)
        }
        Frame::Query { actor, conversation, query, .. } => {
            belongs(world, shard, conversation)?;
            edges_only(peer.role)?;
            let Some(actor) = actor else {
                return match query {
                    Query::Inbox { .. } => Err(refuse(ErrorCode::BadRequest, "an inbox is read by its user only")),
                    _ => Ok(()),
                };
            };
            tenant_lives_here(world, shard, actor)?;
            let own = conversation.kind == ConversationKind::User;
            if own && world.user_stream_id(&actor.tenant, &actor.user) != Some(*conversation) {
                return Err(refuse(ErrorCode::NotFound, "no such conversation"));
            }
            if !own && matches!(query, Query::Inbox { .. }) {
                return Err(refuse(ErrorCode::BadRequest, "an inbox is asked of a user's own stream"));
            }
            Ok(())
        }
        Frame::Watch { conversation, .. } => {
            belongs(world, shard, conversation)?;
            edges_only(peer.role)
        }
        _ => Ok(()),
    }
}

fn refuse(code: ErrorCode, message: &str) -> Refusal {
    Refusal::new(code, message)
}

fn belongs(world: &World, shard: &ShardId, conversation: &ConversationId) -> Result<(), Refusal> {
    if conversation.shard == *shard && world.has_shard(shard) {
        Ok(())
    } else {
        Err(refuse(ErrorCode::NotFound, "no such conversation"))
    }
}

fn edges_only(role: NodeRole) -> Result<(), Refusal> {
    if role == NodeRole::Edge { Ok(()) } else { Err(refuse(ErrorCode::Forbidden, "only an edge may ask this")) }
}

/// Another zone's tenant is told what it would be told of a conversation that does not exist.
fn tenant_lives_here(world: &World, shard: &ShardId, actor: &Actor) -> Result<(), Refusal> {
    match world.tenant(&actor.tenant) {
        Some(tenant) if tenant.zone == shard.zone => Ok(()),
        _ => Err(refuse(ErrorCode::NotFound, "no such conversation")),
    }
}

/// Notes come from cores, all else from edges.
fn command_from(role: NodeRole, command: &Command) -> Result<(), Refusal> {
    let note = matches!(command, Command::NoteJoined { .. } | Command::NoteLeft { .. });
    match (role, note) {
        (NodeRole::Core, true) | (NodeRole::Edge, false) => Ok(()),
        (NodeRole::Core, false) => Err(refuse(ErrorCode::Forbidden, "a core does not speak for users")),
        (NodeRole::Edge, true) => Err(refuse(ErrorCode::Forbidden, "only a core may say who joined")),
    }
}

/// Derived ids must be the ones that the command's users give.
fn names_itself(world: &World, id: &ConversationId, actor: &Actor, command: &Command) -> Result<(), Refusal> {
    let right = match command {
        Command::CreateGroup { .. } | Command::ChangeMembers { .. } => id.kind == ConversationKind::Group,
        Command::OpenDirect { with } => world.direct_id(&actor.tenant, &actor.user, with) == Some(*id),
        Command::Send(_) => id.kind != ConversationKind::User,
        Command::NoteJoined { .. } | Command::NoteLeft { .. } => {
            world.user_stream_id(&actor.tenant, &actor.user) == Some(*id)
        }
    };
    if right { Ok(()) } else { Err(refuse(ErrorCode::BadRequest, "not a conversation that allows this")) }
}
