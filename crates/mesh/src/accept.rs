//! Accepts connections: proves who dials, shakes hands, and puts the link into the peer table.

use std::sync::Arc;

use quinn::{Connection, Incoming};
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wire::NodeId;
use wire::stream::StreamHeader;

use crate::channel::Channel;
use crate::context::NodeContext;
use crate::dial::{self, DialError};
use crate::handshake::{self, HandshakeError};
use crate::link::Link;
use crate::proof::IdentityError;
use crate::{codes, tls};

/// Handshakes at once; one more is refused, and the dialler tries again.
const HANDSHAKES_MAX: usize = 128;

/// Accepts for as long as the node runs.
pub(crate) async fn accept(ctx: Arc<NodeContext>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = ctx.endpoint.accept().await {
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let task = ctx.clone();
        ctx.spawn("handshake", async move {
            let from = incoming.remote_address();
            let within = task.timings.dial;
            match timeout(within, admit(&task, incoming)).await {
                Ok(Ok(())) => {}
                // A dialler without a certificate of ours ends here: worth knowing.
                Ok(Err(error)) => {
                    tracing::info!(node = %task.node, %from, %error, "connection refused")
                }
                Err(_) => {
                    tracing::debug!(node = %task.node, %from, "refused a slow handshake")
                }
            }
            drop(permit);
        });
    }
}

async fn admit(ctx: &Arc<NodeContext>, incoming: Incoming) -> Result<(), DialError> {
    let connection = incoming.await?;
    let peer = proven(&connection)?;
    if peer == ctx.node {
        connection.close(codes::PROTOCOL, b"that is me");
        return Err(DialError::Identity(IdentityError::Name("this node itself".to_owned())));
    }
    let (send, recv) = connection.accept_bi().await?;
    let mut control = Channel::direct(peer.clone(), send, recv, None);
    if StreamHeader::from_bytes(&handshake::recv_frame(&mut control).await?)
        .map_err(HandshakeError::from)?
        != StreamHeader::Control
    {
        connection.close(codes::PROTOCOL, b"the first stream must be the control stream");
        return Err(HandshakeError::Missing.into());
    }
    let theirs = handshake::recv_hello(ctx, &connection, &peer, &mut control).await?;
    let ours = handshake::hello(ctx, theirs.connection, ctx.peers.lost(&peer));
    let dialled_by_smaller = peer < ctx.node;
    let link = Link::new(peer, connection, theirs.connection, dialled_by_smaller, &theirs);
    handshake::send_hello(&mut control, None, ours).await?;
    dial::install(ctx, link, control, &theirs, theirs.lost);
    Ok(())
}

/// Who the other end is, by the certificate that TLS has accepted.
fn proven(connection: &Connection) -> Result<NodeId, IdentityError> {
    let identity = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    tls::proven(identity.as_deref().map(Vec::as_slice))
}
