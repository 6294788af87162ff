//! Where each shard stands on this core, as the streams that arrive for it see it.

use std::collections::HashMap;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wire::{NodeId, ShardId};

use crate::intake::Input;
use crate::limits::Limits;

/// Where one shard stands on this core.
#[derive(Clone, Debug)]
pub(crate) enum ShardState {
    /// Not here; perhaps there.
    Elsewhere {
        /// Where, as far as this core knows.
        owner: Option<NodeId>,
    },
    /// This core is about to serve it, or tries to.
    Claiming,
    /// Here.
    Serving(TermHandle),
}

/// The way into the task that serves a shard in one term.
#[derive(Clone, Debug)]
pub(crate) struct TermHandle {
    /// Full: the sender waits. Closed: the term is over.
    pub(crate) inputs: mpsc::Sender<Input>,
}

/// The state of every shard of the world.
pub(crate) struct ShardTable {
    shards: HashMap<ShardId, watch::Receiver<ShardState>>,
}

/// Why a stream is sent away.
#[derive(Debug)]
pub(crate) struct NotOwner {
    /// Who may know better.
    pub(crate) owner: Option<NodeId>,
}

impl ShardTable {
    pub(crate) fn new(
        shards: impl IntoIterator<Item = (ShardId, watch::Receiver<ShardState>)>,
    ) -> Self {
        Self { shards: shards.into_iter().collect() }
    }

    /// The term that serves the shard, waiting a bounded time while it is being claimed. Cancel safe.
    ///
    /// # Errors
    /// When it is not served here within the time that [`Limits`] gives.
    pub(crate) async fn term(
        &self,
        shard: &ShardId,
        limits: &Limits,
    ) -> Result<TermHandle, NotOwner> {
        let Some(state) = self.shards.get(shard) else { return Err(NotOwner { owner: None }) };
        let mut state = state.clone();
        let came = Instant::now();
        loop {
            let (hold, owner) = match &*state.borrow_and_update() {
                ShardState::Serving(term) if !term.inputs.is_closed() => return Ok(term.clone()),
                ShardState::Serving(_) | ShardState::Claiming => (limits.hold_while_claiming, None),
                ShardState::Elsewhere { owner } => (limits.hold_while_elsewhere, owner.clone()),
            };
            let changed = tokio::time::timeout_at(came + hold, state.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(NotOwner { owner });
            }
        }
    }

    /// Who serves the shard, as far as this core knows, if it is another.
    pub(crate) fn elsewhere(&self, shard: &ShardId) -> Option<NodeId> {
        match &*self.shards.get(shard)?.borrow() {
            ShardState::Elsewhere { owner } => owner.clone(),
            _ => None,
        }
    }

    /// Whether the shard is served here now.
    pub(crate) fn serving(&self, shard: &ShardId) -> Option<TermHandle> {
        match &*self.shards.get(shard)?.borrow() {
            ShardState::Serving(term) if !term.inputs.is_closed() => Some(term.clone()),
            _ => None,
        }
    }
}
