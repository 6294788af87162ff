//! Keeps one link to each known peer: dials, shakes hands, waits for its loss, dials again.
//!
//! The node with the smaller name dials at once, the other only when no link has come after a
//! moment. Both may still dial at the same time; the peer table then keeps one of the two links,
//! the same one at both ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::ClientConfig;
use runtime::Backoff;
use tokio::time::{Instant, timeout};
use wire::NodeId;
use wire::stream::{Hello, StreamHeader};

use crate::channel::Channel;
use crate::codes;
use crate::context::NodeContext;
use crate::handshake::{self, HandshakeError};
use crate::link::Link;
use crate::link_driver;
use crate::peer_table::Installed;
use crate::proof::IdentityError;
use crate::tls;

/// How long the node with the larger name waits to be dialled.
const DIAL_GRACE: Duration = Duration::from_millis(200);
/// A node that only gossip knew, and that was not seen for so long, is dialled no more.
const FORGET_TIMEOUT: Duration = Duration::from_secs(600);
/// Even when someone waits for a peer, it is dialled no more often than this.
const REDIAL_INTERVAL_MIN: Duration = Duration::from_millis(50);

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
    Handshake(#[from] HandshakeError),
}

/// The operator names a peer.
pub(crate) fn add_static(ctx: &Arc<NodeContext>, node: &NodeId, addr: SocketAddr) {
    if ctx.peers.add_static(node, addr) {
        ctx.spawn("dial", keep(ctx.clone(), node.clone()));
    }
}

/// An incarnation of a peer has said where it is.
pub(crate) fn add_learned(
    ctx: &Arc<NodeContext>,
    node: &NodeId,
    incarnation: u64,
    addr: SocketAddr,
) {
    if ctx.peers.add_learned(node, incarnation, addr) {
        ctx.spawn("dial", keep(ctx.clone(), node.clone()));
    }
}

/// Keeps a link to `peer` for as long as the node runs, or until it is forgotten.
pub(crate) async fn keep(ctx: Arc<NodeContext>, peer: NodeId) {
    let wanted = ctx.peers.wanted(&peer);
    let mut backoff = Backoff::new(ctx.timings.redial_min, ctx.timings.redial_max);
    let mut last_seen = Instant::now();
    loop {
        absence(&ctx, &peer).await;
        if ctx.membership.borrow().is_alive(&peer) {
            last_seen = Instant::now();
        } else if last_seen.elapsed() > FORGET_TIMEOUT && ctx.peers.forget(&peer) {
            tracing::info!(node = %ctx.node, %peer, "forgotten");
            return;
        }
        if ctx.node > peer {
            presence(&ctx, &peer, ctx.jitter(DIAL_GRACE)).await;
        }
        if ctx.peers.link(&peer).is_some() {
            continue;
        }
        match dial(&ctx, &peer).await {
            Ok(()) => {
                backoff.reset();
                last_seen = Instant::now();
            }
            Err(error) => {
                if ctx.peers.failed(&peer, error.to_string()) {
                    let node = &ctx.node;
                    tracing::info!(%node, %peer, %error, "cannot reach a node, retrying");
                }
                tokio::time::sleep(REDIAL_INTERVAL_MIN).await;
                tokio::select! {
                    () = presence(&ctx, &peer, ctx.next_pause(&mut backoff)) => {}
                    () = wanted.notified() => {}
                }
            }
        }
    }
}

/// Waits until there is no link.
async fn absence(ctx: &NodeContext, peer: &NodeId) {
    let mut changes = ctx.peers.changes();
    while ctx.peers.link(peer).is_some() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until there is a link, or for so long.
async fn presence(ctx: &NodeContext, peer: &NodeId, at_most: Duration) {
    let mut changes = ctx.peers.changes();
    let linked =
        async { while ctx.peers.link(peer).is_none() && changes.changed().await.is_ok() {} };
    let _ = timeout(at_most, linked).await;
}

async fn dial(ctx: &Arc<NodeContext>, peer: &NodeId) -> Result<(), DialError> {
    let within = ctx.timings.dial;
    timeout(within, connect(ctx, peer)).await.map_err(|_| DialError::Timeout(within))?
}

async fn connect(ctx: &Arc<NodeContext>, peer: &NodeId) -> Result<(), DialError> {
    let addr = ctx.peers.address(peer).ok_or(DialError::NoAddress)?;
    let mut config = ClientConfig::new(Arc::new(ctx.tls().quic_client(peer)?));
    config.transport_config(ctx.transport.clone());
    let connection = ctx.endpoint.connect_with(config, addr, tls::SERVER_NAME)?.await?;
    let (send, recv) = connection.open_bi().await?;
    let mut control = Channel::direct(peer.clone(), send, recv, None);
    let id = ctx.random();
    let hello = handshake::hello(ctx, id, ctx.peers.lost(peer));
    handshake::send_hello(&mut control, Some(&StreamHeader::Control), hello).await?;
    let theirs = handshake::recv_hello(ctx, &connection, peer, &mut control).await?;
    let link = Link::new(peer.clone(), connection, id, ctx.node < *peer, &theirs);
    install(ctx, link, control, &theirs, None);
    Ok(())
}

/// Puts a new link into the peer table and serves it, whether it is kept or only finishes what was
/// begun on it.
pub(crate) fn install(
    ctx: &Arc<NodeContext>,
    link: Link,
    control: Channel,
    theirs: &Hello,
    lost: Option<u64>,
) {
    let link = Arc::new(link);
    let installed = ctx.peers.install(&link, lost);
    match installed {
        Installed::Superseded => ctx.spawn("retire", link.clone().retire()),
        Installed::Kept(_) | Installed::KeptForDead(_) => {
            match installed {
                Installed::Kept(Some(replaced)) => ctx.spawn("retire", replaced.retire()),
                // What waits on it should know now, not after its timeout.
                Installed::KeptForDead(dead) => {
                    dead.connection.close(codes::SUPERSEDED, b"superseded")
                }
                _ => {}
            }
            let (peer, rtt) = (&link.peer, link.rtt());
            let (features, draining) = (&theirs.features, theirs.draining);
            tracing::info!(node = %ctx.node, %peer, ?rtt, %features, draining, "link up");
            add_learned(ctx, peer, theirs.incarnation, theirs.addr);
            ctx.gossip.link_up(peer);
        }
    }
    ctx.spawn("link", link_driver::serve(ctx.clone(), link, control));
}
