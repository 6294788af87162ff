//! What other regions have of class `region`: their logs, as they come over, are projected here again, and a mark says how far
//! ([`Mark::Follower`]; where the shard is served its owner writes it). What was projected where the shard lives may come over before the rows that it was made of, or never; a
//! takeover by this region goes on from the mark, and so from nothing that is not here.
//!
//! Each shard is followed by one core of the region. A row is taken when it was acknowledged, as far as that is known here (R6). One
//! that does not come over for a while is fetched from where the shard is served, and written here: stores that lose what they owe
//! each other are mended so. One that the log has no longer there either, because this region was away for longer than it keeps rows, is
//! made again from the projections there ([`crate::replication::rebuild`]). Whoever leaves a cursor behind a fork goes back to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use conversation::consumer::{Consumer, Then};
use conversation::log::{LogFrame, LogFrameError};
use conversation::rebuild::Gap;
use conversation::shard::{Lease, Starts};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use mesh::Mesh;
use store::{Mark, Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;
use topology::World;
use topology::placement::{self, Live};
use wire::{Durability, NodeId, Position, RegionId, ShardId, Slot};

use crate::clock;
use crate::log::projector::project_frame;
use crate::replication::rebuild::{REBUILD_AFTER, Rebuild};
use crate::status::FollowerStatus;
use crate::tasks::Tasks;

/// Between two looks at a shard of which everything is here.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at how far the shard is where it is served.
const SOURCE_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// A row that is missing for longer is fetched from there.
const FETCH_AFTER: Duration = Duration::from_secs(5);
/// Ownership that are followed at once.
const SHARDS_AT_ONCE: usize = 8;
/// Log rows read at once.
const ROWS_AT_ONCE: usize = 256;
/// Frames projected at once.
const FRAMES_AT_ONCE: usize = 16;

/// A region has everything of a shard before this slot, log and projections, if it is not served there.
pub(crate) async fn followed(
    store: &Arc<dyn Store>,
    shard: ShardId,
    starts: &Starts,
    region: RegionId,
) -> Result<Slot, StoreError> {
    let mark = store.at(region).mark(shard, &Mark::Follower(region)).await?;
    Ok(starts.bound(mark.unwrap_or_default()))
}

/// Everything of a shard before this slot is acknowledged, as far as a region knows.
pub(crate) async fn acknowledged(
    store: &Arc<dyn Store>,
    shard: ShardId,
    starts: &Starts,
    known_in: RegionId,
) -> Result<Slot, StoreError> {
    let mark = store.at(known_in).mark(shard, &Mark::Committed).await?;
    Ok(starts.bound(mark.unwrap_or_default()))
}

/// What a core follows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Followers {
    status: watch::Receiver<Vec<FollowerStatus>>,
}

impl Followers {
    /// Starts to follow.
    pub(crate) fn start(
        node: NodeId,
        world: Arc<World>,
        mesh: Mesh,
        store: Arc<dyn Store>,
        tasks: &Tasks,
    ) -> Self {
        let (status_out, status) = watch::channel(Vec::new());
        tasks.spawn_while_running(
            "followers",
            follow(Follow { node, world, mesh, store }, status_out),
        );
        Self { status }
    }

    /// How far each of them is.
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
    /// As it was read when the last epoch was not known.
    lease: Lease,
    status: FollowerStatus,
    /// What was acknowledged, by the last answer from where it is served.
    told: Option<Position>,
    ask_at: Instant,
    /// A row that is missing for a while is fetched.
    missing_since: Option<Instant>,
    /// The last that was.
    fetched: Option<Slot>,
    /// Of what the log has no longer, from the projections of that region.
    rebuild: Option<(RegionId, Rebuild)>,
}

/// Why it goes no further now.
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
                // What was read is read again.
                Err(stuck) => tracing::debug!(%shard, %stuck, "not followed now"),
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
    /// The shards that this core follows, as it sees its region.
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

    /// Takes what has come over, at most a page. Returns whether there is more.
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
        let asked_ms = clock::wall_ms();
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
        // What this region serves it projects as it goes.
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
        stream::iter(frames)
            .for_each_concurrent(FRAMES_AT_ONCE, |frame| async move {
                project_frame(&self.store, shard, &frame).await;
            })
            .await;
        if reading.cursor() != following.consumer.cursor() {
            self.store
                .write_mark(shard, &Mark::Follower(self.node.region), reading.cursor())
                .await?;
        }
        if told.is_some_and(|told| reading.next_slot() >= following.lease.starts.bound(told)) {
            // What was acknowledged in the last second may not be in the mark yet.
            let as_of_ms = asked_ms.saturating_sub(1_000);
            self.store.write_fresh_as_of(shard, self.node.region, as_of_ms).await?;
        }
        let more = match taken.then {
            Then::Hole(slot) => {
                let since = *following.missing_since.get_or_insert_with(Instant::now);
                let fetched = since.elapsed() >= FETCH_AFTER
                    && self.fetch(shard, &following.lease, slot, committed).await?;
                if !fetched && since.elapsed() >= FETCH_AFTER + REBUILD_AFTER {
                    following.rebuild = self.begin_rebuild(shard, &following.lease, slot).await?;
                }
                // One that was fetched before and is not seen here yet is given time.
                following.rebuild.is_some()
                    || (fetched && following.fetched.replace(slot) != Some(slot))
            }
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

    /// Where the shard is served, and how far it is there. A region that is lost does not say.
    async fn ask(&self, shard: ShardId, following: &mut Following) -> Option<Position> {
        following.ask_at = Instant::now() + SOURCE_POLL_INTERVAL;
        // Asked where it was served before, it would say less than there is.
        following.lease = self.store.lease(shard).await.ok()?;
        let source = following.lease.acting?.region;
        if source == self.node.region {
            return None;
        }
        let told = self.store.at(source).mark(shard, &Mark::Committed).await;
        told.inspect_err(|error| tracing::debug!(%shard, %error, "not known how far the shard is"))
            .ok()
            .flatten()
    }

    /// Brings a page of rows here, from this slot on, that are where the shard is served. They are the same wherever they are:
    /// what is committed is never written otherwise. Returns whether there were any.
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
            tracing::info!(%shard, from = from.0, rows = taken.rows.len(), source = source.0, "fetched what had not come over");
        }
        Ok(!taken.rows.is_empty())
    }

    /// If everything from this slot on to some other is projected where the shard is served.
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

    /// Takes a part of it; returns whether to go on at once. Everything is projected here before the mark goes past it.
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
                // What was taken so far is not taken again.
                Err(not_now) => {
                    tracing::warn!(%shard, %not_now, "what the log has no longer is waited for");
                    waits = true;
                }
            }
        }
        stream::iter(frames)
            .for_each_concurrent(FRAMES_AT_ONCE, |frame| async move {
                project_frame(&self.store, shard, &frame).await;
            })
            .await;
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
