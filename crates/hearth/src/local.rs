//! How the commands find the mesh that `hearth up` runs on this machine, and what they say to it.
//!
//! `up` writes [`LocalMesh`] to `DATA/hearth.json` (readable by its user alone) when it is ready and removes it when it
//! ends in order; after `kill -9` the file stays behind, and the next `up` replaces it. Everyone else reads it again
//! whenever a connection fails: a mesh that was started anew listens on other ports.
//!
//! The control API is HTTP on loopback, with [`LocalMesh::control_token`] as Bearer. All answers are JSON.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/regions` | 200, `[RegionStatus]`, in the order of the world file |
//! | `POST /v1/regions/{name}/kill`, `/restore`, `/drain` | 200, the [`RegionStatus`] after it is done |
//! | `POST /v1/regions/{name}/failover?accept_loss=BOOL`, `/failback` | 200, [`FailoverStatus`], when its shards are served there |
//! | `POST /v1/conversations/{id}/move/{region}` | 200, [`MoveStatus`], when it is served there |
//! | `POST /v1/links/{a}/{b}/cut`, `/heal` | 200, [`LinkStatus`] |
//! | what cannot be done | 4xx or 5xx, [`ControlProblem`] |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use serde::{Deserialize, Serialize};

/// `--data`, the same for every command that needs it.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct DataDir {
    /// Where the local mesh keeps its data [default: the user's data folder, then hearth]
    #[arg(long = "data", value_name = "DIR", env = "HEARTH_DATA")]
    dir: Option<PathBuf>,
}

impl DataDir {
    /// The folder: as given, or the default of the platform.
    ///
    /// # Errors
    /// When none is given and the user has no home.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        let base = etcetera::choose_base_strategy().map_err(|_| {
            anyhow::anyhow!("no home folder is known: say where the data is, with --data DIR")
        })?;
        Ok(base.data_dir().join("hearth"))
    }
}

/// The running mesh, as it stands in `DATA/hearth.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LocalMesh {
    /// The process that runs it.
    pub(crate) pid: u32,
    /// The control API, such as `http://127.0.0.1:40123`.
    pub(crate) control: String,
    /// What the control API wants as Bearer.
    pub(crate) control_token: String,
    /// In the order of the world file.
    pub(crate) regions: Vec<LocalRegion>,
    /// In the order of the world file; the first is the default of the commands.
    pub(crate) tenants: Vec<LocalTenant>,
}

/// A region of the running mesh; also in the ready line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalRegion {
    /// As in the world file.
    pub(crate) name: String,
    /// The names of the zones that it belongs to.
    pub(crate) zones: Vec<String>,
    /// The URL of its first edge, such as `http://127.0.0.1:40001`.
    pub(crate) edge: String,
    /// The URLs of all its edges, the first one included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) edges: Vec<String>,
    /// The URL of its admin listener.
    pub(crate) admin: String,
}

impl LocalRegion {
    /// The URLs of its edges, at least one.
    pub(crate) fn edge_urls(&self) -> Vec<String> {
        if self.edges.is_empty() { vec![self.edge.clone()] } else { self.edges.clone() }
    }
}

/// A tenant of the running mesh; also in the ready line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalTenant {
    /// As in the world file.
    pub(crate) name: String,
    /// The name of its residency zone.
    pub(crate) zone: String,
    /// `region` or `multi-region`.
    pub(crate) durability: wire::Durability,
}

/// The line that `up --json` prints when everything listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Always true.
    pub(crate) ready: bool,
    /// The first tenant.
    pub(crate) tenant: String,
    /// See [`LocalMesh::tenants`].
    pub(crate) tenants: Vec<LocalTenant>,
    /// See [`LocalMesh::regions`].
    pub(crate) regions: Vec<LocalRegion>,
}

/// What a region is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RegionState {
    /// Everything runs.
    Up,
    /// Its nodes, its sockets and its store replica are gone.
    Killed,
    /// It is handing its shards and its sessions to others.
    Draining,
    /// It runs, owns nothing and takes no sessions.
    Drained,
}

impl std::fmt::Display for RegionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Killed => "killed",
            Self::Draining => "draining",
            Self::Drained => "drained",
        })
    }
}

/// A region as the control API shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RegionStatus {
    /// As in the world file.
    pub(crate) name: String,
    /// What it is doing.
    pub(crate) state: RegionState,
    /// The names of the zones that it belongs to.
    pub(crate) zones: Vec<String>,
    /// Its nodes, such as `r1/core/2`; empty while it is killed.
    pub(crate) nodes: Vec<NodeStatus>,
    /// The shards that its cores own now.
    pub(crate) shards: Vec<ShardStatus>,
}

/// A node of a region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    /// Such as `r1/core/2`.
    pub(crate) node: String,
    /// Open sessions; for edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sessions: Option<u64>,
    /// How many other nodes it sees alive.
    #[serde(default)]
    pub(crate) peers_up: usize,
}

/// A shard and its owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShardStatus {
    /// Such as `z1-r1-multi-region-0`.
    pub(crate) shard: String,
    /// The owner's node, such as `r1/core/2`.
    pub(crate) node: String,
    /// The owner's term.
    pub(crate) epoch: u64,
    /// The highest slot acknowledged; none when nothing was.
    #[serde(default)]
    pub(crate) committed: Option<u64>,
    /// Lost regions that still hold what is to be salvaged of it.
    #[serde(default)]
    pub(crate) forks: usize,
}

/// A link after it was cut or healed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LinkStatus {
    /// A region's name.
    pub(crate) a: String,
    /// Another's.
    pub(crate) b: String,
    /// Whether nothing passes directly between them.
    pub(crate) cut: bool,
}

/// A conversation that has moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MoveStatus {
    /// Which.
    pub(crate) conversation_id: wire::ConversationId,
    /// Where it lives now.
    pub(crate) region: String,
    /// Such as `z1-r1-multi-region-0`.
    pub(crate) shard: String,
    /// How often it has moved so far.
    pub(crate) moves: u64,
}

/// A region that is failed over or back, or that is not, because something would be missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FailoverStatus {
    /// As in the world file.
    pub(crate) region: String,
    /// The zones in which it was decided.
    pub(crate) zones: Vec<String>,
    /// False: the region is lost, and nobody has accepted what would be missing. Nothing has changed.
    pub(crate) decided: bool,
    /// The region lives: every shard was handed over in order, and nothing is missing.
    pub(crate) planned: bool,
    /// Its shards of class `region`.
    pub(crate) shards: Vec<FailoverShard>,
}

/// A shard that changes hands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FailoverShard {
    /// Such as `z1-r1-region-0`.
    pub(crate) shard: String,
    /// Who serves it, such as `r2/core/1`.
    pub(crate) owner: Option<String>,
    /// At least so many acknowledged frames are missing until the region returns.
    pub(crate) missing_frames_min: u64,
    /// What was acknowledged in the last so many milliseconds of the region may be missing, too; none: nothing ever came over.
    pub(crate) window_ms: Option<u64>,
    /// The same as a moment: whatever is missing was ordered then or later; milliseconds since 1970.
    pub(crate) since_ms: Option<u64>,
}

/// Why the control API did not do it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ControlProblem {
    /// One clear line for people. For an unknown name it lists the known ones.
    pub(crate) message: String,
}

/// Why the mesh could not be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// No file: nothing was ever started there, or it ended in order.
    #[error(
        "no mesh runs on {dir}: start one with `hearth up`, or say where it is with --data DIR"
    )]
    NotRunning {
        /// Where it was looked for.
        dir: String,
    },
    /// The file is there and unreadable.
    #[error("{file}: {cause}")]
    Unreadable {
        /// Which file.
        file: String,
        /// Why.
        cause: io::Error,
    },
    /// The file is there and is not what `up` writes.
    #[error(
        "{file} is not what this version of `hearth up` writes ({cause}); start the mesh again"
    )]
    Garbled {
        /// Which file.
        file: String,
        /// Where it goes wrong.
        cause: serde_json::Error,
    },
}

impl LocalMesh {
    /// The discovery file of a data folder.
    pub(crate) fn file(dir: &Path) -> PathBuf {
        dir.join("hearth.json")
    }

    /// The folder of the development keys of a data folder.
    pub(crate) fn keys(dir: &Path) -> PathBuf {
        dir.join("keys")
    }

    /// Reads what `up` wrote. That the file is there does not prove that the mesh still runs.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read or understood.
    pub(crate) fn find(dir: &Path) -> Result<Self, FindError> {
        let file = Self::file(dir);
        let name = || file.display().to_string();
        let text = fs::read_to_string(&file).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => FindError::NotRunning { dir: dir.display().to_string() },
            _ => FindError::Unreadable { file: name(), cause },
        })?;
        serde_json::from_str(&text).map_err(|cause| FindError::Garbled { file: name(), cause })
    }

    /// Writes the file at once and whole, readable by this user alone: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn publish(&self, dir: &Path) -> io::Result<()> {
        auth::private::replace(&Self::file(dir), &serde_json::to_vec_pretty(self)?)
    }

    /// Removes the file, if it is this process' own.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn retract(&self, dir: &Path) -> io::Result<()> {
        match Self::find(dir) {
            Ok(found) if found.pid == self.pid => fs::remove_file(Self::file(dir)),
            _ => Ok(()),
        }
    }

    /// The tenant of that name, or the first one.
    ///
    /// # Errors
    /// When there is none of that name; the message lists the known ones.
    pub(crate) fn tenant(&self, name: Option<&str>) -> anyhow::Result<&LocalTenant> {
        let found = match name {
            Some(name) => self.tenants.iter().find(|tenant| tenant.name == name),
            None => self.tenants.first(),
        };
        found.ok_or_else(|| {
            let known: Vec<_> = self.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
            anyhow::anyhow!(
                "no tenant {:?}; this mesh has: {}",
                name.unwrap_or_default(),
                known.join(", ")
            )
        })
    }

    /// The region of that name.
    ///
    /// # Errors
    /// When there is none of that name; the message lists the known ones.
    pub(crate) fn region(&self, name: &str) -> anyhow::Result<&LocalRegion> {
        self.regions.iter().find(|region| region.name == name).ok_or_else(|| {
            let known: Vec<_> = self.regions.iter().map(|region| region.name.as_str()).collect();
            anyhow::anyhow!("no region {name:?}; this mesh has: {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mesh(pid: u32) -> LocalMesh {
        let region = LocalRegion {
            name: "eu-west".into(),
            zones: vec!["eu".into()],
            edge: "http://e".into(),
            edges: Vec::new(),
            admin: "http://a".into(),
        };
        let tenant = LocalTenant {
            name: "demo".into(),
            zone: "eu".into(),
            durability: wire::Durability::Region,
        };
        let (control, control_token) = ("http://c".into(), "t".into());
        LocalMesh { pid, control, control_token, regions: vec![region], tenants: vec![tenant] }
    }

    #[test]
    fn a_mesh_is_found_until_it_ends_and_only_by_its_user() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(LocalMesh::find(dir.path()), Err(FindError::NotRunning { .. })));
        mesh(1).publish(dir.path()).unwrap();
        mesh(2).publish(dir.path()).unwrap();
        assert_eq!(LocalMesh::find(dir.path()).unwrap().pid, 2);
        let mode = fs::metadata(LocalMesh::file(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        mesh(1).retract(dir.path()).unwrap();
        assert!(LocalMesh::find(dir.path()).is_ok(), "another process' file stays");
        mesh(2).retract(dir.path()).unwrap();
        assert!(matches!(LocalMesh::find(dir.path()), Err(FindError::NotRunning { .. })));
    }

    #[test]
    fn a_file_that_is_something_else_is_told_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(LocalMesh::file(dir.path()), "{}").unwrap();
        let error = LocalMesh::find(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("hearth.json is not what this version") && !error.contains('\n'),
            "{error}"
        );
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let mesh = mesh(1);
        assert_eq!(mesh.tenant(None).unwrap().name, "demo");
        assert!(mesh.tenant(Some("x")).unwrap_err().to_string().ends_with("this mesh has: demo"));
        assert!(mesh.region("x").unwrap_err().to_string().ends_with("this mesh has: eu-west"));
        assert_eq!(mesh.region("eu-west").unwrap().edge_urls(), ["http://e"]);
    }
}
