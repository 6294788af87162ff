//! Replicates single-region shards served elsewhere: projects their logs here as they are
//! replicated, and records the position that a takeover by this region would resume from
//! ([`Mark::Follower`]; the owner writes the serving region's). The serving region's own
//! projections may be replicated before the log rows that they stem from, or never; a takeover
//! resumes from the mark, and so from nothing that is not here.
//!
//! One core of the region follows each shard. A row is taken when it was acknowledged, as far as
//! that is known here (R6). A row that is missing for a while is fetched from the serving region
//! and written here, which mends stores that lose hints. If the log has been trimmed there, because
//! this region was away for longer, the frames are rebuilt from the projections there
//! ([`super::rebuild`]). A cursor behind a fork goes back to the fork.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use conversation::consumer::{Consumer, Then};
use conversation::log::{LogFrame, LogFrameError};
use conversation::rebuild::Gap;
use conversation::shard::{Lease, Starts};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use mesh::Mesh;
use node::{Tasks, clock};
use store::{Mark, Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;
use topology::World;
use topology::placement::{self, Live};
use wire::{Durability, NodeId, Position, RegionId, ShardId, Slot};

use crate::owner::projector::project_frames;
use crate::replication::rebuild::{REBUILD_AFTER, Rebuild};
use crate::status::FollowerStatus;

/// Between two reads of a shard that is caught up.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two reads of the serving region's committed mark.
const SOURCE_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// A row that is missing for longer is fetched from the serving region.
const FETCH_AFTER: Duration = Duration::from_secs(5);
const SHARDS_AT_ONCE: usize = 8;
const ROWS_AT_ONCE: usize = 256;
const FRAMES_AT_ONCE: usize = 16;

/// The slot before which a region has the whole shard, log and projections, if it is not served
/// there.
pub(crate) async fn followed(
    store: &Arc<dyn Store>,
    shard: ShardId,
    starts: &Starts,
    region: RegionId,
) -> Result<Slot, StoreError> {
    let mark = store.at(region).mark(shard, &Mark::Follower(region)).await?;
    Ok(starts.bound(mark.unwrap_or_default()))
}

/// The slot before which everything is acknowledged, as far as a region knows.
pub(crate) async fn acknowledged(
    store: &Arc<dyn Store>,
    shard: ShardId,
    starts: &Starts,
    known_in: RegionId,
) -> Result<Slot, StoreError> {
    let mark = store.at(known_in).mark(shard, &Mark::Committed).await?;
    Ok(starts.bound(mark.unwrap_or_default()))
}

/// The shards that one core follows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Followers {
    status: watch::Receiver<Vec<FollowerStatus>>,
}

impl Followers {
    pub(crate) fn start(
        node: NodeId,
        world: Arc<World>,
        mesh: Mesh,
        store: Arc<dyn Store>,
        tasks: &Tasks,
    ) -> Self {
        let (status_out, status) = watch::channel(Vec::new());
        tasks
            .spawn_until_stop("followers", follow(Follow { node, world, mesh, store }, status_out));
        Self { status }
    }

    pub(crate) fn status(&self) -> Vec<FollowerStatus> {
        self.status.borrow().clone()
    }
}

struct Follow {
    node: NodeId,
    world: Arc<World>,
    mesh: Mesh,
    store: Arc<dyn Store>,
}

/// One shard.
struct Following {
    consumer: Consumer,
    /// As read when an unknown epoch was met last.
    lease: Lease,
    status: FollowerStatus,
    /// The committed mark that the serving region told last.
    told: Option<Position>,
    ask_at: Instant,
    /// Since when the next row is missing.
    missing_since: Option<Instant>,
    /// The last slot that was fetched.
    fetched: Option<Slot>,
    /// Under way, from the projections of that region.
    rebuild: Option<(RegionId, Rebuild)>,
}

/// Why it cannot go on now.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a row cannot be read: {0}")]
    Row(#[from] LogFrameError),
}

async fn follow(follow: Follow, status: watch::Sender<Vec<FollowerStatus>>) {
    let mut known: HashMap<ShardId, Following> = HashMap::new();
    loop {
        let mine = follow.mine();
        known.retain(|shard, _| mine.contains(shard));
        let steps = mine.into_iter().map(|shard| {
            let following = known.remove(&shard);
            let follow = &follow;
            async move { (shard, follow.step(shard, following).await) }
        });
        let steps: Vec<_> = stream::iter(steps).buffer_unordered(SHARDS_AT_ONCE).collect().await;
        let mut behind = false;
        for (shard, step) in steps {
            match step {
                Ok((following, more)) => {
                    behind |= more;
                    known.insert(shard, following);
                }
                // It begins again from its mark.
                Err(stuck) => tracing::debug!(%shard, %stuck, "cannot follow now, retrying"),
            }
        }
        let mut now: Vec<_> = known.values().map(|following| following.status).collect();
        now.sort_by_key(|status| status.shard);
        status.send_replace(now);
        if !behind {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl Follow {
    /// The shards that this core follows, as it sees the membership.
    fn mine(&self) -> Vec<ShardId> {
        let live = {
            let membership = self.mesh.membership();
            let view = membership.borrow();
            Live::new(view.nodes.keys().cloned())
        };
        let here = self.node.region;
        let shards = self.world.all_shards().into_iter();
        let mine = shards.filter(|shard| {
            shard.durability == Durability::Region
                && self
                    .world
                    .zone(shard.zone)
                    .is_some_and(|zone| zone.regions.len() > 1 && zone.regions.contains(&here))
                && placement::follower(shard, here, &live).as_ref() == Some(&self.node)
        });
        mine.collect()
    }

    /// Takes at most a page of what was replicated. Returns whether there is more.
    async fn step(
        &self,
        shard: ShardId,
        following: Option<Following>,
    ) -> Result<(Following, bool), Stuck> {
        let mut following = match following {
            Some(following) => following,
            None => self.begin(shard).await?,
        };
        let here = self.store.mark(shard, &Mark::Committed).await?;
        let asked_ms = clock::unix_ms();
        let told = if Instant::now() >= following.ask_at {
            self.ask(shard, &mut following).await
        } else {
            None
        };
        following.told = told.or(following.told);
        let Some(committed) = here.max(following.told) else { return Ok((following, false)) };
        if following.lease.starts.last().is_none_or(|(epoch, _)| epoch < committed.epoch) {
            following.lease = self.store.lease(shard).await?;
        }
        // A shard served by this region is projected by its owner.
        if following.lease.acting.is_some_and(|acting| acting.region == self.node.region) {
            following.status = FollowerStatus { serves: true, ..following.status };
            return Ok((following, false));
        }
        if let Some((source, rebuild)) = following.rebuild.take()
            && following.lease.acting.is_some_and(|acting| acting.region == source)
        {
            return self.rebuild(source, rebuild, following).await;
        }
        let rows = self.store.read_log(shard, following.consumer.next_slot(), ROWS_AT_ONCE).await?;
        let mut reading = following.consumer;
        let taken =
            reading.take(&rows, rows.len() < ROWS_AT_ONCE, &following.lease.starts, committed);
        let frames =
            taken.rows.iter().map(|row| LogFrame::from_row(row)).collect::<Result<Vec<_>, _>>()?;
        let last_ts_ms = frames.last().map(|frame| frame.ts_ms);
        let taken_frames = frames.len();
        project_frames(&self.store, shard, &frames).await;
        if reading.cursor() != following.consumer.cursor() {
            self.store
                .write_mark(shard, &Mark::Follower(self.node.region), reading.cursor())
                .await?;
        }
        if told.is_some_and(|told| reading.next_slot() >= following.lease.starts.bound(told)) {
            // The mark may lag behind the acknowledgements of the last second.
            let as_of_ms = asked_ms.saturating_sub(1_000);
            self.store.write_fresh_as_of(shard, self.node.region, as_of_ms).await?;
        }
        let more = match taken.then {
            Then::Hole(slot) => self.on_hole(shard, &mut following, slot, committed).await?,
            Then::ReadOn => taken_frames > 0,
            Then::CaughtUp | Then::StaleStarts(_) => {
                following.missing_since = None;
                false
            }
        };
        following.consumer = reading;
        let next = reading.next_slot().0;
        let committed = following.lease.starts.bound(committed).0.max(next);
        metrics::gauge!("hearth_follower_lag_frames", "shard" => shard.to_string())
            .set((committed - next) as f64);
        following.status = FollowerStatus {
            shard,
            next,
            committed,
            last_ts_ms: last_ts_ms.or(following.status.last_ts_ms),
            serves: false,
        };
        Ok((following, more))
    }

    /// A committed row is missing here. Returns whether to go on at once.
    async fn on_hole(
        &self,
        shard: ShardId,
        following: &mut Following,
        slot: Slot,
        committed: Position,
    ) -> Result<bool, Stuck> {
        let since = *following.missing_since.get_or_insert_with(Instant::now);
        let fetched = since.elapsed() >= FETCH_AFTER
            && self.fetch(shard, &following.lease, slot, committed).await?;
        if !fetched && since.elapsed() >= FETCH_AFTER + REBUILD_AFTER {
            following.rebuild = self.begin_rebuild(shard, &following.lease, slot).await?;
        }
        // A row that was fetched before may take a while to show here.
        let is_new = fetched && following.fetched.replace(slot) != Some(slot);
        Ok(following.rebuild.is_some() || is_new)
    }

    /// Asks the serving region for its committed mark. A lost region does not answer.
    async fn ask(&self, shard: ShardId, following: &mut Following) -> Option<Position> {
        following.ask_at = Instant::now() + SOURCE_POLL_INTERVAL;
        // A region that served it before would tell an older mark.
        following.lease = self.store.lease(shard).await.ok()?;
        let source = following.lease.acting?.region;
        if source == self.node.region {
            return None;
        }
        let told = self.store.at(source).mark(shard, &Mark::Committed).await;
        told.inspect_err(|error| tracing::debug!(%shard, %error, "the serving region does not tell its committed mark"))
            .ok()
            .flatten()
    }

    /// Copies a page of rows from the serving region, from this slot on. Committed rows are the
    /// same everywhere. Returns whether there were any.
    async fn fetch(
        &self,
        shard: ShardId,
        lease: &Lease,
        from: Slot,
        committed: Position,
    ) -> Result<bool, Stuck> {
        let Some(source) = lease.acting.map(|acting| acting.region) else { return Ok(false) };
        let rows = self.store.at(source).read_log(shard, from, ROWS_AT_ONCE).await?;
        let before = from
            .0
            .checked_sub(1)
            .and_then(|slot| lease.starts.owner_of(Slot(slot)))
            .unwrap_or_default();
        let mut reading = Consumer::new(Some(Position { epoch: before, slot: from }));
        let taken = reading.take(&rows, rows.len() < ROWS_AT_ONCE, &lease.starts, committed);
        let writes: Vec<_> = taken
            .rows
            .iter()
            .map(|row| self.store.append(shard, row.at, row.frame.clone()))
            .collect();
        stream::iter(writes).buffer_unordered(FRAMES_AT_ONCE).try_collect::<()>().await?;
        metrics::counter!("hearth_follower_fetched_rows_total").increment(taken.rows.len() as u64);
        if !taken.rows.is_empty() {
            tracing::info!(
                %shard,
                from = from.0,
                rows = taken.rows.len(),
                source = source.0,
                "fetched missing log rows"
            );
        }
        Ok(!taken.rows.is_empty())
    }

    /// Begins a rebuild, if the serving region has projected this slot.
    async fn begin_rebuild(
        &self,
        shard: ShardId,
        lease: &Lease,
        from: Slot,
    ) -> Result<Option<(RegionId, Rebuild)>, StoreError> {
        let Some(source) = lease.acting.map(|acting| acting.region) else { return Ok(None) };
        let store = self.store.at(source);
        let projected = store.mark(shard, &Mark::Checkpoint).await?.unwrap_or_default();
        let until = lease.starts.bound(projected);
        let gap = Gap { shard, starts: lease.starts.clone(), from, until };
        Ok((from < until).then(|| (source, Rebuild::new(store, gap))))
    }

    /// Projects a part of a rebuild; the mark moves past it when all is projected. Returns whether
    /// to go on at once.
    async fn rebuild(
        &self,
        source: RegionId,
        mut rebuild: Rebuild,
        mut following: Following,
    ) -> Result<(Following, bool), Stuck> {
        let shard = following.status.shard;
        let mut frames = Vec::new();
        let (mut is_whole, mut waits) = (false, false);
        while frames.len() < ROWS_AT_ONCE && !is_whole && !waits {
            match rebuild.next().await {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => is_whole = true,
                // What was taken so far is kept.
                Err(not_now) => {
                    tracing::warn!(%shard, %not_now, "rebuild of trimmed log rows waits");
                    waits = true;
                }
            }
        }
        project_frames(&self.store, shard, &frames).await;
        if is_whole {
            following.consumer = Consumer::new(Some(rebuild.end()));
            following.missing_since = None;
            self.store
                .write_mark(shard, &Mark::Follower(self.node.region), following.consumer.cursor())
                .await?;
        } else {
            following.rebuild = Some((source, rebuild));
        }
        Ok((following, !waits))
    }

    async fn begin(&self, shard: ShardId) -> Result<Following, StoreError> {
        let cursor: Option<Position> =
            self.store.mark(shard, &Mark::Follower(self.node.region)).await?;
        let lease = self.store.lease(shard).await?;
        let mut consumer = Consumer::new(cursor);
        consumer.rewind(&lease.starts);
        let next = consumer.next_slot().0;
        let status =
            FollowerStatus { shard, next, committed: next, last_ts_ms: None, serves: false };
        Ok(Following {
            consumer,
            lease,
            status,
            told: None,
            ask_at: Instant::now(),
            missing_since: None,
            fetched: None,
            rebuild: None,
        })
    }
}
