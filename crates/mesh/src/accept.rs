//! Takes connections in: proves who dials, greets, and hands the link to the book.

use std::sync::Arc;

use quinn::{Connection, Incoming};
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wire::NodeId;

use crate::channel::Channel;
use crate::dial::{self, DialError};
use crate::greet::{self, GreetError};
use crate::head::Head;
use crate::link::Link;
use crate::proof::IdentityError;
use crate::shared::Shared;
use crate::{codes, tls};

/// Handshakes at once; one more is refused, and the dialler tries again.
const HANDSHAKES_MAX: usize = 128;

/// Accepts for as long as the node runs.
pub(crate) async fn accept(shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = shared.endpoint.accept().await {
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let task = shared.clone();
        shared.spawn(async move {
            let from = incoming.remote_address();
            let within = task.timings.dial;
            match timeout(within, take_in(&task, incoming)).await {
                Ok(Ok(())) => {}
                // Who has no certificate of ours is refused here: worth knowing.
                Ok(Err(error)) => {
                    tracing::info!(node = %task.node, %from, %error, "connection not taken in")
                }
                Err(_) => {
                    tracing::debug!(node = %task.node, %from, "connection not taken in: too slow")
                }
            }
            drop(permit);
        });
    }
}

async fn take_in(shared: &Arc<Shared>, incoming: Incoming) -> Result<(), DialError> {
    let connection = incoming.await?;
    let peer = proven(&connection)?;
    if peer == shared.node {
        connection.close(codes::PROTOCOL, b"that is me");
        return Err(DialError::Identity(IdentityError::Name("this node itself".to_owned())));
    }
    let (send, recv) = connection.accept_bi().await?;
    let mut control = Channel::direct(peer.clone(), send, recv, None);
    if Head::from_bytes(&greet::frame(&mut control).await?).map_err(GreetError::from)?
        != Head::Control
    {
        connection.close(codes::PROTOCOL, b"the first stream must be the control stream");
        return Err(GreetError::Missing.into());
    }
    let theirs = greet::listen(shared, &connection, &peer, &mut control).await?;
    let ours = greet::hello(shared, theirs.connection, shared.book.lost(&peer));
    let dialled_by_smaller = peer < shared.node;
    let link = Link::new(peer, connection, theirs.connection, dialled_by_smaller, &theirs);
    greet::say(&mut control, None, ours).await?;
    dial::welcome(shared, link, control, &theirs, theirs.lost);
    Ok(())
}

/// Who the other end is, by the certificate that TLS has accepted.
fn proven(connection: &Connection) -> Result<NodeId, IdentityError> {
    let identity = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    tls::proven(identity.as_deref().map(Vec::as_slice))
}
