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
        NodeRole::Core => {
            world.zone(shard.zone).is_some_and(|zone| zone.regions.contains(&peer.region))
        }
        NodeRole::Edge => matches!(world.edge_serves(peer.region, shard.zone), Serve::Yes),
    }
}

/// Whether this peer may ask this on its stream of the shard.
///
/// # Errors
/// Why not, for the one who asked.
pub(crate) fn check(
    world: &World,
    shard: &ShardId,
    peer: &NodeId,
    frame: &Frame,
) -> Result<(), Refusal> {
    match frame {
        Frame::Command { actor, conversation, command, .. } => {
            belongs(world, shard, conversation)?;
            command_from(peer.role, command)?;
            if !is_of_the_mesh(command) {
                tenant_lives_here(world, shard, actor)?;
            }
            names_itself(world, conversation, actor, command)
        }
        Frame::Query { actor, conversation, query, .. } => {
            belongs(world, shard, conversation)?;
            edges_only(peer.role)?;
            let Some(actor) = actor else {
                return match query {
                    Query::Inbox { .. } => {
                        Err(refuse(ErrorCode::BadRequest, "an inbox is read by its user only"))
                    }
                    _ => Ok(()),
                };
            };
            tenant_lives_here(world, shard, actor)?;
            let own = conversation.kind == ConversationKind::User;
            if own && world.user_stream_id(&actor.tenant, &actor.user) != Some(*conversation) {
                return Err(refuse(ErrorCode::NotFound, "no such conversation"));
            }
            if !own && matches!(query, Query::Inbox { .. }) {
                return Err(refuse(
                    ErrorCode::BadRequest,
                    "an inbox is asked of a user's own stream",
                ));
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

/// A conversation may be in any shard of its zone and class; its owner says so if it is in another. A user's own stream
/// never moves.
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

fn edges_only(role: NodeRole) -> Result<(), Refusal> {
    if role == NodeRole::Edge {
        Ok(())
    } else {
        Err(refuse(ErrorCode::Forbidden, "only an edge may ask this"))
    }
}

/// Another zone's tenant is told what it would be told of a conversation that does not exist.
fn tenant_lives_here(world: &World, shard: &ShardId, actor: &Actor) -> Result<(), Refusal> {
    match world.tenant(&actor.tenant) {
        Some(tenant) if tenant.zone == shard.zone => Ok(()),
        _ => Err(refuse(ErrorCode::NotFound, "no such conversation")),
    }
}

/// What nodes do in no user's name.
fn is_of_the_mesh(command: &Command) -> bool {
    matches!(command, Command::Move { .. } | Command::AcceptTransfer { .. })
}

/// Notes and moves come from cores, all else from edges.
fn command_from(role: NodeRole, command: &Command) -> Result<(), Refusal> {
    let note = matches!(command, Command::NoteJoined { .. } | Command::NoteLeft { .. });
    match (role, note || is_of_the_mesh(command)) {
        (NodeRole::Core, true) | (NodeRole::Edge, false) => Ok(()),
        (NodeRole::Core, false) => {
            Err(refuse(ErrorCode::Forbidden, "a core does not speak for users"))
        }
        (NodeRole::Edge, true) => {
            Err(refuse(ErrorCode::Forbidden, "only a core may say who joined or what moves"))
        }
    }
}

/// Derived ids must be the ones that the command's users give.
fn names_itself(
    world: &World,
    id: &ConversationId,
    actor: &Actor,
    command: &Command,
) -> Result<(), Refusal> {
    let right = match command {
        Command::CreateGroup { .. } | Command::ChangeMembers { .. } => {
            id.kind == ConversationKind::Group
        }
        Command::OpenDirect { with } => {
            world.direct_id(&actor.tenant, &actor.user, with) == Some(*id)
        }
        Command::Send(_) | Command::AcceptTransfer { .. } => id.kind != ConversationKind::User,
        Command::Move { to } => id.kind != ConversationKind::User && world.has_shard(to),
        Command::NoteJoined { .. } | Command::NoteLeft { .. } => {
            world.user_stream_id(&actor.tenant, &actor.user) == Some(*id)
        }
    };
    if right {
        Ok(())
    } else {
        Err(refuse(ErrorCode::BadRequest, "not a conversation that allows this"))
    }
}

#[cfg(test)]
mod tests {
    use wire::command::Draft;
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

    fn code(peer: &str, frame: &Frame) -> Option<ErrorCode> {
        check(&world(), &shard(1), &node(peer), frame).err().map(|refusal| refusal.code)
    }

    fn command(tenant: &str, conversation: ConversationId, command: Command) -> Frame {
        Frame::Command { rid: 1, actor: actor(tenant), conversation, command }
    }

    fn group(shard: ShardId) -> ConversationId {
        ConversationId { kind: ConversationKind::Group, shard, unique: [1; 16] }
    }

    fn draft() -> Command {
        let client_msg_id = ClientMsgId::new("m").unwrap();
        let (reply_to, thread, mentions, meta) = (None, None, vec![], None);
        Command::Send(Draft { client_msg_id, body: "x".into(), reply_to, thread, mentions, meta })
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
        let watch = Frame::Watch {
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
        let to = |n| command("closed", ours, Command::Move { to: ShardId { n, ..shard(1) } });
        assert_eq!(code("r1/core/1", &to(1)), None);
        assert_eq!(code("r1/edge/1", &to(1)), Some(ErrorCode::Forbidden));
        assert_eq!(code("r1/core/1", &to(999)), Some(ErrorCode::BadRequest));
        let offer =
            command("closed", ours, Command::AcceptTransfer { n: 1, ver: 1, from: shard(1) });
        assert_eq!(
            (code("r1/core/1", &offer), code("r1/edge/1", &offer)),
            (None, Some(ErrorCode::Forbidden))
        );
    }

    #[test]
    fn cores_send_notes_to_the_user_they_name_and_nothing_else() {
        let world = world();
        let own = world.user_stream_id(&actor("closed").tenant, &actor("closed").user).unwrap();
        let at_home = |peer: &str, frame: &Frame| {
            check(&world, &own.shard, &node(peer), frame).err().map(|refusal| refusal.code)
        };
        let note = || Command::NoteLeft { conversation: group(shard(1)), at_ver: 1 };
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
        let watch = Frame::Watch {
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
