//! Which nodes are alive, as this node sees it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use wire::NodeId;

/// The nodes that live, this one included. For its own region a node believes the region's gossip,
/// for the others that among all. Only a suspicion: who owns what is decided elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// By name.
    pub nodes: BTreeMap<NodeId, NodeState>,
}

/// What is known of a living node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// It goes away soon: give it nothing new.
    pub draining: bool,
    /// Where its mesh listens.
    pub addr: SocketAddr,
    /// Numbers its starts: a larger one is a later start of the same node.
    pub incarnation: u64,
}

impl Membership {
    /// Does it live?
    #[must_use]
    pub fn is_alive(&self, node: &NodeId) -> bool {
        self.nodes.contains_key(node)
    }

    /// Does it live, and stay?
    #[must_use]
    pub fn is_serving(&self, node: &NodeId) -> bool {
        self.nodes.get(node).is_some_and(|state| !state.draining)
    }
}
