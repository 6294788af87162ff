//! Automatic failover of a lost region, where its zone bounds what may be missing
//! ([`max_rpo`](topology::world::Zone::max_rpo)). One core watches each region: the first, by name,
//! of the first live successor. It fails over a region that it has seen alive and no longer does.
//! If more may be missing than the zone allows, it says so once and leaves it to operators.
//! Failback is always theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use node::clock;
use tokio::time::Instant;
use topology::placement::{self, FailedOver};
use topology::world::Zone;
use wire::{RegionId, ShardId, ZoneId};

use super::{Failover, FailoverError, ShardLossEstimate};

/// A region is away for this long before it counts as lost: gossip flickers.
const LOSS_GRACE: Duration = Duration::from_secs(2);

/// What one core has seen of the regions it watches.
#[derive(Default)]
pub(super) struct Policy {
    seen: BTreeSet<RegionId>,
    losses: BTreeMap<(ZoneId, RegionId), Loss>,
}

struct Loss {
    noticed: Instant,
    noticed_ms: u64,
    /// Decided, or left to operators.
    is_settled: bool,
}

impl Policy {
    /// Decides what is due now. `known`: what is failed over already.
    pub(super) async fn look(&mut self, failover: &Failover, known: &FailedOver) {
        let world = failover.world.clone();
        for zone in world.zones.iter().filter(|zone| zone.regions.contains(&failover.node.region)) {
            let Some(max_rpo) = zone.max_rpo else { continue };
            for region in
                zone.regions.iter().copied().filter(|region| *region != failover.node.region)
            {
                if failover.is_alive(region) {
                    self.seen.insert(region);
                }
                let is_lost = self.seen.contains(&region) && !failover.is_alive(region);
                if !is_lost
                    || known.contains(&(zone.id, region))
                    || !looks_after(failover, zone, region)
                {
                    self.losses.remove(&(zone.id, region));
                    continue;
                }
                let loss = self.losses.entry((zone.id, region)).or_insert_with(|| Loss {
                    noticed: Instant::now(),
                    noticed_ms: clock::unix_ms(),
                    is_settled: false,
                });
                if !loss.is_settled && loss.noticed.elapsed() >= LOSS_GRACE {
                    match decide(failover, zone, region, loss.noticed_ms, max_rpo).await {
                        Ok(()) => loss.is_settled = true,
                        Err(error) => tracing::debug!(%error, region = region.0, "not decided yet"),
                    }
                }
            }
        }
    }
}

/// Whether this core watches the region.
fn looks_after(failover: &Failover, zone: &Zone, region: RegionId) -> bool {
    let live = failover.live();
    let Some(shard) = shards(failover, zone, region).first().copied() else { return false };
    let lost = live.clone().with_failed_over(FailedOver::from([(zone.id, region)]));
    let successor = placement::region_order(&failover.world, &shard, &lost)
        .into_iter()
        .find(|other| live.of_region(*other).next().is_some());
    successor == Some(failover.node.region)
        && live.of_region(failover.node.region).next() == Some(&failover.node)
}

fn shards(failover: &Failover, zone: &Zone, region: RegionId) -> Vec<ShardId> {
    let shards = failover.shards(region).unwrap_or_default();
    shards.into_iter().filter(|shard| shard.zone == zone.id).collect()
}

/// Fails the region over, or leaves it to operators.
async fn decide(
    failover: &Failover,
    zone: &Zone,
    region: RegionId,
    noticed_ms: u64,
    max_rpo: Duration,
) -> Result<(), FailoverError> {
    let shards = shards(failover, zone, region);
    let mut since_ms = Some(noticed_ms);
    for shard in &shards {
        let ShardLossEstimate { since_ms: since, .. } = failover.estimate(*shard).await?;
        since_ms = since_ms.min(since);
    }
    let missing =
        since_ms.map(|since_ms| Duration::from_millis(noticed_ms.saturating_sub(since_ms)));
    if missing.is_some_and(|missing| missing <= max_rpo) {
        failover.decide(&shards, region, true).await?;
        metrics::counter!("hearth_failovers_by_policy_total").increment(1);
        tracing::warn!(
            region = region.0,
            zone = zone.name,
            ?missing,
            ?max_rpo,
            "failed over by the zone's max_rpo_s"
        );
    } else {
        tracing::error!(
            region = region.0,
            zone = zone.name,
            ?missing,
            ?max_rpo,
            "region lost, and more may be missing than max_rpo_s allows: an operator must decide \
             (hearth region failover)"
        );
    }
    Ok(())
}
