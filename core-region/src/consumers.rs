//! What follows the committed log inside the home region. A consumer has a durable cursor, works at
//! least once, and never delays a commit.

pub(crate) mod follower;
pub(crate) mod notes;

pub(crate) use follower::Source;
