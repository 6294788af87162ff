//! Replication of single-region shards to the other regions of their zone.
//!
//! | module | what it does |
//! |---|---|
//! | [`follower`] | projects the logs of shards served elsewhere, and records how far |
//! | [`watermark`] | the slot up to which every region of the zone has a shard |
//! | [`rebuild`] | makes log frames from projections when the log has been trimmed |
//! | [`failover`] | the decision that other regions serve the shards of a region, and its reversal |
//! | [`salvage`] | offers the frames that a lost region still holds to the shard's owner |

pub(crate) mod failover;
pub(crate) mod follower;
pub(crate) mod rebuild;
pub(crate) mod salvage;
pub(crate) mod watermark;
