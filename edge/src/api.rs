//! HTTP: what clients ask outside of a stream. From the [gate](crate::gate); over the same
//! [route](crate::route) as the frames of sessions, to the home of the conversation. Bodies are
//! `wire::client::http`; every error is a [problem](problem).

pub(crate) mod browsers;
pub(crate) mod conversations;
pub(crate) mod extract;
pub(crate) mod inbox;
pub(crate) mod limits;
pub(crate) mod messages;
mod page;
pub(crate) mod problem;
pub(crate) mod token;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use http::StatusCode;
use wire::ErrorCode;

use crate::gate;
use crate::shared::Shared;
use problem::Refused;

/// Every path there is.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/stream", get(gate::stream))
        .route("/v1/ws/token", post(token::stream_token))
        .route("/v1/conversations", post(conversations::open))
        .route("/v1/conversations/{id}/messages", get(messages::history))
        .route("/v1/groups", post(conversations::create_group))
        .route("/v1/groups/{id}", get(conversations::view))
        .route("/v1/groups/{id}/members", post(conversations::change_members))
        .route("/v1/messages", post(messages::send))
        .route("/v1/inbox", get(inbox::inbox))
        .route("/v1/limits", get(limits::limits))
        .fallback(|| async { Refused::new(ErrorCode::NotFound, "no such path").into_response() })
        .method_not_allowed_fallback(|| async {
            let refused =
                Refused::new(ErrorCode::BadRequest, "this path does not know this method");
            refused.status(StatusCode::METHOD_NOT_ALLOWED).into_response()
        })
        .layer(middleware::from_fn(browsers::one_host))
        .layer(browsers::cors(&shared))
        .with_state(shared)
}
