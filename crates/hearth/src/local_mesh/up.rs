//! `hearth up`: the whole mesh on this machine, on the embedded store, over real QUIC and real
//! sockets on loopback.
//!
//! Every node of the world runs in a runtime of its own ([`node`]), so that killing a node or a
//! region ([`region`]) drops its tasks and sockets where they stand, as the death of a process
//! would; what they share is [`material`]. The other commands reach it through [`control`] and find
//! it by what [`data`] keeps.

mod control;
mod copy;
mod data;
mod greeting;
mod material;
mod node;
mod region;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::node::admin::Readiness;
use ::node::{Signals, Tasks};
use anyhow::{Context as _, bail};
use net::Net as _;
use store::embedded::{Finding, OpenReport};
use wire::{NodeId, NodeRole};

use self::data::Data;
use self::material::{How, Material};
use self::region::Region;
use crate::assembly::panic_trouble;
use crate::limits::UpLimits;
use crate::local_mesh::discovery::{DataDir, LocalMesh, LocalRegion, LocalTenant, Ready};
use crate::out;

/// How long the shards may take to find their owners at the start.
const SERVING_WAIT: Duration = Duration::from_secs(60);

/// The whole mesh on this machine, on the embedded store
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hearth up\n  hearth up --world six-regions --data /tmp/six --wan\n\nCtrl-C ends it in \
                        order. After anything worse, start it again: it goes on from the same data."
)]
pub(crate) struct Options {
    /// A world file, or the name of a world that comes with hearth: three-regions, six-regions,
    /// one-region [default: what the data folder was started with, else three-regions]
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    #[command(flatten)]
    data: DataDir,
    /// Give the links between regions, and the store replicas behind them, the delay that the world
    /// says
    #[arg(long)]
    wan: bool,
    /// Start although acknowledged records in this region's replica are destroyed and nobody else
    /// has them
    #[arg(long, value_name = "REGION")]
    accept_loss: Vec<String>,
    /// Bounds of the edges and cores: a TOML file with sections [edge] and [core], whose fields are
    /// those of [limits] in `hearth admin config edge` and `hearth admin config core`; and [store],
    /// with reserve_bytes: what is kept free on the disk
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// Print one JSON line when ready, and nothing else on stdout
    #[arg(long)]
    json: bool,
}

/// The mesh that runs.
struct LocalWorld {
    material: Arc<Material>,
    regions: Vec<Arc<Region>>,
}

/// Runs until Ctrl-C, SIGTERM, or the end of its terminal.
///
/// # Errors
/// When it cannot start.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let control =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // Before anything is touched. From here on a signal ends it in order, also while it starts.
    let mut signals = control.block_on(async { Signals::listen() }).context("signals")?;
    ::node::telemetry::init(
        ::node::telemetry::LogFormat::Text,
        if options.json { "warn" } else { "error" },
    );
    ::node::telemetry::metrics();
    let data = Data::open(&options.data.path()?)?;
    let world = data.world(options.world.as_deref())?;
    let world_dir =
        options.world.as_deref().and_then(Path::parent).unwrap_or(data.dir()).to_owned();
    let ports = control.block_on(data.ports(&world))?;
    let limits = options.limits.as_deref().map(UpLimits::read).transpose()?.unwrap_or_default();
    let how =
        How { limits, world_dir: &world_dir, wan: options.wan, accept_loss: &options.accept_loss };
    let (material, report) = Material::gather(&data, world, ports, &how)?;
    say_what_was_found(&report);
    let mesh = Arc::new(LocalWorld::new(material));
    let started = mesh.regions.iter().try_for_each(|region| region.start());
    let outcome = match started {
        Ok(()) => control.block_on(serve(&mesh, &data, &options, &mut signals)),
        Err(error) => Err(error),
    };
    let stopped = control.block_on(mesh.stop());
    control.shutdown_timeout(Duration::from_secs(1));
    mesh.material.store.close();
    outcome.and(stopped)
}

/// Tells what was not as it should be; that a replica is new is no news.
fn say_what_was_found(report: &OpenReport) {
    for region in &report.regions {
        for finding in region.findings.iter().filter(|finding| **finding != Finding::Created) {
            out::note(format_args!("{}: {finding}", region.name));
        }
    }
}

/// From the start of its nodes to the signal that ends it.
async fn serve(
    mesh: &Arc<LocalWorld>,
    data: &Data,
    options: &Options,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let tasks = Tasks::new("up");
    let sockets = net::OsNet;
    let bind = mesh.material.ports.control();
    let listener =
        sockets.listen(bind).await.with_context(|| format!("cannot listen on {bind}"))?;
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let token = format!("{:032x}", u128::from_be_bytes(secret));
    let router = control::router(Arc::clone(mesh), token.clone());
    tasks.spawn("control", ::node::admin::serve(listener, router, tasks.stopping()));
    let (store, world) = (Arc::clone(&mesh.material.store), Arc::clone(&mesh.material.world));
    tasks.spawn("copies", copy::measure(store, world, tasks.stopping()));
    for region in &mesh.regions {
        let bind = mesh.material.ports.admin(&region.about.name);
        let listener =
            sockets.listen(bind).await.with_context(|| format!("cannot listen on {bind}"))?;
        let (asked, supervised) = (Arc::clone(region), tasks.clone());
        let readiness = Arc::new(move || {
            let mut troubles = asked.troubles();
            troubles.extend(supervised.panicked().into_iter().map(panic_trouble));
            Readiness::unless(troubles)
        });
        let asked = Arc::clone(region);
        let status = Arc::new(move || serde_json::json!(asked.status()));
        ::node::Admin::start(::node::AdminOptions { listener, readiness, status, steering: None })?;
    }
    tokio::select! {
        served = mesh.wait_until_served() => served?,
        _ = signals.next() => return Ok(()),
    }
    let local = LocalMesh {
        pid: std::process::id(),
        control: format!("http://{bind}"),
        control_token: token,
        regions: mesh.regions.iter().map(|region| region.about.clone()).collect(),
        tenants: mesh.tenants(),
    };
    local
        .publish(data.dir())
        .with_context(|| format!("cannot write into {}", data.dir().display()))?;
    if options.json {
        out::json(&ready(&local))?;
    } else {
        greeting::print(mesh, &local, data.dir(), options.wan)?;
    }
    signals.next().await;
    if !options.json {
        out::note("ending: sessions leave, shards are written to their end");
    }
    local.retract(data.dir())?;
    tasks.begin_stop();
    Ok(())
}

fn ready(local: &LocalMesh) -> Ready {
    Ready {
        ready: true,
        tenant: local.tenants.first().map(|tenant| tenant.name.clone()).unwrap_or_default(),
        tenants: local.tenants.clone(),
        regions: local.regions.clone(),
    }
}

impl LocalWorld {
    fn new(material: Material) -> Self {
        let material = Arc::new(material);
        let world = Arc::clone(&material.world);
        let regions = world.regions.iter().map(|region| {
            let edges: Vec<_> = region.nodes().filter(|node| node.role == NodeRole::Edge).collect();
            let edges: Vec<_> = edges.iter().map(|edge| material.edge_url(edge)).collect();
            let about = LocalRegion {
                name: region.name.clone(),
                zones: world.zones_of(region.id).map(|zone| zone.name.clone()).collect(),
                edge: edges.first().cloned().unwrap_or_default(),
                edges,
                admin: format!("http://{}", material.ports.admin(&region.name)),
            };
            Arc::new(Region::new(&material, region.id, about))
        });
        let regions = regions.collect();
        Self { material, regions }
    }

    /// Ends all nodes in order: the edges of all regions first, because any core may owe them an
    /// answer.
    async fn stop(&self) -> anyhow::Result<()> {
        for region in &self.regions {
            region.forget();
        }
        let edges = self.regions.iter().map(|region| region.stop_edges());
        futures_util::future::try_join_all(edges).await?;
        let all = self.regions.iter().map(|region| region.stop());
        futures_util::future::try_join_all(all).await.map(drop)
    }

    fn region(&self, name: &str) -> anyhow::Result<Arc<Region>> {
        match self.regions.iter().find(|region| region.about.name == name) {
            Some(region) => Ok(Arc::clone(region)),
            None => {
                let known: Vec<_> =
                    self.regions.iter().map(|region| region.about.name.as_str()).collect();
                bail!("no region {name:?}; this mesh has: {}", known.join(", "))
            }
        }
    }

    fn region_of(&self, node: &NodeId) -> anyhow::Result<Arc<Region>> {
        let nodes = self.material.world.nodes();
        let known = || nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let found =
            self.regions.iter().find(|region| region.id == node.region && nodes.contains(node));
        found.cloned().with_context(|| format!("no node {node}; this mesh has: {}", known()))
    }

    fn tenants(&self) -> Vec<LocalTenant> {
        let world = &self.material.world;
        let tenants = world.tenants.iter().map(|tenant| LocalTenant {
            name: tenant.id.to_string(),
            zone: world.zone(tenant.zone).map(|zone| zone.name.clone()).unwrap_or_default(),
            durability: tenant.durability,
        });
        tenants.collect()
    }

    /// Until every shard of the world has an owner.
    async fn wait_until_served(&self) -> anyhow::Result<()> {
        let wanted = self.material.world.all_shards().len();
        let begun = Instant::now();
        loop {
            let served: usize =
                self.regions.iter().map(|region| region.status().shards.len()).sum();
            if served >= wanted {
                return Ok(());
            }
            if begun.elapsed() > SERVING_WAIT {
                bail!(
                    "only {served} of {wanted} shards found an owner within {} s",
                    SERVING_WAIT.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
