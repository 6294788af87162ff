//! What operators may ask of a node beside looking at it: to drain, to take work again, to read its
//! files again, to move a conversation, to fail a region over and back, to end sessions. Only with the token that
//! the node was started with; a node without one refuses.

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a node does when it is asked.
pub trait Operator: Send + Sync + 'static {
    /// Gives away what it has and takes nothing new. Returns at once; `/status` tells how far it
    /// is. Again: nothing new.
    ///
    /// # Errors
    /// Why it cannot now. Nothing has changed.
    fn drain(&self) -> Result<(), String>;

    /// Takes work again.
    ///
    /// # Errors
    /// As [`Operator::drain`].
    fn undrain(&self) -> Result<(), String>;

    /// Moves a conversation, by its id, to a region, by its name. Resolves when it is served there,
    /// with how it stands.
    ///
    /// # Errors
    /// Why it does not move.
    fn move_conversation(&self, conversation: String, region: String) -> Order;

    /// Lets other regions serve what lives in this one, by its name, in class `region`; of one that
    /// is lost only if the loss is accepted. Resolves when they do, or with what would be missing.
    ///
    /// # Errors
    /// Why they do not.
    fn fail_over(&self, region: String, accept_loss: bool) -> Order;

    /// Takes that back. Resolves when the region serves it again.
    ///
    /// # Errors
    /// Why it does not.
    fn fail_back(&self, region: String) -> Order;

    /// Ends the sessions of a tenant, or of one of its users, at this edge. Resolves with how many
    /// there were.
    ///
    /// # Errors
    /// Why it does not.
    fn end_sessions(&self, tenant: String, user: Option<String>) -> Order;

    /// Reads its files again. May block for as long as reading a few files takes.
    fn reload(&self) -> Reloaded;
}

/// An order that is carried out, with what is told when it is.
pub type Order = Pin<Box<dyn Future<Output = Result<serde_json::Value, String>> + Send>>;

/// What came of a reload. What is refused stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// What holds from now on.
    pub taken: Vec<String>,
    /// What does not, each with the reason and the cure.
    pub refused: Vec<String>,
}

/// Who may ask, and of whom.
#[derive(Clone)]
pub struct Steering {
    /// The node.
    pub operator: Arc<dyn Operator>,
    /// What a Bearer must show; none: nobody may.
    pub token: Option<String>,
}

/// The routes.
pub(super) fn router(steering: Steering) -> Router {
    let token = steering.token.map(Sha256::digest);
    Router::new()
        .route("/drain", post(drain))
        .route("/undrain", post(undrain))
        .route("/reload", post(reload))
        .route("/sessions/end", post(end_sessions))
        .route("/conversations/{id}/move/{region}", post(move_conversation))
        .route("/regions/{region}/failover", post(fail_over))
        .route("/regions/{region}/failback", post(fail_back))
        .layer(middleware::from_fn(move |request, next| admit(token, request, next)))
        .with_state(steering.operator)
}

/// Compares digests, so that the time it takes tells nothing of the token.
async fn admit(
    token: Option<sha2::digest::Output<Sha256>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = token else {
        let cure = "this node takes no orders here: name a file with a secret in [admin] token_file and restart it, or \
                    use signals";
        return problem(StatusCode::FORBIDDEN, cure);
    };
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match shown.and_then(|shown| shown.strip_prefix("Bearer ")) {
        Some(shown) if Sha256::digest(shown) == token => next.run(request).await,
        _ => problem(
            StatusCode::UNAUTHORIZED,
            "show the secret of [admin] token_file as Authorization: Bearer",
        ),
    }
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(serde_json::json!({ "message": message }))).into_response()
}

async fn drain(State(operator): State<Arc<dyn Operator>>) -> Response {
    match operator.drain() {
        Ok(()) => {
            (StatusCode::ACCEPTED, Json(serde_json::json!({ "draining": true }))).into_response()
        }
        Err(why) => problem(StatusCode::CONFLICT, &why),
    }
}

async fn undrain(State(operator): State<Arc<dyn Operator>>) -> Response {
    match operator.undrain() {
        Ok(()) => Json(serde_json::json!({ "draining": false })).into_response(),
        Err(why) => problem(StatusCode::CONFLICT, &why),
    }
}

async fn move_conversation(
    State(operator): State<Arc<dyn Operator>>,
    Path((conversation, region)): Path<(String, String)>,
) -> Response {
    carried_out(operator.move_conversation(conversation, region)).await
}

/// Of an order to fail over.
#[derive(Deserialize)]
struct Consent {
    #[serde(default)]
    accept_loss: bool,
}

async fn fail_over(
    State(operator): State<Arc<dyn Operator>>,
    Path(region): Path<String>,
    Query(Consent { accept_loss }): Query<Consent>,
) -> Response {
    carried_out(operator.fail_over(region, accept_loss)).await
}

async fn fail_back(
    State(operator): State<Arc<dyn Operator>>,
    Path(region): Path<String>,
) -> Response {
    carried_out(operator.fail_back(region)).await
}

/// Of an order to end sessions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    tenant: String,
    user: Option<String>,
}

async fn end_sessions(
    State(operator): State<Arc<dyn Operator>>,
    Query(Whose { tenant, user }): Query<Whose>,
) -> Response {
    carried_out(operator.end_sessions(tenant, user)).await
}

async fn carried_out(order: Order) -> Response {
    match order.await {
        Ok(done) => Json(done).into_response(),
        Err(why) => problem(StatusCode::CONFLICT, &why),
    }
}

async fn reload(State(operator): State<Arc<dyn Operator>>) -> Response {
    match tokio::task::spawn_blocking(move || operator.reload()).await {
        Ok(reloaded) if reloaded.refused.is_empty() => Json(reloaded).into_response(),
        Ok(reloaded) => (StatusCode::CONFLICT, Json(reloaded)).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
