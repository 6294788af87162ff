//! The control API of the local mesh: what `hearth region` and its like ask. See [`crate::api`] for
//! the requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use wire::NodeId;

use super::LocalWorld;
use super::region::Region;
use crate::api::{
    ControlProblem, EndedSessions, FailoverStatus, LinkStatus, MoveStatus, RegionStatus,
};
use crate::assembly::{Failing, Node};

/// The routes, behind the token.
pub(super) fn router(mesh: Arc<LocalWorld>, token: String) -> Router {
    let token: Arc<str> = format!("Bearer {token}").into();
    Router::new()
        .route("/v1/regions", get(regions))
        .route("/v1/regions/{name}/{verb}", post(change_region))
        .route("/v1/regions/{name}/failover", post(fail_over))
        .route("/v1/regions/{name}/failback", post(fail_back))
        .route("/v1/nodes/{region}/{role}/{name}/{verb}", post(change_node))
        .route("/v1/conversations/{id}/move/{region}", post(move_conversation))
        .route("/v1/sessions/end", post(end_sessions))
        .route("/v1/links/{a}/{b}/{verb}", post(change_link))
        .layer(middleware::from_fn(move |request, next| admit(Arc::clone(&token), request, next)))
        .with_state(mesh)
}

async fn admit(token: Arc<str>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shown == Some(&*token) {
        next.run(request).await
    } else {
        Problem(StatusCode::UNAUTHORIZED, "the control token of hearth.json is wanted".into())
            .into_response()
    }
}

async fn regions(State(mesh): State<Arc<LocalWorld>>) -> Json<Vec<RegionStatus>> {
    Json(mesh.regions.iter().map(|region| region.status()).collect())
}

async fn change_region(
    State(mesh): State<Arc<LocalWorld>>,
    Path((name, verb)): Path<(String, String)>,
) -> Result<Json<RegionStatus>, Problem> {
    let region = mesh.region(&name).map_err(not_found)?;
    carry_out(Arc::clone(&region), async move {
        match verb.as_str() {
            "kill" => region.kill().await,
            "restore" => region.restore().await,
            "drain" => region.drain().await,
            _ => Err(anyhow::anyhow!("cannot {verb} a region; known: kill, restore, drain")),
        }
    })
    .await
}

async fn change_node(
    State(mesh): State<Arc<LocalWorld>>,
    Path((region, role, name, verb)): Path<(String, String, String, String)>,
) -> Result<Json<RegionStatus>, Problem> {
    let id: NodeId = format!("{region}/{role}/{name}")
        .parse()
        .map_err(|error| not_found(anyhow::Error::from(error)))?;
    let region = mesh.region_of(&id).map_err(not_found)?;
    carry_out(Arc::clone(&region), async move {
        match verb.as_str() {
            "kill" => region.kill_node(&id).await,
            "restore" => region.restore_node(&id).await,
            _ => Err(anyhow::anyhow!("cannot {verb} a node; known: kill, restore")),
        }
    })
    .await
}

async fn move_conversation(
    State(mesh): State<Arc<LocalWorld>>,
    Path((id, region)): Path<(String, String)>,
) -> Result<Json<MoveStatus>, Problem> {
    let to = mesh.region(&region).map_err(not_found)?;
    // Its own core knows the way as well as any other; of one that does not run, any will do.
    let core = a_core(&mesh, |other| other.id == to.id)?;
    let world = Arc::clone(&mesh.material.world);
    to_the_end(async move { core.move_conversation(&world, &id, &region).await }).await.map(Json)
}

/// Of an order to end sessions.
#[derive(Deserialize)]
struct Whose {
    tenant: String,
    user: Option<String>,
}

async fn end_sessions(
    State(mesh): State<Arc<LocalWorld>>,
    Query(Whose { tenant, user }): Query<Whose>,
) -> Result<Json<EndedSessions>, Problem> {
    let mut ended = EndedSessions::default();
    for edge in mesh.regions.iter().flat_map(|region| region.edges()) {
        let here = edge.end_sessions(&tenant, user.as_deref()).map_err(conflict)?;
        ended.sessions += here.sessions;
    }
    Ok(Json(ended))
}

/// Of an order to fail over.
#[derive(Deserialize)]
struct Consent {
    #[serde(default)]
    accept_loss: bool,
}

async fn fail_over(
    State(mesh): State<Arc<LocalWorld>>,
    Path(name): Path<String>,
    Query(Consent { accept_loss }): Query<Consent>,
) -> Result<Json<FailoverStatus>, Problem> {
    fail(&mesh, name, Failing::Over { accept_loss }).await
}

async fn fail_back(
    State(mesh): State<Arc<LocalWorld>>,
    Path(name): Path<String>,
) -> Result<Json<FailoverStatus>, Problem> {
    fail(&mesh, name, Failing::Back).await
}

async fn fail(
    mesh: &LocalWorld,
    name: String,
    order: Failing,
) -> Result<Json<FailoverStatus>, Problem> {
    let region = mesh.region(&name).map_err(not_found)?;
    // One of a region that shares a zone with it, and is not the one that may be lost.
    let zones = |id| mesh.material.world.zones_of(id).map(|zone| zone.id).collect::<BTreeSet<_>>();
    let ours = zones(region.id);
    let core = a_core(mesh, |other| other.id != region.id && !zones(other.id).is_disjoint(&ours))?;
    let world = Arc::clone(&mesh.material.world);
    to_the_end(async move { core.fail(&world, &name, order).await }).await.map(Json)
}

/// One that runs, if possible in such a region.
fn a_core(mesh: &LocalWorld, is_best: impl Fn(&Region) -> bool) -> Result<Node, Problem> {
    let (best, others): (Vec<_>, Vec<_>) = mesh.regions.iter().partition(|region| is_best(region));
    let core = best.into_iter().chain(others).find_map(|region| region.a_core());
    core.ok_or_else(|| conflict(anyhow::anyhow!("no core runs")))
}

/// Does it to the end, and says how the region is then.
async fn carry_out(
    region: Arc<Region>,
    change: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> Result<Json<RegionStatus>, Problem> {
    to_the_end(change).await?;
    Ok(Json(region.status()))
}

/// In a task of its own: a client that goes away does not stop half-way what it asked for.
async fn to_the_end<T: Send + 'static>(
    order: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::spawn(order).await;
    done.map_err(|error| Problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
        .map_err(conflict)
}

async fn change_link(
    State(mesh): State<Arc<LocalWorld>>,
    Path((a, b, verb)): Path<(String, String, String)>,
) -> Result<Json<LinkStatus>, Problem> {
    let (first, second) =
        (mesh.region(&a).map_err(not_found)?, mesh.region(&b).map_err(not_found)?);
    if first.id == second.id {
        return Err(conflict(anyhow::anyhow!("a link has two ends; {a} is one region")));
    }
    let cut = match verb.as_str() {
        "cut" => true,
        "heal" => false,
        _ => return Err(conflict(anyhow::anyhow!("cannot {verb} a link; known: cut, heal"))),
    };
    let conditions = &mesh.material.conditions;
    if cut {
        conditions.cut(first.id.0, second.id.0);
    } else {
        conditions.heal(first.id.0, second.id.0);
    }
    Ok(Json(LinkStatus { a, b, cut }))
}

/// What the control API answers when it does not.
struct Problem(StatusCode, String);

fn not_found(error: anyhow::Error) -> Problem {
    Problem(StatusCode::NOT_FOUND, format!("{error:#}"))
}

fn conflict(error: anyhow::Error) -> Problem {
    Problem(StatusCode::CONFLICT, format!("{error:#}"))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(ControlProblem { message: self.1 })).into_response()
    }
}
