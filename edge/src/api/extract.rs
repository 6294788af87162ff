//! What requests are made of: a user, a conversation in the path, parameters, a JSON body. Each
//! refuses with a problem.

use std::error::Error as _;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use futures_util::StreamExt;
use http::Uri;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wire::client::request::is_deeper_than;
use wire::command::Actor;
use wire::{ConversationId, ErrorCode, UserId, limits};

use super::problem::Refused;
use crate::gate::pace::{Arrival, Pace};
use crate::gate::{self, Endpoint};
use crate::shared::Shared;

/// Characters of a conversation's id after its prefix.
const ID_CHARS: usize = 37;
/// Deepest nesting of a body.
const DEPTH_MAX: usize = 32;
/// A body over the limit is read so far and thrown away, so that the client, who is still writing,
/// gets the answer and not a reset.
const DRAIN_BYTES: usize = 8 * 1024 * 1024;

/// The user of an identity token, who asks without parameters.
pub(crate) struct User {
    pub(crate) actor: Actor,
    pub(crate) claims: auth::Claims,
}

impl FromRequestParts<Arc<Shared>> for User {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refused> {
        let user = Self::admit(parts, shared)?;
        Parameters::<Nothing>::of(&parts.uri)?;
        Ok(user)
    }
}

impl User {
    fn admit(parts: &Parts, shared: &Shared) -> Result<Self, Refused> {
        let claims = gate::admit(shared, Endpoint::Api, &parts.headers, &parts.extensions)?;
        Ok(Self { actor: gate::actor(&claims), claims })
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
    let conversation: ConversationId = text.parse().map_err(|error: wire::ids::IdError| {
        if looks_like_an_id(text) {
            return Refused::new(ErrorCode::NotFound, "no such conversation");
        }
        Refused::bad_request(error.to_string())
    })?;
    shared.admits(&user.actor.tenant, &conversation)?;
    Ok(conversation)
}

/// Whether a text has the form of a conversation's id, as the description of this interface has it.
/// One that has and that nothing bears is not found; any other is a bad request.
pub(crate) fn looks_like_an_id(text: &str) -> bool {
    let is_base32 = |c: u8| c.is_ascii_lowercase() || (b'2'..=b'7').contains(&c);
    text.strip_prefix("cnv_").is_some_and(|id| id.len() == ID_CHARS && id.bytes().all(is_base32))
}

/// The users that a body names.
pub(crate) fn user_ids(list: &[String]) -> Result<Vec<UserId>, Refused> {
    list.iter().map(|user| user_id(user)).collect()
}

/// A user that a body names.
pub(crate) fn user_id(text: &str) -> Result<UserId, Refused> {
    UserId::new(text).map_err(|error| Refused::bad_request(error.to_string()))
}

/// The parameters after the question mark. Unknown ones are refused by their type.
pub(crate) struct Parameters<T>(T);

/// No parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

impl<T: DeserializeOwned> Parameters<T> {
    /// Reads them.
    pub(crate) fn of(uri: &Uri) -> Result<T, Refused> {
        let read = Query::<T>::try_from_uri(uri);
        read.map(|Query(parameters)| parameters).map_err(|error| {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            Refused::bad_request(format!("the parameters are not what is wanted: {why}"))
        })
    }
}

/// A user who asks with parameters; [`User`] alone takes none.
pub(crate) struct With<T> {
    pub(crate) user: User,
    pub(crate) parameters: T,
}

impl<T: DeserializeOwned> FromRequestParts<Arc<Shared>> for With<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refused> {
        let user = User::admit(parts, shared)?;
        Ok(Self { user, parameters: Parameters::of(&parts.uri)? })
    }
}

/// `limit`, within 1 and `most`.
pub(crate) fn limit(asked: Option<u16>, default: u16, most: u16) -> Result<u16, Refused> {
    let limit = asked.unwrap_or(default);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(Refused::bad_request(format!("limit is not within 1 and {most}")))
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
