use std::fs;
use std::path::{Path, PathBuf};

use auth::{DevIssuer, StreamKey};
use mesh::MeshCa;
use node::Reloaded;
use serde_json::Value;

use super::lifecycle::State;
use super::*;

/// Ends a hang; nothing here asserts a time.
const TIMEOUT: Duration = Duration::from_secs(30);
const CORE: &str = "[[node]]\nid = \"eu-west/core/1\"\nmesh = \"127.0.0.1:1\"\n";
const EDGE: &str =
    "[[node]]\nid = \"eu-west/edge/1\"\nmesh = \"127.0.0.1:7400\"\nurl = \"http://edge\"\n";

/// The folder of an edge on ports of its own.
struct Folder {
    dir: tempfile::TempDir,
    ca: MeshCa,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap(), ca: MeshCa::create().unwrap() };
        folder.write("world.toml", &world(""));
        folder.write("nodes.toml", &format!("{CORE}{EDGE}"));
        let edge = "node = \"eu-west/edge/1\"\n[mesh]\nbind = \"127.0.0.1:0\"\n[edge]\nbind = \"127.0.0.1:0\"\n\
                    spread_seconds = 0\n[shutdown]\ndrain_seconds = 20\n[admin]\nbind = \"127.0.0.1:0\"\n";
        folder.write("edge.toml", edge);
        folder.issue("r1/edge/1");
        StreamKey::load_or_create(&folder.path("keys")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        auth::private::replace(&self.path(name), text.as_bytes()).unwrap();
    }

    fn issue(&self, node: &str) {
        let pem = self.ca.issue_pem(&node.parse().unwrap()).unwrap();
        self.write("node.pem", &pem.cert);
        self.write("node.key.pem", &pem.key);
        self.write("ca.pem", self.ca.cert_pem());
    }

    fn process(&self) -> anyhow::Result<Process> {
        Process::new(Role::Edge(EdgeConfig::read(&self.path("edge.toml"))?))
    }

    async fn started(&self) -> Process {
        let process = self.process().unwrap();
        assert!(process.start().await.unwrap().is_none(), "an edge has no store");
        process
    }
}

/// With these fields in its tenant.
fn world(tenant: &str) -> String {
    let text = topology::world::SHIPPED.iter().find(|(name, _)| *name == "one-region").unwrap().1;
    format!("{text}\n{tenant}\n")
}

async fn until(process: &Process, state: State) {
    let wait = async {
        while process.shared.lifecycle.state() != state {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait).await.unwrap();
}

#[tokio::test]
async fn a_node_says_what_keeps_it_from_work() {
    let folder = Folder::new();
    let process = folder.process().unwrap();
    assert_eq!(process.readiness().reasons, ["the node is starting"]);
    assert!(process.drain().unwrap_err().contains("starting"));
    process.start().await.unwrap();
    let readiness = process.readiness();
    assert!(!readiness.ready);
    assert_eq!(readiness.reasons, ["mesh: no core is up", "mesh: peer eu-west/core/1 is missing"]);
    let status: Value = process.status();
    assert_eq!((&status["node"], &status["id"]), (&"eu-west/edge/1".into(), &"r1/edge/1".into()));
    assert_eq!(
        (&status["region"], &status["state"], &status["sessions"]),
        (&"eu-west".into(), &"serving".into(), &0.into())
    );
    assert_eq!(
        (&status["draining"], &status["peers_missing"][0]),
        (&false.into(), &"eu-west/core/1".into())
    );
    assert!(status.get("shards").is_none());
    process.end().await;
    assert!(process.readiness().reasons.contains(&"the node is ending".to_owned()));
    assert!(process.undrain().unwrap_err().contains("ending"));
}

#[tokio::test]
async fn a_node_with_a_task_that_has_panicked_is_not_ready_and_names_the_task() {
    let folder = Folder::new();
    let process = folder.started().await;
    let admin = process.admin().await.unwrap();
    let ask = || async {
        let http = client::http::Plain::new(Arc::new(OsNet));
        let url = format!("http://{}", admin.local_addr());
        http.call(http::Method::GET, &url, "/readyz", "").await.unwrap()
    };
    process.shared.tasks.spawn("unlucky", async { panic!("as planned") }).await.unwrap();
    let (status, body) = ask().await;
    let body = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(status, http::StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("task unlucky has panicked; restart the node"), "{body}");
    admin.stop(TIMEOUT).await;
    process.end().await;
}

#[tokio::test]
async fn a_drain_is_told_and_can_be_called_off() {
    let folder = Folder::new();
    let process = folder.started().await;
    process.drain().unwrap();
    process.drain().unwrap();
    until(&process, State::Drained).await;
    assert!(process.readiness().reasons.contains(&"the node is drained".to_owned()));
    assert_eq!(process.status()["draining"], true);
    process.undrain().unwrap();
    assert_eq!(
        (process.shared.lifecycle.state(), &process.status()["draining"]),
        (State::Serving, &false.into())
    );
    process.end().await;
}

#[tokio::test]
async fn a_reload_takes_what_may_change_and_refuses_the_rest_with_the_reason() {
    let folder = Folder::new();
    let process = folder.started().await;
    let reload = || process.reload();
    let taken = reload();
    assert!(taken.refused.is_empty() && taken.taken.len() == 3, "{taken:?}");

    folder.write("nodes.toml", EDGE);
    let taken = reload();
    assert!(
        taken.taken.iter().any(|what| what.contains("eu-west/core/1 is no longer named")),
        "{taken:?}"
    );
    assert_eq!(process.readiness().reasons, ["mesh: no core is up"]);

    folder.write("nodes.toml", &EDGE.replace("7400", "7500"));
    folder.write("world.toml", &world("").replace("cores = 1", "cores = 2"));
    folder.issue("r1/edge/2");
    let Reloaded { taken, refused } = reload();
    assert!(taken.is_empty(), "{taken:?}");
    for (why, wanted) in refused.iter().zip([
        "not of r1/edge/1",
        "hold from the start of a node",
        "has changed: restart it",
    ]) {
        assert!(why.contains(wanted) && !why.contains('\n'), "{why}");
    }

    folder.write("nodes.toml", "[[node]]\nid = 3\n");
    folder.write("world.toml", "name = 1");
    fs::remove_file(folder.path("node.pem")).unwrap();
    let refused = reload().refused;
    for (why, wanted) in refused.iter().zip(["node.pem", "world.toml: line 1", "nodes.toml, line "])
    {
        assert!(why.contains(wanted) && !why.contains('\n'), "{why}");
    }
    assert_eq!(refused.len(), 3);
    process.end().await;
}

#[tokio::test]
async fn the_keys_of_identity_providers_are_read_again() {
    let folder = Folder::new();
    let process = folder.started().await;
    let provider = "issuer = \"https://id\"\njwks_file = \"id.json\"";
    folder.write("world.toml", &world(provider));
    let why = process.reload().refused;
    assert!(
        why.len() == 1 && why[0].contains("cannot read") && why[0].contains("id.json"),
        "{why:?}"
    );
    let key = "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"1\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}";
    folder.write("id.json", &format!("{{\"keys\":[{key}]}}"));
    let Reloaded { taken, refused } = process.reload();
    assert!(
        refused.is_empty() && taken[1].ends_with("the keys of 1 identity providers"),
        "{taken:?} {refused:?}"
    );
    process.end().await;
}

#[test]
fn an_edge_makes_no_key_of_its_own_and_believes_the_development_key_only_when_told_to() {
    let folder = Folder::new();
    let edge = fs::read_to_string(folder.path("edge.toml")).unwrap();
    let why = || format!("{:#}", folder.process().err().unwrap());
    folder.write("edge.toml", &format!("{edge}[auth]\ndev_tokens = true\n"));
    assert!(why().contains("hearth admin keys init") && why().contains(" --dev"), "{}", why());
    DevIssuer::load_or_create(&folder.path("keys")).unwrap();
    folder.process().unwrap();
    fs::remove_dir_all(folder.path("keys")).unwrap();
    assert!(why().contains("all edges share one key") && why().contains("stream.pem"), "{}", why());
    assert!(!Path::new(&folder.path("keys")).exists());
}
