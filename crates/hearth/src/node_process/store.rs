//! A core's store: found, checked, opened; and watched, so that `/readyz` tells the truth about it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::store::scylla::schema::Wrong;
use ::store::scylla::{OpenError, Scylla, ScyllaOptions};
use ::store::{Store, StoreError};
use anyhow::{anyhow, bail};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use topology::World;
use wire::{RegionId, ShardId};

use super::config::CoreConfig;
use super::site::Site;

/// Between two tries to reach a cluster that does not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How often it is asked whether it has its quorums.
const ASK: Duration = Duration::from_secs(2);

/// What a core knows of its store.
#[derive(Default)]
pub(crate) struct Health {
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    opened: bool,
    /// What does not work, by what it concerns; empty: everything answers at its quorum.
    failing: BTreeMap<String, String>,
}

impl Health {
    /// What keeps a core from serving.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let now = self.lock();
        let opening =
            (!now.opened && now.failing.is_empty()).then(|| "store: not asked yet".to_owned());
        let failing = now.failing.iter().map(|(what, why)| format!("store: {what}: {why}"));
        opening.into_iter().chain(failing).collect()
    }

    fn set(&self, what: &str, state: Result<(), String>) {
        let mut now = self.lock();
        match state {
            Ok(()) => {
                if now.failing.remove(what).is_some() {
                    tracing::info!(what, "the store answers again");
                }
            }
            Err(why) => {
                if now.failing.insert(what.to_owned(), why.clone()).is_none() {
                    tracing::warn!(what, why, "the store does not answer");
                }
            }
        }
    }

    fn opened(&self) {
        *self.lock() = Now { opened: true, failing: BTreeMap::new() };
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the cluster is told, from a core's file and its world.
///
/// # Errors
/// When regions and datacenters do not fit together.
pub(crate) fn options(
    config: &CoreConfig,
    world: &World,
    region: RegionId,
) -> anyhow::Result<ScyllaOptions> {
    let (store, file) = (&config.store, config.common.file.display());
    let mut datacenters = Vec::new();
    for (name, datacenter) in &store.datacenters {
        let Some(region) = world.region_by_name(name) else {
            bail!(
                "{file}: [store] datacenters: the world has no region {name:?}: take it out, or write it as the world does"
            );
        };
        datacenters.push((region.id, datacenter.clone()));
    }
    let zoned = world.zones.iter().flat_map(|zone| &zone.regions);
    if let Some(lacking) =
        zoned.chain([&region]).find(|id| !datacenters.iter().any(|(known, _)| known == *id))
    {
        let name = world.region_name(*lacking);
        bail!(
            "{file}: [store] datacenters lacks region {name}: add {name} = \"what the cluster calls its datacenter\""
        );
    }
    let zones = world.zones.iter().map(|zone| (zone.id, zone.regions.clone())).collect();
    Ok(ScyllaOptions {
        copies: store.copies.get(),
        prefix: store.prefix.as_str().into(),
        dialect: store.dialect,
        in_flight_max: store.in_flight_max.get(),
        waiting_max: store.waiting_max.get(),
        ..ScyllaOptions::new(store.contact_points.clone(), region, datacenters, zones)
    })
}

/// Connects, checks and opens. A cluster that does not answer is given the time of the config to
/// come up.
///
/// # Errors
/// When it does not in time, or is not as it must be.
pub(crate) async fn open(
    config: &CoreConfig,
    site: &Site,
    health: &Health,
) -> anyhow::Result<(Scylla, Arc<dyn Store>)> {
    let options = options(config, &site.world, site.node.region)?;
    let until = Instant::now() + Duration::from_secs(config.store.wait_seconds);
    loop {
        match try_to_open(&options, config).await {
            Ok(opened) => {
                health.opened();
                return Ok(opened);
            }
            Err(Refusal::Wrong(error)) => return Err(error),
            Err(Refusal::Silent(error)) if Instant::now() >= until => {
                let (file, points) =
                    (config.common.file.display(), config.store.contact_points.join(", "));
                let waited = config.store.wait_seconds;
                return Err(error.context(format!(
                    "{file}: [store] contact_points {points}: nothing that helps within {waited} s; see that the cluster runs"
                )));
            }
            Err(Refusal::Silent(error)) => {
                health.set("connecting", Err(format!("{error:#}")));
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }
}

/// Why it is not open.
enum Refusal {
    /// Trying again does not help.
    Wrong(anyhow::Error),
    /// It may come.
    Silent(anyhow::Error),
}

async fn try_to_open(
    options: &ScyllaOptions,
    config: &CoreConfig,
) -> Result<(Scylla, Arc<dyn Store>), Refusal> {
    let connection = connect(options).await?;
    let file = config.common.file.display();
    if config.store.check {
        let wrong =
            connection.schema().check().await.map_err(|error| Refusal::Silent(error.into()))?;
        if !wrong.is_empty() {
            return Err(Refusal::Wrong(anyhow!(
                "the store is not as it must be: {}",
                list(&wrong, &file.to_string())
            )));
        }
    }
    let store = connection.store().await.map_err(|error: OpenError| {
        Refusal::Wrong(
            anyhow::Error::from(error)
                .context(format!("hearth admin schema apply --config {file}")),
        )
    })?;
    Ok((connection, store))
}

async fn connect(options: &ScyllaOptions) -> Result<Scylla, Refusal> {
    use ::store::scylla::ConnectError;
    Scylla::connect(options.clone()).await.map_err(|error| match error {
        ConnectError::Unreachable(_) => Refusal::Silent(error.into()),
        ConnectError::NoDatacenter { .. } | ConnectError::BadName { .. } => {
            Refusal::Wrong(error.into())
        }
    })
}

/// Once, for a command.
///
/// # Errors
/// When no server answers, or the options do not fit together.
pub(crate) async fn connect_once(options: &ScyllaOptions) -> anyhow::Result<Scylla> {
    let points = options.contact_points.join(", ");
    connect(options).await.map_err(|refusal| match refusal {
        Refusal::Wrong(error) => error,
        Refusal::Silent(error) => error.context(format!("[store] contact_points {points}")),
    })
}

/// All that is wrong, each with its cure, as one line.
fn list(wrong: &[Wrong], file: &str) -> String {
    // Most of what a new cluster lacks has the same cure.
    let missing = wrong.iter().filter(|wrong| wrong.cure == "apply the schema").count();
    let mut all: Vec<_> = wrong
        .iter()
        .filter(|wrong| wrong.cure != "apply the schema")
        .map(|wrong| format!("{}: {}", wrong.what, wrong.cure))
        .collect();
    if missing > 0 {
        all.insert(
            0,
            format!("{missing} keyspaces or tables are not there: hearth admin schema apply --config {file}"),
        );
    }
    all.join("; also ")
}

/// A shard of each kind that a region is home to, by what people call the kind.
pub(crate) fn kinds(world: &World, region: RegionId) -> BTreeMap<String, ShardId> {
    let mut kinds = BTreeMap::new();
    for shard in world.shards_homed_in(region) {
        let zone = world.zone(shard.zone).map(|zone| zone.name.as_str()).unwrap_or_default();
        kinds.entry(format!("zone {zone}, {}", shard.durability)).or_insert(shard);
    }
    kinds
}

/// Asks the store, now and again, for the fence of a shard of each kind: a read at the quorum that
/// acknowledging takes.
pub(crate) async fn watch(
    store: Arc<dyn Store>,
    kinds: BTreeMap<String, ShardId>,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(ASK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        for (kind, shard) in &kinds {
            let begun = Instant::now();
            let answer: Result<_, StoreError> = store.fence(*shard).await;
            let seconds = begun.elapsed().as_secs_f64();
            metrics::histogram!("hearth_store_quorum_read_seconds", "kind" => kind.clone())
                .record(seconds);
            metrics::gauge!("hearth_store_answers", "kind" => kind.clone())
                .set(f64::from(u8::from(answer.is_ok())));
            health.set(kind, answer.map(drop).map_err(|error| error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests;
