//! Sessions on WebSockets: the socket, the frames on it, and the loop between it and the session.

pub(crate) mod framing;
mod pump;
pub(crate) mod socket;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::session::state::Session;
use crate::session::{self, Starting};
use crate::shared::Shared;
use socket::Socket;

/// How long a client has to take a close and go.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same when the edge stops.
const CLOSE_TIMEOUT_AT_STOP: Duration = Duration::from_millis(300);

/// Runs a session to its end.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn holds the socket twice: as its argument and as its variable"
)]
pub(crate) fn run<S: AsyncRead + AsyncWrite + Unpin + Send>(
    shared: Arc<Shared>,
    session: Arc<Session>,
    mut socket: Socket<S>,
    starting: Box<Starting>,
) -> impl Future<Output = ()> + Send {
    async move {
        Box::pin(session::begin(&shared, &session, starting)).await;
        let end = pump::pump(&shared, &session, &mut socket).await;
        session::end(&shared, &session);
        tracing::debug!(session = session.number, ?end, "session ended");
        Box::pin(close(&shared, &mut socket, end)).await;
    }
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    socket: &mut Socket<S>,
    end: pump::End,
) {
    let closed = async {
        match end {
            pump::End::Close(close) => {
                metrics::counter!("hearth_edge_closes_total", "code" => close.code.to_string())
                    .increment(1);
                socket.close(close).await
            }
            pump::End::Left => socket.leave().await,
            pump::End::Gone => Ok(()),
        }
    };
    let stop = async {
        shared.stop.cancelled().await;
        tokio::time::sleep(CLOSE_TIMEOUT_AT_STOP).await;
    };
    // A client that takes no close is cut off.
    tokio::select! {
        _ = closed => {}
        () = tokio::time::sleep(CLOSE_TIMEOUT) => {}
        () = stop => {}
    }
}
