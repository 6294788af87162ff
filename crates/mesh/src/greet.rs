//! The greeting on a new link: both say who they are, and must be what their certificates prove.

use quinn::Connection;
use wire::NodeId;

use crate::channel::Channel;
use crate::codes;
use crate::error::{RecvError, SendError};
use crate::head::{HEAD_BYTES, Head, HeadError, Hello, Notice};
use crate::shared::Shared;

/// Why a greeting failed. The connection is closed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetError {
    #[error("the node claims to be {claimed}, its certificate proves {proven}")]
    Claim { claimed: NodeId, proven: NodeId },
    #[error("no hello came")]
    Missing,
    #[error("{0}")]
    Malformed(#[from] HeadError),
    #[error("{0}")]
    Send(#[from] SendError),
    #[error("{0}")]
    Recv(#[from] RecvError),
}

/// Who this node says it is.
pub(crate) fn hello(shared: &Shared, connection: u64, lost: Option<u64>) -> Hello {
    Hello {
        node: shared.node.clone(),
        minor: shared.minor.number(),
        draining: *shared.draining.borrow(),
        generation: shared.generation,
        addr: shared.addr,
        connection,
        lost,
    }
}

/// Says hello, after the head when this side opened the stream.
pub(crate) async fn say(
    control: &mut Channel,
    head: Option<&Head>,
    hello: Hello,
) -> Result<(), GreetError> {
    let (sender, _) = control.halves();
    if let Some(head) = head {
        sender.feed(head.to_bytes()).await?;
    }
    Ok(sender.send(Notice::Hello(hello).to_bytes()).await?)
}

/// The next frame of the control stream.
pub(crate) async fn frame(control: &mut Channel) -> Result<bytes::Bytes, GreetError> {
    control.halves().1.recv_up_to(HEAD_BYTES).await?.ok_or(GreetError::Missing)
}

/// Hears the peer's hello. A claim that differs from what the certificate proves closes the connection, with a line in the
/// log at both ends.
pub(crate) async fn listen(
    shared: &Shared,
    connection: &Connection,
    proven: &NodeId,
    control: &mut Channel,
) -> Result<Hello, GreetError> {
    let Notice::Hello(hello) = Notice::from_bytes(&frame(control).await?)? else {
        return Err(GreetError::Missing);
    };
    if hello.node == *proven {
        return Ok(hello);
    }
    let error = GreetError::Claim { claimed: hello.node, proven: proven.clone() };
    tracing::warn!(node = %shared.node, %error, from = %connection.remote_address(), "link refused");
    connection.close(codes::CLAIM, error.to_string().as_bytes());
    Err(error)
}
