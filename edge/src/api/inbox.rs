//! `GET /v1/inbox`: the user's conversations, from their own stream.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use serde::Deserialize;
use wire::client::http::{InboxEntry, InboxResponse};
use wire::command::{Answer, InboxLine, Query};
use wire::{ConversationId, ErrorCode, limits};

use super::extract::{self, With};
use super::problem::Refused;
use crate::session::frame::internal;
use crate::shared::Shared;

/// Which conversations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    limit: Option<u16>,
    cursor: Option<String>,
}

pub(crate) async fn inbox(
    State(shared): State<Arc<Shared>>,
    With { user, parameters: Page { limit, cursor } }: With<Page>,
) -> Result<Out<InboxResponse>, Refused> {
    let after = cursor.map(|text| place(&text)).transpose()?;
    let limit = extract::limit(limit, limits::INBOX_PAGE_DEFAULT, limits::INBOX_PAGE_MAX)?;
    let own = shared.world.user_stream_id(&user.actor.tenant, &user.actor.user);
    let own = own.ok_or_else(|| Refused::new(ErrorCode::Forbidden, "tenant not served here"))?;
    let query = Query::Inbox { after, limit };
    let Answer::Inbox { lines, next, .. } =
        shared.route.query(own, Some(user.actor), query).await?
    else {
        return Err(internal().into());
    };
    let conversations = lines.into_iter().map(entry).collect();
    Ok(Out(InboxResponse { conversations, next: next.map(|next| next.to_string()) }))
}

fn place(cursor: &str) -> Result<ConversationId, Refused> {
    let detail = "cursor is not one that this API gave";
    cursor.parse().map_err(|_| match extract::looks_like_an_id(cursor) {
        true => Refused::new(ErrorCode::NotFound, detail),
        false => Refused::bad_request(detail),
    })
}

fn entry(line: InboxLine) -> InboxEntry {
    let InboxLine { conversation, name, joined_seq, head_seq, read_seq, last_ts_ms, .. } = line;
    InboxEntry {
        conversation_id: conversation,
        kind: conversation.kind,
        name: name.map(Into::into),
        head_seq,
        read_seq,
        unread: head_seq.saturating_sub(read_seq.max(joined_seq.saturating_sub(1))),
        last_ts_ms,
    }
}
