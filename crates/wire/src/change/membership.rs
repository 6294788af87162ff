//! Members come, go, or get another role.

use serde::{Deserialize, Serialize};

use crate::ids::UserId;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads and writes.
    Member,
    /// Adds and removes members too.
    Admin,
    /// Gives and takes roles too.
    Owner,
}

/// See [`Event::MembersChanged`]. All three lists are sorted and hold only what really changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct MembersChanged {
    /// Who asked for it.
    pub by: UserId,
    /// Now in, with this role.
    pub added: Vec<(UserId, Role)>,
    /// Now out.
    pub removed: Vec<UserId>,
    /// Still in, with another role.
    pub roles: Vec<(UserId, Role)>,
    /// Head of the messages at that moment; an added member joined at the next one.
    pub head_seq: u64,
    /// Members after it.
    #[serde(default)]
    pub member_count: u32,
}

crate::record!(MembersChanged);
