//! The local mesh as a place to connect to: its edges, found again after every restart, and tokens
//! signed with its development key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use client::{Endpoints, TokenError, Tokens};
use node::clock;
use wire::{DeviceId, TenantId, UserId};

use crate::local_mesh::discovery::{FindError, LocalMesh};

/// Tokens that a command signs for its own connections: asked for anew before each, so they need
/// not last.
const OWN_TTL_S: u64 = 15 * 60;

/// One tenant of the local mesh.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    dir: PathBuf,
    tenant: TenantId,
    /// The regions of its zone, in the order of the world file.
    regions: Vec<String>,
    issuer: auth::DevIssuer,
}

impl Access {
    /// To the given tenant, or the first.
    ///
    /// # Errors
    /// When no mesh runs there, it has no such tenant, or its keys cannot be read.
    pub(crate) fn open(dir: &Path, tenant: Option<&str>) -> anyhow::Result<Self> {
        let mesh = LocalMesh::find(dir)?;
        let tenant = mesh.tenant(tenant)?;
        let inside = mesh.regions.iter().filter(|region| region.zones.contains(&tenant.zone));
        let regions = inside.map(|region| region.name.clone()).collect();
        Ok(Self {
            dir: dir.to_owned(),
            tenant: TenantId::new(&tenant.name)?,
            regions,
            issuer: issuer(dir)?,
        })
    }

    /// Whose conversations they are.
    pub(crate) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The regions in which its data may rest, at least one.
    pub(crate) fn regions(&self) -> &[String] {
        &self.regions
    }

    /// The edges: those of `first`, then those of the other regions of the zone in file order from
    /// there, then the rest. Read from the discovery file every time: a mesh that was started again
    /// may listen elsewhere.
    pub(crate) fn edges_from(&self, first: &str) -> Arc<dyn Endpoints> {
        let (dir, inside, first) = (self.dir.clone(), self.regions.clone(), first.to_owned());
        Arc::new(move || {
            let mesh = LocalMesh::find(&dir);
            std::future::ready(
                mesh.map(|mesh| in_order(&mesh, &inside, &first)).unwrap_or_default(),
            )
        })
    }

    /// The edges of one region and no other.
    pub(crate) fn edges_of(&self, region: &str) -> Arc<dyn Endpoints> {
        let (dir, region) = (self.dir.clone(), region.to_owned());
        Arc::new(move || {
            let mesh = LocalMesh::find(&dir).ok();
            let found =
                mesh.and_then(|mesh| mesh.region(&region).map(|region| region.edge_urls()).ok());
            std::future::ready(found.unwrap_or_default())
        })
    }

    /// Tokens of a user.
    pub(crate) fn tokens(&self, user: &UserId, device: Option<&DeviceId>) -> Arc<dyn Tokens> {
        let (issuer, tenant, user, device) =
            (self.issuer.clone(), self.tenant.clone(), user.clone(), device.cloned());
        Arc::new(move || {
            let token = issuer.issue(&tenant, &user, device.as_ref(), OWN_TTL_S, clock::unix_ms());
            std::future::ready(Ok::<_, TokenError>(token))
        })
    }

    /// For an SDK client of this user, at the edges of `region` first.
    pub(crate) fn options(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        region: &str,
    ) -> client::Options {
        client::Options::new(
            Arc::new(net::OsNet),
            self.edges_from(region),
            self.tokens(user, device),
        )
    }
}

fn in_order(mesh: &LocalMesh, inside: &[String], first: &str) -> Vec<String> {
    let start = mesh.regions.iter().position(|region| region.name == first).unwrap_or(0);
    let mut regions: Vec<_> =
        mesh.regions.iter().cycle().skip(start).take(mesh.regions.len()).collect();
    regions.sort_by_key(|region| (region.name != first, !inside.contains(&region.name)));
    regions.into_iter().flat_map(|region| region.edge_urls()).collect()
}

/// The development key of the mesh.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) fn issuer(dir: &Path) -> anyhow::Result<auth::DevIssuer> {
    auth::DevIssuer::load(&LocalMesh::keys(dir)).context("the development key of the mesh")
}

/// The names of the tenants: of the mesh that runs, or of the one that was last started on this
/// folder.
///
/// # Errors
/// When no mesh was ever started there.
pub(crate) fn tenants(dir: &Path) -> anyhow::Result<Vec<String>> {
    match LocalMesh::find(dir) {
        Ok(mesh) => Ok(mesh.tenants.into_iter().map(|tenant| tenant.name).collect()),
        Err(FindError::NotRunning { dir: shown }) => {
            let kept = std::fs::read_to_string(dir.join("world.toml")).ok();
            let world = kept.and_then(|text| topology::World::parse(&text).ok());
            let world = world.ok_or(FindError::NotRunning { dir: shown })?;
            Ok(world.tenants.iter().map(|tenant| tenant.id.to_string()).collect())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_mesh::discovery::LocalRegion;

    #[test]
    fn edges_come_in_rotated_order_with_the_zone_first() {
        let region = |name: &str| LocalRegion {
            name: name.into(),
            zones: Vec::new(),
            edge: format!("http://{name}"),
            edges: Vec::new(),
            admin: String::new(),
        };
        let regions = ["a", "b", "c", "d"].map(region).to_vec();
        let mesh = LocalMesh {
            pid: 1,
            control: String::new(),
            control_token: String::new(),
            regions,
            tenants: vec![],
        };
        let inside = ["a", "c", "d"].map(str::to_owned);
        assert_eq!(in_order(&mesh, &inside, "c"), ["http://c", "http://d", "http://a", "http://b"]);
        assert_eq!(in_order(&mesh, &inside, "b"), ["http://b", "http://c", "http://d", "http://a"]);
    }
}
