//! A node's place in the mesh.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use wire::NodeId;
use wire::mesh::Purpose;

use crate::channel::Channel;
use crate::error::{OpenError, StartError};
use crate::membership::Membership;
use crate::options::MeshOptions;

/// A handle to this node's mesh; cheap to clone. When the last one is dropped, everything stops without a goodbye:
/// peers see a crash.
#[derive(Clone)]
pub struct Mesh {
    membership: watch::Receiver<Arc<Membership>>,
}

/// How it stands with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Who.
    pub peer: NodeId,
    /// A direct connection is up and answers.
    pub up: bool,
    /// Its measured round trip.
    pub rtt: Option<Duration>,
    /// Through whom a channel opened now would go; none: directly.
    pub relayed_via: Option<NodeId>,
}

impl Mesh {
    /// Binds, joins, and serves until the last handle is dropped or [`Mesh::shutdown`] is called. Call it inside the
    /// tokio runtime that shall drive it.
    ///
    /// # Errors
    /// As [`StartError`] says.
    pub fn start(_options: MeshOptions) -> Result<Self, StartError> {
        let (_, membership) = watch::channel(Arc::default());
        Ok(Self { membership })
    }

    /// Who this node is.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        unreachable!("written in the next commit")
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }

    /// One more node to join through, for ever; a new address of a known one replaces the old.
    pub fn add_peer(&self, _node: NodeId, _addr: SocketAddr) {}

    /// A new channel to `peer`: over the direct link when it is healthy, otherwise through a third region. Takes no round
    /// trip when the link is up. Cancel safe: the stream is given up.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    #[allow(clippy::unused_async)]
    pub async fn open(&self, peer: &NodeId, _purpose: Purpose) -> Result<Channel, OpenError> {
        Err(OpenError::Unknown(peer.clone()))
    }

    /// The next channel that a peer has opened: who (proven), what for, and itself. `None` when the mesh has stopped.
    /// Cancel safe. What nobody accepts fills a bounded queue; when that is full, new ones are reset as busy.
    #[allow(clippy::unused_async)]
    pub async fn accept(&self) -> Option<(NodeId, Purpose, Channel)> {
        None
    }

    /// Who lives, this node included; told at every change.
    #[must_use]
    pub fn membership(&self) -> watch::Receiver<Arc<Membership>> {
        self.membership.clone()
    }

    /// Tells everyone that this node goes away soon, or does not after all.
    pub fn set_draining(&self, _draining: bool) {}

    /// How it stands with every known peer.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        Vec::new()
    }

    /// Says goodbye: the others see this node leave at once instead of suspecting it. Lets channels send what was
    /// flushed, until `deadline` from now.
    #[allow(clippy::unused_async)]
    pub async fn shutdown(&self, _deadline: Duration) {}
}
