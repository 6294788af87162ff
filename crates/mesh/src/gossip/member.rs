//! A node as the gossip knows it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use wire::NodeId;

/// The identity of a member. Of two with one name the later life, and within a life the later change, is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) node: NodeId,
    pub(crate) addr: SocketAddr,
    /// Its life.
    pub(crate) generation: u64,
    /// Counts what changed within the life: it began to drain, or was believed dead and came back.
    pub(crate) change: u32,
    pub(crate) draining: bool,
}

impl Member {
    /// Somebody of whom only the name is known: enough to ask to be let in.
    pub(crate) fn unknown(node: NodeId, addr: SocketAddr) -> Self {
        Self { node, addr, generation: 0, change: 0, draining: false }
    }

    pub(crate) fn changed(&self) -> Self {
        Self { change: self.change.wrapping_add(1), ..self.clone() }
    }
}

impl foca::Identity for Member {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(self.changed())
    }

    fn addr(&self) -> NodeId {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.generation, self.change) > (adversary.generation, adversary.change)
    }
}
