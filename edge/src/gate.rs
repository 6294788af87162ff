//! Who comes in. From the [listener](listener), a connection; to a [session](crate::session) or the
//! [API](crate::api), a user whose token, tenant and zone are checked. Nothing of a request is
//! looked at before its token is, and nothing is upgraded before everything is.

mod addresses;
mod client;
pub(crate) mod connections;
mod handshake;
pub(crate) mod listener;
pub(crate) mod pace;
mod paced_io;
mod requests;
pub(crate) mod residency;
pub(crate) mod spent;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{AUTHORIZATION, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use http::{Extensions, HeaderMap, HeaderValue};
use hyper_util::rt::TokioIo;
use runtime::clock::unix_ms;
use wire::ErrorCode;
use wire::client::{SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX};
use wire::command::Actor;

use crate::api::browsers;
use crate::api::extract::{Nothing, Parameters};
use crate::api::problem::Refused;
use crate::rates::{self, Asked, device_type};
use crate::session::Starting;
use crate::session::state::Session;
use crate::shared::Shared;
use crate::transport::websocket::{self, socket::Socket};
use client::Client;
use connections::Connection;
use paced_io::PacedIo;

/// A client with too many sessions is asked to wait so long.
const SESSIONS_RETRY: Duration = Duration::from_secs(5);

/// What a request must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `GET /v1/stream`: an identity or a stream token.
    Stream,
    /// Everything else: an identity token.
    Api,
}

/// Checks the token of a request, then whether this edge may serve its tenant, then whether it
/// serves anyone. A connection with a good token keeps its place.
///
/// # Errors
/// What to answer.
pub(crate) fn admit(
    shared: &Shared,
    endpoint: Endpoint,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<auth::Claims, Refused> {
    let token = token(headers, endpoint).unwrap_or_default();
    let claims = match endpoint {
        Endpoint::Stream => shared.verifier().verify_any(token, unix_ms()),
        Endpoint::Api => shared.verifier().verify_identity(token, unix_ms()),
    };
    let claims = claims.map_err(|error| {
        metrics::counter!("hearth_edge_refused_total", "code" => error.code().as_str())
            .increment(1);
        Refused::new(error.code(), error.to_string())
    })?;
    if let Some(connection) = extensions.get::<Arc<Connection>>() {
        connection.prove();
    }
    residency::check(shared, endpoint, &claims.tenant)?;
    if shared.is_draining() {
        let alternatives = residency::alternatives(shared, &claims.tenant);
        let refused = Refused::new(ErrorCode::Draining, "this edge goes away; use another one");
        return Err(refused.retry_after_ms(1_000).alternatives(alternatives));
    }
    if endpoint == Endpoint::Api {
        shared.rates.take(&actor(&claims), Asked::Request)?;
    }
    Ok(claims)
}

/// The user of a token.
pub(crate) fn actor(claims: &auth::Claims) -> Actor {
    let auth::Claims { tenant, user, device, .. } = claims;
    Actor { tenant: tenant.clone(), user: user.clone(), device: device.clone() }
}

/// What a client is told when the edge has too many sessions.
pub(crate) fn overloaded() -> Refused {
    Refused::new(ErrorCode::Overloaded, "too many sessions").retry_after_ms(1_000)
}

/// What a client is told that has too many sessions.
pub(crate) fn too_many_sessions(actor: &Actor) -> Refused {
    let kind = device_type(actor.device.as_ref());
    let what = format!("sessions of one user from devices of type \"{kind}\"");
    rates::refused(SESSIONS_RETRY, "session", &what).into()
}

/// The token of a request: as Bearer or, for a stream, as a subprotocol. Never from the URL.
fn token(headers: &HeaderMap, endpoint: Endpoint) -> Option<&str> {
    let bearer =
        headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
    let offered =
        || subprotocols(headers).find_map(|name| name.strip_prefix(TOKEN_SUBPROTOCOL_PREFIX));
    bearer.or_else(|| if endpoint == Endpoint::Stream { offered() } else { None })
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values =
        headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// `GET /v1/stream`.
pub(crate) async fn stream(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let claims = match admit_stream(&shared, &request) {
        Ok(claims) => claims,
        Err(refused) => return refused.into_response(),
    };
    let mut response = match handshake::accept(&request) {
        Ok(response) => response,
        Err(refused) => return *refused,
    };
    let starting = match start(&shared, &actor(&claims)) {
        Ok(starting) => starting,
        Err(refused) => return refused.into_response(),
    };
    if subprotocols(request.headers()).any(|name| name == SUBPROTOCOL) {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    if let Some(number) = claims.number
        && !shared.spent.spend(number, claims.exp_ms)
    {
        let detail = "this stream token has opened a session; ask for another";
        return Refused::new(ErrorCode::Unauthenticated, detail).into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let tasks = shared.tasks.clone();
    tasks.spawn("upgrade", upgraded(shared, claims, upgrade, starting));
    response
}

fn admit_stream(shared: &Shared, request: &Request) -> Result<auth::Claims, Refused> {
    let claims = admit(shared, Endpoint::Stream, request.headers(), request.extensions())?;
    Parameters::<Nothing>::of(request.uri())?;
    match request.headers().get(ORIGIN) {
        Some(origin) if !browsers::allows(&shared.origins, origin) => {
            let detail = "pages of this origin may not use this edge";
            Err(Refused::new(ErrorCode::Forbidden, detail))
        }
        _ => Ok(claims),
    }
}

/// A place for one more session of a user.
fn start(shared: &Shared, actor: &Actor) -> Result<Box<Starting>, Refused> {
    let most = shared.rates.limits(&actor.tenant).sessions_per_device_type;
    let place = shared.places.take(actor, most).ok_or_else(|| too_many_sessions(actor))?;
    let permit = shared.starting.clone().try_acquire_owned().ok();
    let permit = permit.filter(|_| shared.sessions.len() < shared.limits.sessions);
    Ok(Box::new(Starting { permit: permit.ok_or_else(overloaded)?, place }))
}

/// From the upgrade on the connection is a session: a task of its own, which does not carry what
/// led to it.
async fn upgraded(
    shared: Arc<Shared>,
    claims: auth::Claims,
    upgrade: hyper::upgrade::OnUpgrade,
    starting: Box<Starting>,
) {
    let Ok(upgraded) = upgrade.await else { return };
    let auth::Claims { tenant, user, device, session_exp_ms, signed_by, .. } = claims;
    let longest = u64::try_from(shared.limits.session.as_millis()).unwrap_or(u64::MAX);
    let expires_ms = session_exp_ms.min(unix_ms().saturating_add(longest));
    let number = shared.sessions_begun.fetch_add(1, Ordering::Relaxed);
    let session = Arc::new(Session::new(
        number,
        Actor { tenant, user, device },
        (expires_ms, signed_by),
        shared.now_ms(),
    ));
    tracing::debug!(session = number, "session started");
    let tasks = shared.tasks.clone();
    match upgraded.downcast::<TokioIo<PacedIo<Client>>>() {
        Ok(parts) => {
            let socket = Socket::new(parts.io.into_inner().into_inner(), parts.read_buf);
            tasks.spawn("session", websocket::run(shared, session, socket, starting));
        }
        // Some other carrier of HTTP: the same through one more layer.
        Err(upgraded) => {
            let socket = Socket::new(TokioIo::new(upgraded), Bytes::new());
            tasks.spawn("session", websocket::run(shared, session, socket, starting));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(http::HeaderName, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_comes_as_bearer_or_as_a_subprotocol_of_a_stream() {
        let bearer = headers(&[(AUTHORIZATION, "bearer abc")]);
        assert_eq!(token(&bearer, Endpoint::Api), Some("abc"));
        let offered = headers(&[(SEC_WEBSOCKET_PROTOCOL, "hearth.v1, hearth.token.a.b.c")]);
        assert_eq!(token(&offered, Endpoint::Stream), Some("a.b.c"));
        assert_eq!(token(&offered, Endpoint::Api), None);
        assert_eq!(token(&headers(&[(AUTHORIZATION, "Basic abc")]), Endpoint::Stream), None);
    }
}
