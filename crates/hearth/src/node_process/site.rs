//! What a node's file leads to: the world, where everybody is, who this node is and how it proves
//! that.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use mesh::Identity;
use node::{Address, Addresses};
use topology::World;
use wire::{NodeId, NodeRole};

use super::config::{Common, MeshSection};
use crate::authority;

/// Read once; what may change later is read again by [`super::reload`].
pub(crate) struct Site {
    pub(crate) common: Common,
    /// As it was at the start; it holds until the end.
    pub(crate) world: Arc<World>,
    pub(crate) node: NodeId,
    /// What people call it.
    pub(crate) name: String,
    /// What people call its region.
    pub(crate) region: String,
    /// Its own entry of `nodes.toml`.
    pub(crate) own: Address,
}

impl Site {
    /// Reads the world and finds the node in it.
    ///
    /// # Errors
    /// When a file cannot be read or is wrong, or the node is of another kind or has no address.
    pub(crate) fn read(common: &Common, role: NodeRole) -> anyhow::Result<Self> {
        let world = Arc::new(read_world(&common.who.world)?);
        let file = common.file.display();
        let name = common.who.node.clone();
        let node = world.node_named(&name).with_context(|| format!("{file}: node"))?;
        if node.role != role {
            let [is, other] = match node.role {
                NodeRole::Core => ["a core", "core"],
                NodeRole::Edge => ["an edge", "edge"],
            };
            bail!("{file}: {name} is {is}: start it with `hearth {other} --config {file}`");
        }
        let addresses = Addresses::read(&common.who.nodes, &world)?;
        let nodes = common.who.nodes.display();
        let own = addresses.of(&node).cloned();
        let own = own.with_context(|| {
            format!("{nodes} does not say where {name} is: add [[node]] id = \"{name}\" and mesh = \"host:port\"")
        })?;
        let region = world.region_name(node.region);
        let site = Self { common: common.clone(), world, node, name, region, own };
        // What the certificate says is found out before anything runs.
        site.prove()?;
        Ok(site)
    }

    /// The world as its file says now.
    ///
    /// # Errors
    /// When it cannot be read or is wrong.
    pub(crate) fn read_world(&self) -> anyhow::Result<World> {
        read_world(&self.common.who.world)
    }

    /// Where everybody is, as the file says now.
    ///
    /// # Errors
    /// When it cannot be read or is wrong.
    pub(crate) fn addresses(&self) -> anyhow::Result<Addresses> {
        Ok(Addresses::read(&self.common.who.nodes, &self.world)?)
    }

    /// The node's proof of who it is, as the files say now.
    ///
    /// # Errors
    /// When a file cannot be read, is none, or others may read the key.
    pub(crate) fn identity(&self) -> anyhow::Result<Identity> {
        let MeshSection { ca, cert, key, .. } = &self.common.mesh;
        let pem = |path: &Path, what: &str| {
            let cure = "make it with `hearth admin ca issue`";
            fs::read_to_string(path)
                .with_context(|| format!("[mesh] {what}: cannot read {} ({cure})", path.display()))
        };
        let (chain, key_pem, ca) = (pem(cert, "cert")?, pem(key, "key")?, pem(ca, "ca")?);
        authority::refuse_exposed(key)?;
        Identity::from_pem(&chain, &key_pem, &ca)
            .with_context(|| format!("[mesh] {}", cert.display()))
    }

    fn prove(&self) -> anyhow::Result<()> {
        let cert = self.common.mesh.cert.display();
        let proven = self.identity()?.node().with_context(|| format!("[mesh] cert: {cert}"))?;
        if proven != self.node {
            let (proven, name) = (self.world.name_of(&proven), &self.name);
            bail!(
                "[mesh] cert: {cert} is that of {proven}, not of {name}: issue one with `hearth admin ca issue --node {name}`"
            );
        }
        Ok(())
    }

    /// Where the world's own files lie.
    pub(crate) fn world_dir(&self) -> &Path {
        self.common.who.world.parent().unwrap_or(Path::new(""))
    }

    /// Where the mesh listens.
    pub(crate) fn mesh_bind(&self, mesh: &MeshSection) -> SocketAddr {
        mesh.bind.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.own.mesh.port)))
    }
}

fn read_world(path: &Path) -> anyhow::Result<World> {
    let file = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the world {file}"))?;
    World::parse(&text).map_err(|mistakes| anyhow::anyhow!("{file}: {mistakes}"))
}

/// What stands in a file that nobody else may read, without its line end.
///
/// # Errors
/// When it cannot be read, is empty, or others may read it.
pub(crate) fn secret(path: &Path) -> anyhow::Result<String> {
    authority::refuse_exposed(path)?;
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let secret = text.trim();
    if secret.len() < SECRET_BYTES_MIN {
        bail!(
            "{name}: a secret of at least {SECRET_BYTES_MIN} characters must stand in it: openssl rand -hex 32 makes one"
        );
    }
    Ok(secret.to_owned())
}

const SECRET_BYTES_MIN: usize = 16;

#[cfg(test)]
mod tests;
