//! What the nodes of a local mesh are made of: one world, one CA, one set of keys, one store with a
//! replica a region.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use auth::{Keys, Verifier};
use mesh::Identity;
use net::{ConditionedNet, Conditions, Net};
use store::embedded::{Embedded, EmbeddedOptions, OpenReport};
use topology::World;
use wire::{NodeId, RegionId};

use super::data::{Data, Ports};
use crate::limits::UpLimits;
use crate::local_mesh::discovery::LocalMesh;
use crate::{assembly, authority};

/// Everything that outlives a single node.
pub(super) struct Material {
    pub(super) world: Arc<World>,
    pub(super) ports: Ports,
    pub(super) verifier: Arc<Verifier>,
    pub(super) store: Arc<Embedded>,
    pub(super) conditions: Conditions,
    /// The edges that take clients now, with their URLs: where the others send those that they may
    /// not serve.
    pub(super) open_edges: Mutex<BTreeMap<NodeId, String>>,
    identities: BTreeMap<NodeId, Identity>,
    wan: bool,
    pub(super) limits: UpLimits,
}

/// How the mesh was asked for.
pub(super) struct How<'a> {
    /// Where the key files that the world names are.
    pub(super) world_dir: &'a Path,
    /// Whether distance takes time.
    pub(super) wan: bool,
    /// Regions that may start although acknowledged records in them are destroyed.
    pub(super) accept_loss: &'a [String],
    pub(super) limits: UpLimits,
}

impl Material {
    /// Opens the store and makes or loads the keys.
    ///
    /// # Errors
    /// When the data folder holds what it should not, or cannot be written.
    pub(super) fn gather(
        data: &Data,
        world: World,
        ports: Ports,
        how: &How<'_>,
    ) -> anyhow::Result<(Self, OpenReport)> {
        let keys_dir = LocalMesh::keys(data.dir());
        let keys = Keys::load_or_create(&keys_dir).context("the development keys")?;
        let verifier =
            assembly::verifier(&world, how.world_dir, Some(keys.dev.public_key()), keys.stream)?;
        let ca = authority::load_or_create(&keys_dir)?;
        let mut identities = BTreeMap::new();
        for node in world.nodes() {
            let identity = ca.issue(&node).with_context(|| format!("a certificate for {node}"))?;
            identities.insert(node, identity);
        }
        let world = Arc::new(world);
        let conditions = Conditions::new(0);
        if how.wan {
            every_pair(&world, |a, b, delay, loss| {
                conditions.set_delay(a.0, b.0, delay);
                conditions.set_loss(a.0, b.0, loss);
            });
        }
        let (store, found) = open_store(data, &world, how)?;
        let open_edges = Mutex::default();
        let (verifier, wan, limits) = (Arc::new(verifier), how.wan, how.limits.clone());
        Ok((
            Self { world, ports, verifier, store, conditions, open_edges, identities, wan, limits },
            found,
        ))
    }

    /// The sockets of a region's nodes, under the weather of the world.
    pub(super) fn net(&self, region: RegionId) -> Arc<dyn Net> {
        Arc::new(ConditionedNet::new(self.conditions.clone(), region.0, self.wan))
    }

    pub(super) fn identity(&self, node: &NodeId) -> Identity {
        self.identities.get(node).expect("every node of the world has one").clone()
    }

    /// The public URL of an edge.
    pub(super) fn edge_url(&self, node: &NodeId) -> String {
        format!("http://{}", self.ports.edge(node))
    }

    /// The edges that take clients now.
    pub(super) fn edges_open(&self) -> Vec<(RegionId, String)> {
        let open = self.open_edges.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(node, url)| (node.region, url.clone())).collect()
    }
}

fn every_pair(world: &World, mut each: impl FnMut(RegionId, RegionId, Duration, f64)) {
    for (n, a) in world.regions.iter().enumerate() {
        for b in &world.regions[n + 1..] {
            each(a.id, b.id, world.delay(a.id, b.id), world.loss(a.id, b.id));
        }
    }
}

fn open_store(
    data: &Data,
    world: &Arc<World>,
    how: &How<'_>,
) -> anyhow::Result<(Arc<Embedded>, OpenReport)> {
    let between = Arc::clone(world);
    let regions = world.regions.iter().map(|region| (region.id, region.name.clone())).collect();
    let zones = world.zones.iter().map(|zone| (zone.id, zone.regions.clone())).collect();
    let mut options = EmbeddedOptions::new(data.dir(), regions, zones);
    options.reserve = how.limits.reserve;
    for name in how.accept_loss {
        let region = world
            .region_by_name(name)
            .with_context(|| format!("--accept-loss: no region {name:?}"))?;
        options.accept_loss.push(region.id);
    }
    if how.wan {
        options.delay = Some(Arc::new(move |a, b| between.delay(a, b)));
    }
    Ok(Embedded::open(options)?)
}
