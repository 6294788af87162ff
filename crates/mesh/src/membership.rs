//! Who lives, as this node sees it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use wire::NodeId;

/// The nodes that live, this one included.
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
    /// Its boot: a larger one is a later life of the same node.
    pub generation: u64,
}

impl Membership {
    /// Is it alive?
    #[must_use]
    pub fn is_alive(&self, node: &NodeId) -> bool {
        self.nodes.contains_key(node)
    }
}
