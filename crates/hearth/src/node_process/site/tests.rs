use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use mesh::MeshCa;

use super::super::config::CoreConfig;
use super::*;

/// A core's folder in which everything is right.
struct Folder {
    dir: tempfile::TempDir,
    ca: MeshCa,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap(), ca: MeshCa::create().unwrap() };
        folder.write(
            "world.toml",
            World::shipped("one-region").map(|_| topology::world::SHIPPED[2].1).unwrap(),
        );
        folder
            .write("nodes.toml", "[[node]]\nid = \"eu-west/core/1\"\nmesh = \"127.0.0.1:7400\"\n");
        folder.write(
            "core.toml",
            "node = \"eu-west/core/1\"\n[store]\ncontact_points = [\"c\"]\ndatacenters = { eu-west = \"d\" }\n",
        );
        folder.issue("r1/core/1");
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        auth::private::replace(&path, text.as_bytes()).unwrap();
        path
    }

    fn issue(&self, node: &str) {
        let pem = self.ca.issue_pem(&node.parse().unwrap()).unwrap();
        self.write("node.pem", &pem.cert);
        self.write("node.key.pem", &pem.key);
        self.write("ca.pem", self.ca.cert_pem());
    }

    fn site(&self, role: NodeRole) -> Result<Site, String> {
        let config = CoreConfig::read(&self.dir.path().join("core.toml")).unwrap();
        Site::read(&config.common, role).map_err(|error| format!("{error:#}"))
    }

    fn why(&self) -> String {
        self.site(NodeRole::Core).err().expect("a refusal")
    }
}

#[test]
fn a_node_is_found_in_its_world_with_its_address_and_its_proof() {
    let folder = Folder::new();
    let site = folder.site(NodeRole::Core).unwrap();
    assert_eq!(
        (site.node.to_string().as_str(), site.name.as_str(), site.region.as_str()),
        ("r1/core/1", "eu-west/core/1", "eu-west")
    );
    let config = CoreConfig::read(&folder.dir.path().join("core.toml")).unwrap();
    assert_eq!(site.mesh_bind(&config.common.mesh).to_string(), "0.0.0.0:7400");
    let bound = MeshSection { bind: Some("[::1]:9".parse().unwrap()), ..config.common.mesh };
    assert_eq!(site.mesh_bind(&bound).to_string(), "[::1]:9");
}

#[test]
fn each_thing_that_keeps_a_node_from_starting_is_told_with_its_cure() {
    let folder = Folder::new();
    let edge = folder.site(NodeRole::Edge).err().expect("a refusal");
    assert!(edge.contains("is a core: start it with `hearth core --config"), "{edge}");

    folder.write("nodes.toml", "");
    assert!(
        folder.why().contains("does not say where eu-west/core/1 is: add [[node]]"),
        "{}",
        folder.why()
    );
    folder.write("nodes.toml", "[[node]]\nid = \"eu-west/core/1\"\nmesh = \"nowhere\"\n");
    assert!(folder.why().contains("nodes.toml, line 3: "), "{}", folder.why());

    let folder = Folder::new();
    folder.issue("r1/core/2");
    assert!(
        folder.why().contains("is that of eu-west/core/2, not of eu-west/core/1: issue one"),
        "{}",
        folder.why()
    );
    folder.write("node.pem", "rubbish");
    assert!(
        folder.why().contains("[mesh] ") && folder.why().contains("not PEM"),
        "{}",
        folder.why()
    );
    fs::remove_file(folder.dir.path().join("ca.pem")).unwrap();
    assert!(
        folder.why().contains("[mesh] ca: cannot read")
            && folder.why().contains("hearth admin ca issue")
    );

    let folder = Folder::new();
    let key = folder.dir.path().join("node.key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(folder.why().contains("run chmod 600"), "{}", folder.why());

    let folder = Folder::new();
    folder.write("world.toml", "name = 7");
    assert!(folder.why().contains("world.toml: line 1: "), "{}", folder.why());
    fs::remove_file(folder.dir.path().join("world.toml")).unwrap();
    assert!(folder.why().contains("cannot read the world"), "{}", folder.why());
}

#[test]
fn a_secret_is_long_enough_and_nobody_elses() {
    let folder = Folder::new();
    let path = folder.write("token", "0123456789abcdef\n");
    assert_eq!(secret(&path).unwrap(), "0123456789abcdef");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(secret(&path).unwrap_err().to_string().contains("chmod 600"));
    let short = folder.write("token", "short");
    assert!(secret(&short).unwrap_err().to_string().contains("at least 16"));
    assert!(secret(&folder.dir.path().join("none")).is_err());
}
