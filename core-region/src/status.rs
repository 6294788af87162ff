//! How it stands with each shard, for those who look from outside.

use std::sync::{Mutex, MutexGuard, PoisonError};

use conversation::shard::Term;
use wire::{NodeId, ShardId, Slot};

/// A core as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreStatus {
    /// Whether it gives its shards away.
    pub draining: bool,
    /// Tasks that have panicked, by name: with one, the core is not healthy.
    pub panicked: Vec<&'static str>,
    /// Every shard that it may have to serve.
    pub shards: Vec<ShardStatus>,
    /// Those of class `region` that it follows for its region.
    pub followers: Vec<FollowerStatus>,
}

impl CoreStatus {
    /// The shards that it serves now.
    pub fn serving(&self) -> impl Iterator<Item = &ShardStatus> {
        self.shards
            .iter()
            .filter(|shard| matches!(shard.stage, Stage::Serving | Stage::HandingOver))
    }

    /// Whether every shard that it should serve is served.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.shards.iter().all(|shard| !matches!(shard.stage, Stage::Starting | Stage::Claiming))
    }
}

/// What a core does for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not looked yet.
    Starting,
    /// Nothing: another should serve it.
    Elsewhere,
    /// It should serve it and is on the way.
    Claiming,
    /// It serves it.
    Serving,
    /// It serves nothing new and gives it to another.
    HandingOver,
}

/// One shard on one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    /// Which.
    pub shard: ShardId,
    /// What this core does for it.
    pub stage: Stage,
    /// Who serves it, as far as this core knows.
    pub owner: Option<NodeId>,
    /// The last term in which this core served it; 0 if it never did.
    pub epoch: u64,
    /// Everything before this slot was committed when this core last served it.
    pub committed: u64,
    /// Everything before this slot was projected then.
    pub projected: u64,
    /// Conversations in memory.
    pub conversations: usize,
    /// Requests that wait for a conversation to be read.
    pub waiting: usize,
    /// Lost regions that still hold what is to be salvaged of it, while this core serves it.
    pub forks: usize,
}

/// How far a shard of class `region` has come over to a region that does not serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Which.
    pub shard: ShardId,
    /// Everything before this slot is here and projected.
    pub next: u64,
    /// Everything before this slot was acknowledged, as far as is known here.
    pub committed: u64,
    /// When the last row that was taken was ordered, milliseconds since 1970; none since this core follows.
    pub last_ts_ms: Option<u64>,
    /// This region serves it: there is nothing to follow.
    pub serves: bool,
}

/// Where a shard's runner and its term write how they stand.
pub(crate) struct Progress {
    status: Mutex<ShardStatus>,
}

impl Progress {
    pub(crate) fn new(shard: ShardId) -> Self {
        let status = ShardStatus {
            shard,
            stage: Stage::Starting,
            owner: None,
            epoch: 0,
            committed: 0,
            projected: 0,
            conversations: 0,
            waiting: 0,
            forks: 0,
        };
        Self { status: Mutex::new(status) }
    }

    pub(crate) fn status(&self) -> ShardStatus {
        self.lock().clone()
    }

    pub(crate) fn stage(&self, stage: Stage, owner: Option<&NodeId>) {
        let mut status = self.lock();
        status.stage = stage;
        status.owner = owner.cloned();
    }

    pub(crate) fn began(&self, term: &Term) {
        let mut status = self.lock();
        status.epoch = term.epoch.0;
        status.committed = term.start.0;
        status.projected = term.start.0;
        status.forks = term.forks.len();
    }

    pub(crate) fn salvaged(&self) {
        let mut status = self.lock();
        status.forks = status.forks.saturating_sub(1);
    }

    pub(crate) fn committed(&self, committed: Slot, conversations: usize, waiting: usize) {
        let mut status = self.lock();
        status.committed = committed.0;
        (status.conversations, status.waiting) = (conversations, waiting);
    }

    pub(crate) fn projected(&self, projected: Slot) {
        self.lock().projected = projected.0;
    }

    fn lock(&self) -> MutexGuard<'_, ShardStatus> {
        // Plain fields: whoever panicked left them whole.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
