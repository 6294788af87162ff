//! Failover of a region, and failback: operators decide that other regions serve its single-region
//! shards. The decision is a row in the store for each zone. All cores of the zone read it about
//! once a second and place those shards by it ([`topology::placement`]). No acknowledgement depends
//! on when they see it: a shard still changes hands by a claim, and is taken from a lost region
//! only once the timed leases of its cores are broken (R1).
//!
//! A live region is failed over without loss, as by a drain: its cores release their shards in
//! order (R8). Of a lost one, what was not replicated is missing until it returns;
//! [`Failover::estimate`] says beforehand at least how much, and since when.

mod policy;

use std::sync::Arc;
use std::time::Duration;

use conversation::log::LogFrame;
use conversation::shard::Lease;
use mesh::Mesh;
use node::{Tasks, clock};
use store::{Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use topology::World;
use topology::placement::{self, FailedOver, Live};
use wire::{Durability, NodeId, RegionId, ShardId, Slot, ZoneId};

use self::policy::Policy;
use crate::replication::follower::{acknowledged, followed};

/// Between two reads of the decisions.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const SETTLE_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Covers the detection of a loss, the leases, and the takeovers.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A region that lacks at most this many frames of a shard serves it soon after a failback.
const LACKS_MAX: u64 = 256;
/// Log rows read at once.
const ROWS_AT_ONCE: usize = 512;

/// The result of a failover or a failback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverReport {
    /// The zones that were decided for.
    pub zones: Vec<ZoneId>,
    /// Every shard was handed over in order, so nothing can be missing.
    pub planned: bool,
    /// Every single-region shard whose home it is.
    pub shards: Vec<ShardLossEstimate>,
}

/// One shard of a region that is failed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLossEstimate {
    pub shard: ShardId,
    /// The owner of the last term that began.
    pub owner: Option<NodeId>,
    /// Acknowledged frames that were not replicated, at least (R3).
    pub frames_missing_min: u64,
    /// Milliseconds since the last frame was replicated: what was acknowledged since may be
    /// missing, too. None if no frame ever was.
    pub window_ms: Option<u64>,
    /// The same as a time, milliseconds since 1970 by the shard's clock.
    pub since_ms: Option<u64>,
}

/// Why nothing was decided, or not all of it is done yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailoverError {
    /// It has no single-region shard that another region could serve.
    #[error("no other region of this core's zones can serve what lives in region {}: ask a core of a zone that it shares", region.0)]
    NothingToDo { region: RegionId },
    /// It is lost, and these frames may be with it. Nothing was decided.
    #[error("region {} is lost, and what had not come over would be missing until it returns: accept that, or bring it back", region.0)]
    WouldLose { region: RegionId, shards: Vec<ShardLossEstimate> },
    /// It has no live core to take its shards back. Nothing was decided.
    #[error("no core of region {} is alive: bring it back first", region.0)]
    NotBack { region: RegionId },
    /// It still lacks frames from while it was away. Nothing was decided.
    #[error("region {} is still catching up, and goes on with it by itself; ask again later. Frames that it lacks: {}", region.0,
        lacking.iter().map(|(shard, frames)| format!("{frames} of {shard}")).collect::<Vec<_>>().join(", "))]
    NotCaughtUp { region: RegionId, lacking: Vec<(ShardId, u64)> },
    /// The store failed; the decision may have been written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is decided, and goes on by itself; these shards have not changed hands yet.
    #[error("decided, but not all shards have changed hands within {} s: {}", SETTLE_TIMEOUT.as_secs(), waiting.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Unsettled { waiting: Vec<ShardId> },
}

/// The decisions, as one core reads and takes them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Failover {
    node: NodeId,
    world: Arc<World>,
    mesh: Mesh,
    store: Arc<dyn Store>,
    look: Arc<Notify>,
    known: watch::Receiver<FailedOver>,
}

impl Failover {
    pub(crate) fn start(
        node: NodeId,
        world: Arc<World>,
        mesh: Mesh,
        store: Arc<dyn Store>,
        tasks: &Tasks,
    ) -> Self {
        let (known_out, known) = watch::channel(FailedOver::new());
        let look = Arc::<Notify>::default();
        let failover = Self { node, world, mesh, store, look, known };
        tasks.spawn_until_stop("failover", failover.clone().watch(known_out));
        failover
    }

    pub(crate) fn known(&self) -> watch::Receiver<FailedOver> {
        self.known.clone()
    }

    async fn watch(self, known: watch::Sender<FailedOver>) {
        let zones: Vec<ZoneId> = self.zones().collect();
        let mut policy = Policy::default();
        loop {
            let mut now = FailedOver::new();
            for zone in &zones {
                match self.store.failed_over(*zone).await {
                    Ok(regions) => now.extend(regions.into_iter().map(|region| (*zone, region))),
                    Err(error) => {
                        tracing::debug!(%error, zone = zone.0, "failover decisions cannot be read, keeping the last known");
                        now.extend(known.borrow().iter().filter(|(known, _)| known == zone));
                    }
                }
            }
            known.send_if_modified(|before| {
                let changed = *before != now;
                if changed {
                    let regions: Vec<u16> = now.iter().map(|(_, region)| region.0).collect();
                    tracing::info!(?regions, "failed-over regions changed");
                    *before = now;
                }
                changed
            });
            let failed_over = known.borrow().clone();
            policy.look(&self, &failed_over).await;
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = self.look.notified() => {}
            }
        }
    }

    /// Zones in which this core's region and another could serve each other's shards.
    fn zones(&self) -> impl Iterator<Item = ZoneId> + '_ {
        let zones = self.world.zones.iter();
        zones
            .filter(|zone| zone.regions.contains(&self.node.region) && zone.regions.len() > 1)
            .map(|zone| zone.id)
    }

    /// The single-region shards homed in a region, in zones of this core.
    fn shards(&self, region: RegionId) -> Result<Vec<ShardId>, FailoverError> {
        let zones: Vec<ZoneId> = self.zones().collect();
        let homed = self.world.shards_homed_in(region).into_iter();
        let concerned = homed
            .filter(|shard| shard.durability == Durability::Region && zones.contains(&shard.zone));
        let shards: Vec<ShardId> = concerned.collect();
        if shards.is_empty() { Err(FailoverError::NothingToDo { region }) } else { Ok(shards) }
    }

    /// Lets other regions serve the single-region shards of a region, and waits until they do.
    /// Dropped, a decision that was written stands.
    ///
    /// # Errors
    /// Why not. Without `accept_loss` nothing is decided about a region without a live core.
    pub(crate) async fn fail_over(
        &self,
        region: RegionId,
        accept_loss: bool,
    ) -> Result<FailoverReport, FailoverError> {
        let shards = self.shards(region)?;
        let planned = self.is_alive(region);
        let mut outlook = Vec::with_capacity(shards.len());
        for shard in &shards {
            outlook.push(if planned {
                self.nothing_missing(*shard).await?
            } else {
                self.estimate(*shard).await?
            });
        }
        if !planned && !accept_loss {
            return Err(FailoverError::WouldLose { region, shards: outlook });
        }
        let zones = self.decide(&shards, region, true).await?;
        tracing::warn!(region = region.0, planned, "failed over");
        let settled = tokio::select! {
            settled = self.settled(&shards, |acting| acting != region) => settled,
            // Nobody has accepted this loss, and no shard is taken before its leases have run out.
            () = self.lost(region), if planned && !accept_loss => {
                self.decide(&shards, region, false).await?;
                tracing::warn!(region = region.0, "lost during its failover, cancelling it");
                let mut outlook = Vec::with_capacity(shards.len());
                for shard in &shards {
                    outlook.push(self.estimate(*shard).await?);
                }
                return Err(FailoverError::WouldLose { region, shards: outlook });
            }
        };
        let owners = settled?;
        for (shard, owner) in outlook.iter_mut().zip(owners) {
            shard.owner = owner;
        }
        Ok(FailoverReport { zones, planned, shards: outlook })
    }

    /// Resolves when the region has no live core.
    async fn lost(&self, region: RegionId) {
        let mut membership = self.mesh.membership();
        while self.is_alive(region) {
            if membership.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the region has caught up, cancels the failover, and waits until the region
    /// serves its shards again. Dropped as [`Failover::fail_over`].
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn fail_back(
        &self,
        region: RegionId,
    ) -> Result<FailoverReport, FailoverError> {
        let shards = self.shards(region)?;
        if !self.is_alive(region) {
            return Err(FailoverError::NotBack { region });
        }
        self.caught_up(&shards, region).await?;
        let zones = self.decide(&shards, region, false).await?;
        tracing::warn!(region = region.0, "failed back");
        self.settled(&shards, |acting| acting == region).await?;
        let mut outlook = Vec::with_capacity(shards.len());
        for shard in shards {
            outlook.push(self.nothing_missing(shard).await?);
        }
        Ok(FailoverReport { zones, planned: true, shards: outlook })
    }

    /// Waits until the region's followers lack hardly any frames: a claim has to read the rest.
    async fn caught_up(&self, shards: &[ShardId], region: RegionId) -> Result<(), FailoverError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let mut lacking = Vec::new();
            for shard in shards {
                let lacks = self.lacks(*shard, region).await?;
                if lacks > LACKS_MAX {
                    lacking.push((*shard, lacks));
                }
            }
            if lacking.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(FailoverError::NotCaughtUp { region, lacking });
            }
            tokio::time::sleep(SETTLE_POLL_INTERVAL).await;
        }
    }

    /// How many acknowledged frames of a shard a region does not have, or has not projected.
    async fn lacks(&self, shard: ShardId, region: RegionId) -> Result<u64, StoreError> {
        let lease = self.store.lease(shard).await?;
        let Some(acting) =
            lease.acting.map(|acting| acting.region).filter(|acting| *acting != region)
        else {
            return Ok(0);
        };
        let (committed, followed) = tokio::try_join!(
            acknowledged(&self.store, shard, &lease.starts, acting),
            followed(&self.store, shard, &lease.starts, region)
        )?;
        Ok(committed.0.saturating_sub(followed.0))
    }

    async fn decide(
        &self,
        shards: &[ShardId],
        region: RegionId,
        over: bool,
    ) -> Result<Vec<ZoneId>, FailoverError> {
        let mut zones: Vec<ZoneId> = shards.iter().map(|shard| shard.zone).collect();
        zones.dedup();
        for zone in &zones {
            self.store.set_failed_over(*zone, region, over).await?;
        }
        self.look.notify_one();
        Ok(zones)
    }

    /// Waits until the last term of every shard began in such a region. Returns the owners.
    async fn settled(
        &self,
        shards: &[ShardId],
        is_there: impl Fn(RegionId) -> bool,
    ) -> Result<Vec<Option<NodeId>>, FailoverError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let mut owners = Vec::with_capacity(shards.len());
            let mut waiting = Vec::new();
            for shard in shards {
                let lease = self.store.lease(*shard).await;
                let served = lease.is_ok_and(|lease| {
                    owners.push(lease.owner.clone());
                    lease.sealed && lease.acting.is_some_and(|acting| is_there(acting.region))
                });
                if !served {
                    waiting.push(*shard);
                }
            }
            if waiting.is_empty() {
                return Ok(owners);
            }
            if Instant::now() >= deadline {
                return Err(FailoverError::Unsettled { waiting });
            }
            tokio::time::sleep(SETTLE_POLL_INTERVAL).await;
        }
    }

    async fn nothing_missing(&self, shard: ShardId) -> Result<ShardLossEstimate, FailoverError> {
        let owner = self.store.lease(shard).await?.owner;
        Ok(ShardLossEstimate {
            shard,
            owner,
            frames_missing_min: 0,
            window_ms: Some(0),
            since_ms: None,
        })
    }

    /// What would be missing if the first successor with a live core went on from what it has.
    async fn estimate(&self, shard: ShardId) -> Result<ShardLossEstimate, FailoverError> {
        let lost = self.live().with_failed_over(FailedOver::from([(shard.zone, shard.home)]));
        let order = placement::region_order(&self.world, &shard, &lost);
        let successor = order.into_iter().find(|region| lost.of_region(*region).next().is_some());
        let successor = successor.unwrap_or(self.node.region);
        let there = self.store.at(successor);
        let lease = self.store.lease(shard).await?;
        let followed = followed(&self.store, shard, &lease.starts, successor).await?;
        let committed = acknowledged(&self.store, shard, &lease.starts, successor).await?;
        let (end, last_ts_ms) = end(&there, shard, &lease, followed).await?;
        let since_ms = last_ts_ms.max(there.fresh_as_of(shard, successor).await?);
        Ok(ShardLossEstimate {
            shard,
            owner: lease.owner,
            frames_missing_min: committed.0.saturating_sub(end.0),
            window_ms: since_ms.map(|since| clock::unix_ms().saturating_sub(since)),
            since_ms,
        })
    }

    fn is_alive(&self, region: RegionId) -> bool {
        self.live().of_region(region).next().is_some()
    }

    fn live(&self) -> Live {
        let membership = self.mesh.membership();
        let view = membership.borrow();
        Live::new(view.nodes.keys().cloned())
    }
}

/// Where the rows replicated without a hole end, from this slot on, and when the last was ordered.
async fn end(
    store: &Arc<dyn Store>,
    shard: ShardId,
    lease: &Lease,
    from: Slot,
) -> Result<(Slot, Option<u64>), StoreError> {
    // The row before it is read for its time.
    let (mut end, mut last_ts_ms) = (Slot(from.0.saturating_sub(1)), None);
    loop {
        let before = end;
        let rows = store.read_log(shard, end, ROWS_AT_ONCE).await?;
        for row in &rows {
            if row.at.slot == end && lease.starts.owns(row.at) {
                end = end.next();
                last_ts_ms = LogFrame::from_row(row).ok().map(|frame| frame.ts_ms).or(last_ts_ms);
            }
        }
        if rows.len() < ROWS_AT_ONCE || end == before {
            return Ok((end.max(from), last_ts_ms));
        }
    }
}
