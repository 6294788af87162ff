//! `POST /v1/ws/token`: a token for one stream, for places where the identity token should not be
//! shown.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::{Request, State};
use runtime::clock::unix_ms;
use wire::DeviceId;
use wire::client::http::{StreamTokenRequest, StreamTokenResponse};
use wire::command::Actor;

use super::extract::{Json, User};
use super::problem::Refused;
use crate::gate;
use crate::shared::Shared;

pub(crate) async fn stream_token(
    State(shared): State<Arc<Shared>>,
    user: User,
    request: Request,
) -> Result<Out<StreamTokenResponse>, Refused> {
    let StreamTokenRequest { device_id } = Json::or_default(request, &shared).await?;
    let device = device_id
        .map(DeviceId::new)
        .transpose()
        .map_err(|error| Refused::bad_request(error.to_string()))?;
    // The checks of the upgrade: a browser cannot see why one was refused.
    let actor = Actor { device: device.clone().or(user.actor.device), ..user.actor };
    let most = shared.rates.limits(&actor.tenant).sessions_per_device_type;
    if !shared.places.has_room(&actor, most) {
        return Err(gate::too_many_sessions(&actor));
    }
    if shared.sessions.len() >= shared.limits.sessions {
        return Err(gate::overloaded());
    }
    let ttl_s = shared.limits.stream_token.as_secs();
    let issued = shared.verifier().issue_stream(&user.claims, device, ttl_s, unix_ms());
    let auth::StreamToken { token, expires_at_ms } =
        issued.map_err(|error| Refused::new(error.code(), error.to_string()))?;
    let url = format!("{}/v1/stream", websocket_url(&shared.public_url));
    Ok(Out(StreamTokenResponse { token, expires_at_ms, url }))
}

fn websocket_url(url: &str) -> String {
    match url.split_once("://") {
        Some(("https", rest)) => format!("wss://{rest}"),
        Some(("http", rest)) => format!("ws://{rest}"),
        _ => url.to_owned(),
    }
}
