//! The state of a core and its shards, as others see it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use conversation::shard::Term;
use tokio::sync::watch;
use wire::{NodeId, ShardId, Slot};

use crate::ownership::state::ShardState;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreStatus {
    /// Whether it gives its shards away.
    pub draining: bool,
    /// Tasks that have panicked, by name. With any the core is not healthy.
    pub panicked: Vec<&'static str>,
    /// Every shard that it may have to serve.
    pub shards: Vec<ShardStatus>,
    /// The single-region shards that it follows for its region.
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
    /// What they take there, an upper estimate, bytes.
    pub cached_bytes: usize,
    /// Requests that wait for a conversation to be read.
    pub waiting: usize,
    /// Lost regions whose frames are still to be salvaged, while this core serves it.
    pub forks: usize,
    /// The consumers of its log, as of the last term that this core served.
    pub consumers: Vec<ConsumerStatus>,
}

/// One consumer of one shard log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerStatus {
    pub name: &'static str,
    /// Committed frames whose work is not done.
    pub lag_frames: u64,
    /// It has failed, and is tried again from its cursor.
    pub is_failing: bool,
}

/// How far a region that does not serve a single-region shard follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    pub shard: ShardId,
    /// Everything before this slot is here and projected.
    pub next: u64,
    /// Everything before this slot was acknowledged, as far as is known here.
    pub committed: u64,
    /// When the last row taken was ordered, milliseconds since 1970; none since this core follows.
    pub last_ts_ms: Option<u64>,
    /// This region serves it: there is nothing to follow.
    pub serves: bool,
}

/// Where the term of a shard writes how far it is. What this core does for the shard is read from
/// its [`ShardState`].
pub(crate) struct Progress {
    node: NodeId,
    state: watch::Receiver<ShardState>,
    status: Mutex<ShardStatus>,
}

impl Progress {
    pub(crate) fn new(shard: ShardId, node: NodeId, state: watch::Receiver<ShardState>) -> Self {
        let status = ShardStatus {
            shard,
            stage: Stage::Starting,
            owner: None,
            epoch: 0,
            committed: 0,
            projected: 0,
            conversations: 0,
            cached_bytes: 0,
            waiting: 0,
            forks: 0,
            consumers: Vec::new(),
        };
        Self { node, state, status: Mutex::new(status) }
    }

    pub(crate) fn status(&self) -> ShardStatus {
        let state = self.state.borrow();
        let (stage, owner) = (state.stage(), state.owner(&self.node));
        ShardStatus { stage, owner, ..self.lock().clone() }
    }

    pub(crate) fn began(&self, term: &Term) {
        let mut status = self.lock();
        status.epoch = term.epoch.0;
        status.committed = term.start.0;
        status.projected = term.start.0;
        status.forks = term.forks.len();
        status.consumers.clear();
    }

    pub(crate) fn salvaged(&self) {
        let mut status = self.lock();
        status.forks = status.forks.saturating_sub(1);
    }

    pub(crate) fn has_forks(&self) -> bool {
        self.lock().forks > 0
    }

    pub(crate) fn committed(&self, committed: Slot, cached: (usize, usize), waiting: usize) {
        let mut status = self.lock();
        status.committed = committed.0;
        (status.conversations, status.cached_bytes) = cached;
        status.waiting = waiting;
    }

    pub(crate) fn consumer(&self, name: &'static str, lag_frames: u64, is_failing: bool) {
        let now = ConsumerStatus { name, lag_frames, is_failing };
        let consumers = &mut self.lock().consumers;
        match consumers.iter_mut().find(|consumer| consumer.name == name) {
            Some(consumer) => *consumer = now,
            None => consumers.push(now),
        }
    }

    pub(crate) fn projected(&self, projected: Slot) {
        self.lock().projected = projected.0;
    }

    fn lock(&self) -> MutexGuard<'_, ShardStatus> {
        // Plain fields: a panic leaves them whole.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
