//! The greeting on a new link: both say who they are, and must be what their certificates prove.

use quinn::Connection;
use wire::NodeId;
use wire::codec::CodecError;
use wire::stream::{HEADER_BYTES_MAX, Hello, Notice, StreamHeader};

use crate::channel::Channel;
use crate::codes;
use crate::context::NodeContext;
use crate::error::{RecvError, SendError};

/// Why a greeting failed. The connection is closed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the node claims to be {claimed}, its certificate proves {proven}")]
    Claim { claimed: NodeId, proven: NodeId },
    #[error("no hello came")]
    Missing,
    #[error("{0}")]
    Malformed(#[from] CodecError),
    #[error("{0}")]
    Send(#[from] SendError),
    #[error("{0}")]
    Recv(#[from] RecvError),
}

/// Who this node says it is.
pub(crate) fn hello(ctx: &NodeContext, connection: u64, lost: Option<u64>) -> Hello {
    Hello {
        node: ctx.node.clone(),
        features: ctx.features.clone(),
        draining: *ctx.draining.borrow(),
        incarnation: ctx.incarnation,
        addr: ctx.addr,
        connection,
        lost,
    }
}

/// Says hello, after the head when this side opened the stream.
pub(crate) async fn send_hello(
    control: &mut Channel,
    head: Option<&StreamHeader>,
    hello: Hello,
) -> Result<(), HandshakeError> {
    let (sender, _) = control.halves();
    if let Some(head) = head {
        sender.feed(head.to_bytes()).await?;
    }
    Ok(sender.send(Notice::Hello(hello).to_bytes()).await?)
}

/// The next frame of the control stream.
pub(crate) async fn recv_frame(control: &mut Channel) -> Result<bytes::Bytes, HandshakeError> {
    control.halves().1.recv_up_to(HEADER_BYTES_MAX).await?.ok_or(HandshakeError::Missing)
}

/// Hears the peer's hello. A claim that differs from what the certificate proves closes the
/// connection, with a line in the log at both ends.
pub(crate) async fn recv_hello(
    ctx: &NodeContext,
    connection: &Connection,
    proven: &NodeId,
    control: &mut Channel,
) -> Result<Hello, HandshakeError> {
    let Notice::Hello(hello) = Notice::from_bytes(&recv_frame(control).await?)? else {
        return Err(HandshakeError::Missing);
    };
    if hello.node == *proven {
        return Ok(hello);
    }
    let error = HandshakeError::Claim { claimed: hello.node, proven: proven.clone() };
    tracing::warn!(node = %ctx.node, %error, from = %connection.remote_address(), "link refused");
    connection.close(codes::CLAIM, error.to_string().as_bytes());
    Err(error)
}
