//! An edge: the point of presence that ends WebSockets. It holds no durable state; whatever it forgets, a home knows.
//!
//! A client frame goes down this list, and the events that follow from it come back up:
//!
//! | module | what happens there |
//! |---|---|
//! | [`gate`] | a connection becomes a user: token, zone, limits, before the upgrade |
//! | [`session`] | one task per client: reads frames, writes what its outbox holds, catches up what was missed |
//! | [`route`] | the way to the core that owns the conversation, across takeovers |
//! | [`subscriptions`] | who is here to get what, and up to which `ver` each conversation was delivered |
//! | [`fanout`] | one change, encoded once, into many outboxes |
//! | [`api`] | the same over HTTP, for those without a stream |
//!
//! What is not done here: deciding. Who may write, what is a duplicate, who is a member is said by the home; who owns a shard
//! by `topology`; which change is next by `conversation::edge_cursor`.
//!
//! [`gate`]: crate::gate
//! [`session`]: crate::session
//! [`route`]: crate::route
//! [`subscriptions`]: crate::subscriptions
//! [`fanout`]: crate::fanout
//! [`api`]: crate::api

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod fanout;
mod gate;
mod route;
mod session;
mod subscriptions;

mod drain;
mod options;
mod shared;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use options::{EdgeOptions, EdgeUrls, Limits};
pub use route::LinkStatus;

use shared::Shared;

/// A running edge; cheap to clone. It runs on the tokio runtime that it was started on, until [`Edge::stop`].
#[derive(Clone)]
pub struct Edge {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
}

/// How an edge stands, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeStatus {
    /// Sessions that are open.
    pub sessions: usize,
    /// Whether it goes away.
    pub draining: bool,
    /// Its links to the owners of shards; those it has needed so far.
    pub links: Vec<LinkStatus>,
}

impl Edge {
    /// Starts to accept clients.
    ///
    /// # Errors
    /// When the listener is broken. Nothing runs then.
    pub fn start(options: EdgeOptions) -> io::Result<Self> {
        let EdgeOptions { node, world, mesh, listener, public_url, verifier, edges, limits } =
            options;
        let local_addr = listener.local_addr()?;
        let (route, placement) = route::Route::new(mesh, &world);
        let shared = Arc::new(Shared::new(node, world, public_url, verifier, edges, limits, route));
        shared.route.bind(&shared);
        let router = api::router(shared.clone());
        shared.spawn_until_stop(placement.run());
        shared.spawn_until_stop(session::registry::watch_clocks(shared.clone()));
        shared.spawn_until_stop(gate::listener::accept(shared.clone(), listener, router));
        Ok(Self { shared: shared.clone(), local_addr })
    }

    /// Where clients come in.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> EdgeStatus {
        EdgeStatus {
            sessions: self.shared.sessions.len(),
            draining: self.shared.is_draining(),
            links: self.shared.route.status(),
        }
    }

    /// Sends everyone elsewhere, spread over `window`, and refuses whoever comes: 503 `draining`. Returns when the last
    /// session has ended. Cancel safe: it refuses from the first poll on.
    pub async fn drain(&self, window: Duration) {
        drain::drain(&self.shared, window).await;
    }

    /// Believes other keys from the next token on: identity providers change theirs. Sessions that are open stay.
    pub fn believe(&self, verifier: Arc<auth::Verifier>) {
        self.shared.believe(verifier);
    }

    /// Takes clients again after [`Edge::drain`].
    pub fn undrain(&self) {
        self.shared.draining.store(false, std::sync::atomic::Ordering::Relaxed);
    }

    /// Ends everything at once; sessions are cut off. Waits until all tasks are gone, at most `deadline`. Drain first to be
    /// polite.
    pub async fn stop(&self, deadline: Duration) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        for session in self.shared.sessions.all() {
            session.outbox.close(drain::GOING_AWAY);
        }
        if tokio::time::timeout(deadline, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(
                tasks = self.shared.tasks.len(),
                "tasks of the edge did not end in time"
            );
        }
    }
}
