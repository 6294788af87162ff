//! Takes connections and speaks HTTP/1.1 on them until they become a session or end.
//!
//! Not `axum::serve`: that has no deadlines and no bound on connections, so a few thousand silent
//! ones would keep everybody out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::addresses::Addresses;
use super::client::Client;
use super::connections::{Connection, Connections};
use super::paced_io::{Deadlines, PacedIo};
use super::requests::Requests;
use crate::shared::Shared;

/// Head of a request, bytes: a token may have 8 KiB.
const HEAD_BYTES_MAX: usize = 24 * 1024;
/// Pause when the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the edge stops.
pub(crate) async fn accept(shared: Arc<Shared>, mut listener: net::Listener, router: Router) {
    let limits = &shared.limits;
    let connections = Connections::new(limits.http_connections);
    let addresses = Addresses::new(limits.connections_per_address, limits.count_loopback);
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            // One that was gone before we took it.
            Err(error) if is_of_one(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(permit) = addresses.take(from.ip()) else {
            metrics::counter!("hearth_edge_connections_refused_total", "reason" => "address")
                .increment(1);
            continue;
        };
        let connection = connections.take().await;
        let client = Client::new(stream, permit);
        let served = serve(shared.clone(), router.clone(), connection, client);
        shared.tasks.spawn_until_stop("connection", served);
    }
}

/// One connection, until it ends, becomes a session or gives way to another one.
async fn serve(shared: Arc<Shared>, router: Router, connection: Arc<Connection>, client: Client) {
    let io = PacedIo::new(client, connection.clone(), Deadlines::new(&shared.limits));
    let pipelined_max = shared.limits.http_pipelined;
    drop(shared);
    let requests = Requests { router, connection: connection.clone(), pipelined_max };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(io), requests)
        .with_upgrades();
    tokio::select! {
        // A client that breaks off, or sends what is no HTTP, has been answered by hyper where that
        // was possible.
        served = served => if let Err(error) = served {
            tracing::trace!(%error, "connection ended");
        },
        () = connection.evicted() => {}
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
