//! `GET /v1/limits`: what the caller may ask.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use topology::world::TenantLimits;
use wire::client::http::LimitsResponse;
use wire::limits;

use super::extract::User;
use crate::shared::Shared;

pub(crate) async fn limits(State(shared): State<Arc<Shared>>, user: User) -> Out<LimitsResponse> {
    let TenantLimits {
        sends_per_second,
        sends_burst,
        tenant_sends_per_second: _,
        conversations_per_minute,
        conversations_burst,
        members_added_per_hour,
        requests_per_minute,
        frames_per_second,
        sessions_per_device_type,
    } = shared.rates.limits(&user.actor.tenant);
    Out(LimitsResponse {
        sends_per_second: sends_per_second.into(),
        sends_burst: sends_burst.into(),
        conversations_per_minute: conversations_per_minute.into(),
        conversations_burst: conversations_burst.into(),
        members_added_per_hour: members_added_per_hour.into(),
        requests_per_minute: requests_per_minute.into(),
        frames_per_second: frames_per_second.into(),
        sessions_per_device_type: sessions_per_device_type.into(),
        group_members: limits::GROUP_MEMBERS as u64,
        members_per_change: limits::MEMBERS_PER_CHANGE as u64,
        frame_bytes: limits::FRAME_BYTES as u64,
        body_bytes: limits::BODY_BYTES as u64,
        http_body_bytes: limits::HTTP_BODY_BYTES as u64,
    })
}
