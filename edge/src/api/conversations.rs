//! Conversations and groups: open, create, look at, change who is in.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use wire::client::event::GroupPayload;
use wire::client::http::{ChangeMembers, CreateGroup, OpenConversation};
use wire::command::{Answer, Query, Refusal, UserCommand};
use wire::{ConversationKind, ErrorCode, RegionId, UserId};

use super::extract::{InPath, Json, User, With, user_id, user_ids};
use super::problem::Refused;
use crate::rates::Asked;
use crate::session::frame::internal;
use crate::shared::Shared;

fn group(
    shared: &Shared,
    answer: Result<Answer, Refusal>,
) -> Result<(GroupPayload, bool), Refused> {
    match answer? {
        Answer::View { view, created } => Ok((shared.route.encoder.group(&view), created)),
        _ => Err(internal().into()),
    }
}

/// `POST /v1/conversations`
pub(crate) async fn open(
    State(shared): State<Arc<Shared>>,
    user: User,
    Json(request): Json<OpenConversation>,
) -> Result<Response, Refused> {
    if request.kind != ConversationKind::Direct {
        return Err(Refused::bad_request(
            "only direct conversations are opened; groups are created",
        ));
    }
    let with = user_id(&request.user_id)?;
    let id = shared.world.direct_id(&user.actor.tenant, &user.actor.user, &with);
    let id = id.ok_or_else(|| Refused::new(ErrorCode::Forbidden, "tenant not served here"))?;
    shared.rates.take(&user.actor, Asked::Conversation)?;
    let answer = shared.route.command(id, user.actor, UserCommand::OpenDirect { with }).await;
    let (group, created) = group(&shared, answer)?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Out(group)).into_response())
}

/// `POST /v1/groups`
pub(crate) async fn create_group(
    State(shared): State<Arc<Shared>>,
    user: User,
    Json(request): Json<CreateGroup>,
) -> Result<(StatusCode, Out<GroupPayload>), Refused> {
    let CreateGroup { name, members, home_region, durability } = request;
    let members = user_ids(&members)?;
    let home = home(&shared, &user, home_region.as_deref())?;
    let tenant = shared.world.tenant(&user.actor.tenant);
    let durability =
        durability.or(tenant.map(|tenant| tenant.durability)).unwrap_or(wire::Durability::Region);
    let id = shared
        .world
        .new_group_id(&user.actor.tenant, home, durability, rand::random())
        .ok_or_else(|| {
            Refused::bad_request(format!(
                "the tenant's zone does not offer durability {durability}: it has too few regions"
            ))
        })?;
    shared.rates.take(&user.actor, Asked::Conversation)?;
    added(&shared, &user, &members)?;
    let command = UserCommand::CreateGroup { name: name.into(), members };
    let answer = shared.route.command(id, user.actor, command).await;
    Ok((StatusCode::CREATED, Out(group(&shared, answer)?.0)))
}

/// Counts the users whom somebody adds.
fn added(shared: &Shared, user: &User, members: &[UserId]) -> Result<(), Refused> {
    let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
    Ok(shared.rates.take(&user.actor, Asked::Members(count))?)
}

/// Where a new group lives: as asked, or as the world says.
fn home(shared: &Shared, user: &User, asked: Option<&str>) -> Result<RegionId, Refused> {
    let tenant = &user.actor.tenant;
    let Some(asked) = asked else {
        let home = shared.world.birth_home(tenant, shared.node.region);
        return home.ok_or_else(|| Refused::new(ErrorCode::Forbidden, "tenant not served here"));
    };
    let region = shared.world.region_by_name(asked);
    let region =
        region.ok_or_else(|| Refused::bad_request("home_region is no region of this world"))?;
    if shared.world.zone_of(tenant).is_some_and(|zone| zone.regions.contains(&region.id)) {
        return Ok(region.id);
    }
    tracing::warn!(
        target: "hearth::residency",
        evidence = "refused",
        %tenant,
        region = %region.name,
        edge = %shared.node,
        "a home outside the tenant's zone was asked for"
    );
    Err(Refused::new(ErrorCode::ResidencyDenied, "home_region is outside the tenant's zone"))
}

/// Which members.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MembersPage {
    members_after: Option<String>,
}

/// `GET /v1/groups/{id}`
pub(crate) async fn view(
    State(shared): State<Arc<Shared>>,
    With { user, parameters: MembersPage { members_after } }: With<MembersPage>,
    path: InPath,
) -> Result<Out<GroupPayload>, Refused> {
    let id = path.conversation(&shared, &user)?;
    let members_after = members_after.as_deref().map(user_id).transpose()?;
    let answer = shared.route.query(id, Some(user.actor), Query::View { members_after }).await;
    Ok(Out(group(&shared, answer)?.0))
}

/// `POST /v1/groups/{id}/members`
pub(crate) async fn change_members(
    State(shared): State<Arc<Shared>>,
    user: User,
    path: InPath,
    Json(request): Json<ChangeMembers>,
) -> Result<Out<GroupPayload>, Refused> {
    let id = path.conversation(&shared, &user)?;
    let ChangeMembers { add, remove, roles } = request;
    let roles = roles
        .into_iter()
        .map(|(user, role)| Ok((user_id(&user)?, role)))
        .collect::<Result<_, Refused>>()?;
    let (add, remove) = (user_ids(&add)?, user_ids(&remove)?);
    added(&shared, &user, &add)?;
    let command = UserCommand::ChangeMembers { add, remove, roles };
    let answer = shared.route.command(id, user.actor, command).await;
    Ok(Out(group(&shared, answer)?.0))
}
