//! A conversation moves from one shard to another.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, ShardId, Slot};

/// In which shard a conversation is. Of two placements of one conversation the one with the higher
/// `n` is the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Home {
    /// How often it has moved; 0: it is where it was born.
    pub generation: u64,
    /// The shard.
    pub shard: ShardId,
}

/// See [`Event::MovedOut`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct MovedOut {
    /// Where it goes.
    pub to: Home,
    /// Number of its last message.
    pub head_seq: u64,
    /// The last shards that it has been in, this one included, oldest first: all in which anybody
    /// may still ask what a send became. Only in class `region`: a shard of the other class never
    /// forks.
    pub tenures: Vec<Tenure>,
}

/// See [`Event::MovedIn`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct MovedIn {
    /// Where it is now.
    pub here: Home,
    /// The shard that it comes from.
    pub from: ShardId,
    /// The epoch that clients see is this plus the epoch of the shard, from here on: it was the
    /// epoch of [`Event::MovedOut`], so what comes is higher than all that was.
    pub epoch_base: Epoch,
    /// As in [`MovedOut`].
    pub tenures: Vec<Tenure>,
}

/// A time that a conversation spent in one shard, and what of that shard's log counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Tenure {
    /// Which.
    pub shard: ShardId,
    /// As clients see them, the epochs of this stay are higher than this,
    pub after: Epoch,
    /// and not higher than this.
    pub until: Epoch,
    /// When it ended, milliseconds since 1970.
    pub ended_ts_ms: u64,
    /// The first slot of each epoch of the shard, as of the end: a row of another epoch is void.
    pub starts: Vec<(Epoch, Slot)>,
}

crate::record!(MovedOut, MovedIn, Tenure);
