//! Opening a channel: which way, and what when that way fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use wire::NodeId;
use wire::stream::{Purpose, StreamHeader};

use crate::channel::Channel;
use crate::context::NodeContext;
use crate::error::OpenError;
use crate::link::Link;
use crate::peer_table::Ways;
use crate::relay;
use crate::routes::{Detour, is_worth_it};

/// All of it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(8);
/// A stream on a healthy link: waits only when the peer has too many open already.
const STREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// A channel through one relay.
const RELAY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the first dial of a node may take before a detour is tried.
const FIRST_DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failure, unless a link changes before.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Relays tried in one go.
const RELAYS_TRIED: usize = 3;

/// Opens a channel within [`OPEN_TIMEOUT`].
pub(crate) async fn open(
    ctx: &Arc<NodeContext>,
    peer: &NodeId,
    purpose: &Purpose,
) -> Result<Channel, OpenError> {
    if *peer == ctx.node {
        return loopback(ctx, purpose);
    }
    let began = Instant::now();
    let mut why = "no link yet".to_owned();
    let trying = async {
        loop {
            let mut changes = ctx.peers.changes();
            let ways = ways(ctx, peer).ok_or_else(|| OpenError::Unknown(peer.clone()))?;
            if !ways.why.is_empty() {
                why.clone_from(&ways.why);
            }
            for way in plan(&ways, began.elapsed() > FIRST_DIAL_TIMEOUT) {
                match take(ctx, way, peer, purpose).await {
                    Ok(channel) => return Ok(channel),
                    Err(error) => why = error,
                }
            }
            ctx.peers.wanted(peer).notify_one();
            let _ = timeout(RETRY_INTERVAL, changes.changed()).await;
        }
    };
    tokio::select! {
        () = ctx.stop.cancelled() => Err(OpenError::Stopped),
        opened = timeout_at(began + OPEN_TIMEOUT, trying) => {
            opened.unwrap_or_else(|_| Err(OpenError::Unreachable { peer: peer.clone(), why }))
        }
    }
}

/// To this node itself: no socket, no TLS. A full accept queue resets it as busy, as a peer does.
fn loopback(ctx: &NodeContext, purpose: &Purpose) -> Result<Channel, OpenError> {
    if ctx.stop.is_cancelled() {
        return Err(OpenError::Stopped);
    }
    let (here, there) = Channel::loopback(&ctx.node, &ctx.loopbacks, &ctx.stop);
    let features = Some(ctx.features.clone());
    let there = there.with_features(features.clone());
    ctx.arrive((ctx.node.clone(), purpose.clone(), there));
    Ok(here.with_features(features))
}

/// The ways to a peer as they are now.
pub(crate) fn ways(ctx: &NodeContext, peer: &NodeId) -> Option<Ways> {
    ctx.peers.ways(peer, |node| ctx.drains(node))
}

/// A way to try.
pub(crate) enum Way {
    Direct(Arc<Link>),
    Through(NodeId),
}

/// What to try, in order; nothing: wait for the first dial. `impatient`: that one has had its time.
pub(crate) fn plan(ways: &Ways, impatient: bool) -> Vec<Way> {
    let through = |detour: &Detour| Way::Through(detour.via.clone());
    let detours = || ways.detours.iter().take(RELAYS_TRIED).map(through);
    match &ways.direct {
        Some(link) if link.is_healthy() => {
            let shorter = ways
                .detours
                .first()
                .filter(|detour| is_worth_it(link.rtt(), detour.rtt))
                .map(through);
            shorter.into_iter().chain([Way::Direct(link.clone())]).collect()
        }
        // Silent, but not yet lost: last of all.
        Some(link) => detours().chain([Way::Direct(link.clone())]).collect(),
        None if ways.broken || impatient => detours().collect(),
        None => Vec::new(),
    }
}

async fn take(
    ctx: &NodeContext,
    way: Way,
    peer: &NodeId,
    purpose: &Purpose,
) -> Result<Channel, String> {
    match way {
        Way::Direct(link) => match timeout(STREAM_TIMEOUT, direct(ctx, &link, purpose)).await {
            Ok(opened) => opened,
            Err(_) => Err("the peer allows no more channels now".to_owned()),
        },
        Way::Through(via) => {
            let link = ctx.peers.link(&via).ok_or_else(|| format!("{via}: the relay is gone"))?;
            match timeout(RELAY_TIMEOUT, relay::open(ctx, &link, peer, purpose)).await {
                Ok(opened) => opened.map_err(|error| format!("through {via}: {error}")),
                Err(_) => Err(format!("through {via}: no answer")),
            }
        }
    }
}

/// Tells the peer what the channel is for and what this node can do.
pub(crate) fn open_header(ctx: &NodeContext, purpose: &Purpose) -> bytes::Bytes {
    let (purpose, features) = (purpose.clone(), ctx.features.clone());
    StreamHeader::Open { purpose, features }.to_bytes()
}

async fn direct(ctx: &NodeContext, link: &Arc<Link>, purpose: &Purpose) -> Result<Channel, String> {
    let (send, recv) = link.connection.open_bi().await.map_err(|error| error.to_string())?;
    let mut channel = Channel::direct(link.peer.clone(), send, recv, Some(link.hold()));
    let head = open_header(ctx, purpose);
    channel.halves().0.send(head).await.map_err(|error| error.to_string())?;
    Ok(channel.with_features(Some(ctx.features.shared_with(&link.features))))
}
