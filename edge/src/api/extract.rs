//! What requests are made of: a user, a conversation in the path, parameters, a JSON body. Each
//! refuses with a problem.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use futures_util::StreamExt;
use http::request::Parts;
use serde::de::DeserializeOwned;
use wire::client::request::is_deeper_than;
use wire::command::Actor;
use wire::{ConversationId, ErrorCode, UserId, limits};

use super::problem::Refused;
use crate::gate::pace::{Arrival, Pace};
use crate::gate::{self, Endpoint};
use crate::shared::Shared;

/// Deepest nesting of a body.
const DEPTH_MAX: usize = 32;
/// A body over the limit is read so far and thrown away, so that the client, who is still writing,
/// gets the answer and not a reset.
const DRAIN_BYTES: usize = 8 * 1024 * 1024;

/// The user of an identity token.
pub(crate) struct User {
    pub(crate) actor: Actor,
    pub(crate) claims: auth::Claims,
}

impl FromRequestParts<Arc<Shared>> for User {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refused> {
        let claims = gate::admit(shared, Endpoint::Api, &parts.headers, &parts.extensions)?;
        let (tenant, user, device) =
            (claims.tenant.clone(), claims.user.clone(), claims.device.clone());
        Ok(Self { actor: Actor { tenant, user, device }, claims })
    }
}

/// The path's only parameter.
pub(crate) struct InPath(String);

impl FromRequestParts<Arc<Shared>> for InPath {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refused> {
        let path = Path::<String>::from_request_parts(parts, shared).await;
        path.map(|Path(text)| Self(text))
            .map_err(|_| Refused::bad_request("a path that cannot be read"))
    }
}

impl InPath {
    /// The conversation that it names, if it can be one of the user's tenant.
    pub(crate) fn conversation(
        &self,
        shared: &Shared,
        user: &User,
    ) -> Result<ConversationId, Refused> {
        conversation(shared, user, &self.0)
    }
}

/// The conversation that a text names, if it can be one of the user's tenant.
pub(crate) fn conversation(
    shared: &Shared,
    user: &User,
    text: &str,
) -> Result<ConversationId, Refused> {
    let conversation: ConversationId =
        text.parse().map_err(|e: wire::ids::IdError| Refused::bad_request(e.to_string()))?;
    shared.admits(&user.actor.tenant, &conversation)?;
    Ok(conversation)
}

/// A user that a body names.
pub(crate) fn user_id(text: &str) -> Result<UserId, Refused> {
    UserId::new(text).map_err(|error| Refused::bad_request(error.to_string()))
}

/// The parameters after the question mark, as texts; empty ones are not there.
pub(crate) struct Parameters(Vec<(String, String)>);

impl FromRequestParts<Arc<Shared>> for Parameters {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Shared>) -> Result<Self, Refused> {
        let Query(list) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Refused::bad_request("parameters that cannot be read"))?;
        Ok(Self(list))
    }
}

impl Parameters {
    /// The text of one of them.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refused> {
        let mut values = self.0.iter().filter(|(key, value)| key == name && !value.is_empty());
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(Refused::bad_request(format!("{name} is given twice"))),
            (first, _) => Ok(first.map(|(_, value)| value.as_str())),
        }
    }

    /// One of them as a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refused> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Refused::bad_request(format!("{name} is not a number")))
        };
        self.text(name)?.map(parse).transpose()
    }

    /// `limit`, within 1 and `most`.
    pub(crate) fn limit(&self, default: u16, most: u16) -> Result<u16, Refused> {
        match self.number("limit")? {
            None => Ok(default),
            Some(limit) => u16::try_from(limit)
                .ok()
                .filter(|limit| (1..=most).contains(limit))
                .ok_or_else(|| Refused::bad_request(format!("limit is not within 1 and {most}"))),
        }
    }
}

/// A JSON body. Unknown fields are refused by its type.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Json<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Refused> {
        parse(&read(request, shared.limits.body_pace()).await?).map(Self)
    }
}

impl<T> Json<T> {
    /// The same with an empty body for `T::default()`.
    pub(crate) async fn or_default(request: Request, shared: &Arc<Shared>) -> Result<T, Refused>
    where
        T: DeserializeOwned + Default,
    {
        let body = read(request, shared.limits.body_pace()).await?;
        if body.is_empty() { Ok(T::default()) } else { parse(&body) }
    }
}

async fn read(request: Request, pace: Pace) -> Result<Vec<u8>, Refused> {
    let mut chunks = request.into_body().into_data_stream();
    let (mut body, mut len) = (Vec::new(), 0);
    let mut arrival = Arrival::begin();
    loop {
        let next = tokio::time::timeout_at(arrival.deadline(pace), chunks.next()).await;
        let next = next.map_err(|_| Refused::bad_request("the body came too slowly"))?;
        let Some(chunk) = next else { break };
        let chunk = chunk.map_err(|_| Refused::bad_request("the body broke off"))?;
        arrival.note(chunk.len());
        len += chunk.len();
        if len <= limits::HTTP_BODY_BYTES {
            body.extend_from_slice(&chunk);
        } else if len > DRAIN_BYTES {
            break;
        }
    }
    if len > limits::HTTP_BODY_BYTES {
        let detail = format!("the body is over {} bytes", limits::HTTP_BODY_BYTES);
        return Err(Refused::new(ErrorCode::TooLarge, detail));
    }
    Ok(body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let text =
        std::str::from_utf8(body).map_err(|_| Refused::bad_request("the body is not UTF-8"))?;
    if is_deeper_than(text, DEPTH_MAX) {
        return Err(Refused::bad_request("the body is nested too deeply"));
    }
    serde_json::from_str(text)
        .map_err(|error| Refused::bad_request(format!("the body is not what is wanted: {error}")))
}
