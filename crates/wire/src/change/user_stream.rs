//! Entries of a user's own stream: the conversations they joined and left.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::ids::ConversationId;

/// See [`Event::Joined`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Joined {
    /// Which conversation.
    pub conversation: ConversationId,
    /// A group's name.
    pub name: Option<SmolStr>,
    /// First seq that they may count as unread.
    pub joined_seq: u64,
    /// The `ver` of the change, in that conversation, that made them a member.
    pub at_ver: u64,
}

/// See [`Event::Left`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Left {
    /// Which conversation.
    pub conversation: ConversationId,
    /// The `ver` of the change, in that conversation, that removed them.
    pub at_ver: u64,
}

crate::record!(Joined, Left);
