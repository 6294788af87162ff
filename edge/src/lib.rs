//! An edge: the point of presence that ends WebSockets. It holds no durable state; whatever it
//! forgets, a home knows.
//!
//! A client frame goes down this list, and the events that follow from it come back up:
//!
//! | module | what happens there |
//! |---|---|
//! | [`gate`] | a connection becomes a user: token, zone, limits, before the upgrade |
//! | [`rates`] | how much a user may ask |
//! | [`transport`] | bytes of a client become frames, and what its outbox holds becomes bytes |
//! | [`session`] | what a client asks, and what waits for it |
//! | [`route`] | the way to the core that owns the conversation, across takeovers |
//! | [`delivery`] | which session gets which change; each is encoded once, into many outboxes |
//! | [`backfill`] | what a session missed, from history |
//! | [`memory`] | how much of history may wait for those who read slowly |
//! | [`api`] | the same over HTTP, for those without a stream |
//!
//! What is not done here: deciding. Who may write, what is a duplicate, who is a member is said by
//! the home; who owns a shard by `topology`; which session gets which change by
//! `conversation::delivery`.
//!
//! [`gate`]: crate::gate [`rates`]: crate::rates [`transport`]: crate::transport [`session`]: crate::session [`route`]:
//! crate::route [`delivery`]: crate::delivery [`backfill`]: crate::backfill [`memory`]: crate::memory [`api`]: crate::api

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod backfill;
mod delivery;
mod gate;
mod memory;
mod rates;
mod route;
mod session;
mod transport;

mod drain;
mod options;
mod shared;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use options::{EdgeOptions, EdgeUrls, Limits, Origins};
pub use route::LinkStatus;

use runtime::Tasks;
use shared::Shared;
use wire::command::Actor;
use wire::{TenantId, UserId};

/// A running edge; cheap to clone. It runs on the tokio runtime that it was started on, until
/// [`Edge::stop`].
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
    /// Sessions that are being caught up from history.
    pub backfills: usize,
    /// Whether it goes away.
    pub draining: bool,
    /// Its links to the owners of shards; those it has needed so far.
    pub links: Vec<LinkStatus>,
    /// Tasks that have panicked since the start.
    pub panicked: Vec<&'static str>,
}

impl Edge {
    /// Starts to accept clients.
    ///
    /// # Errors
    /// When the listener is broken. Nothing runs then.
    pub fn start(options: EdgeOptions) -> io::Result<Self> {
        let EdgeOptions {
            node,
            world,
            mesh,
            listener,
            public_url,
            verifier,
            edges,
            origins,
            limits,
        } = options;
        let local_addr = listener.local_addr()?;
        let tasks = Tasks::new("edge");
        let (route, placement) =
            route::Route::new(mesh, world.clone(), limits.clone(), tasks.clone());
        let shared = Arc::new(Shared::new(
            node, world, public_url, verifier, edges, origins, limits, route, tasks,
        ));
        let backfills = Arc::downgrade(&shared);
        shared.route.on_backfill(move |needed| {
            if let Some(shared) = backfills.upgrade() {
                backfill::needed(&shared, needed);
            }
        });
        let router = api::router(shared.clone());
        let clocks = session::registry::watch_clocks(shared.clone());
        let listener = gate::listener::accept(shared.clone(), listener, router);
        shared.tasks.spawn_until_stop("owner view", placement.run());
        shared.tasks.spawn_until_stop("clocks", clocks);
        shared.tasks.spawn_until_stop("listener", listener);
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
            backfills: self.shared.backfills.len(),
            draining: self.shared.is_draining(),
            links: self.shared.route.status(),
            panicked: self.shared.tasks.panicked(),
        }
    }

    /// Sends everyone elsewhere, spread over `window`, and refuses whoever comes: 503 `draining`.
    /// Returns when the last session has ended. Cancel safe: it refuses from the first poll on.
    pub async fn drain(&self, window: Duration) {
        drain::drain(&self.shared, window).await;
    }

    /// Trusts other keys from the next token on: identity providers change theirs. Sessions whose
    /// key or issuer is not among them are closed with 4001.
    pub fn believe(&self, verifier: Arc<auth::Verifier>) {
        self.shared.believe(verifier);
    }

    /// Ends the sessions of a tenant, or of one of its users: 4001. Returns how many there were.
    #[must_use]
    pub fn end_sessions(&self, tenant: &TenantId, user: Option<&UserId>) -> usize {
        let of =
            |actor: &Actor| actor.tenant == *tenant && user.is_none_or(|user| actor.user == *user);
        let sessions = self.shared.sessions.all();
        let ended: Vec<_> = sessions.iter().filter(|session| of(&session.actor)).collect();
        ended.iter().for_each(|session| session.outbox.close(session::state::ENDED));
        ended.len()
    }

    /// Takes clients again after [`Edge::drain`].
    pub fn undrain(&self) {
        self.shared.draining.store(false, std::sync::atomic::Ordering::Relaxed);
    }

    /// Ends everything at once; sessions get a `goaway` and 1001, and whoever does not take them is
    /// cut off. Waits until all tasks are gone, `deadline` and half a second at most. Drain first,
    /// so that what is asked is answered.
    pub async fn stop(&self, deadline: Duration) {
        drain::close_all(&self.shared);
        self.shared.tasks.begin_stop();
        self.shared.tasks.stop(deadline).await;
    }
}
