//! What can fail, and whether anything was done.

use wire::NodeId;

/// Why a node's mesh did not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket.
    #[error("cannot bind {bind}: {error}")]
    Bind {
        /// Where.
        bind: std::net::SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The certificate is not this node's, or not of this mesh.
    #[error("this node's certificate: {0}")]
    Identity(#[from] crate::proof::IdentityError),
}

/// Why a channel could not be opened. Nobody at the peer has accepted it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody has told an address of it yet.
    #[error("{0}: no address known")]
    Unknown(NodeId),
    /// Neither directly nor through a third region, within the deadline.
    #[error("{peer}: unreachable: {why}")]
    Unreachable {
        /// Whom.
        peer: NodeId,
        /// The last reason.
        why: String,
    },
    /// This node's mesh has stopped.
    #[error("the mesh has stopped")]
    Stopped,
}

/// Why frames could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Larger than [`wire::limits::MESH_FRAME_BYTES`]. It was not sent; the channel stays open.
    #[error("a frame of {0} bytes is over the limit")]
    TooLarge(usize),
    /// The peer reads no more, or the link is lost. The channel is over; whether the peer has seen
    /// the last frames is unknown.
    #[error("the channel is broken: {0}")]
    Broken(String),
}

/// Why frames could not be received. The channel is over; all frames before were whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The peer announced a frame over the limit: its stream was stopped.
    #[error("a frame of {0} bytes was announced, over the limit")]
    TooLarge(usize),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Torn,
    /// The peer has reset the stream, or the link is lost.
    #[error("the channel is broken: {0}")]
    Broken(String),
}
