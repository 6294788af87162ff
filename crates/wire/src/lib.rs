//! Everything that is sent or stored: ids, client frames, changes, frames between nodes, and the
//! limits and error codes that both sides agree on.
//!
//! `wire` depends on no other crate of the workspace. It parses and prints; it never decides.
//!
//! | module | what travels there | between |
//! |---|---|---|
//! | [`ids`] | names: conversations, shards, users, nodes | everywhere |
//! | [`client`] | JSON envelopes, HTTP bodies | a device and an edge |
//! | [`message`] | messages, as the log holds them and before | everywhere |
//! | [`command`] | what is asked of a conversation, and the answers | an edge and a core |
//! | [`change`] | what was decided: the entries of the log and of the feed | a core and everyone |
//! | [`stream`] | frames, by direction | two nodes |
//! | [`version`] | what a peer understands | two nodes |
//! | [`codec`] | how all of it but JSON is written, and grows | |

#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod change;
pub mod client;
pub mod code;
pub mod codec;
pub mod command;
pub mod ids;
pub mod limits;
pub mod message;
pub mod stream;
pub mod version;

#[cfg(test)]
mod tests;

pub use code::ErrorCode;
pub use ids::{
    ClientMsgId, ConversationId, ConversationKind, DeviceId, Durability, Epoch, MessageId, NodeId,
    NodeRole, Position, RegionId, ShardId, Slot, TenantId, UserId, ZoneId,
};
