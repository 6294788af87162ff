//! Replication watermark of a single-region shard: the slot up to which every region of the zone
//! has the log and its projections. No takeover can lose anything below it (M5). The serving region
//! counts by what it has projected, each other one by the mark of its [`super::follower`].

use std::sync::Arc;
use std::time::Duration;

use conversation::shard::Starts;
use futures_util::future::{join_all, try_join_all};
use node::Tasks;
use store::{Mark, Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;
use wire::{Durability, Position, RegionId, ShardId, Slot};

use crate::feed::log_tail::CommittedLog;
use crate::owner::projector::Projected;
use crate::replication::follower::{acknowledged, followed};

/// Between two reads of the followers' marks, while somebody waits.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A region that lacks by then what was acknowledged before does not follow.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// By then an owner has written its committed mark
/// ([`Limits::committed_every`](crate::Limits::committed_every)).
const COMMITTED_MARK_DELAY: Duration = Duration::from_secs(1);

/// The watermark as one term of a shard knows it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReplicationWatermark {
    /// None for multi-region durability: what is projected is everywhere.
    requested: Option<Arc<watch::Sender<Slot>>>,
    watermark: watch::Receiver<Slot>,
    projected: Projected,
}

impl ReplicationWatermark {
    /// `zone`: all regions of the shard. The other regions' marks are read only while somebody
    /// [waits](Self::wait_for).
    pub(crate) fn start(
        tasks: &Tasks,
        log: &CommittedLog,
        here: RegionId,
        zone: &[RegionId],
    ) -> Self {
        let others: Vec<RegionId> = zone.iter().copied().filter(|region| *region != here).collect();
        if log.shard.durability == Durability::MultiRegion
            || others.is_empty()
            || here_is_everywhere()
        {
            let (watermark, projected) = (log.projected.watch(), log.projected.clone());
            return Self { requested: None, watermark, projected };
        }
        let (requested, requested_in) = watch::channel(Slot(0));
        let (watermark_out, watermark) = watch::channel(Slot(0));
        let poll = Poll { log: log.clone(), others };
        tasks.spawn("watermark", poll.run(requested_in, watermark_out));
        let projected = log.projected.clone();
        Self { requested: Some(Arc::new(requested)), watermark, projected }
    }

    pub(crate) fn watermark(&self) -> watch::Receiver<Slot> {
        self.watermark.clone()
    }

    /// Whether the watermark has reached this slot. If not, it is driven there.
    pub(crate) fn wait_for(&self, slot: Slot) -> bool {
        self.projected.want(slot);
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

struct Poll {
    log: CommittedLog,
    others: Vec<RegionId>,
}

impl Poll {
    async fn run(self, mut requested: watch::Receiver<Slot>, watermark: watch::Sender<Slot>) {
        loop {
            let known = *watermark.borrow();
            if requested.wait_for(|requested| *requested > known).await.is_err()
                || requested.has_changed().is_err()
            {
                // The term is over.
                return;
            }
            let projected = self.log.projected.slot();
            let others =
                min_position(&self.log.store, self.log.shard, &self.log.starts, &self.others).await;
            let now = projected.min(others).max(known);
            watermark.send_replace(now);
            if now < *requested.borrow() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }
}

/// The lowest position of these followers. A region whose mark cannot be read counts as 0.
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
            tracing::debug!(%error, %shard, "the follower mark of a region cannot be read");
            Slot(0)
        })
    });
    known.min().unwrap_or(Slot(u64::MAX))
}

/// Whether all regions of its zone have, within a bound, what is acknowledged of a shard by now,
/// and go on following it. If not, one of them is lost, cut off, or far behind. An idle shard lacks
/// nothing, so a follower must show too that it is alive.
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
    // A shard that nobody has served yet is empty.
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

/// Each follower's latest marks: its position, and when it was last fully caught up. While a
/// follower is alive, at least one of them advances.
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
