//! A store between a test and its core: it delays, fails and forgets as the test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use store::{Layer, Layered, Mark, Store, StoreError};
use tokio::sync::watch;
use wire::{Epoch, Position, ShardId};

/// A store with a test between it and its core.
#[derive(Clone)]
pub(crate) struct StoreShim {
    store: Arc<dyn Store>,
    gate: Option<Gate>,
    forgets_cursors: bool,
}

#[derive(Clone)]
struct Gate {
    open: watch::Receiver<bool>,
    waiting: Arc<AtomicUsize>,
}

impl StoreShim {
    /// Reads of the fence wait at a gate, and are counted: a pause between the append and the
    /// check.
    pub(crate) fn gated(
        store: Arc<dyn Store>,
        open: watch::Receiver<bool>,
        waiting: Arc<AtomicUsize>,
    ) -> Arc<dyn Store> {
        let gate = Some(Gate { open, waiting });
        Arc::new(Layered(Self { store, gate, forgets_cursors: false }))
    }

    /// It knows of no consumer's cursor: all begin with the log.
    pub(crate) fn without_cursors(store: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Layered(Self { store, gate: None, forgets_cursors: true }))
    }
}

#[async_trait]
impl Layer for StoreShim {
    fn below(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn over(&self, store: Arc<dyn Store>) -> Self {
        Self { store, ..self.clone() }
    }

    async fn fence(&self, shard: ShardId) -> Result<Epoch, StoreError> {
        if let Some(gate) = &self.gate {
            gate.waiting.fetch_add(1, Ordering::SeqCst);
            let _ = gate.open.clone().wait_for(|open| *open).await;
        }
        self.store.fence(shard).await
    }

    async fn mark(&self, shard: ShardId, mark: &Mark) -> Result<Option<Position>, StoreError> {
        if self.forgets_cursors && matches!(mark, Mark::Consumer(_)) {
            return Ok(None);
        }
        self.store.mark(shard, mark).await
    }
}
