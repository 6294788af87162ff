//! What this core does for each shard: written by the shard's runner, read by the streams that
//! arrive for it and by the status.

use std::collections::HashMap;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wire::{NodeId, ShardId};

use crate::limits::Limits;
use crate::owner::input::Input;
use crate::status::Stage;

/// What this core does for one shard.
#[derive(Clone, Debug)]
pub(crate) enum ShardState {
    /// It has not looked yet who should serve it.
    Starting,
    /// Another should serve it: that one, as far as this core knows.
    Elsewhere {
        owner: Option<NodeId>,
    },
    /// It should serve it and tries to.
    Claiming,
    Serving(TermHandle),
    /// It serves nothing new and gives it to another.
    HandingOver(TermHandle),
}

impl ShardState {
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::Starting => Stage::Starting,
            Self::Elsewhere { .. } => Stage::Elsewhere,
            Self::Claiming => Stage::Claiming,
            Self::Serving(_) => Stage::Serving,
            Self::HandingOver(_) => Stage::HandingOver,
        }
    }

    /// Who serves the shard, as far as the core `here` knows.
    pub(crate) fn owner(&self, here: &NodeId) -> Option<NodeId> {
        match self {
            Self::Starting | Self::Claiming => None,
            Self::Elsewhere { owner } => owner.clone(),
            Self::Serving(_) | Self::HandingOver(_) => Some(here.clone()),
        }
    }

    /// The term that serves it here, if it is not over.
    fn term(&self) -> Option<&TermHandle> {
        match self {
            Self::Serving(term) | Self::HandingOver(term) => {
                Some(term).filter(|term| !term.inputs.is_closed())
            }
            Self::Starting | Self::Elsewhere { .. } | Self::Claiming => None,
        }
    }

    /// The term begins to give the shard away.
    pub(crate) fn hand_over(&mut self) {
        if let Self::Serving(term) = self {
            *self = Self::HandingOver(term.clone());
        }
    }
}

/// The way into the owner task of a shard in one term.
#[derive(Clone, Debug)]
pub(crate) struct TermHandle {
    /// Full: the sender waits. Closed: the term is over.
    pub(crate) inputs: mpsc::Sender<Input>,
}

/// The state of every shard that this core may have to serve.
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

    /// The term that serves the shard, waiting a bounded time while it is being claimed. Cancel
    /// safe.
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
            let (hold, owner) = {
                let state = state.borrow_and_update();
                if let Some(term) = state.term() {
                    return Ok(term.clone());
                }
                match &*state {
                    // A term that is over: the runner is about to say what comes next.
                    ShardState::Serving(_) | ShardState::HandingOver(_) | ShardState::Claiming => {
                        (limits.hold_while_claiming, None)
                    }
                    ShardState::Starting => (limits.hold_while_elsewhere, None),
                    ShardState::Elsewhere { owner } => (limits.hold_while_elsewhere, owner.clone()),
                }
            };
            let changed = tokio::time::timeout_at(came + hold, state.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(NotOwner { owner });
            }
        }
    }
}
