//! How far all regions of its zone have a shard of class `region`, log and projections: what they have, no takeover among them ever
//! cuts off (M5). Where the shard is served that is what is projected there; elsewhere the region's follower has written it down
//! ([`crate::replication::follower`]).

use std::sync::Arc;
use std::time::Duration;

use conversation::shard::Starts;
use futures_util::future::{join_all, try_join_all};
use store::{Mark, Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;
use wire::{Durability, Position, RegionId, ShardId, Slot};

use crate::consumers::Source;
use crate::replication::follower::{acknowledged, followed};
use crate::tasks::Tasks;

/// Between two looks at what others have, while somebody waits for them.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A region that does not have by then what was acknowledged before is not one that follows.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// By then an owner has written down what it has acknowledged ([`Limits::committed_every`](crate::Limits::committed_every)).
const COMMITTED_MARK_DELAY: Duration = Duration::from_secs(1);

/// Known in one term of a shard. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReplicationWatermark {
    /// Of class `multi-region`: nobody, what is projected is everywhere.
    requested: Option<Arc<watch::Sender<Slot>>>,
    watermark: watch::Receiver<Slot>,
}

impl ReplicationWatermark {
    /// `zone`: the shard's regions, `here`, where it is served, among them. Others are looked at only while somebody
    /// [waits](Self::wait_for).
    pub(crate) fn start(
        tasks: &Tasks,
        store: &Arc<dyn Store>,
        source: &Source,
        here: RegionId,
        zone: &[RegionId],
    ) -> Self {
        let others: Vec<RegionId> = zone.iter().copied().filter(|region| *region != here).collect();
        if source.shard.durability == Durability::MultiRegion
            || others.is_empty()
            || here_is_everywhere()
        {
            return Self { requested: None, watermark: source.projected.clone() };
        }
        let (requested, requested_in) = watch::channel(Slot(0));
        let (watermark_out, watermark) = watch::channel(Slot(0));
        let look = Look { store: store.clone(), source: source.clone(), others };
        tasks.spawn("everywhere", look.run(requested_in, watermark_out));
        Self { requested: Some(Arc::new(requested)), watermark }
    }

    /// All regions have everything before this slot.
    pub(crate) fn watermark(&self) -> watch::Receiver<Slot> {
        self.watermark.clone()
    }

    /// Whether all regions have everything before this slot, as far as is known. If not, it will be.
    pub(crate) fn wait_for(&self, slot: Slot) -> bool {
        if let Some(requested) = &self.requested {
            requested.send_if_modified(|requested| {
                let more = slot > *requested;
                *requested = slot.max(*requested);
                more
            });
        }
        *self.watermark.borrow() >= slot
    }
}

/// A fail point.
fn here_is_everywhere() -> bool {
    fail::fail_point!("here-is-everywhere", |_| true);
    false
}

struct Look {
    store: Arc<dyn Store>,
    source: Source,
    others: Vec<RegionId>,
}

impl Look {
    async fn run(self, mut requested: watch::Receiver<Slot>, watermark: watch::Sender<Slot>) {
        loop {
            let known = *watermark.borrow();
            if requested.wait_for(|requested| *requested > known).await.is_err()
                || requested.has_changed().is_err()
            {
                // The term is over.
                return;
            }
            let projected = *self.source.projected.borrow();
            let others =
                min_position(&self.store, self.source.shard, &self.source.starts, &self.others)
                    .await;
            let now = projected.min(others).max(known);
            watermark.send_replace(now);
            if now < *requested.borrow() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }
}

/// All of these regions, none of which serves the shard, have everything before this slot. Of one that does not say nobody knows, so it
/// is the first.
pub(crate) async fn min_position(
    store: &Arc<dyn Store>,
    shard: ShardId,
    starts: &Starts,
    regions: &[RegionId],
) -> Slot {
    let slots =
        join_all(regions.iter().map(|&region| followed(store, shard, starts, region))).await;
    let known = slots.into_iter().map(|slot| {
        slot.unwrap_or_else(|error| {
            tracing::debug!(%error, %shard, "a region does not say how far it has followed");
            Slot(0)
        })
    });
    known.min().unwrap_or(Slot(u64::MAX))
}

/// Whether all regions of its zone have what is acknowledged of a shard by now, or come to have it soon, and go on following it. If
/// not, one of them is lost, cut off, or far behind: also where nothing is said, so that it lacks nothing yet.
pub(crate) async fn all_replicas_caught_up(
    store: &Arc<dyn Store>,
    shard: ShardId,
    zone: &[RegionId],
) -> bool {
    if here_is_everywhere() {
        return true;
    }
    let until = Instant::now() + REPLICATION_TIMEOUT;
    let Ok(lease) = store.lease(shard).await else { return false };
    // One that nobody has served yet is empty.
    let Some(acting) = lease.acting.map(|acting| acting.region) else { return true };
    let others: Vec<RegionId> = zone.iter().copied().filter(|region| *region != acting).collect();
    let Ok(seen) = heartbeats(store, shard, &others).await else { return false };
    tokio::time::sleep(COMMITTED_MARK_DELAY).await;
    let Ok(committed) = acknowledged(store, shard, &lease.starts, acting).await else {
        return false;
    };
    if committed == Slot(0) {
        return true;
    }
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let goes_on = heartbeats(store, shard, &others)
            .await
            .is_ok_and(|now| now.iter().zip(&seen).all(|(now, seen)| now != seen));
        if goes_on && min_position(store, shard, &lease.starts, &others).await >= committed {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
    }
}

/// What each of them has said last: how far it has followed, and every few seconds, if it has everything, since when. Of one that lives
/// the one or the other changes.
async fn heartbeats(
    store: &Arc<dyn Store>,
    shard: ShardId,
    regions: &[RegionId],
) -> Result<Vec<(Option<Position>, Option<u64>)>, StoreError> {
    let heartbeats = regions.iter().map(|&region| {
        let store = store.at(region);
        async move {
            let follower = Mark::Follower(region);
            tokio::try_join!(store.mark(shard, &follower), store.fresh_as_of(shard, region))
        }
    });
    try_join_all(heartbeats).await
}
