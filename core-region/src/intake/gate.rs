//! Who may ask what of a shard: the peer's certificate says which role and region speaks, the world
//! says what they may ask. Pure; every frame of every stream passes here before the owner task sees
//! it.

use topology::World;
use topology::world::Serve;
use wire::codec::Unknown;
use wire::command::{Actor, Command, MeshCommand, Query, Refusal, UserCommand};
use wire::stream::ToOwner;
use wire::version::Features;
use wire::{ConversationId, ConversationKind, ErrorCode, NodeId, NodeRole, ShardId};

/// Whether this peer may open a stream of the shard: its region must be in the zone or, for an
/// edge, be allowed to carry the zone's frames in transit.
#[must_use]
pub(crate) fn may_open(world: &World, shard: &ShardId, peer: &NodeId) -> bool {
    match peer.role {
        NodeRole::Core => {
            world.zone(shard.zone).is_some_and(|zone| zone.regions.contains(&peer.region))
        }
        NodeRole::Edge => matches!(world.edge_serves(peer.region, shard.zone), Serve::Yes),
    }
}

/// Whether this node has the feature that the frame needs.
///
/// # Errors
/// The refusal that the caller gets: that of a kind which this node does not know.
pub(crate) fn is_known(features: &Features, frame: &ToOwner) -> Result<(), Refusal> {
    match features.lack(frame.needs()) {
        None => Ok(()),
        Some(feature) => {
            let message = format!("this node does not know the feature \"{feature}\"");
            Err(Refusal::new(ErrorCode::UnknownType, message))
        }
    }
}

/// Whether this peer may ask this on its stream of the shard.
///
/// # Errors
/// The refusal that the caller gets.
pub(crate) fn check(
    world: &World,
    shard: &ShardId,
    peer: &NodeId,
    frame: &ToOwner,
) -> Result<(), Refusal> {
    match frame {
        ToOwner::Command { actor, conversation, command, .. } => {
            belongs(world, shard, conversation)?;
            match command {
                Command::User(command) => {
                    edges_only(peer.role, "a core does not speak for users")?;
                    tenant_lives_here(world, shard, actor)?;
                    user_names(world, conversation, actor, command)
                }
                Command::Mesh(command) => {
                    cores_only(peer.role)?;
                    mesh_names(world, shard, conversation, actor, command)
                }
                Command::Unknown(unknown) => Err(unknown_type("a command", unknown)),
            }
        }
        ToOwner::Query { actor, conversation, query, .. } => {
            belongs(world, shard, conversation)?;
            edges_only(peer.role, "only an edge may ask this")?;
            may_query(world, shard, conversation, actor.as_ref(), query)
        }
        ToOwner::Watch { conversation, .. } => {
            belongs(world, shard, conversation)?;
            edges_only(peer.role, "only an edge may ask this")
        }
        ToOwner::Unwatch { .. } | ToOwner::Unsupported { .. } | ToOwner::Unknown(_) => Ok(()),
    }
}

/// A newer node asks for what this one cannot do. The stream lives on for everybody else.
fn unknown_type(what: &str, unknown: &Unknown) -> Refusal {
    let message = format!("this node does not know {what} of kind {}", unknown.kind);
    Refusal::new(ErrorCode::UnknownType, message)
}

fn may_query(
    world: &World,
    shard: &ShardId,
    conversation: &ConversationId,
    actor: Option<&Actor>,
    query: &Query,
) -> Result<(), Refusal> {
    let own = conversation.kind == ConversationKind::User;
    match (query, actor) {
        (Query::Unknown(unknown), _) => return Err(unknown_type("a query", unknown)),
        (Query::Inbox { .. }, None) => {
            return Err(refuse(ErrorCode::BadRequest, "an inbox is read by its user only"));
        }
        (Query::Inbox { .. }, Some(_)) if !own => {
            return Err(refuse(ErrorCode::BadRequest, "an inbox is asked of a user's own stream"));
        }
        (
            Query::Inbox { .. }
            | Query::History { .. }
            | Query::Changes { .. }
            | Query::View { .. },
            _,
        ) => {}
    }
    let Some(actor) = actor else { return Ok(()) };
    tenant_lives_here(world, shard, actor)?;
    if own && world.user_stream_id(&actor.tenant, &actor.user) != Some(*conversation) {
        return Err(refuse(ErrorCode::NotFound, "no such conversation"));
    }
    Ok(())
}

fn refuse(code: ErrorCode, message: &str) -> Refusal {
    Refusal::new(code, message)
}

/// A conversation may be in any shard of its zone and durability class; its owner says so if it is
/// in another. A user's own stream never moves.
fn belongs(world: &World, shard: &ShardId, conversation: &ConversationId) -> Result<(), Refusal> {
    let born = conversation.shard;
    let at_home = born == *shard;
    let may_come = (born.zone, born.durability) == (shard.zone, shard.durability)
        && conversation.kind != ConversationKind::User
        && world.has_shard(&born);
    if (at_home || may_come) && world.has_shard(shard) {
        Ok(())
    } else {
        Err(refuse(ErrorCode::NotFound, "no such conversation"))
    }
}

fn edges_only(role: NodeRole, otherwise: &str) -> Result<(), Refusal> {
    match role {
        NodeRole::Edge => Ok(()),
        NodeRole::Core => Err(refuse(ErrorCode::Forbidden, otherwise)),
    }
}

fn cores_only(role: NodeRole) -> Result<(), Refusal> {
    match role {
        NodeRole::Core => Ok(()),
        NodeRole::Edge => {
            Err(refuse(ErrorCode::Forbidden, "only a core may say who joined or what moves"))
        }
    }
}

/// A tenant of another zone is told the same as of a conversation that does not exist.
fn tenant_lives_here(world: &World, shard: &ShardId, actor: &Actor) -> Result<(), Refusal> {
    match world.tenant(&actor.tenant) {
        Some(tenant) if tenant.zone == shard.zone => Ok(()),
        _ => Err(refuse(ErrorCode::NotFound, "no such conversation")),
    }
}

/// Derived ids must be the ones that the command's users give.
fn user_names(
    world: &World,
    id: &ConversationId,
    actor: &Actor,
    command: &UserCommand,
) -> Result<(), Refusal> {
    allows(match command {
        UserCommand::CreateGroup { .. } | UserCommand::ChangeMembers { .. } => {
            id.kind == ConversationKind::Group
        }
        UserCommand::OpenDirect { with } => {
            world.direct_id(&actor.tenant, &actor.user, with) == Some(*id)
        }
        UserCommand::Send(_) => id.kind != ConversationKind::User,
    })
}

/// As [`user_names`]. Moves are asked for by nodes, in no user's name.
fn mesh_names(
    world: &World,
    shard: &ShardId,
    id: &ConversationId,
    actor: &Actor,
    command: &MeshCommand,
) -> Result<(), Refusal> {
    allows(match command {
        MeshCommand::AcceptTransfer { .. } => id.kind != ConversationKind::User,
        MeshCommand::Move { to } => id.kind != ConversationKind::User && world.has_shard(to),
        MeshCommand::NoteJoined { .. } | MeshCommand::NoteLeft { .. } => {
            tenant_lives_here(world, shard, actor)?;
            world.user_stream_id(&actor.tenant, &actor.user) == Some(*id)
        }
    })
}

fn allows(allowed: bool) -> Result<(), Refusal> {
    if allowed {
        Ok(())
    } else {
        Err(refuse(ErrorCode::BadRequest, "not a conversation that allows this"))
    }
}

#[cfg(test)]
mod tests {
    use wire::command::Draft;
    use wire::version::Feature;
    use wire::{ClientMsgId, Durability, RegionId, TenantId, UserId, ZoneId};

    use super::*;

    const WORLD: &str = r#"
        name = "two zones"
        [[region]]
        id = 1
        name = "in"
        lat = 1.0
        lon = 1.0
        [[region]]
        id = 2
        name = "out"
        lat = 2.0
        lon = 2.0
        [[zone]]
        id = 1
        name = "closed"
        regions = ["in"]
        transit = "deny"
        [[zone]]
        id = 2
        name = "open"
        regions = ["in"]
        [[zone]]
        id = 3
        name = "both"
        regions = ["in", "out"]
        [[tenant]]
        name = "closed"
        zone = "closed"
        durability = "region"
        [[tenant]]
        name = "both"
        zone = "both"
        durability = "region"
    "#;

    fn world() -> World {
        World::parse(WORLD).unwrap()
    }

    fn shard(zone: u16) -> ShardId {
        ShardId { zone: ZoneId(zone), home: RegionId(1), durability: Durability::Region, n: 0 }
    }

    fn node(id: &str) -> NodeId {
        id.parse().unwrap()
    }

    fn actor(tenant: &str) -> Actor {
        Actor {
            tenant: TenantId::new(tenant).unwrap(),
            user: UserId::new("ann").unwrap(),
            device: None,
        }
    }

    fn code(peer: &str, frame: &ToOwner) -> Option<ErrorCode> {
        check(&world(), &shard(1), &node(peer), frame).err().map(|refusal| refusal.code)
    }

    fn command(tenant: &str, conversation: ConversationId, command: impl Into<Command>) -> ToOwner {
        ToOwner::Command { rid: 1, actor: actor(tenant), conversation, command: command.into() }
    }

    fn group(shard: ShardId) -> ConversationId {
        ConversationId { kind: ConversationKind::Group, shard, unique: [1; 16] }
    }

    fn draft() -> UserCommand {
        let client_msg_id = ClientMsgId::new("m").unwrap();
        UserCommand::Send(Draft::text(client_msg_id, "x"))
    }

    #[test]
    fn who_is_outside_of_a_zone_gets_its_frames_in_transit_only_or_not_at_all() {
        for (zone, peer, allowed) in [
            (1, "r1/edge/1", true),
            (1, "r2/edge/1", false),
            (2, "r2/edge/1", true),
            (2, "r2/core/1", false),
            (3, "r2/core/1", true),
            (9, "r1/edge/1", false),
            (9, "r1/core/1", false),
        ] {
            assert_eq!(
                may_open(&world(), &shard(zone), &node(peer)),
                allowed,
                "{peer} and zone {zone}"
            );
        }
    }

    #[test]
    fn a_stream_asks_only_for_what_may_have_moved_to_its_shard_and_for_no_tenant_of_another_zone() {
        let ours = group(shard(1));
        assert_eq!(code("r1/edge/1", &command("closed", ours, draft())), None);
        assert_eq!(code("r1/edge/1", &command("both", ours, draft())), Some(ErrorCode::NotFound));
        assert_eq!(code("r1/edge/1", &command("nobody", ours, draft())), Some(ErrorCode::NotFound));
        let no_shard = group(ShardId { n: 999, ..shard(1) });
        let elsewhere = group(shard(3));
        for stranger in [no_shard, elsewhere] {
            assert_eq!(
                code("r1/edge/1", &command("closed", stranger, draft())),
                Some(ErrorCode::NotFound)
            );
        }
        let moved = group(ShardId { n: 1, ..shard(1) });
        assert_eq!(
            code("r1/edge/1", &command("closed", moved, draft())),
            None,
            "its owner says whether it is there"
        );
        let stream = ConversationId { kind: ConversationKind::User, ..moved };
        let watch = ToOwner::Watch {
            rid: 1,
            conversation: stream,
            after_ver: None,
            users: vec![],
            after_epoch: None,
        };
        assert_eq!(
            code("r1/edge/1", &watch),
            Some(ErrorCode::NotFound),
            "a user's own stream never moves"
        );
    }

    #[test]
    fn only_cores_move_conversations_and_only_into_shards_that_there_are() {
        let ours = group(shard(1));
        let to = |n| command("closed", ours, MeshCommand::Move { to: ShardId { n, ..shard(1) } });
        assert_eq!(code("r1/core/1", &to(1)), None);
        assert_eq!(code("r1/edge/1", &to(1)), Some(ErrorCode::Forbidden));
        assert_eq!(code("r1/core/1", &to(999)), Some(ErrorCode::BadRequest));
        let offer =
            command("closed", ours, MeshCommand::AcceptTransfer { n: 1, ver: 1, from: shard(1) });
        assert_eq!(
            (code("r1/core/1", &offer), code("r1/edge/1", &offer)),
            (None, Some(ErrorCode::Forbidden))
        );
    }

    #[test]
    fn a_node_that_withholds_moves_knows_no_order_to_move() {
        let ours = group(shard(1));
        let order = command("closed", ours, MeshCommand::Move { to: shard(1) });
        let older = Features::all_but(&[Feature::Moves]);
        let code = |features: &Features, frame: &ToOwner| {
            is_known(features, frame).err().map(|refusal| refusal.code)
        };
        assert_eq!(code(&older, &order), Some(ErrorCode::UnknownType));
        assert_eq!(code(&Features::all(), &order), None);
        assert_eq!(code(&older, &command("closed", ours, draft())), None);
    }

    #[test]
    fn cores_send_notes_to_the_user_they_name_and_nothing_else() {
        let world = world();
        let own = world.user_stream_id(&actor("closed").tenant, &actor("closed").user).unwrap();
        let at_home = |peer: &str, frame: &ToOwner| {
            check(&world, &own.shard, &node(peer), frame).err().map(|refusal| refusal.code)
        };
        let note = || MeshCommand::NoteLeft { conversation: group(shard(1)), at_ver: 1 };
        assert_eq!(at_home("r1/core/1", &command("closed", own, note())), None);
        assert_eq!(
            at_home("r1/edge/1", &command("closed", own, note())),
            Some(ErrorCode::Forbidden)
        );
        assert_eq!(
            at_home("r1/core/1", &command("closed", own, draft())),
            Some(ErrorCode::Forbidden)
        );
        let forged = ConversationId { unique: [9; 16], ..own };
        assert_eq!(
            at_home("r1/core/1", &command("closed", forged, note())),
            Some(ErrorCode::BadRequest)
        );
        let watch = ToOwner::Watch {
            rid: 1,
            conversation: own,
            after_ver: None,
            users: vec![],
            after_epoch: None,
        };
        assert_eq!(at_home("r1/core/1", &watch), Some(ErrorCode::Forbidden));
        assert_eq!(at_home("r1/edge/1", &watch), None);
    }
}
