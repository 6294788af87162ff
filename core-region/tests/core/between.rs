//! What a test does to the store of one core.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use conversation::dedupe::Seen;
use conversation::log::LogRow;
use conversation::projection::{InboxRow, Row};
use conversation::sequencer::LoadedConversation;
use conversation::shard::{Beat, Cas, CoreLease, FenceMode, Lease, Nonce};
use store::{CoreKey, Heads, Mark, ScanPage, Store, StoreError};
use tokio::sync::watch;
use wire::change::Change;
use wire::{
    ClientMsgId, ConversationId, Epoch, NodeId, Position, RegionId, ShardId, Slot, UserId, ZoneId,
};

/// A store with a test between it and its core.
#[derive(Clone)]
pub(crate) struct Between {
    store: Arc<dyn Store>,
    gate: Option<Gate>,
    forgets_cursors: bool,
}

#[derive(Clone)]
struct Gate {
    open: watch::Receiver<bool>,
    waiting: Arc<AtomicUsize>,
}

impl Between {
    /// Reads of the fence wait at a gate, and are counted: a pause between the append and the check.
    pub(crate) fn gated(
        store: Arc<dyn Store>,
        open: watch::Receiver<bool>,
        waiting: Arc<AtomicUsize>,
    ) -> Self {
        Self { store, gate: Some(Gate { open, waiting }), forgets_cursors: false }
    }

    /// It knows of no consumer's cursor: all begin with the log.
    pub(crate) fn without_cursors(store: Arc<dyn Store>) -> Self {
        Self { store, gate: None, forgets_cursors: true }
    }
}

#[async_trait]
impl Store for Between {
    async fn fence(&self, shard: ShardId) -> Result<Epoch, StoreError> {
        if let Some(gate) = &self.gate {
            gate.waiting.fetch_add(1, Ordering::SeqCst);
            let _ = gate.open.clone().wait_for(|open| *open).await;
        }
        self.store.fence(shard).await
    }
    async fn lease(&self, shard: ShardId) -> Result<Lease, StoreError> {
        self.store.lease(shard).await
    }
    async fn claim(
        &self,
        shard: ShardId,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Result<Cas, StoreError> {
        self.store.claim(shard, observed, owner, nonce, fence_mode).await
    }
    async fn seal(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Result<Cas, StoreError> {
        self.store.seal(shard, epoch, nonce, start).await
    }
    async fn release(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        end: Slot,
    ) -> Result<Cas, StoreError> {
        self.store.release(shard, epoch, nonce, end).await
    }
    async fn close_fork(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        fork: Epoch,
    ) -> Result<Cas, StoreError> {
        self.store.close_fork(shard, epoch, nonce, fork).await
    }
    async fn core_leases(
        &self,
        zone: ZoneId,
        region: RegionId,
    ) -> Result<Vec<CoreLease>, StoreError> {
        self.store.core_leases(zone, region).await
    }
    async fn core_lease(&self, of: CoreKey) -> Result<Option<CoreLease>, StoreError> {
        self.store.core_lease(of).await
    }
    async fn register_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
    ) -> Result<Cas, StoreError> {
        self.store.register_core(zone, node, incarnation).await
    }
    async fn renew_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
        beat: Beat,
    ) -> Result<Cas, StoreError> {
        self.store.renew_core(zone, node, incarnation, beat).await
    }
    async fn break_core(&self, of: CoreKey, beat: Beat) -> Result<Cas, StoreError> {
        self.store.break_core(of, beat).await
    }
    async fn failed_over(&self, zone: ZoneId) -> Result<BTreeSet<RegionId>, StoreError> {
        self.store.failed_over(zone).await
    }
    async fn set_failed_over(
        &self,
        zone: ZoneId,
        region: RegionId,
        failed_over: bool,
    ) -> Result<Cas, StoreError> {
        self.store.set_failed_over(zone, region, failed_over).await
    }
    fn at(&self, region: RegionId) -> Arc<dyn Store> {
        Arc::new(Self { store: self.store.at(region), ..self.clone() })
    }
    async fn write_fence(&self, shard: ShardId, epoch: Epoch) -> Result<(), StoreError> {
        self.store.write_fence(shard, epoch).await
    }
    async fn append(&self, shard: ShardId, at: Position, frame: Bytes) -> Result<(), StoreError> {
        self.store.append(shard, at, frame).await
    }
    async fn read_log(
        &self,
        shard: ShardId,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        self.store.read_log(shard, from, limit).await
    }
    async fn write_mark(
        &self,
        shard: ShardId,
        mark: &Mark,
        at: Position,
    ) -> Result<(), StoreError> {
        self.store.write_mark(shard, mark, at).await
    }
    async fn mark(&self, shard: ShardId, mark: &Mark) -> Result<Option<Position>, StoreError> {
        if self.forgets_cursors && matches!(mark, Mark::Consumer(_)) {
            return Ok(None);
        }
        self.store.mark(shard, mark).await
    }
    async fn project(
        &self,
        shard: ShardId,
        stamp: Position,
        rows: Vec<Row>,
    ) -> Result<(), StoreError> {
        self.store.project(shard, stamp, rows).await
    }
    async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<LoadedConversation>, StoreError> {
        self.store.conversation(id).await
    }
    async fn messages(
        &self,
        id: ConversationId,
        from: u64,
        to: u64,
    ) -> Result<Vec<Change>, StoreError> {
        self.store.messages(id, from, to).await
    }
    async fn placed_changes(
        &self,
        id: ConversationId,
        after_ver: u64,
        limit: usize,
    ) -> Result<Vec<(Position, Change)>, StoreError> {
        self.store.placed_changes(id, after_ver, limit).await
    }
    async fn dedupe(
        &self,
        id: ConversationId,
        sender: &UserId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<Seen>, StoreError> {
        self.store.dedupe(id, sender, client_msg_id).await
    }
    async fn inbox(&self, user_stream: ConversationId) -> Result<Vec<InboxRow>, StoreError> {
        self.store.inbox(user_stream).await
    }
    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<Option<Heads>>, StoreError> {
        self.store.heads(ids).await
    }
    async fn conversations(
        &self,
        shard: ShardId,
        after: Option<ConversationId>,
    ) -> Result<ScanPage, StoreError> {
        self.store.conversations(shard, after).await
    }
    async fn read_cursors(
        &self,
        user: &UserId,
        ids: &[ConversationId],
    ) -> Result<Vec<u64>, StoreError> {
        self.store.read_cursors(user, ids).await
    }
}
