//! What travels: the names of things, the frames of clients, the changes that the log holds and the feed carries, the
//! frames between nodes, and the limits and error codes that both sides of every wire agree on.
//!
//! `wire` knows nobody. It parses and prints; it never decides.
//!
//! | module | what travels there | between |
//! |---|---|---|
//! | [`ids`] | names: conversations, shards, users, nodes | everywhere |
//! | [`client`] | JSON envelopes, HTTP bodies | a device and an edge |
//! | [`command`] | what a user asks of a conversation, and the answers | an edge and a core |
//! | [`change`] | what was decided: the entries of the log and of the feed | a core and everyone |
//! | [`mesh`] | versioned binary frames | two nodes |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod change;
pub mod client;
pub mod code;
pub mod command;
pub mod ids;
pub mod limits;
pub mod mesh;

pub use code::ErrorCode;
pub use ids::{
    ClientMsgId, ConversationId, ConversationKind, DeviceId, Durability, Epoch, MessageId, NodeId,
    NodeRole, Position, RegionId, ShardId, Slot, TenantId, UserId, ZoneId,
};
