//! Answers that may be large: their memory is held before a home is asked, and until the client has
//! taken them.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use wire::ErrorCode;
use wire::command::Actor;

use super::problem::Refused;
use crate::memory::Held;
use crate::shared::Shared;

/// Waits for memory for an answer of at most so many bytes.
///
/// # Errors
/// `overloaded` when there is none in time.
pub(super) async fn hold(shared: &Shared, actor: &Actor, bytes: usize) -> Result<Held, Refused> {
    let held = tokio::time::timeout(shared.limits.page_wait, shared.memory.hold(actor, bytes));
    let held = held.await.ok().flatten();
    held.ok_or_else(|| {
        metrics::counter!("hearth_edge_page_memory_full_total").increment(1);
        let detail = "too many answers wait for clients that do not read them";
        Refused::new(ErrorCode::Overloaded, detail).retry_after_ms(1_000)
    })
}

/// The answer.
pub(super) fn respond<T: Serialize>(held: Held, answer: &T) -> Response {
    let json = serde_json::to_vec(answer).expect("plain data in memory always serializes");
    let mut response = Response::new(Body::from(held.with(json)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
