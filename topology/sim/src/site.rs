//! Everything that is simulated, and its time: machines, the network between them, the replicas.
//! Each step of [`Site::step`] delivers what is due, lets every machine live for one tick, in an
//! order drawn anew, and collects what they send.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use core_region::Core;
use mesh::Mesh;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use store::Store;
use store::simulated::Simulated;
use topology::World;
use wire::version::Features;
use wire::{NodeId, RegionId};

use crate::datacenters;
use crate::fabric::Fabric;
use crate::machine::Machine;
use crate::mutant::{Mutant, Mutation};
use crate::nodes::{self, Material, Part, Running, Slot};
use crate::timeline;

/// Region of the replicas' machine; no world has a region 0.
const DATACENTERS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 1);

pub struct Site {
    /// Shared material of the nodes.
    pub material: Arc<Material>,
    pub fabric: Fabric,
    pub store: Arc<Simulated>,
    /// What nodes can do that start from now on.
    pub features: Features,
    nodes: BTreeMap<NodeId, Node>,
    clients: BTreeMap<RegionId, Machine>,
    datacenters: Machine,
    tick: Duration,
    now: Duration,
    rng: SmallRng,
    mutation: Option<Arc<Mutation>>,
}

struct Node {
    machine: Machine,
    slot: Slot,
}

impl Site {
    /// The world's machines, powered off except the replicas'.
    ///
    /// # Errors
    /// When keys or runtimes cannot be made.
    pub fn new(
        world: &Arc<World>,
        seed: u64,
        tick: Duration,
        mutant: Option<Mutant>,
    ) -> anyhow::Result<Self> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let ids = world.nodes();
        let mut places = vec![(DATACENTERS.into(), RegionId(0))];
        places.extend(ids.iter().map(|node| (nodes::node_ip(node), node.region)));
        places.extend(world.regions.iter().map(|region| (nodes::clients_ip(region.id), region.id)));
        let (mut fabric, hosts) = Fabric::new(rng.random(), &places, tick);
        let mut machines = places.iter().zip(hosts).map(|((ip, _), host)| (*ip, host));
        let mut machine = |name: String, seed: u64| -> anyhow::Result<Machine> {
            let (ip, host) = machines.next().context("a host for each place")?;
            Ok(Machine::new(name, ip, host, seed))
        };
        let mut datacenters = machine("the store".into(), rng.random())?;
        datacenters.start(&fabric, async {})?;
        let mut nodes = BTreeMap::new();
        for id in ids {
            let machine = machine(id.to_string(), rng.random())?;
            nodes.insert(id, Node { machine, slot: Slot::default() });
        }
        let mut clients = BTreeMap::new();
        for region in &world.regions {
            clients
                .insert(region.id, machine(format!("clients of {}", region.name), rng.random())?);
        }
        spread(world, &mut fabric);
        let store = Arc::new(datacenters::replicas(world, rng.random()));
        let material = Arc::new(Material::gather(Arc::clone(world))?);
        let mutation = mutant.map(|mutant| Mutation::new(mutant, Arc::clone(&store)));
        let (features, now) = (Features::all(), Duration::ZERO);
        Ok(Self {
            material,
            fabric,
            store,
            features,
            nodes,
            clients,
            datacenters,
            tick,
            now,
            rng,
            mutation,
        })
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// One tick of the world.
    pub fn step(&mut self) {
        self.fabric.deliver_until(self.now);
        let clients = self.clients.values_mut();
        let nodes = self.nodes.values_mut().map(|node| &mut node.machine);
        let mut order: Vec<&mut Machine> =
            clients.chain(nodes).chain([&mut self.datacenters]).collect();
        order.shuffle(&mut self.rng);
        for machine in order {
            timeline::enter(&machine.name);
            machine.run(&self.fabric, self.tick);
        }
        timeline::leave();
        self.fabric.collect();
        self.now += self.tick;
    }

    /// Starts a process on a node's machine, unless one runs there.
    ///
    /// # Errors
    /// When the world has no such node, or no runtime can be made.
    pub fn start(&mut self, id: &NodeId) -> anyhow::Result<()> {
        let life = nodes::Life { seed: self.rng.random(), features: self.features.clone() };
        let store = self.store_of(id.region)?;
        let node = self.nodes.get_mut(id).with_context(|| format!("no node {id}"))?;
        if node.machine.is_on() {
            return Ok(());
        }
        self.fabric.set_dark(node.machine.ip, false);
        let main = nodes::main(
            Arc::clone(&self.material),
            id.clone(),
            life,
            store,
            Arc::clone(&node.slot),
        );
        node.machine.start(&self.fabric, main)?;
        Ok(())
    }

    /// Kills the process; `dark`: and its machine.
    pub fn kill(&mut self, id: &NodeId, dark: bool) {
        self.material.set_open(id, false);
        let Some(node) = self.nodes.get_mut(id) else { return };
        if dark {
            self.fabric.set_dark(node.machine.ip, true);
        }
        let running = node.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = &running {
            running.mesh.crash();
        }
        node.machine.kill(&self.fabric);
    }

    /// A node's machine.
    pub fn machine(&mut self, id: &NodeId) -> Option<&mut Machine> {
        self.nodes.get_mut(id).map(|node| &mut node.machine)
    }

    /// The machine of a region's clients.
    pub fn clients(&mut self, region: RegionId) -> Option<&mut Machine> {
        self.clients.get_mut(&region)
    }

    /// Starts the process of a region's clients.
    ///
    /// # Errors
    /// When the world has no such region, or no runtime can be made.
    pub fn start_clients(&mut self, region: RegionId) -> anyhow::Result<()> {
        let machine = self.clients.get_mut(&region).context("a region of the world")?;
        Ok(machine.start(&self.fabric, async {})?)
    }

    /// The running node, once started and while alive.
    #[must_use]
    pub fn running(&self, id: &NodeId) -> Option<MutexGuard<'_, Option<Running>>> {
        let node = self.nodes.get(id).filter(|node| node.machine.is_on())?;
        let slot = node.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.is_some().then_some(slot)
    }

    /// The live nodes.
    pub fn alive(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter().filter(|(_, node)| node.machine.is_on()).map(|(id, _)| id)
    }

    /// The nodes of a region.
    #[must_use]
    pub fn nodes_of(&self, region: RegionId) -> Vec<NodeId> {
        self.nodes.keys().filter(|node| node.region == region).cloned().collect()
    }

    /// The running cores, each with its mesh handle.
    pub fn cores(&self) -> impl Iterator<Item = (&NodeId, Mesh, Core)> {
        let running = self.nodes.iter().filter(|(_, node)| node.machine.is_running());
        running.filter_map(|(id, _)| match self.running(id)?.as_ref()? {
            Running { mesh, part: Part::Core(core) } => Some((id, mesh.clone(), core.clone())),
            Running { part: Part::Edge(_), .. } => None,
        })
    }

    /// The highest number of tasks on one node, and the node.
    #[must_use]
    pub fn most_tasks(&self) -> Option<(usize, &NodeId)> {
        self.nodes.iter().map(|(id, node)| (node.machine.tasks(), id)).max()
    }

    /// A region's view of the replicas, read on the replicas' own machine.
    ///
    /// # Errors
    /// When the replicas do not run.
    pub fn store_of(&self, region: RegionId) -> anyhow::Result<Arc<dyn Store>> {
        let there = self.datacenters.handle().context("the replicas run")?;
        Ok(datacenters::remote(region, self.store.store(region), there, self.mutation.clone()))
    }

    /// Ends all processes before the network below their sockets goes.
    pub fn teardown(mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().cloned().collect();
        for id in ids {
            self.kill(&id, false);
        }
        for machine in self.clients.values_mut().chain([&mut self.datacenters]) {
            machine.kill(&self.fabric);
        }
    }

    /// The runtime for reads of the replicas from outside.
    #[must_use]
    pub fn beside_the_store(&self) -> Option<tokio::runtime::Handle> {
        self.datacenters.handle()
    }
}

/// The distances of the world.
fn spread(world: &World, fabric: &mut Fabric) {
    for a in &world.regions {
        for b in world.regions.iter().filter(|b| b.id != a.id) {
            fabric.change_way(a.id, b.id, |way| {
                way.delay = world.delay(a.id, b.id);
                way.loss = world.loss(a.id, b.id);
            });
        }
    }
}
