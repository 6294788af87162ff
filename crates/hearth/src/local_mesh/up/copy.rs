//! How the regions' copies of the store are, for operators: in `region status`, `/readyz`, metrics.

use std::sync::Arc;
use std::time::Duration;

use store::embedded::{Embedded, RegionState};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use topology::World;
use wire::RegionId;

use crate::api::CopyStatus;

/// How often the metrics are set.
const EVERY: Duration = Duration::from_secs(1);
/// The states of a copy, each a value of a label.
const STATES: [&str; 5] = ["open", "full", "failed", "killed", "closed"];

/// How the copy of a region is.
pub(super) fn status(store: &Embedded, region: RegionId) -> Option<CopyStatus> {
    let health = store.health(region)?;
    let state = match health.state {
        RegionState::Open if health.trouble.is_some() => "full",
        RegionState::Open => "open",
        RegionState::Failed(_) => "failed",
        RegionState::Killed => "killed",
        RegionState::Closed => "closed",
    };
    Some(CopyStatus {
        state: state.to_owned(),
        free_bytes: health.free_bytes,
        reserve_bytes: health.reserve_bytes,
        trouble: health.trouble,
    })
}

/// Sets the metrics, now and again.
pub(super) async fn measure(store: Arc<Embedded>, world: Arc<World>, stop: CancellationToken) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        for region in &world.regions {
            let Some(copy) = status(&store, region.id) else { continue };
            let name = || region.name.clone();
            if let Some(free) = copy.free_bytes {
                metrics::gauge!("hearth_store_free_bytes", "region" => name()).set(free as f64);
            }
            metrics::gauge!("hearth_store_reserve_bytes", "region" => name())
                .set(copy.reserve_bytes as f64);
            for state in STATES {
                let is = f64::from(u8::from(copy.state == state));
                metrics::gauge!("hearth_store_copy", "region" => name(), "state" => state).set(is);
            }
        }
    }
}
