//! Renews the timed lease of this process in every zone: one task a zone, beside the shards. The
//! terms that acknowledge by it read it here. The rules are [`Renewal`]'s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use conversation::shard::renewal::{Broken, Hold, Renew, Renewed};
use conversation::shard::{Incarnation, Nonce, Renewal, Timing};
use node::Tasks;
use store::{CoreKey, Store, StoreError};
use tokio::sync::watch;
use topology::World;
use wire::{NodeId, ZoneId};

use crate::clock;

/// Pause after an operation with an unknown outcome.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimedLease {
    /// Registered, and not known to be broken.
    pub(crate) incarnation: Option<Incarnation>,
    /// Until when it may acknowledge.
    pub(crate) hold: Option<Hold>,
}

/// The timed leases of this process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct LeaseRenewers {
    zones: Arc<HashMap<ZoneId, watch::Receiver<TimedLease>>>,
}

impl LeaseRenewers {
    /// Starts an incarnation in every zone of the node's region that another region could take
    /// shards over in.
    pub(crate) fn start(
        world: &World,
        node: &NodeId,
        store: &Arc<dyn Store>,
        timing: Timing,
        tasks: &Tasks,
    ) -> Self {
        let zones = world
            .zones
            .iter()
            .filter(|zone| zone.regions.contains(&node.region) && zone.regions.len() > 1);
        let zones = zones.map(|zone| {
            let (held_out, held) = watch::channel(TimedLease::default());
            let renewer = LeaseRenewer {
                zone: zone.id,
                node: node.clone(),
                store: store.clone(),
                timing,
                held: held_out,
            };
            tasks.spawn("lease", renewer.run());
            (zone.id, held)
        });
        Self { zones: Arc::new(zones.collect()) }
    }

    /// The lease in a zone; none where none is kept.
    pub(crate) fn of(&self, zone: ZoneId) -> Option<watch::Receiver<TimedLease>> {
        self.zones.get(&zone).cloned()
    }
}

struct LeaseRenewer {
    zone: ZoneId,
    node: NodeId,
    store: Arc<dyn Store>,
    timing: Timing,
    held: watch::Sender<TimedLease>,
}

impl LeaseRenewer {
    /// Registers a lease and renews it until it breaks, then starts a new incarnation. Ends when no
    /// shard needs one.
    async fn run(self) {
        let unused = self.held.clone();
        tokio::select! {
            () = unused.closed() => {}
            () = self.live_on() => {}
        }
    }

    async fn live_on(self) {
        loop {
            let incarnation = Nonce(rand::random());
            let broken = self.live(incarnation).await;
            self.held.send_replace(TimedLease::default());
            metrics::counter!("hearth_leases_broken_total").increment(1);
            tracing::warn!(
                zone = self.zone.0,
                %broken,
                "timed lease broken, registering a new one"
            );
        }
    }

    async fn live(&self, incarnation: Nonce) -> Broken {
        let mut renewal = Renewal::new(incarnation, self.timing);
        loop {
            let next = match renewal.next(clock::now()) {
                Ok(next) => next,
                Err(broken) => return broken,
            };
            let renewed = match next {
                Renew::Wait { until } => {
                    clock::until(until).await;
                    continue;
                }
                step => self.perform(step).await.unwrap_or_else(|error| {
                    tracing::debug!(%error, zone = self.zone.0, "timed lease: outcome unknown, retrying");
                    Renewed::Unknown
                }),
            };
            let unknown = renewed == Renewed::Unknown;
            if let Err(broken) = renewal.on(renewed) {
                return broken;
            }
            let incarnation = renewal
                .is_registered()
                .then_some(Incarnation { nonce: incarnation, timing: self.timing });
            let held = TimedLease { incarnation, hold: renewal.hold() };
            self.held.send_if_modified(|before| std::mem::replace(before, held) != held);
            if unknown {
                tokio::time::sleep(RETRY_BACKOFF).await;
            }
        }
    }

    async fn perform(&self, step: Renew) -> Result<Renewed, StoreError> {
        let Self { zone, node, store, .. } = self;
        Ok(match step {
            Renew::Register { incarnation } => {
                Renewed::Cas(store.register_core(*zone, node, incarnation).await?)
            }
            Renew::Beat { incarnation, from } => {
                Renewed::Cas(store.renew_core(*zone, node, incarnation, from).await?)
            }
            Renew::Read { incarnation } => Renewed::Row(
                store.core_lease(CoreKey { zone: *zone, region: node.region, incarnation }).await?,
            ),
            Renew::Wait { .. } => Renewed::Unknown,
        })
    }
}
