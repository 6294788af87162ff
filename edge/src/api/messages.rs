//! Messages: a page of history, and one more.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use wire::change::Change;
use wire::client::event::{AckPayload, MessagePayload};
use wire::client::http::{HistoryResponse, PostMessage};
use wire::command::{Answer, Query, UserCommand};
use wire::{ClientMsgId, MessageId, limits};

use super::extract::{self, InPath, Json, User, With, conversation};
use super::page;
use super::problem::Refused;
use crate::rates::Asked;
use crate::session::frame::internal;
use crate::shared::Shared;

/// What a page of history weighs at most, about: an answer of a home, as JSON.
const PAGE_BYTES: usize = limits::MESH_FRAME_BYTES * 2;

/// Which messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    before: Option<u64>,
    after: Option<u64>,
    limit: Option<u16>,
}

/// `GET /v1/conversations/{id}/messages`
pub(crate) async fn history(
    State(shared): State<Arc<Shared>>,
    With { user, parameters: Page { before, after, limit } }: With<Page>,
    path: InPath,
) -> Result<Response, Refused> {
    let id = path.conversation(&shared, &user)?;
    if before.is_some() && after.is_some() {
        return Err(Refused::bad_request("either before or after, not both"));
    }
    let limit = extract::limit(limit, limits::HISTORY_PAGE_DEFAULT, limits::HISTORY_PAGE_MAX)?;
    let held = page::hold(&shared, &user.actor, PAGE_BYTES).await?;
    let query = Query::History { before, after, limit };
    let Answer::History { messages, head_seq, has_more, .. } =
        shared.route.query(id, Some(user.actor), query).await?
    else {
        return Err(internal().into());
    };
    let messages = messages.iter().filter_map(|change| message(change)).collect();
    Ok(page::respond(held, &HistoryResponse { messages, head_seq, has_more }))
}

fn message(change: &Change) -> Option<MessagePayload> {
    let message = change.event.message()?;
    let client_msg_id = Some(message.draft.client_msg_id.to_string());
    Some(MessagePayload { client_msg_id, ..MessagePayload::new(change, message) })
}

/// `POST /v1/messages`
pub(crate) async fn send(
    State(shared): State<Arc<Shared>>,
    user: User,
    Json(request): Json<PostMessage>,
) -> Result<(StatusCode, Out<AckPayload>), Refused> {
    let PostMessage { conversation_id, client_msg_id, content } = request;
    let id = conversation(&shared, &user, &conversation_id)?;
    let client_msg_id =
        ClientMsgId::new(client_msg_id).map_err(|error| Refused::bad_request(error.to_string()))?;
    shared.rates.take(&user.actor, Asked::Send)?;
    let message_id = MessageId::derive(&id, &user.actor.user, &client_msg_id);
    let draft =
        content.into_draft(client_msg_id).map_err(|(code, message)| Refused::new(code, message))?;
    let Answer::Ack(ack) = shared.route.command(id, user.actor, UserCommand::Send(draft)).await?
    else {
        return Err(internal().into());
    };
    let status = if ack.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Out(AckPayload::new(&ack, message_id.to_string(), id.shard.durability))))
}
