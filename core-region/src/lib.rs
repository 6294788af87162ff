//! The home region's node: puts the messages of its shards in order, makes them durable, feeds them to the edges.
//!
//! In the order of a message's way through it:
//!
//! | module | what it does | from -> to |
//! |---|---|---|
//! | [`intake`] | accepts streams, checks who may ask what | the mesh -> a shard's task |
//! | [`shards`] | decides, with the others, which shards are served here: claims, hands over | membership, lease -> a term |
//! | [`log`] | one task a shard and term: decides, commits in groups, acknowledges, projects | requests -> the log |
//! | [`feed`] | who watches what; one encoding for all who do | committed changes -> streams |
//! | [`followers`] | what has come over of other regions | their logs -> the projections here |
//! | [`failover`] | what operators decide about the loss of a region | their word -> the store -> who serves |
//! | [`salvage`] | brings back what a lost region still holds | its log -> a shard's task |
//! | [`consumers`] | what follows the log inside the region: notes to users' own streams | the log -> other shards |
//! | [`rebuild`] | what they and the followers take where the log has no rows any more | projections -> frames |
//!
//! A core holds nothing that the log does not: it may be killed at any moment, and whoever claims its shards next goes on
//! where the log ends. The rules stand in `conversation` and `topology`; this crate owns tasks, queues and clocks.
//!
//! Not here yet: moving a conversation of class `region`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backoff;
mod clock;
mod consumers;
mod core;
mod everywhere;
mod failover;
mod feed;
mod followers;
mod intake;
mod limits;
mod log;
mod patience;
mod rebuild;
mod salvage;
mod shards;
mod status;
mod tasks;

pub use crate::core::{Core, CoreOptions};
pub use failover::{FailoverError, FailoverReport, ShardLossEstimate};
pub use limits::Limits;
pub use status::{CoreStatus, FollowerStatus, ShardStatus, Stage};
