//! A world of cores on loopback over one store.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_core_region::{Consumers, Core, CoreOptions, InboxNotifier, Limits, ShardStatus};
use mesh::{Mesh, MeshCa, MeshOptions};
use store::Store;
use store::embedded::{Embedded, EmbeddedOptions};
use store::simulated::{Simulated, SimulatedOptions, Weather};
use topology::World;
use wire::version::{Feature, Features};
use wire::{NodeId, RegionId, ShardId};

use super::edge::Edge;

/// Longest that anything may take in a test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What every core runs, if a test says nothing else.
pub(crate) fn consumers() -> Consumers {
    Consumers::new().with(InboxNotifier::default)
}

/// One region with two cores.
pub(crate) const ONE: &str = r#"
name = "one"
[[region]]
id = 1
name = "here"
lat = 1.0
lon = 1.0
cores = 2
edges = 1
[[zone]]
id = 1
name = "all"
regions = ["here"]
shards = 2
[[tenant]]
name = "demo"
zone = "all"
durability = "region"
[[tenant]]
name = "other"
zone = "all"
durability = "region"
"#;

/// Three regions with a core each, the class given by the tenants.
pub(crate) const THREE: &str = r#"
name = "three"
[[region]]
id = 1
name = "one"
lat = 1.0
lon = 1.0
cores = 1
successors = ["two", "three"]
[[region]]
id = 2
name = "two"
lat = 2.0
lon = 2.0
cores = 1
[[region]]
id = 3
name = "three"
lat = 3.0
lon = 3.0
cores = 1
[[zone]]
id = 1
name = "all"
regions = ["one", "two", "three"]
shards = 1
[[tenant]]
name = "demo"
zone = "all"
durability = "multi-region"
[[tenant]]
name = "local"
zone = "all"
durability = "region"
"#;

/// As [`THREE`], with a second core at home, so that both kinds of takeover happen.
pub(crate) const TWO_AT_HOME: &str = r#"
name = "chaos"
[[region]]
id = 1
name = "one"
lat = 1.0
lon = 1.0
cores = 2
successors = ["two", "three"]
[[region]]
id = 2
name = "two"
lat = 2.0
lon = 2.0
cores = 1
[[region]]
id = 3
name = "three"
lat = 3.0
lon = 3.0
cores = 1
[[zone]]
id = 1
name = "all"
regions = ["one", "two", "three"]
shards = 1
[[tenant]]
name = "demo"
zone = "all"
durability = "multi-region"
"#;
/// Cores, and what they run on.
pub(crate) struct Harness {
    pub(crate) world: Arc<World>,
    ca: MeshCa,
    stores: Stores,
    pub(crate) cores: BTreeMap<NodeId, Running>,
    peers: Vec<(NodeId, SocketAddr)>,
    /// What cores run that start from now on.
    pub(crate) consumers: Consumers,
    /// What mesh nodes can do that start from now on.
    features: Features,
}

/// What the regions keep their data in.
enum Stores {
    Simulated(Arc<Simulated>),
    Embedded(Arc<Embedded>),
}

/// A core and its mesh node.
pub(crate) struct Running {
    pub(crate) core: Core,
    pub(crate) mesh: Mesh,
}

/// Parses a node id.
pub(crate) fn node(text: &str) -> NodeId {
    text.parse().unwrap()
}

impl Harness {
    /// With no core yet.
    pub(crate) fn empty(world: &str) -> Self {
        init_log();
        let world = Arc::new(World::parse(world).unwrap());
        let simulated = Simulated::new(SimulatedOptions {
            seed: 7,
            sync_all: false,
            regions: world.regions.iter().map(|region| region.id).collect(),
            zones: world.zones.iter().map(|zone| (zone.id, zone.regions.clone())).collect(),
            weather: Weather {
                delay: Duration::ZERO..Duration::from_millis(1),
                sync: Duration::from_micros(50)..Duration::from_micros(500),
                ..Weather::calm()
            },
        });
        Self::over(world, Stores::Simulated(Arc::new(simulated)))
    }

    /// With no core yet, over the embedded store in this directory.
    pub(crate) fn on_disk(world: &str, dir: &Path) -> Self {
        init_log();
        let world = Arc::new(World::parse(world).unwrap());
        let regions = world.regions.iter().map(|region| (region.id, region.name.clone())).collect();
        let zones = world.zones.iter().map(|zone| (zone.id, zone.regions.clone())).collect();
        let (embedded, _) = Embedded::open(EmbeddedOptions::new(dir, regions, zones)).unwrap();
        Self::over(world, Stores::Embedded(embedded))
    }

    fn over(world: Arc<World>, stores: Stores) -> Self {
        let (ca, features) = (MeshCa::create().unwrap(), Features::all());
        Self {
            world,
            ca,
            stores,
            cores: BTreeMap::new(),
            peers: Vec::new(),
            consumers: consumers(),
            features,
        }
    }

    /// The sky over a simulated store.
    pub(crate) fn simulated(&self) -> &Simulated {
        match &self.stores {
            Stores::Simulated(simulated) => simulated,
            Stores::Embedded(_) => panic!("there is no sky over the embedded store"),
        }
    }

    /// A region's handle.
    pub(crate) fn store(&self, region: RegionId) -> Arc<dyn Store> {
        match &self.stores {
            Stores::Simulated(simulated) => simulated.store(region),
            Stores::Embedded(embedded) => embedded.store(region),
        }
    }

    /// Starts all cores of the world.
    pub(crate) fn add_all(&mut self) {
        for node in self.world.nodes() {
            if node.role == wire::NodeRole::Core {
                self.add(&node);
            }
        }
    }

    /// With all cores of the world, as soon as every shard has an owner.
    pub(crate) async fn start(world: &str) -> Self {
        let mut site = Self::empty(world);
        site.add_all();
        site.settled().await;
        site
    }

    /// Starts a core.
    pub(crate) fn add(&mut self, node: &NodeId) -> Core {
        let store = self.store(node.region);
        self.add_with(node, store, Limits::default())
    }

    /// Starts a core with a store and bounds of its own.
    pub(crate) fn add_with(
        &mut self,
        node: &NodeId,
        store: Arc<dyn Store>,
        limits: Limits,
    ) -> Core {
        let mesh = self.join(node, true);
        let options = CoreOptions {
            limits,
            ..CoreOptions::new(
                node.clone(),
                self.world.clone(),
                mesh.clone(),
                store,
                self.consumers.clone(),
            )
        };
        let core = Core::start(options);
        self.cores.insert(node.clone(), Running { core: core.clone(), mesh });
        core
    }

    /// An edge of a program that knows no moves.
    pub(crate) fn older_edge(&mut self, node: &NodeId) -> Edge {
        self.edge_with(node, Features::all_but(&[Feature::Moves]))
    }

    /// An edge that can do this.
    pub(crate) fn edge_with(&mut self, node: &NodeId, features: Features) -> Edge {
        let own = std::mem::replace(&mut self.features, features);
        let edge = self.edge(node);
        self.features = own;
        edge
    }

    /// Starts a core that knows no other.
    pub(crate) fn add_alone(&mut self, node: &NodeId) -> Core {
        let mesh = self.join(node, false);
        let store = self.store(node.region);
        let core = Core::start(CoreOptions::new(
            node.clone(),
            self.world.clone(),
            mesh.clone(),
            store,
            self.consumers.clone(),
        ));
        self.cores.insert(node.clone(), Running { core: core.clone(), mesh });
        core
    }

    fn join(&mut self, node: &NodeId, with_peers: bool) -> Mesh {
        let identity = self.ca.issue(node).unwrap();
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut options = MeshOptions::new(node.clone(), identity, bind, Arc::new(net::OsNet));
        options.features = self.features.clone();
        if with_peers {
            options.peers = self.peers.clone();
        }
        let mesh = Mesh::start(options).unwrap();
        if with_peers {
            self.peers.retain(|(known, _)| known != node);
            self.peers.push((node.clone(), mesh.local_addr()));
        }
        mesh
    }

    /// An edge that knows these cores only.
    pub(crate) fn edge_to(&mut self, node: &NodeId, cores: &[&NodeId]) -> Edge {
        let mesh = self.join(node, false);
        for core in cores {
            mesh.add_peer(core, self.cores[*core].mesh.local_addr());
        }
        Edge::new(self.world.clone(), mesh)
    }

    /// An edge.
    pub(crate) fn edge(&mut self, node: &NodeId) -> Edge {
        let mesh = self.join(node, true);
        Edge::new(self.world.clone(), mesh)
    }

    /// Kills a core and its mesh node where they stand.
    pub(crate) fn kill(&mut self, node: &NodeId) {
        if let Some(running) = self.cores.remove(node) {
            running.mesh.crash();
        }
        self.peers.retain(|(known, _)| known != node);
    }

    /// Who serves the shard.
    pub(crate) fn owners(&self, shard: &ShardId) -> Vec<NodeId> {
        let serves = |running: &Running| {
            running.core.status().serving().any(|serving| serving.shard == *shard)
        };
        self.cores
            .iter()
            .filter(|(_, running)| serves(running))
            .map(|(node, _)| node.clone())
            .collect()
    }

    /// Waits until exactly one core serves the shard.
    pub(crate) async fn owner(&self, shard: &ShardId) -> NodeId {
        eventually("one owner", || match &self.owners(shard)[..] {
            [owner] => Some(owner.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until every shard that somebody alive may serve has one owner.
    pub(crate) async fn settled(&self) {
        eventually("an owner of every shard", || {
            let served = self.world.all_shards().iter().all(|shard| {
                let orphan = shard.durability == wire::Durability::Region
                    && !self.cores.keys().any(|node| node.region == shard.home);
                orphan || self.owners(shard).len() == 1
            });
            served.then_some(())
        })
        .await;
    }

    /// How the shard stands on a core.
    pub(crate) fn status(&self, node: &NodeId, shard: &ShardId) -> ShardStatus {
        let status = self.cores[node].core.status();
        status.shards.into_iter().find(|status| status.shard == *shard).unwrap()
    }

    /// The shard of the home region's class that the world offers, with this number.
    pub(crate) fn shard(&self, home: u16, n: u16) -> ShardId {
        let shards = self.world.shards_homed_in(RegionId(home));
        *shards.iter().rfind(|shard| shard.n == n).unwrap()
    }
}

/// Polls until there is something, within the deadline.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn init_log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // The first test of the process sets it.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
