//! Nodes of the mesh, as their certificates name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{IdError, RegionId, label, name};

name! {
    /// The name of a node inside its region and role, such as `1`.
    NodeName, "node name", label
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Ends WebSockets; holds no durable state.
    Edge,
    /// Sequences, persists, feeds.
    Core,
}

/// A node: its region, role and name, as its certificate proves them. Printed and parsed as
/// `r1/core/2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId {
    /// The region it may speak for.
    pub region: RegionId,
    /// The role it may speak for.
    pub role: NodeRole,
    /// Its name inside the region and role.
    pub name: NodeName,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            NodeRole::Edge => "edge",
            NodeRole::Core => "core",
        };
        write!(f, "r{}/{role}/{}", self.region.0, self.name)
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let err = |why| IdError { what: "node id", why };
        let mut parts = text.split('/');
        let (Some(region), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(err("is not of the form r1/core/2"));
        };
        let region = region
            .strip_prefix('r')
            .and_then(|n| n.parse().ok())
            .ok_or(err("has no region number"))?;
        let role = match role {
            "edge" => NodeRole::Edge,
            "core" => NodeRole::Core,
            _ => return Err(err("has a role other than edge and core")),
        };
        Ok(Self { region: RegionId(region), role, name: NodeName::new(name)? })
    }
}
