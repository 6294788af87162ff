//! Channels through a node of a third region, when the direct link is cut or much slower.
//!
//! The opener asks the relay for a stream to the target; inside it opener and target speak TLS with
//! each other, with the same certificates as on a link. The relay carries ciphertext, and neither
//! end believes what it says about the other. A relay uses its direct links only, so there is one
//! hop at most and no loop.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream};
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use wire::NodeId;
use wire::stream::{Purpose, StreamHeader};

use crate::channel::Channel;
use crate::codes;
use crate::context::NodeContext;
use crate::link::Link;
use crate::open::open_header;
use crate::streams::{self, HEADER_TIMEOUT};
use crate::tls;

/// Chunks carried at once.
const CHUNKS_AT_ONCE: usize = 32;
/// How long a relay waits for a stream on its own link.
const STREAM_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a channel could not be opened through a relay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("{0}")]
    Send(#[from] crate::error::SendError),
    #[error("{0}")]
    Identity(#[from] crate::proof::IdentityError),
    #[error("end to end: {0}")]
    Tls(#[from] std::io::Error),
    #[error("the link is not plain")]
    NotPlain,
}

/// Opener's side: through `via` to `target`. Takes a round trip to the target. The deadline is the
/// caller's.
pub(crate) async fn open(
    ctx: &NodeContext,
    via: &Arc<Link>,
    target: &NodeId,
    purpose: &Purpose,
) -> Result<Channel, RelayError> {
    let (send, recv) = via.connection.open_bi().await?;
    let mut outer = Channel::direct(via.peer.clone(), send, recv, None);
    outer.halves().0.send(StreamHeader::Relay(target.clone()).to_bytes()).await?;
    let raw = outer.into_raw().ok_or(RelayError::NotPlain)?;
    let connector = TlsConnector::from(Arc::new(ctx.tls().relayed_client(target)?));
    let name = ServerName::try_from(tls::SERVER_NAME).expect("a constant that is a name");
    let tunnel = connector.connect(name, raw.into_pipe()).await?;
    let mut channel = Channel::relayed(target.clone(), TlsStream::Client(tunnel), via.hold());
    channel.halves().0.send(open_header(ctx, purpose)).await?;
    let link = ctx.peers.link(target);
    Ok(channel.with_features(link.map(|link| ctx.features.shared_with(&link.features))))
}

/// Relay's side: carries a stream of `from` to `target` until both ends are done with it.
pub(crate) async fn carry(ctx: &NodeContext, from: &Arc<Link>, target: &NodeId, channel: Channel) {
    let Ok(_permit) = ctx.relays.try_acquire() else {
        tracing::warn!(node = %ctx.node, peer = %from.peer, %target, "too many relayed channels: refused");
        return channel.refuse(codes::BUSY);
    };
    let link = ctx.peers.link(target).filter(|link| link.is_healthy() && *target != from.peer);
    let Some(link) = link else { return channel.refuse(codes::NO_ROUTE) };
    let _both = (from.hold(), link.hold());
    let onward = async {
        let (send, recv) = link.connection.open_bi().await.ok()?;
        let mut onward = Channel::direct(target.clone(), send, recv, None);
        onward.halves().0.send(StreamHeader::Relayed(from.peer.clone()).to_bytes()).await.ok()?;
        onward.into_raw()
    };
    let Some(mut there) = timeout(STREAM_TIMEOUT, onward).await.ok().flatten() else {
        return channel.refuse(codes::NO_ROUTE);
    };
    let Some(here) = channel.into_raw() else { return };
    tracing::debug!(node = %ctx.node, peer = %from.peer, %target, "relaying");
    if !here.ahead.is_empty() && there.send.write_chunk(here.ahead).await.is_err() {
        return;
    }
    tokio::join!(pump(here.recv, there.send), pump(there.recv, here.send));
}

/// One way. Flow control passes through: what cannot be written is not read.
async fn pump(mut from: RecvStream, mut to: SendStream) {
    let stopped = to.stopped();
    tokio::pin!(stopped);
    loop {
        let mut chunks = [const { Bytes::new() }; CHUNKS_AT_ONCE];
        let read = tokio::select! {
            read = from.read_chunks(&mut chunks) => read,
            code = &mut stopped => {
                let _ = from.stop(code.ok().flatten().unwrap_or(codes::ABORTED));
                return;
            }
        };
        match read {
            Ok(Some(count)) => {
                if to.write_all_chunks(&mut chunks[..count]).await.is_err() {
                    let _ = from.stop(codes::ABORTED);
                    return;
                }
            }
            Ok(None) => {
                let _ = to.finish();
                let _ = stopped.await;
                return;
            }
            Err(ReadError::Reset(code)) => {
                let _ = to.reset(code);
                return;
            }
            Err(_) => {
                let _ = to.reset(codes::ABORTED);
                return;
            }
        }
    }
}

/// Target's side: a stream that `via` says comes from `origin`, which must prove it.
pub(crate) async fn land(ctx: &NodeContext, via: &Arc<Link>, origin: &NodeId, channel: Channel) {
    let landed = timeout(HEADER_TIMEOUT, handshake(ctx, via, channel)).await;
    let (peer, purpose, channel) = match landed {
        Ok(Ok(arrival)) => arrival,
        Ok(Err(error)) => {
            tracing::warn!(node = %ctx.node, via = %via.peer, %origin, %error, "relayed channel refused");
            return;
        }
        Err(_) => {
            tracing::warn!(node = %ctx.node, via = %via.peer, %origin, "relayed channel refused: too slow");
            return;
        }
    };
    if peer != *origin {
        tracing::warn!(node = %ctx.node, via = %via.peer, %origin, proven = %peer, "the relay named another origin");
        return channel.refuse(codes::CLAIM);
    }
    ctx.arrive((peer, purpose, channel));
}

async fn handshake(
    ctx: &NodeContext,
    via: &Arc<Link>,
    channel: Channel,
) -> Result<(NodeId, Purpose, Channel), RelayError> {
    let raw = channel.into_raw().ok_or(RelayError::NotPlain)?;
    let acceptor = TlsAcceptor::from(Arc::new(ctx.tls().relayed_server()?));
    let tunnel = acceptor.accept(raw.into_pipe()).await?;
    let peer = tls::proven(tunnel.get_ref().1.peer_certificates())?;
    let mut channel = Channel::relayed(peer.clone(), TlsStream::Server(tunnel), via.hold());
    match streams::read_header(&mut channel).await {
        Ok(StreamHeader::Open { purpose, features }) => {
            let shared = ctx.features.shared_with(&features);
            Ok((peer, purpose, channel.with_features(Some(shared))))
        }
        _ => Err(RelayError::NotPlain),
    }
}
