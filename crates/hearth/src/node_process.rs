//! `hearth core` and `hearth edge`: one node of a real deployment, alone in its process.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | the file that it is started with |
//! | [`site`] | what that file leads to: the world, the addresses, the certificate |
//! | [`store`] | a core's cluster: found, checked, watched |
//! | [`peers`] | looks the names of the other nodes up, again and again |
//! | [`lifecycle`] | whether it starts, serves, drains or ends |
//! | [`status`] | `/readyz` and `/status` |
//! | [`operator`] | orders of operators |
//! | [`origins`] | the web pages that may use an edge |
//! | [`reload`] | what can change while it runs |
//! | [`trust`] | the keys by which an edge accepts tokens |
//!
//! [`crate::assembly`] puts the node itself together, as it does for `hearth up`. The admin
//! endpoint answers from the first moment, so that a node that waits for its store says so.

pub(crate) mod config;
mod lifecycle;
mod operator;
mod origins;
mod peers;
mod reload;
mod site;
mod status;
pub(crate) mod store;
mod trust;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use mesh::MeshOptions;
use net::{Net, OsNet};
use node::{Addresses, Admin, AdminOptions, Operator as _, Signal, Signals, Steering, Tasks};
use tokio::sync::watch;
use wire::version::Features;

use self::config::{CoreConfig, EdgeConfig, Role};
use self::lifecycle::Lifecycle;
use self::site::Site;
use self::store::Health;
use self::trust::TrustAnchors;
use crate::assembly::{CorePlan, EdgePlan, Node, PartPlan, Plan};

/// Tasks that only look may take so long to end.
const END_WAIT: Duration = Duration::from_secs(1);

/// One core of a real deployment: sequences, persists, feeds
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hearth admin config core > core.toml\n  hearth core --config core.toml\n\nSIGTERM hands its \
                        shards over and ends it; a second one ends it at once. SIGHUP reads its files again."
)]
pub(crate) struct CoreOptions {
    /// The file that says who it is and where everything lies
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// One edge of a real deployment: where clients connect
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hearth admin config edge > edge.toml\n  hearth edge --config edge.toml\n\nSIGTERM sends its \
                        sessions elsewhere and ends it; a second one ends it at once. SIGHUP reads its files again."
)]
pub(crate) struct EdgeOptions {
    /// The file that says who it is and where everything lies
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs until it is asked to end.
///
/// # Errors
/// When it cannot start, or was made to end at once.
pub(crate) fn core(options: &CoreOptions) -> anyhow::Result<()> {
    run(Role::Core(CoreConfig::read(&options.config)?))
}

/// Runs until it is asked to end.
///
/// # Errors
/// When it cannot start, or was made to end at once.
pub(crate) fn edge(options: &EdgeOptions) -> anyhow::Result<()> {
    run(Role::Edge(EdgeConfig::read(&options.config)?))
}

fn run(role: Role) -> anyhow::Result<()> {
    let log = &role.common().log;
    node::telemetry::init(log.format, &log.level);
    node::telemetry::metrics();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(Box::pin(live(role)));
    runtime.shutdown_timeout(END_WAIT);
    outcome
}

/// What runs in this process; cheap to clone.
#[derive(Clone)]
struct Process {
    shared: Arc<Shared>,
}

struct Shared {
    site: Site,
    role: Role,
    addresses: watch::Sender<Arc<Addresses>>,
    /// Not there while it starts.
    node: OnceLock<Node>,
    lifecycle: Lifecycle,
    /// A core's store.
    health: Arc<Health>,
    /// An edge's keys.
    trust: Option<TrustAnchors>,
    tasks: Tasks,
}

async fn live(role: Role) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("signals")?;
    let process = Process::new(role)?;
    let admin = process.admin().await?;
    let started = tokio::select! {
        started = process.start() => Some(started?),
        () = asked_to_stop(&mut signals) => None,
    };
    let Some(connection) = started else { return Ok(()) };
    loop {
        match signals.next().await {
            Signal::Stop => break,
            Signal::Reload => {
                let process = process.clone();
                tokio::task::spawn_blocking(move || process.reload()).await.context("a reload")?;
            }
        }
    }
    tokio::select! {
        () = process.end() => {}
        () = asked_to_stop(&mut signals) => bail!("asked twice to end: ended at once, with nothing handed over"),
    }
    if let Some(connection) = connection {
        connection.close();
    }
    admin.stop(END_WAIT).await;
    tracing::info!("ended in order");
    Ok(())
}

async fn asked_to_stop(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}

impl Process {
    fn node(&self) -> anyhow::Result<&Node> {
        self.shared.node.get().context("the node is still starting")
    }

    /// Reads everything that can be wrong before anything runs.
    fn new(role: Role) -> anyhow::Result<Self> {
        let site = Site::read(role.common(), role.node_role())?;
        let trust = match &role {
            Role::Core(_) => None,
            Role::Edge(config) => Some(TrustAnchors::load(&config.auth, &site)?),
        };
        let addresses = watch::Sender::new(Arc::new(site.addresses()?));
        let (node, tasks) = (OnceLock::new(), Tasks::new("process"));
        let (lifecycle, health) = (Lifecycle::default(), Arc::new(Health::default()));
        let shared = Shared { site, role, addresses, node, lifecycle, health, trust, tasks };
        Ok(Self { shared: Arc::new(shared) })
    }

    async fn admin(&self) -> anyhow::Result<Admin> {
        let config = &self.shared.role.common().admin;
        let bind = config.bind;
        let listener = OsNet
            .listen(bind)
            .await
            .with_context(|| format!("[admin] bind: cannot listen on {bind}"))?;
        let token = config.token_file.as_deref().map(site::secret).transpose()?;
        let steering = Steering { operator: Arc::new(self.clone()), token };
        let (ready, status) = (self.clone(), self.clone());
        let (readiness, status) =
            (Arc::new(move || ready.readiness()), Arc::new(move || status.status()));
        Ok(Admin::start(AdminOptions { listener, readiness, status, steering: Some(steering) })?)
    }

    /// Starts the node. Returns a core's connection to its store.
    async fn start(&self) -> anyhow::Result<Option<::store::scylla::Scylla>> {
        let shared = &self.shared;
        let site = &shared.site;
        let net: Arc<dyn Net> = Arc::new(OsNet);
        let (part, connection) = match &shared.role {
            Role::Core(config) => {
                let (connection, store) = store::open(config, site, &shared.health).await?;
                let kinds = store::kinds(&site.world, site.node.region);
                let health = Arc::clone(&shared.health);
                shared.tasks.spawn(
                    "store",
                    store::watch(store.clone(), kinds, health, shared.tasks.stopping()),
                );
                let limits = config.limits.limits();
                (PartPlan::Core(CorePlan { store, limits }), Some(connection))
            }
            Role::Edge(config) => (PartPlan::Edge(self.edge_plan(config)?), None),
        };
        let bind = site.mesh_bind(&shared.role.common().mesh);
        let mut mesh =
            MeshOptions::new(site.node.clone(), site.identity()?, bind, Arc::clone(&net));
        mesh.features = Features::all_but(&shared.role.common().mesh.withhold_features);
        mesh.advertise = Some(peers::own(&*net, &site.own.mesh, bind).await?);
        let node = Node::start(Plan { world: Arc::clone(&site.world), mesh, part }).await?;
        let follow = peers::follow(
            node.mesh.clone(),
            net,
            bind,
            shared.addresses.subscribe(),
            shared.tasks.stopping(),
        );
        shared.tasks.spawn("peers", follow);
        if shared.node.set(node).is_err() {
            bail!("the node was started twice");
        }
        shared.lifecycle.begin();
        tracing::info!(node = %site.name, id = %site.node, region = %site.region, "started");
        Ok(connection)
    }

    fn edge_plan(&self, config: &EdgeConfig) -> anyhow::Result<EdgePlan> {
        let shared = &self.shared;
        let url = shared.site.own.url.clone().context("an edge of nodes.toml has a url")?;
        let trust = shared.trust.as_ref().context("an edge has keys")?;
        let addresses = shared.addresses.subscribe();
        let (more, known) = (config.edge.origins.clone(), shared.addresses.subscribe());
        Ok(EdgePlan {
            bind: config.edge.bind,
            public_url: url,
            limits: config.limits.limits(),
            origins: Arc::new(move |origin| origins::allows(&more, &known.borrow(), origin)),
            verifier: Arc::new(trust.verifier(&shared.site.world, &shared.site)?),
            edges: Box::new(move |mesh| {
                let membership = mesh.membership();
                Arc::new(move || {
                    let (addresses, living) = (addresses.borrow(), membership.borrow());
                    let open = addresses.edges().filter(|(node, ..)| living.is_serving(node));
                    open.map(|(_, region, url)| (region, url.to_owned())).collect()
                })
            }),
        })
    }

    /// Hands over what it has, within a bound, and ends the node.
    async fn end(&self) {
        let shared = &self.shared;
        let Some(node) = shared.node.get() else { return };
        let bounds = &shared.role.common().shutdown;
        shared.lifecycle.end();
        tracing::info!(within_s = bounds.drain_seconds, "ending: handing over");
        let drain = node.drain(shared.role.spread());
        if tokio::time::timeout(Duration::from_secs(bounds.drain_seconds), drain).await.is_err() {
            tracing::warn!(
                shards = node.serves().len(),
                sessions = node.sessions(),
                "not all was taken over in time"
            );
        }
        shared.tasks.stop(END_WAIT).await;
        node.stop(Duration::from_secs(bounds.stop_seconds)).await;
    }
}

#[cfg(test)]
mod tests;
