//! The program accepts everything that `deploy/` offers to operators.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use hearth_stories::mesh::hearth;
use serde_json::Value;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Runs what the service `prepare` runs, twice as after a second `up`; the folder.
fn prepare(folder: &Path) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs =
        std::iter::once(hearth().parent().unwrap().to_owned()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(programs).unwrap();
    for _ in 0..2 {
        let run = Command::new("sh")
            .arg(deploy().join("compose/prepare.sh"))
            .arg(folder)
            .arg(deploy().join("../topology/worlds/three-regions.toml"))
            .env("PATH", &path)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
}

#[test]
fn every_node_of_the_compose_file_has_its_config_its_certificate_and_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("config");
    prepare(&folder);
    let compose = std::fs::read_to_string(deploy().join("compose/compose.yaml")).unwrap();
    let compose: Value = serde_saphyr::from_str(&compose).unwrap();
    let services = compose["services"].as_object().unwrap();
    let nodes: toml::Table =
        std::fs::read_to_string(folder.join("nodes.toml")).unwrap().parse().unwrap();
    let (mut placed, mut named) = (BTreeSet::new(), BTreeSet::new());
    for node in nodes["node"].as_array().unwrap() {
        let (host, _) = node["mesh"].as_str().unwrap().split_once(':').unwrap();
        let service = &services[host];
        let home = node["id"].as_str().unwrap().replace('/', "-");
        assert_eq!(service["command"][2], format!("/config/{home}/config.toml"), "{host}");
        for file in ["config.toml", "node.pem", "node.key.pem", "ca.pem"] {
            assert!(folder.join(&home).join(file).exists(), "{home}/{file}");
        }
        if let Some(url) = node.get("url") {
            let published = service["ports"][0].as_str().unwrap().rsplit_once(':').unwrap().0;
            assert_eq!(url.as_str().unwrap(), format!("http://{published}"));
        }
        placed.insert(host.to_owned());
    }
    for (name, service) in services {
        if matches!(service["command"][0].as_str(), Some("core" | "edge")) {
            named.insert(name.clone());
        }
        for other in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(other.0), "{name} waits for {}", other.0);
        }
    }
    assert_eq!(placed, named);
}

#[test]
fn a_core_reads_its_config_and_looks_for_the_store_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("config");
    prepare(&folder);
    let config = folder.join("us-east-core-2/config.toml");
    let run = Command::new(hearth())
        .args(["admin", "schema", "plan", "--config"])
        .arg(config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("us-east-store:9042"), "{said}");
    assert!(!run.status.success());
}
