//! Keeps one link to each known peer: dials, greets, waits for its loss, dials again.
//!
//! The node with the smaller name dials at once, the other only when no link has come after a moment. Both may still dial
//! at the same time; the book then keeps one of the two links, the same at both ends.

use std::sync::Arc;
use std::time::Duration;

use quinn::ClientConfig;
use tokio::time::{Instant, timeout};
use wire::NodeId;

use crate::book::Installed;
use crate::channel::Channel;
use crate::codes;
use crate::greet::{self, GreetError};
use crate::head::{Head, Hello};
use crate::link::{self, Link};
use crate::proof::IdentityError;
use crate::shared::Shared;
use crate::tls;

/// How long the node with the larger name waits to be dialled.
const COURTESY: Duration = Duration::from_millis(200);
/// A node that only gossip knew, and that was not seen for so long, is dialled no more.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Whoever wants a peer now does not make us dial more often than this.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Why a dial came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no address known")]
    NoAddress,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("{0}")]
    Connect(#[from] quinn::ConnectError),
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("{0}")]
    Greet(#[from] GreetError),
}

/// Keeps a link to `peer` for as long as the node runs, or until it is forgotten.
pub(crate) async fn keep(shared: Arc<Shared>, peer: NodeId) {
    let wanted = shared.book.wanted(&peer);
    let mut pause = shared.timings.redial_min;
    let mut last_seen = Instant::now();
    loop {
        absence(&shared, &peer).await;
        if shared.membership.borrow().is_alive(&peer) {
            last_seen = Instant::now();
        } else if last_seen.elapsed() > FORGET_AFTER && shared.book.forget(&peer) {
            tracing::info!(node = %shared.node, %peer, "forgotten");
            return;
        }
        if shared.node > peer {
            presence(&shared, &peer, shared.jitter(COURTESY)).await;
        }
        if shared.book.link(&peer).is_some() {
            continue;
        }
        match dial(&shared, &peer).await {
            Ok(()) => {
                pause = shared.timings.redial_min;
                last_seen = Instant::now();
            }
            Err(error) => {
                if shared.book.failed(&peer, error.to_string()) {
                    tracing::info!(node = %shared.node, %peer, %error, "cannot reach a node; trying on");
                }
                tokio::time::sleep(PAUSE_MIN).await;
                tokio::select! {
                    () = presence(&shared, &peer, shared.jitter(pause)) => {}
                    () = wanted.notified() => {}
                }
                pause = (pause * 2).min(shared.timings.redial_max);
            }
        }
    }
}

/// Waits until there is no link.
async fn absence(shared: &Shared, peer: &NodeId) {
    let mut changes = shared.book.changes();
    while shared.book.link(peer).is_some() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until there is a link, or for so long.
async fn presence(shared: &Shared, peer: &NodeId, at_most: Duration) {
    let mut changes = shared.book.changes();
    let linked =
        async { while shared.book.link(peer).is_none() && changes.changed().await.is_ok() {} };
    let _ = timeout(at_most, linked).await;
}

async fn dial(shared: &Arc<Shared>, peer: &NodeId) -> Result<(), DialError> {
    let within = shared.timings.dial;
    timeout(within, dial_and_greet(shared, peer)).await.map_err(|_| DialError::Timeout(within))?
}

async fn dial_and_greet(shared: &Arc<Shared>, peer: &NodeId) -> Result<(), DialError> {
    let addr = shared.book.address(peer).ok_or(DialError::NoAddress)?;
    let mut config = ClientConfig::new(Arc::new(shared.tls().quic_client(peer)?));
    config.transport_config(shared.transport.clone());
    let connection = shared.endpoint.connect_with(config, addr, tls::SERVER_NAME)?.await?;
    let (send, recv) = connection.open_bi().await?;
    let mut control = Channel::direct(peer.clone(), send, recv, None);
    let id = shared.random();
    let hello = greet::hello(shared, id, shared.book.lost(peer));
    greet::say(&mut control, Some(&Head::Control), hello).await?;
    let theirs = greet::listen(shared, &connection, peer, &mut control).await?;
    let link = Link::new(peer.clone(), connection, id, shared.node < *peer, &theirs);
    welcome(shared, link, control, &theirs, None);
    Ok(())
}

/// A greeted link is put into the book and served, whether it is kept or only finishes what was begun on it.
pub(crate) fn welcome(
    shared: &Arc<Shared>,
    link: Link,
    control: Channel,
    theirs: &Hello,
    lost: Option<u64>,
) {
    let link = Arc::new(link);
    let installed = shared.book.install(&link, lost);
    match installed {
        Installed::Superseded => shared.spawn(link.clone().retire()),
        Installed::Kept(_) | Installed::KeptForDead(_) => {
            match installed {
                Installed::Kept(Some(replaced)) => shared.spawn(replaced.retire()),
                // What waits on it should know now, not after its timeout.
                Installed::KeptForDead(dead) => {
                    dead.connection.close(codes::SUPERSEDED, b"superseded")
                }
                _ => {}
            }
            let (peer, rtt) = (&link.peer, link.rtt());
            tracing::info!(node = %shared.node, %peer, ?rtt, minor = theirs.minor, draining = theirs.draining, "link up");
            shared.learn(peer, theirs.generation, theirs.addr);
            shared.gossip.link_up(peer);
        }
    }
    shared.spawn(link::serve(shared.clone(), link, control));
}
