//! The store's side of the world: one replica a region, on a machine of their own, so that what a node has asked for goes on
//! when the node dies or stands still. Nodes hold a [`Remote`] and wait for answers.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::mutant::Mutation;
use async_trait::async_trait;
use bytes::Bytes;
use conversation::dedupe::Seen;
use conversation::log::LogRow;
use conversation::projection::{InboxRow, Row};
use conversation::sequencer::LoadedConversation;
use conversation::shard::{Beat, Cas, CoreLease, FenceMode, Lease, Nonce};
use store::simulated::{Simulated, SimulatedOptions, Weather};
use store::{CoreKey, Heads, Mark, ScanPage, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use topology::World;
use wire::change::Change;
use wire::{
    ClientMsgId, ConversationId, Epoch, NodeId, Position, RegionId, ShardId, Slot, UserId, ZoneId,
};

/// Empty replicas for all regions of a world, as far apart as it says.
#[must_use]
pub fn replicas(world: &World, seed: u64) -> Simulated {
    let regions: Vec<RegionId> = world.regions.iter().map(|region| region.id).collect();
    let zones = world.zones.iter().map(|zone| (zone.id, zone.regions.clone())).collect();
    let micros = Duration::from_micros;
    let weather = Weather {
        delay: micros(100)..micros(400),
        sync: micros(200)..micros(1_500),
        ..Weather::calm()
    };
    let store = Simulated::new(SimulatedOptions {
        seed,
        regions: regions.clone(),
        zones,
        weather,
        sync_all: true,
    });
    for (from, to) in regions.iter().flat_map(|from| regions.iter().map(move |to| (*from, *to))) {
        if from != to {
            store.set_delay(from, to, world.delay(from, to));
        }
    }
    store
}

/// A store that runs elsewhere.
pub struct Remote {
    region: RegionId,
    store: Arc<dyn Store>,
    there: Handle,
    mutation: Option<Arc<Mutation>>,
}

impl Remote {
    /// What `store`, the region's handle, does is done by the runtime of `there`; with a mutation, wrongly.
    #[must_use]
    pub fn new(
        region: RegionId,
        store: Arc<dyn Store>,
        there: Handle,
        mutation: Option<Arc<Mutation>>,
    ) -> Self {
        Self { region, store, there, mutation }
    }

    async fn ask<T, F>(&self, ask: impl FnOnce(Arc<dyn Store>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let asked = ask(Arc::clone(&self.store));
        self.there.spawn(async move {
            // Whoever asked may be gone.
            let _ = answer.send(asked.await);
        });
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

#[async_trait]
impl Store for Remote {
    async fn lease(&self, shard: ShardId) -> Result<Lease, StoreError> {
        self.ask(|store| async move { store.lease(shard).await }).await
    }

    async fn claim(
        &self,
        shard: ShardId,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Result<Cas, StoreError> {
        if let Some(mutation) = &self.mutation {
            mutation.claimed(self.region, shard, observed);
        }
        let owner = owner.clone();
        self.ask(move |store| async move {
            store.claim(shard, observed, &owner, nonce, fence_mode).await
        })
        .await
    }

    async fn seal(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Result<Cas, StoreError> {
        let (region, mutation) = (self.region, self.mutation.clone());
        self.ask(move |store| async move {
            match mutation {
                Some(mutation) => mutation.seal(store, region, shard, epoch, (nonce, start)).await,
                None => store.seal(shard, epoch, nonce, start).await,
            }
        })
        .await
    }

    async fn release(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        end: Slot,
    ) -> Result<Cas, StoreError> {
        self.ask(move |store| async move { store.release(shard, epoch, nonce, end).await }).await
    }

    async fn close_fork(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        fork: Epoch,
    ) -> Result<Cas, StoreError> {
        self.ask(move |store| async move { store.close_fork(shard, epoch, nonce, fork).await })
            .await
    }

    async fn core_leases(
        &self,
        zone: ZoneId,
        region: RegionId,
    ) -> Result<Vec<CoreLease>, StoreError> {
        self.ask(move |store| async move { store.core_leases(zone, region).await }).await
    }

    async fn core_lease(&self, of: CoreKey) -> Result<Option<CoreLease>, StoreError> {
        self.ask(move |store| async move { store.core_lease(of).await }).await
    }

    async fn register_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        life: Nonce,
    ) -> Result<Cas, StoreError> {
        let node = node.clone();
        self.ask(move |store| async move { store.register_core(zone, &node, life).await }).await
    }

    async fn renew_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        life: Nonce,
        beat: Beat,
    ) -> Result<Cas, StoreError> {
        let node = node.clone();
        self.ask(move |store| async move { store.renew_core(zone, &node, life, beat).await }).await
    }

    async fn break_core(&self, of: CoreKey, beat: Beat) -> Result<Cas, StoreError> {
        self.ask(move |store| async move { store.break_core(of, beat).await }).await
    }

    async fn failed_over(&self, zone: ZoneId) -> Result<BTreeSet<RegionId>, StoreError> {
        self.ask(move |store| async move { store.failed_over(zone).await }).await
    }

    async fn set_failed_over(
        &self,
        zone: ZoneId,
        region: RegionId,
        failed_over: bool,
    ) -> Result<Cas, StoreError> {
        self.ask(move |store| async move { store.set_failed_over(zone, region, failed_over).await })
            .await
    }

    fn at(&self, region: RegionId) -> Arc<dyn Store> {
        let (store, there, mutation) =
            (self.store.at(region), self.there.clone(), self.mutation.clone());
        Arc::new(Self { region: self.region, store, there, mutation })
    }

    async fn write_fence(&self, shard: ShardId, epoch: Epoch) -> Result<(), StoreError> {
        let (region, mutation) = (self.region, self.mutation.clone());
        self.ask(move |store| async move {
            match mutation {
                Some(mutation) => mutation.write_fence(store, region, shard, epoch).await,
                None => store.write_fence(shard, epoch).await,
            }
        })
        .await
    }

    async fn fence(&self, shard: ShardId) -> Result<Epoch, StoreError> {
        let mutation = self.mutation.clone();
        self.ask(move |store| async move {
            match mutation {
                Some(mutation) => mutation.fence(store, shard).await,
                None => store.fence(shard).await,
            }
        })
        .await
    }

    async fn append(&self, shard: ShardId, at: Position, frame: Bytes) -> Result<(), StoreError> {
        let (region, mutation) = (self.region, self.mutation.clone());
        self.ask(move |store| async move {
            match mutation {
                Some(mutation) => mutation.append(store, region, shard, at, frame).await,
                None => store.append(shard, at, frame).await,
            }
        })
        .await
    }

    async fn read_log(
        &self,
        shard: ShardId,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        let early = self
            .mutation
            .as_ref()
            .and_then(|mutation| mutation.tail(self.region, shard, from, limit));
        if let Some(tail) = early {
            return Ok(tail);
        }
        self.ask(move |store| async move { store.read_log(shard, from, limit).await }).await
    }

    async fn write_mark(
        &self,
        shard: ShardId,
        mark: &Mark,
        at: Position,
    ) -> Result<(), StoreError> {
        let mark = mark.clone();
        self.ask(move |store| async move { store.write_mark(shard, &mark, at).await }).await
    }

    async fn mark(&self, shard: ShardId, mark: &Mark) -> Result<Option<Position>, StoreError> {
        let early =
            self.mutation.as_ref().and_then(|mutation| mutation.mark(self.region, shard, mark));
        if let Some(early) = early {
            return Ok(early);
        }
        let mark = mark.clone();
        self.ask(move |store| async move { store.mark(shard, &mark).await }).await
    }

    async fn project(
        &self,
        shard: ShardId,
        stamp: Position,
        rows: Vec<Row>,
    ) -> Result<(), StoreError> {
        self.ask(move |store| async move { store.project(shard, stamp, rows).await }).await
    }

    async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<LoadedConversation>, StoreError> {
        self.ask(move |store| async move { store.conversation(id).await }).await
    }

    async fn messages(
        &self,
        id: ConversationId,
        from_seq: u64,
        to_seq: u64,
    ) -> Result<Vec<Change>, StoreError> {
        self.ask(move |store| async move { store.messages(id, from_seq, to_seq).await }).await
    }

    async fn placed_changes(
        &self,
        id: ConversationId,
        after_ver: u64,
        limit: usize,
    ) -> Result<Vec<(Position, Change)>, StoreError> {
        self.ask(move |store| async move { store.placed_changes(id, after_ver, limit).await }).await
    }

    async fn dedupe(
        &self,
        id: ConversationId,
        sender: &UserId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<Seen>, StoreError> {
        if self.mutation.as_ref().is_some_and(|mutation| mutation.forgets()) {
            return Ok(None);
        }
        let (sender, client_msg_id) = (sender.clone(), client_msg_id.clone());
        self.ask(move |store| async move { store.dedupe(id, &sender, &client_msg_id).await }).await
    }

    async fn inbox(&self, user_stream: ConversationId) -> Result<Vec<InboxRow>, StoreError> {
        self.ask(move |store| async move { store.inbox(user_stream).await }).await
    }

    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<Option<Heads>>, StoreError> {
        let ids = ids.to_vec();
        self.ask(move |store| async move { store.heads(&ids).await }).await
    }

    async fn conversations(
        &self,
        shard: ShardId,
        after: Option<ConversationId>,
    ) -> Result<ScanPage, StoreError> {
        self.ask(move |store| async move { store.conversations(shard, after).await }).await
    }

    async fn read_cursors(
        &self,
        user: &UserId,
        ids: &[ConversationId],
    ) -> Result<Vec<u64>, StoreError> {
        let (user, ids) = (user.clone(), ids.to_vec());
        self.ask(move |store| async move { store.read_cursors(&user, &ids).await }).await
    }
}
