//! The data folder of a local mesh: one process at a time, one world for its life, the same ports
//! as last time.
//!
//! | in `DATA` | what |
//! |---|---|
//! | `REGION/` | what rests in that region, and nothing of any other |
//! | `keys/` | the development keys and the CA of the mesh; no user data |
//! | `world.toml` | the world it was first started with |
//! | `ports.json` | the ports of every node, so that clients find them again after a restart |
//! | `hearth.lock`, `hearth.json` | who runs it now, and how the other commands find it |

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use net::{Net as _, OsNet};
use serde::{Deserialize, Serialize};
use topology::World;
use wire::{NodeId, NodeRole};

use crate::local_mesh::discovery::LocalMesh;

/// An opened data folder, locked for this process.
pub(super) struct Data {
    dir: PathBuf,
    _lock: File,
}

impl Data {
    /// Creates the folder if need be and locks it.
    ///
    /// # Errors
    /// When another mesh runs on it, or it cannot be written.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        private_folder(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let path = dir.join("hearth.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("cannot write {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {
                auth::private::discard_drafts(dir)
                    .and_then(|()| auth::private::discard_drafts(&LocalMesh::keys(dir)))
                    .with_context(|| format!("cannot write {}", dir.display()))?;
                Ok(Self { dir: dir.to_owned(), _lock: lock })
            }
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another mesh runs on {}: end it first, or give this one its own --data DIR",
                    dir.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The world: the given file, or the one this folder was started with, or the default. A folder
    /// keeps its world, as long as every region, zone and tenant in it keeps its number and place.
    ///
    /// # Errors
    /// When the file is not a valid world, or contradicts what this folder already holds.
    pub(super) fn world(&self, given: Option<&Path>) -> anyhow::Result<World> {
        let kept_path = self.dir.join("world.toml");
        let kept = match fs::read_to_string(&kept_path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", kept_path.display()));
            }
        };
        let text = match (given, &kept) {
            (Some(path), _) => world_text(path)?,
            (None, Some(kept)) => kept.clone(),
            (None, None) => topology::world::SHIPPED[0].1.to_owned(),
        };
        let name = given
            .map_or_else(|| kept_path.display().to_string(), |path| path.display().to_string());
        let world = World::parse(&text).map_err(|errors| anyhow::anyhow!("{name}: {errors}"))?;
        if let Some(kept) = kept.as_deref().and_then(|text| World::parse(text).ok()) {
            same_places(&kept, &world).map_err(|why| {
                anyhow::anyhow!("{name} does not fit what {} holds: {why}", self.dir.display())
            })?;
        }
        if kept.as_deref() != Some(text.as_str()) {
            auth::private::replace(&kept_path, text.as_bytes())
                .with_context(|| format!("cannot write {}", kept_path.display()))?;
        }
        Ok(world)
    }

    /// An address for every node and listener of the world: last time's where they are free, else
    /// fresh ones.
    ///
    /// # Errors
    /// When the machine has no free ports.
    pub(super) async fn ports(&self, world: &World) -> anyhow::Result<Ports> {
        let path = self.dir.join("ports.json");
        let last: Ports = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let mut claims = Claims::default();
        let mut ports = Ports { control: claims.tcp(last.control).await?, ..Ports::default() };
        for region in &world.regions {
            let admin =
                claims.tcp(last.admin.get(&region.name).copied().unwrap_or_default()).await?;
            ports.admin.insert(region.name.clone(), admin);
            for node in region.nodes() {
                let key = node.to_string();
                ports.mesh.insert(
                    key.clone(),
                    claims.udp(last.mesh.get(&key).copied().unwrap_or_default())?,
                );
                if node.role == NodeRole::Edge {
                    let wanted = last.edge.get(&key).copied().unwrap_or_default();
                    ports.edge.insert(key, claims.tcp(wanted).await?);
                }
            }
        }
        auth::private::replace(&path, &serde_json::to_vec_pretty(&ports)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(ports)
    }
}

/// Creates the folder for its user alone. One that is there and empty becomes so too: it was made
/// for this.
fn private_folder(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let is_empty = fs::read_dir(dir)?.next().is_none();
    if is_empty { fs::set_permissions(dir, fs::Permissions::from_mode(0o700)) } else { Ok(()) }
}

/// A path, or the name of a world that comes with the program.
fn world_text(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) => {
            let shipped = topology::world::SHIPPED.iter().find(|(name, _)| Path::new(name) == path);
            let names: Vec<_> = topology::world::SHIPPED.iter().map(|(name, _)| *name).collect();
            shipped.map(|(_, text)| (*text).to_owned()).ok_or_else(|| {
                let names = names.join(", ");
                anyhow::anyhow!(
                    "cannot read the world file {}: {error} (worlds by name: {names})",
                    path.display()
                )
            })
        }
    }
}

/// What rests in a folder rests by number: a world that gives a number another meaning would move
/// people's data.
fn same_places(kept: &World, new: &World) -> Result<(), String> {
    for old in &kept.regions {
        match new.region(old.id) {
            Some(now) if now.name == old.name => {}
            _ => return Err(format!("region {} had the number {}", old.name, old.id.0)),
        }
    }
    for old in &kept.zones {
        match new.zone(old.id) {
            Some(now) if now.name == old.name && now.regions.starts_with(&old.regions) => {}
            _ => {
                return Err(format!(
                    "zone {} had the number {} and other regions",
                    old.name, old.id.0
                ));
            }
        }
    }
    for old in &kept.tenants {
        match new.tenant(&old.id) {
            Some(now) if now.zone == old.zone => {}
            _ => return Err(format!("tenant {} lives in another zone", old.id)),
        }
    }
    Ok(())
}

/// Loopback ports by node (`r1/core/2`) or region name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ports {
    control: u16,
    admin: BTreeMap<String, u16>,
    mesh: BTreeMap<String, u16>,
    edge: BTreeMap<String, u16>,
}

impl Ports {
    pub(super) fn control(&self) -> SocketAddr {
        loopback(self.control)
    }

    pub(super) fn admin(&self, region: &str) -> SocketAddr {
        loopback(self.admin.get(region).copied().unwrap_or_default())
    }

    pub(super) fn mesh(&self, node: &NodeId) -> SocketAddr {
        loopback(self.mesh.get(&node.to_string()).copied().unwrap_or_default())
    }

    pub(super) fn edge(&self, node: &NodeId) -> SocketAddr {
        loopback(self.edge.get(&node.to_string()).copied().unwrap_or_default())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Ports found free, held until all are found so that none is found twice.
#[derive(Default)]
struct Claims {
    tcp: Vec<net::Listener>,
    udp: Vec<net::Udp>,
}

impl Claims {
    async fn tcp(&mut self, wanted: u16) -> anyhow::Result<u16> {
        let socket = match OsNet.listen(loopback(wanted)).await {
            Ok(socket) => socket,
            Err(_) => OsNet.listen(loopback(0)).await.context("no free TCP port on loopback")?,
        };
        let port = socket.local_addr()?.port();
        self.tcp.push(socket);
        Ok(port)
    }

    fn udp(&mut self, wanted: u16) -> anyhow::Result<u16> {
        let socket = OsNet.udp(loopback(wanted)).or_else(|_| OsNet.udp(loopback(0)));
        let socket = socket.context("no free UDP port on loopback")?;
        let port = socket.local_addr()?.port();
        self.udp.push(socket);
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_locked_keeps_its_world_and_its_ports() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = Data::open(dir.path()).unwrap();
        assert!(Data::open(dir.path()).is_err());
        let mode = |dir: &Path| fs::metadata(dir).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.path()), 0o700);
        let world = data.world(None).unwrap();
        assert_eq!(world, World::default_world());
        let (first, again) = (data.ports(&world).await.unwrap(), data.ports(&world).await.unwrap());
        assert_eq!((first.control(), first.mesh), (again.control(), again.mesh));
        let other = data.world(Some(Path::new("one-region"))).unwrap_err().to_string();
        assert!(other.contains("does not fit"), "{other}");
        assert_eq!(data.world(None).unwrap(), world);
        drop(data);
        Data::open(dir.path()).unwrap();
    }
}
