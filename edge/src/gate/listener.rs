//! Takes connections and speaks HTTP/1.1 on them until they become a session or end.
//!
//! Not `axum::serve`: that has no deadline for the head of a request and no bound on connections,
//! so a few thousand silent ones would keep everybody out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use crate::shared::Shared;

/// Head of a request, bytes: a token may have 8 KiB.
const HEAD_BYTES_MAX: usize = 24 * 1024;
/// Pause when the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the edge stops.
pub(crate) async fn accept(shared: Arc<Shared>, mut listener: net::Listener, router: Router) {
    let places = Arc::new(Semaphore::new(shared.limits.http_connections));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // One that was gone before we took it.
            Err(error) if is_of_one(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.limits.http_read)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()))
            .with_upgrades();
        shared.tasks.spawn_until_stop("connection", async move {
            // A client that breaks off, or sends what is no HTTP, has been answered by hyper where
            // that was possible.
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection ended");
            }
            drop(place);
        });
    }
}

/// Whether only that one connection failed, and not the listener or the process.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput, NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput | NotConnected
    )
}
