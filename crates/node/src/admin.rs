//! The admin endpoint: `/healthz` says that the process answers, `/readyz` whether it should get
//! work and why not, `/status` how it stands, `/metrics` what it counts (Prometheus text); and what
//! operators may ask of it ([`operator`]). It stands on a port of its own, for operators only.

pub mod operator;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::operator::Steering;
use crate::{Stopped, Tasks, telemetry};

/// How often the samples of histograms are folded into their buckets when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Whether a node should get work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// It should.
    pub ready: bool,
    /// Why not; may hold remarks when it should.
    pub reasons: Vec<String>,
}

impl Readiness {
    /// Ready if there is no reason against it.
    #[must_use]
    pub fn unless(reasons: Vec<String>) -> Self {
        Self { ready: reasons.is_empty(), reasons }
    }
}

/// What an admin endpoint needs.
pub struct AdminOptions {
    /// Where it listens.
    pub listener: net::Listener,
    /// Asked anew for each request to `/readyz`; must not block.
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// The same for `/status`.
    pub status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// What it may be asked to do; none: nothing.
    pub steering: Option<Steering>,
}

/// A running admin endpoint. Dropped, it runs on until its runtime ends.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    tasks: Tasks,
}

impl Admin {
    /// Starts to serve, in tasks of the current runtime.
    ///
    /// # Errors
    /// When the listener is broken.
    pub fn start(options: AdminOptions) -> io::Result<Self> {
        let addr = options.listener.local_addr()?;
        let tasks = Tasks::new("admin");
        tasks.spawn(
            "serve",
            serve(
                options.listener,
                router(with_panics(options.readiness, &tasks), options.status, options.steering),
                tasks.stopping(),
            ),
        );
        tasks.spawn("upkeep", upkeep(tasks.stopping()));
        Ok(Self { addr, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more requests and waits for those under way until the deadline.
    pub async fn stop(&self, deadline: Duration) -> Stopped {
        self.tasks.stop(deadline).await
    }
}

/// Serves a router on a listener of `net` until told to stop, then finishes the requests under way.
/// For endpoints that operators and tools of the same machine use; what faces users is the edge's.
pub async fn serve(listener: net::Listener, router: Router, stop: CancellationToken) {
    let served = axum::serve(Accepting(listener), router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "endpoint ended");
    }
}

/// A panic in a task of the endpoint itself counts too.
fn with_panics(
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    tasks: &Tasks,
) -> Arc<dyn Fn() -> Readiness + Send + Sync> {
    let tasks = tasks.clone();
    Arc::new(move || {
        let mut readiness = readiness();
        for task in tasks.panicked() {
            readiness.ready = false;
            readiness.reasons.push(format!("task {task} has panicked; restart the node"));
        }
        readiness
    })
}

fn router(
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    steering: Option<Steering>,
) -> Router {
    let handle = telemetry::metrics();
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { ready(readiness()) }))
        .route("/status", get(move || async move { Json(status()) }))
        .route(
            "/metrics",
            get(move || async move {
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
            }),
        );
    match steering {
        Some(steering) => router.merge(operator::router(steering)),
        None => router,
    }
}

fn ready(readiness: Readiness) -> impl IntoResponse {
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

async fn upkeep(stop: CancellationToken) {
    let mut tick = tokio::time::interval(UPKEEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => telemetry::metrics().run_upkeep(),
        }
    }
}

struct Accepting(net::Listener);

impl axum::serve::Listener for Accepting {
    type Io = net::Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (net::Stream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests;
