//! A mesh as an operator deploys it: a process a node, each with its own config file, in the
//! network of its region, over a real Cassandra cluster of three datacenters. Prepared with the
//! program's own commands.
//!
//! The stories of one test program share one, each for itself: [`Deployment::whole`] gives it
//! mended.

mod node;
mod servers;
mod trace;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use test_cluster::{Cluster, Hosts, Reaper};
use tokio::sync::{Mutex, OnceCell};

pub use node::{Node, NodeRole};
pub use servers::{Servers, Turn};
pub use trace::{Takeover, Trace};

use crate::mesh::hearth;
use crate::{eventually, eventually_within};

/// The names of the regions of [`world`], in its order.
pub const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];
const CORES: u8 = 2;
/// The file with what operators show.
const ADMIN_TOKEN: &str = "admin.token";
/// Cassandra reads its commit log first.
const MEND_TIMEOUT: Duration = Duration::from_secs(180);

/// The world of `hearth up`, with limits that no test reaches.
#[must_use]
pub fn world() -> String {
    crate::mesh::load_world("three-regions")
}

/// Nine nodes and three servers of the store.
#[derive(Debug)]
pub struct Deployment {
    /// Two cores and an edge in each region.
    pub nodes: Vec<Node>,
    /// A server in each region.
    pub cluster: Arc<Cluster>,
    /// The networks of the regions.
    pub hosts: Arc<Hosts>,
    servers: Servers,
    dir: PathBuf,
}

/// The deployment of this program, while one story has it for itself.
#[derive(Debug)]
pub struct Whole {
    deployment: &'static Deployment,
    _turn: Turn,
}

impl Deref for Whole {
    type Target = Deployment;

    fn deref(&self) -> &Deployment {
        self.deployment
    }
}

impl Deployment {
    /// The deployment of this program, with every node alive, every way open and every shard at
    /// home, for one story at a time. None, with the reason on stderr, when it is not wanted or
    /// this machine cannot run one.
    pub async fn whole() -> Option<Whole> {
        static SHARED: OnceCell<Deployment> = OnceCell::const_new();
        let turn = servers::turn().await;
        let servers = Servers::shared().await?;
        let start = || async {
            tokio::task::spawn_blocking(|| Self::on(servers)).await.expect("it starts")
        };
        let deployment = SHARED.get_or_init(start).await;
        deployment.mend().await;
        Some(Whole { deployment, _turn: turn })
    }

    /// A new one. Blocks. None, with the reason on stderr, when this machine cannot run one.
    ///
    /// # Panics
    /// When something does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        Servers::start().map(Self::on)
    }

    fn on(servers: Servers) -> Self {
        let Servers { cluster, hosts, reaper } = servers.clone();
        let dir = tempfile::Builder::new()
            .prefix("hearth-deployment-")
            .tempdir()
            .expect("a folder")
            .keep();
        if std::env::var_os("HEARTH_KEEP").is_some() {
            println!("configs and logs of the nodes: {}", dir.display());
        } else {
            reaper.folder(&dir);
        }
        let mut deployment = Self { nodes: Vec::new(), cluster, hosts, servers, dir };
        deployment.prepare(&reaper);
        for node in &deployment.nodes {
            node.start();
        }
        deployment
    }

    /// Does what docs/operations.md tells operators.
    fn prepare(&mut self, reaper: &Arc<Reaper>) {
        fs::write(self.file("world.toml"), world()).expect("the folder can be written");
        let token = self.file(ADMIN_TOKEN);
        fs::write(&token, "what operators show").expect("the folder can be written");
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("it is ours");
        self.admin(1, &["ca", "init", "--dir", "ca"]);
        self.admin(1, &["keys", "init", "--dev", "--dir", "keys"]);
        for region in 1..=REGIONS.len() {
            for n in 1..=CORES {
                self.nodes.push(Node::new(
                    &self.dir,
                    &self.hosts,
                    reaper,
                    region,
                    NodeRole::Core,
                    n,
                ));
            }
            self.nodes.push(Node::new(
                &self.dir,
                &self.hosts,
                reaper,
                region,
                NodeRole::Edge,
                CORES + 1,
            ));
        }
        let entries: String = self.nodes.iter().map(Node::entry).collect();
        fs::write(self.file("nodes.toml"), entries).expect("the folder can be written");
        for node in &self.nodes {
            let out = node.home().to_str().expect("UTF-8");
            self.admin(
                1,
                &[
                    "ca",
                    "issue",
                    "--dir",
                    "ca",
                    "--node",
                    &node.name,
                    "--world",
                    "world.toml",
                    "--out",
                    out,
                ],
            );
            node.configure(&self.store_section(node.region));
        }
        let config = self.nodes[0].config();
        self.admin(1, &["schema", "apply", "--config", config.to_str().expect("UTF-8")]);
    }

    fn store_section(&self, region: usize) -> String {
        let mut points: Vec<String> = self
            .cluster
            .nodes
            .iter()
            .map(|server| format!("{:?}", server.address.to_string()))
            .collect();
        // Its own region's first.
        points.rotate_left(region - 1);
        let datacenters = REGIONS.iter().zip(&self.cluster.nodes);
        let datacenters: Vec<String> = datacenters
            .map(|(region, server)| format!("{region} = {:?}", server.datacenter))
            .collect();
        // Fresh keyspaces also in a cluster that others use.
        let prefix = format!("s{}_", std::process::id());
        let dialect =
            std::env::var("HEARTH_CQL_DIALECT").unwrap_or_else(|_| "cassandra".to_owned());
        format!(
            "[store]\ncontact_points = [{}]\ndatacenters = {{ {} }}\ncopies = 1\nprefix = {prefix:?}\ndialect = {dialect:?}\n",
            points.join(", "),
            datacenters.join(", ")
        )
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `hearth admin` in a region, which must succeed.
    fn admin(&self, region: usize, args: &[&str]) {
        let mut command = self.command(region);
        let output = command.arg("admin").args(args).output().expect("hearth runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hearth admin {args:?}: {}: {stderr}", output.status);
    }

    /// The program in a region, on this deployment's folder.
    #[must_use]
    pub fn command(&self, region: usize) -> Command {
        let mut command = self.hosts.command(region, hearth());
        command
            .current_dir(&self.dir)
            .env("HEARTH_DATA", &self.dir)
            .stdin(std::process::Stdio::null());
        command
    }

    /// `hearth region` or `hearth conversation`, as an order to a core; its answer, or why there is
    /// none, and whether it was carried out.
    ///
    /// # Panics
    /// When the program does not run.
    pub async fn order(&self, core: &Node, args: &[&str]) -> (Value, bool) {
        let mut command = self.command(core.region);
        command.args(args).args(["--json", "--admin", &core.admin(), "--token-file", ADMIN_TOKEN]);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("no panic")
            .expect("hearth runs");
        let (told, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let told =
            serde_json::from_str(told.trim()).unwrap_or_else(|_| Value::String(error.into_owned()));
        (told, output.status.success())
    }

    /// The folder of configs and logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A node by its name.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The nodes of a region, counted from 1.
    pub fn nodes_of(&self, region: usize) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.region == region)
    }

    /// All cores, or all edges.
    pub fn nodes_with(&self, role: NodeRole) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// The URLs of all edges, those of the region first.
    #[must_use]
    pub fn edges_from(&self, region: usize) -> Vec<String> {
        let mut edges: Vec<&Node> = self.nodes_with(NodeRole::Edge).collect();
        edges.sort_by_key(|edge| (edge.region + REGIONS.len() - region) % REGIONS.len());
        edges.into_iter().map(Node::url).collect()
    }

    /// The cores that say they serve a shard.
    pub async fn owners(&self, shard: &str) -> Vec<&Node> {
        let mut owners = Vec::new();
        for core in self.nodes_with(NodeRole::Core) {
            let Ok(status) = core.status().await else { continue };
            let shards = status["shards"].as_array().cloned().unwrap_or_default();
            if shards.iter().any(|found| found["shard"] == shard && found["stage"] == "serving") {
                owners.push(core);
            }
        }
        owners
    }

    /// The only owner of a shard; waits until there is one.
    ///
    /// # Panics
    /// When there is none for too long.
    pub async fn owner(&self, shard: &str) -> &Node {
        eventually(&format!("one owner of {shard}"), || async {
            match self.owners(shard).await.as_slice() {
                [owner] => Some(*owner),
                _ => None,
            }
        })
        .await
    }

    /// Replaces the world file. Nodes read it when they start.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn set_world(&self, text: &str) {
        fs::write(self.file("world.toml"), text).expect("the folder can be written");
    }

    /// Waits until nothing of a lost region is still to be salvaged, and every core answers.
    pub async fn until_salvaged(&self) {
        eventually_within(MEND_TIMEOUT, "everything of the lost region", || async {
            for core in self.nodes_with(NodeRole::Core) {
                let status = core.status().await.ok().filter(|status| status["ready"] == true)?;
                let shards = status["shards"].as_array()?;
                let busy = |shard: &&Value| {
                    shard["forks"].as_u64().is_some() || shard["stage"] == "claiming"
                };
                if shards.iter().find(busy).is_some() {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Starts what is dead, wakes what is paused, heals every way, and waits until all is as on the
    /// first day.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn mend(&self) {
        self.revive();
        self.until_whole().await;
    }

    /// As [`Deployment::mend`], without the wait.
    ///
    /// # Panics
    /// When something does not start.
    pub fn revive(&self) {
        self.servers.heal();
        for node in &self.nodes {
            node.wake();
            if !node.is_alive() {
                node.start();
            }
        }
    }

    /// Waits until every node is ready and sees all others, and every shard is served by a core of
    /// its home.
    ///
    /// # Panics
    /// When that takes too long: with what is still missing.
    pub async fn until_whole(&self) {
        let missing = Mutex::new(String::new());
        let look = || async {
            let found = self.missing().await;
            let whole = found.is_none();
            *missing.lock().await = found.unwrap_or_default();
            whole.then_some(())
        };
        let waited = tokio::time::timeout(
            MEND_TIMEOUT,
            eventually_within(MEND_TIMEOUT * 2, "a whole deployment", look),
        );
        if waited.await.is_err() {
            panic!("the deployment does not mend: {}", missing.lock().await);
        }
    }

    /// The first thing that is not as it should be.
    async fn missing(&self) -> Option<String> {
        let (mut known, mut served) = (BTreeSet::new(), BTreeSet::new());
        for node in &self.nodes {
            let status = match node.status().await {
                Ok(status) => status,
                Err(error) => {
                    return Some(format!("{}: {error}\n{}", node.name, node.end_of_log()));
                }
            };
            if status["ready"] != true
                || status["peers_missing"].as_array().is_none_or(|missing| !missing.is_empty())
            {
                return Some(format!("{}: {}", node.name, status["reasons"]));
            }
            for shard in status["shards"].as_array().into_iter().flatten() {
                let name = text(&shard["shard"]);
                // z1-r2-multi-region-0 is at home in the second region.
                let at_home = name.split('-').nth(1) == Some(&format!("r{}", node.region));
                if at_home && shard["stage"] == "serving" {
                    served.insert(name.clone());
                } else if shard["stage"] == "serving" {
                    return Some(format!("{name} is served by {}", node.name));
                }
                known.insert(name);
            }
        }
        known.difference(&served).next().map(|shard| format!("{shard} is not served"))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
