//! The node of a home region. It orders the messages of its shards, makes them durable, and feeds
//! them to the edges.
//!
//! Modules stand in the order in which a message passes through them.
//!
//! | module | what it does | from -> to |
//! |---|---|---|
//! | [`intake`] | accepts streams, checks who may ask what | the mesh -> the owner task of a shard |
//! | [`ownership`] | decides with the other cores which shards this core serves | membership, lease -> a term |
//! | [`owner`] | one task a shard and term: decides, commits in groups, acknowledges, projects | requests -> the log |
//! | [`feed`] | delivers committed changes to the streams that watch, encoded once | the log -> streams |
//! | [`consumers`] | runs what follows the committed log inside the region | the log -> their effects |
//! | [`replication`] | follows single-region shards of other regions; watermark, failover, salvage | other regions' logs -> projections here |
//!
//! A core holds nothing that the log does not hold. It may be killed at any moment; the next owner
//! of each shard goes on where its log ends. The rules stand in `conversation` and `topology`; this
//! crate owns tasks, queues and clocks.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clock;
mod consumers;
mod core;
mod feed;
mod intake;
mod limits;
mod owner;
mod ownership;
mod replication;
mod retry;
mod status;

pub use crate::core::{Core, CoreOptions};
pub use consumers::inbox_notifier::InboxNotifier;
pub use consumers::{Consumer, ConsumerContext, ConsumerError, Consumers, Done};
pub use limits::Limits;
pub use replication::failover::{FailoverError, FailoverReport, ShardLossEstimate};
pub use status::{ConsumerStatus, CoreStatus, FollowerStatus, ShardStatus, Stage};
