//! Injects faults into a [`Site`], and removes them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use store::simulated::{Crash, Trouble};
use tokio::sync::watch;
use topology::World;
use wire::version::Features;
use wire::{NodeId, RegionId};

use crate::fault::{Fault, Ways, What};
use crate::nodes::Part;
use crate::site::Site;

/// Sessions of a draining edge are asked to leave over this time.
const DRAIN_WINDOW: Duration = Duration::from_secs(2);
/// Time for an orderly stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// An unfinished order is repeated after this, to the next core.
const ORDER_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Between a node's start and the next one's stop in a rolling restart.
const RESTART_GRACE: Duration = Duration::from_secs(2);

/// State of the faults in progress.
pub struct Injector {
    flaps: BTreeMap<RegionId, watch::Sender<Option<u64>>>,
    troubles: BTreeMap<RegionId, Trouble>,
    /// Cuts of the same way may overlap; the last one to end heals it.
    mesh_cuts: BTreeMap<(RegionId, RegionId), u32>,
    store_cuts: BTreeMap<(RegionId, RegionId), u32>,
    rolling: Option<Rolling>,
    orders: Vec<Order>,
}

/// About a region that is failed over, or back.
struct Order {
    region: RegionId,
    is_over: bool,
    due: Duration,
    given: usize,
    is_done: Arc<AtomicBool>,
}

struct Rolling {
    left: VecDeque<NodeId>,
    now: Option<(NodeId, Stage)>,
}

enum Stage {
    Stopping { since: Duration, is_done: Arc<AtomicBool> },
    Started { since: Duration },
}

impl Injector {
    /// For the clients of these regions.
    #[must_use]
    pub fn new(flaps: BTreeMap<RegionId, watch::Sender<Option<u64>>>) -> Self {
        let (mesh_cuts, store_cuts) = (BTreeMap::new(), BTreeMap::new());
        Self {
            flaps,
            troubles: BTreeMap::new(),
            mesh_cuts,
            store_cuts,
            rolling: None,
            orders: Vec::new(),
        }
    }

    /// Begins a fault.
    ///
    /// # Errors
    /// When the fault names a node or region that the world lacks.
    pub fn begin(&mut self, site: &mut Site, fault: &Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill { node } => site.kill(node, false),
            Fault::PowerLoss { node } => site.kill(node, true),
            Fault::Pause { node } => pause(site, node, true),
            Fault::Clock { node, rate, jump_ms } => {
                if let Some(machine) = site.machine(node) {
                    machine.set_clock(*rate, *jump_ms);
                }
            }
            Fault::Drain { node } => drain(site, std::slice::from_ref(node)),
            Fault::DrainRegion { region } => drain(site, &site.nodes_of(*region)),
            Fault::LoseRegion { region } => {
                for node in site.nodes_of(*region) {
                    site.kill(&node, false);
                }
                site.store.crash(*region, Crash::Process);
            }
            Fault::FailOver { region } => self.order(site, *region, true),
            Fault::Cut { a, b, ways, what } => {
                for way in directions(*a, *b, *ways) {
                    self.cut(site, way, *what, true);
                }
            }
            Fault::Loss { a, b, share } => both(site, *a, *b, |way, _| way.loss = *share),
            Fault::Delay { a, b, extra_ms } => {
                delay(site, *a, *b, Duration::from_millis(*extra_ms))
            }
            Fault::ReplicaDown { region, power_loss } => {
                site.store
                    .crash(*region, if *power_loss { Crash::Machine } else { Crash::Process });
            }
            Fault::SlowDisk { .. } | Fault::LateWrites { .. } | Fault::Diverge { .. } => {
                self.trouble(site, fault, true)
            }
            Fault::Flap { region, every_ms } => self.flap(*region, Some(*every_ms)),
            Fault::RollingRestart { .. } => {
                // Dead nodes also return as the new version.
                site.features = Features::all();
                let left = site.alive().cloned().collect();
                self.rolling = Some(Rolling { left, now: None });
            }
        }
        Ok(())
    }

    /// Ends a fault.
    ///
    /// # Errors
    /// When a node does not start.
    pub fn end(&mut self, site: &mut Site, fault: &Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill { node } | Fault::PowerLoss { node } => site.start(node)?,
            Fault::Pause { node } => pause(site, node, false),
            Fault::Clock { node, .. } => {
                if let Some(machine) = site.machine(node) {
                    machine.set_clock(1.0, 0);
                }
            }
            Fault::Drain { node } => undrain(site, std::slice::from_ref(node)),
            Fault::DrainRegion { region } => undrain(site, &site.nodes_of(*region)),
            Fault::LoseRegion { region } => {
                site.store.restart(*region);
                for node in site.nodes_of(*region) {
                    site.start(&node)?;
                }
            }
            Fault::FailOver { region } => self.order(site, *region, false),
            Fault::Cut { a, b, ways, what } => {
                for way in directions(*a, *b, *ways) {
                    self.cut(site, way, *what, false);
                }
            }
            Fault::Loss { a, b, .. } => {
                both(site, *a, *b, |way, world| way.loss = world.loss(*a, *b))
            }
            Fault::Delay { a, b, .. } => delay(site, *a, *b, Duration::ZERO),
            Fault::ReplicaDown { region, .. } => site.store.restart(*region),
            Fault::SlowDisk { .. } | Fault::LateWrites { .. } | Fault::Diverge { .. } => {
                self.trouble(site, fault, false)
            }
            Fault::Flap { region, .. } => self.flap(*region, None),
            // It ends by itself.
            Fault::RollingRestart { .. } => {}
        }
        Ok(())
    }

    /// Advances faults that take time. Call it at every step.
    ///
    /// # Errors
    /// When a node does not start.
    pub fn advance(&mut self, site: &mut Site) -> anyhow::Result<()> {
        self.give_orders(site);
        let Some(rolling) = &mut self.rolling else { return Ok(()) };
        match rolling.now.take() {
            None => match rolling.left.pop_front() {
                Some(node) => {
                    let is_done = stop(site, &node);
                    rolling.now = Some((node, Stage::Stopping { since: site.now(), is_done }));
                }
                None => self.rolling = None,
            },
            Some((node, Stage::Stopping { since, is_done })) => {
                if is_done.load(Ordering::Relaxed) || site.now() > since + 3 * STOP_TIMEOUT {
                    site.kill(&node, false);
                    site.start(&node)?;
                    rolling.now = Some((node, Stage::Started { since: site.now() }));
                } else {
                    rolling.now = Some((node, Stage::Stopping { since, is_done }));
                }
            }
            Some((node, Stage::Started { since })) => {
                if site.now() < since + RESTART_GRACE {
                    rolling.now = Some((node, Stage::Started { since }));
                }
            }
        }
        Ok(())
    }

    /// Whether a fault is still in progress.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.rolling.is_some() || !self.orders.is_empty()
    }

    /// Replaces an earlier order about the region.
    fn order(&mut self, site: &Site, region: RegionId, is_over: bool) {
        self.orders.retain(|order| order.region != region);
        self.orders.push(Order {
            region,
            is_over,
            due: site.now(),
            given: 0,
            is_done: Arc::default(),
        });
    }

    fn give_orders(&mut self, site: &mut Site) {
        self.orders.retain(|order| !order.is_done.load(Ordering::Relaxed));
        let now = site.now();
        for order in self.orders.iter_mut().filter(|order| order.due <= now) {
            order.due = now + ORDER_RETRY_INTERVAL;
            let cores: Vec<NodeId> = site.cores().map(|(node, ..)| node.clone()).collect();
            let elsewhere = |node: &&NodeId| node.region != order.region;
            let others: Vec<&NodeId> = cores.iter().filter(elsewhere).collect();
            let Some(at) = order.given.checked_rem(others.len()) else { continue };
            order.given += 1;
            let (region, is_over, is_done) =
                (order.region, order.is_over, Arc::clone(&order.is_done));
            spawn(site, others[at], |_, part| async move {
                let Part::Core(core) = part else { return };
                let decided = if is_over {
                    core.fail_over(region, true).await
                } else {
                    core.fail_back(region).await
                };
                match decided {
                    Ok(_) => is_done.store(true, Ordering::Relaxed),
                    Err(error) => {
                        tracing::info!(region = region.0, is_over, %error, "region order not carried out yet, retrying")
                    }
                }
            });
        }
    }

    fn cut(&mut self, site: &mut Site, (from, to): (RegionId, RegionId), what: What, is_cut: bool) {
        let count = |cuts: &mut BTreeMap<(RegionId, RegionId), u32>| {
            let cuts = cuts.entry((from, to)).or_default();
            *cuts = if is_cut { *cuts + 1 } else { cuts.saturating_sub(1) };
            *cuts > 0
        };
        if what != What::Store {
            let is_cut = count(&mut self.mesh_cuts);
            site.fabric.change_way(from, to, |way| way.is_cut = is_cut);
        }
        if what != What::Mesh {
            if count(&mut self.store_cuts) {
                site.store.cut_one_way(from, to);
            } else {
                site.store.heal_one_way(from, to);
            }
        }
    }

    fn trouble(&mut self, site: &Site, fault: &Fault, begins: bool) {
        let (Fault::SlowDisk { region, .. }
        | Fault::LateWrites { region, .. }
        | Fault::Diverge { region, .. }) = fault
        else {
            return;
        };
        let trouble = self.troubles.entry(*region).or_default();
        match fault {
            Fault::SlowDisk { sync_ms, .. } => {
                trouble.sync = begins.then(|| Duration::from_millis(*sync_ms))
            }
            Fault::LateWrites { share, by_ms, .. } => {
                trouble.late = if begins { *share } else { 0.0 };
                trouble.late_by = Duration::from_millis(*by_ms);
            }
            Fault::Diverge { share, .. } => trouble.lost = if begins { *share } else { 0.0 },
            _ => {}
        }
        site.store.set_trouble(*region, trouble.clone());
    }

    fn flap(&self, region: RegionId, every_ms: Option<u64>) {
        if let Some(flap) = self.flaps.get(&region) {
            flap.send_replace(every_ms);
        }
    }
}

fn directions(a: RegionId, b: RegionId, ways: Ways) -> Vec<(RegionId, RegionId)> {
    match ways {
        Ways::Both => vec![(a, b), (b, a)],
        Ways::AToB => vec![(a, b)],
    }
}

fn both(
    site: &mut Site,
    a: RegionId,
    b: RegionId,
    change: impl Fn(&mut crate::fabric::Way, &World),
) {
    let world = Arc::clone(&site.material.world);
    for (from, to) in [(a, b), (b, a)] {
        site.fabric.change_way(from, to, |way| change(way, &world));
    }
}

fn delay(site: &mut Site, a: RegionId, b: RegionId, extra: Duration) {
    both(site, a, b, |way, world| way.delay = world.delay(a, b) + extra);
    let delay = site.material.world.delay(a, b) + extra;
    site.store.set_delay(a, b, delay);
    site.store.set_delay(b, a, delay);
}

fn pause(site: &mut Site, node: &NodeId, is_paused: bool) {
    if let Some(machine) = site.machine(node) {
        machine.set_paused(is_paused);
    }
}

/// Drains all at once, so that none injector over to another that drains too.
fn drain(site: &mut Site, nodes: &[NodeId]) {
    for node in nodes {
        site.material.set_open(node, false);
        with(site, node, |mesh, _| mesh.set_draining(true));
    }
    for node in nodes {
        spawn(site, node, |_, part| async move {
            match part {
                Part::Core(core) => core.drain().await,
                Part::Edge(edge) => edge.drain(DRAIN_WINDOW).await,
            }
        });
    }
}

fn undrain(site: &mut Site, nodes: &[NodeId]) {
    for node in nodes {
        let is_alive = with(site, node, |mesh, _| mesh.set_draining(false));
        // A paused node processes its orders in order when it resumes.
        spawn(site, node, |_, part| async move {
            match part {
                Part::Core(core) => core.undrain(),
                Part::Edge(edge) => edge.undrain(),
            }
        });
        site.material.set_open(node, is_alive.is_some());
    }
}

/// Stops a process in order. The flag says when it has ended.
fn stop(site: &mut Site, node: &NodeId) -> Arc<AtomicBool> {
    site.material.set_open(node, false);
    let is_done = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&is_done);
    let spawned = spawn(site, node, |mesh, part| async move {
        mesh.set_draining(true);
        match part {
            Part::Core(core) => {
                // Shards that nobody takes over in time are dropped, which loses nothing.
                let _ = tokio::time::timeout(STOP_TIMEOUT, core.drain()).await;
                core.stop(STOP_TIMEOUT).await;
            }
            Part::Edge(edge) => {
                let _ = tokio::time::timeout(STOP_TIMEOUT, edge.drain(DRAIN_WINDOW)).await;
                edge.stop(STOP_TIMEOUT).await;
            }
        }
        mesh.shutdown(Duration::from_secs(1)).await;
        done.store(true, Ordering::Relaxed);
    });
    if spawned.is_none() {
        is_done.store(true, Ordering::Relaxed);
    }
    is_done
}

fn with<T>(site: &Site, node: &NodeId, ask: impl FnOnce(&mesh::Mesh, &Part) -> T) -> Option<T> {
    let slot = site.running(node)?;
    slot.as_ref().map(|running| ask(&running.mesh, &running.part))
}

fn spawn<F>(site: &mut Site, node: &NodeId, task: impl FnOnce(mesh::Mesh, Part) -> F) -> Option<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (mesh, part) = with(site, node, |mesh, part| (mesh.clone(), part.clone()))?;
    let handle = site.machine(node)?.handle()?;
    handle.spawn(task(mesh, part));
    Some(())
}
