//! What follows the committed log inside the home region. A consumer has a durable cursor, works at least once, and is
//! never waited for by the commit.
//!
//! | consumer | what it does |
//! |---|---|
//! | [`moves`] | brings the conversations that have left to the shards they go to |
//! | [`notes`] | tells the own streams of users that they joined or left a conversation |
//!
//! Each follows the log as [`follower`] does. Push, search, webhooks and audit will stand beside it.

mod carrier;
mod follower;
pub(crate) mod moves;
pub(crate) mod notes;

pub(crate) use carrier::{Carried, Carriers, Note, nobody};
pub(crate) use follower::Source;
