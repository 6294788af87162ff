//! Loads conversations from the projections, a bounded number at once.

use std::collections::{BTreeMap, btree_map};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use conversation::sequencer::{Conversation, Replayed};
use conversation::shard::Starts;
use futures_util::stream::{FuturesUnordered, StreamExt};
use store::{Store, StoreError};
use tokio::sync::Semaphore;
use wire::{ConversationId, Durability, ShardId};

use super::dedupe_lookup::LookedUp;
use super::relocation::PendingOffer;
use crate::retry::retry_forever;

/// Changes read at once when a conversation is replayed.
const CHANGES_MAX: usize = 1_024;
/// Pause before an unconfirmed conversation is loaded again.
const RELOAD_BACKOFF: Duration = Duration::from_millis(300);

/// A conversation as the store has it.
pub(super) type Loaded = Result<Box<Conversation>, StoreError>;

pub(super) type Fetch = Pin<Box<dyn Future<Output = Fetched> + Send>>;

/// Something read from the store for requests that wait.
pub(super) enum Fetched {
    Conversation {
        id: ConversationId,
        loaded: Loaded,
    },
    /// A conversation that is offered to this shard.
    Offered {
        offer: PendingOffer,
        loaded: Loaded,
    },
    /// A conversation of which it was unconfirmed where it is.
    Reloaded {
        id: ConversationId,
        loaded: Loaded,
    },
    LookedUp(LookedUp),
}

/// What one term reads for its requests.
pub(super) struct Loader {
    store: Arc<dyn Store>,
    shard: ShardId,
    starts: Starts,
    /// One permit a conversation that is being read.
    permits: Arc<Semaphore>,
    under_way: FuturesUnordered<Fetch>,
}

impl Loader {
    pub(super) fn new(
        store: Arc<dyn Store>,
        shard: ShardId,
        starts: Starts,
        at_once: usize,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(at_once));
        Self { store, shard, starts, permits, under_way: FuturesUnordered::new() }
    }

    /// The next thing that was read; none when nothing is under way. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Fetched> {
        self.under_way.next().await
    }

    pub(super) fn push(&self, fetch: Option<Fetch>) {
        if let Some(fetch) = fetch {
            self.under_way.push(fetch);
        }
    }

    pub(super) fn load(&self, id: ConversationId) {
        let read = self.read(id, Duration::ZERO);
        self.push(Some(Box::pin(async move { Fetched::Conversation { id, loaded: read.await } })));
    }

    pub(super) fn load_offered(&self, offer: PendingOffer) {
        let read = self.read(offer.offer.conversation, Duration::ZERO);
        self.push(Some(Box::pin(async move { Fetched::Offered { offer, loaded: read.await } })));
    }

    /// In a while.
    pub(super) fn reload(&self, id: ConversationId) {
        let read = self.read(id, RELOAD_BACKOFF);
        self.push(Some(Box::pin(async move { Fetched::Reloaded { id, loaded: read.await } })));
    }

    fn read(
        &self,
        id: ConversationId,
        after: Duration,
    ) -> impl Future<Output = Loaded> + Send + use<> {
        let (store, permits) = (self.store.clone(), self.permits.clone());
        let (shard, starts) = (self.shard, self.starts.clone());
        async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            // Never closed.
            let _permit = permits.acquire().await;
            read(&store, id, shard, starts).await.map(Box::new)
        }
    }
}

/// Takes no row for true that was lost with a region. `starts`: of `here`, the shard that reads it.
async fn read(
    store: &Arc<dyn Store>,
    id: ConversationId,
    here: ShardId,
    starts: Starts,
) -> Result<Conversation, StoreError> {
    let Some(rows) = retry_forever(|| store.conversation(id)).await? else {
        return Ok(Conversation::empty(id));
    };
    let location = rows.location(id);
    let judge = location.judge();
    // Of one that is elsewhere only where it is matters.
    if id.shard.durability == Durability::MultiRegion || (location.arrived && judge != here) {
        return Ok(Conversation::load(id, rows));
    }
    let mut known = BTreeMap::from([(here, starts)]);
    know(store, &mut known, judge).await?;
    if known.get(&judge).is_some_and(|starts| rows.counts(id, starts)) {
        return Ok(Conversation::load(id, rows));
    }
    metrics::counter!("hearth_conversations_replayed_total").increment(1);
    let mut conversation = Conversation::empty(id);
    loop {
        let after = conversation.head_ver();
        let changes = retry_forever(|| store.placed_changes(id, after, CHANGES_MAX)).await?;
        match conversation.replay(&changes, &known) {
            Replayed::Needs(shard) => know(store, &mut known, shard).await?,
            Replayed::All if changes.len() == CHANGES_MAX => {}
            Replayed::All | Replayed::Cut => {
                tracing::debug!(
                    conversation = %id,
                    head = conversation.head_ver(),
                    "replayed: not all of its rows count"
                );
                return Ok(conversation);
            }
        }
    }
}

async fn know(
    store: &Arc<dyn Store>,
    known: &mut BTreeMap<ShardId, Starts>,
    shard: ShardId,
) -> Result<(), StoreError> {
    if let btree_map::Entry::Vacant(place) = known.entry(shard) {
        place.insert(retry_forever(|| store.lease(shard)).await?.starts);
    }
    Ok(())
}
