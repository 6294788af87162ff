//! The record by which the other commands find the mesh that `hearth up` runs on this machine.
//!
//! `up` writes [`LocalMesh`] to `DATA/hearth.json`, readable by its user alone, when it is ready.
//! It removes the file when it ends in order. After `kill -9` the file stays, and the next `up`
//! replaces it. A reader reads it again whenever a connection fails: a restarted mesh listens on
//! other ports.

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

    /// Writes the file at once and whole, readable by this user alone: a reader sees the old one or
    /// the new one.
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
