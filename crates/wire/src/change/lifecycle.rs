//! A conversation comes into being.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::Role;
use crate::ids::{ConversationKind, TenantId, UserId};

/// See [`Event::Created`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Created {
    /// Whose conversation it is.
    pub tenant: TenantId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// Who asked for it; owner of a group.
    pub by: UserId,
    /// All members with their roles, the creator included, sorted by user id.
    pub members: Vec<(UserId, Role)>,
}

crate::record!(Created);

/// The kind of a conversation and its display facts, derived from its id and its [`Created`] event.
impl Created {
    /// The role a creator gets in a conversation of this kind.
    #[must_use]
    pub fn creator_role(kind: ConversationKind) -> Role {
        match kind {
            ConversationKind::Group => Role::Owner,
            ConversationKind::Direct | ConversationKind::User => Role::Member,
        }
    }
}
