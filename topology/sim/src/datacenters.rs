//! The store's side of the world: one replica a region, on a machine of their own, so that what a
//! node has asked for goes on when the node dies or stands still. Nodes hold a [`remote`] handle
//! and wait for answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::dedupe::Seen;
use conversation::log::LogRow;
use conversation::shard::{Cas, FenceMode, Nonce};
use store::simulated::{Simulated, SimulatedOptions, Weather};
use store::{Layer, Layered, Mark, Operation, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use topology::World;
use wire::{ClientMsgId, ConversationId, Epoch, NodeId, Position, RegionId, ShardId, Slot, UserId};

use crate::mutant::Mutation;

/// Empty replicas for all regions of a world, at the world's distances.
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

/// A handle on `store`, the region's, whose operations run on the runtime `there`. With a mutation
/// they do the wrong thing there.
#[must_use]
pub fn remote(
    region: RegionId,
    store: Arc<dyn Store>,
    there: Handle,
    mutation: Option<Arc<Mutation>>,
) -> Arc<dyn Store> {
    let store = match mutation {
        Some(mutation) => Arc::new(Layered(Mutated { region, store, mutation })),
        None => store,
    };
    Arc::new(Layered(Remote { store, there }))
}

/// Runs every operation on another runtime.
struct Remote {
    store: Arc<dyn Store>,
    there: Handle,
}

#[async_trait]
impl Layer for Remote {
    fn below(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn over(&self, store: Arc<dyn Store>) -> Self {
        Self { store, there: self.there.clone() }
    }

    async fn run<T: Send + 'static>(&self, operation: Operation<T>) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.there.spawn(async move {
            // The caller may be gone.
            let _ = answer.send(operation.await);
        });
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Applies the mutation instead of the contract.
struct Mutated {
    region: RegionId,
    store: Arc<dyn Store>,
    mutation: Arc<Mutation>,
}

#[async_trait]
impl Layer for Mutated {
    fn below(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn over(&self, store: Arc<dyn Store>) -> Self {
        Self { region: self.region, store, mutation: Arc::clone(&self.mutation) }
    }

    async fn claim(
        &self,
        shard: ShardId,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Result<Cas, StoreError> {
        self.mutation.claimed(self.region, shard, observed);
        self.store.claim(shard, observed, owner, nonce, fence_mode).await
    }

    async fn seal(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Result<Cas, StoreError> {
        let store = Arc::clone(&self.store);
        self.mutation.seal(store, self.region, shard, epoch, (nonce, start)).await
    }

    async fn write_fence(&self, shard: ShardId, epoch: Epoch) -> Result<(), StoreError> {
        let (store, mutation) = (Arc::clone(&self.store), Arc::clone(&self.mutation));
        mutation.write_fence(store, self.region, shard, epoch).await
    }

    async fn fence(&self, shard: ShardId) -> Result<Epoch, StoreError> {
        self.mutation.fence(Arc::clone(&self.store), shard).await
    }

    async fn append(&self, shard: ShardId, at: Position, frame: Bytes) -> Result<(), StoreError> {
        self.mutation.append(Arc::clone(&self.store), self.region, shard, at, frame).await
    }

    async fn read_log(
        &self,
        shard: ShardId,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        match self.mutation.tail(self.region, shard, from, limit) {
            Some(tail) => Ok(tail),
            None => self.store.read_log(shard, from, limit).await,
        }
    }

    async fn mark(&self, shard: ShardId, mark: &Mark) -> Result<Option<Position>, StoreError> {
        match self.mutation.mark(self.region, shard, mark) {
            Some(early) => Ok(early),
            None => self.store.mark(shard, mark).await,
        }
    }

    async fn dedupe(
        &self,
        id: ConversationId,
        sender: &UserId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<Seen>, StoreError> {
        if self.mutation.forgets() {
            return Ok(None);
        }
        self.store.dedupe(id, sender, client_msg_id).await
    }
}
