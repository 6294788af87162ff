//! Where each shard stands on this core, as the streams that arrive for it see it.

use std::collections::HashMap;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wire::{NodeId, ShardId};

use crate::intake::Input;
use crate::limits::Limits;

/// Where one shard stands on this core.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
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

/// The standing of every shard of the world.
pub(crate) struct Directory {
    shards: HashMap<ShardId, watch::Receiver<Standing>>,
}

/// Why a stream is sent away.
#[derive(Debug)]
pub(crate) struct NotHere {
    /// Who may know better.
    pub(crate) owner: Option<NodeId>,
}

impl Directory {
    pub(crate) fn new(
        shards: impl IntoIterator<Item = (ShardId, watch::Receiver<Standing>)>,
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
    ) -> Result<TermHandle, NotHere> {
        let Some(standing) = self.shards.get(shard) else { return Err(NotHere { owner: None }) };
        let mut standing = standing.clone();
        let came = Instant::now();
        loop {
            let (hold, owner) = match &*standing.borrow_and_update() {
                Standing::Serving(term) if !term.inputs.is_closed() => return Ok(term.clone()),
                Standing::Serving(_) | Standing::Claiming => (limits.hold_while_claiming, None),
                Standing::Elsewhere { owner } => (limits.hold_while_elsewhere, owner.clone()),
            };
            let changed = tokio::time::timeout_at(came + hold, standing.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(NotHere { owner });
            }
        }
    }

    /// Who serves the shard, as far as this core knows, if it is another.
    pub(crate) fn elsewhere(&self, shard: &ShardId) -> Option<NodeId> {
        match &*self.shards.get(shard)?.borrow() {
            Standing::Elsewhere { owner } => owner.clone(),
            _ => None,
        }
    }

    /// Whether the shard is served here now.
    pub(crate) fn serving(&self, shard: &ShardId) -> Option<TermHandle> {
        match &*self.shards.get(shard)?.borrow() {
            Standing::Serving(term) if !term.inputs.is_closed() => Some(term.clone()),
            _ => None,
        }
    }
}
