//! How far all regions of its zone have a shard of class `region`, log and projections: what they have, no takeover among them ever
//! cuts off (M5). Where the shard is served that is what is projected there; elsewhere the region's follower has written it down
//! ([`crate::followers`]).

use std::sync::Arc;
use std::time::Duration;

use conversation::shard::Starts;
use futures_util::future::{join_all, try_join_all};
use store::{Mark, Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;
use wire::{Durability, Position, RegionId, ShardId, Slot};

use crate::consumers::Source;
use crate::followers::{acknowledged, followed};
use crate::tasks::Tasks;

/// Between two looks at what others have, while somebody waits for them.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A region that does not have by then what was acknowledged before is not one that follows.
const PATIENCE: Duration = Duration::from_secs(10);

/// By then an owner has written down what it has acknowledged ([`Limits::committed_every`](crate::Limits::committed_every)).
const WRITTEN_DOWN: Duration = Duration::from_secs(1);

/// Known in one term of a shard. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Everywhere {
    /// Of class `multi-region`: nobody, what is projected is everywhere.
    wanted: Option<Arc<watch::Sender<Slot>>>,
    reached: watch::Receiver<Slot>,
}

impl Everywhere {
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
            return Self { wanted: None, reached: source.projected.clone() };
        }
        let (wanted, wanted_in) = watch::channel(Slot(0));
        let (reached_out, reached) = watch::channel(Slot(0));
        let look = Look { store: store.clone(), source: source.clone(), others };
        tasks.spawn("everywhere", look.run(wanted_in, reached_out));
        Self { wanted: Some(Arc::new(wanted)), reached }
    }

    /// All regions have everything before this slot.
    pub(crate) fn reached(&self) -> watch::Receiver<Slot> {
        self.reached.clone()
    }

    /// Whether all regions have everything before this slot, as far as is known. If not, it will be.
    pub(crate) fn wait_for(&self, slot: Slot) -> bool {
        if let Some(wanted) = &self.wanted {
            wanted.send_if_modified(|wanted| {
                let more = slot > *wanted;
                *wanted = slot.max(*wanted);
                more
            });
        }
        *self.reached.borrow() >= slot
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
    async fn run(self, mut wanted: watch::Receiver<Slot>, reached: watch::Sender<Slot>) {
        loop {
            let known = *reached.borrow();
            if wanted.wait_for(|wanted| *wanted > known).await.is_err()
                || wanted.has_changed().is_err()
            {
                // The term is over.
                return;
            }
            let projected = *self.source.projected.borrow();
            let others =
                least(&self.store, self.source.shard, &self.source.starts, &self.others).await;
            let now = projected.min(others).max(known);
            reached.send_replace(now);
            if now < *wanted.borrow() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// All of these regions, none of which serves the shard, have everything before this slot. Of one that does not say nobody knows, so it
/// is the first.
pub(crate) async fn least(
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
pub(crate) async fn all_follow(store: &Arc<dyn Store>, shard: ShardId, zone: &[RegionId]) -> bool {
    if here_is_everywhere() {
        return true;
    }
    let until = Instant::now() + PATIENCE;
    let Ok(lease) = store.lease(shard).await else { return false };
    // One that nobody has served yet is empty.
    let Some(acting) = lease.acting.map(|acting| acting.region) else { return true };
    let others: Vec<RegionId> = zone.iter().copied().filter(|region| *region != acting).collect();
    let Ok(seen) = signs(store, shard, &others).await else { return false };
    tokio::time::sleep(WRITTEN_DOWN).await;
    let Ok(committed) = acknowledged(store, shard, &lease.starts, acting).await else {
        return false;
    };
    if committed == Slot(0) {
        return true;
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let goes_on = signs(store, shard, &others)
            .await
            .is_ok_and(|now| now.iter().zip(&seen).all(|(now, seen)| now != seen));
        if goes_on && least(store, shard, &lease.starts, &others).await >= committed {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
    }
}

/// What each of them has said last: how far it has followed, and every few seconds, if it has everything, since when. Of one that lives
/// the one or the other changes.
async fn signs(
    store: &Arc<dyn Store>,
    shard: ShardId,
    regions: &[RegionId],
) -> Result<Vec<[Option<Position>; 2]>, StoreError> {
    let signs = regions.iter().map(|&region| {
        let store = store.at(region);
        async move {
            let (follower, whole) = (Mark::Follower(region), Mark::Whole(region));
            let (followed, whole) =
                tokio::try_join!(store.mark(shard, &follower), store.mark(shard, &whole))?;
            Ok([followed, whole])
        }
    });
    try_join_all(signs).await
}
