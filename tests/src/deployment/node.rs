//! One node of a deployment: its folder, its process, and what it says of itself.

use std::fs::{self, File, OpenOptions};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use test_cluster::{Hosts, Reaper};

use super::REGIONS;
use crate::http;
use crate::mesh::hearth;

pub use wire::NodeRole;
use wire::version::Feature;

const MESH_PORT: u16 = 7400;
const EDGE_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9400;
/// A node that says nothing for so long is paused, or cut off.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines of a log that are shown when something went wrong.
const SHOWN_LINES: usize = 30;

/// A node, which may be dead.
#[derive(Debug)]
pub struct Node {
    /// As operators write it: `eu-west/core/1`.
    pub name: String,
    /// From 1.
    pub region: usize,
    /// Core or edge.
    pub role: NodeRole,
    /// The last part of its name, and of its address.
    n: u8,
    address: IpAddr,
    home: PathBuf,
    hosts: Arc<Hosts>,
    reaper: Arc<Reaper>,
    process: Mutex<Option<Child>>,
}

impl Node {
    pub(super) fn new(
        dir: &Path,
        hosts: &Arc<Hosts>,
        reaper: &Arc<Reaper>,
        region: usize,
        role: NodeRole,
        n: u8,
    ) -> Self {
        let kind = if role == NodeRole::Core { "core" } else { "edge" };
        let name = format!("{}/{kind}/{n}", REGIONS[region - 1]);
        Self {
            home: dir.join(name.replace('/', "-")),
            name,
            region,
            role,
            n,
            address: hosts.node(region, n),
            hosts: Arc::clone(hosts),
            reaper: Arc::clone(reaper),
            process: Mutex::new(None),
        }
    }

    /// As logs and shards write it: `r1/core/1`.
    #[must_use]
    pub fn id(&self) -> String {
        let kind = if self.role == NodeRole::Core { "core" } else { "edge" };
        format!("r{}/{kind}/{}", self.region, self.n)
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn config(&self) -> PathBuf {
        self.home.join("config.toml")
    }

    /// Its part of nodes.toml.
    pub(super) fn entry(&self) -> String {
        let mesh = SocketAddr::new(self.address, MESH_PORT);
        let entry = format!("[[node]]\nid = {:?}\nmesh = \"{mesh}\"\n", self.name);
        if self.role == NodeRole::Edge {
            entry + &format!("url = {:?}\n", self.url())
        } else {
            entry
        }
    }

    /// Writes its config file. Its certificate is there already.
    pub(super) fn configure(&self, store: &str) {
        let at = |port| SocketAddr::new(self.address, port);
        let own = match self.role {
            NodeRole::Core => store.to_owned(),
            NodeRole::Edge => {
                format!(
                    "[edge]\nbind = \"{}\"\nspread_seconds = 1\n[auth]\nkeys = \"../keys\"\ndev_tokens = true\n",
                    at(EDGE_PORT)
                )
            }
        };
        let config = format!(
            "node = {:?}\nworld = \"../world.toml\"\nnodes = \"../nodes.toml\"\n[mesh]\nbind = \"{}\"\n[admin]\nbind = \"{}\"\n\
             token_file = \"../admin.token\"\n[shutdown]\ndrain_seconds = 20\n{own}",
            self.name,
            at(MESH_PORT),
            at(ADMIN_PORT)
        );
        fs::write(self.config(), config).expect("the folder can be written");
    }

    /// Sets the features that the node withholds after its next start, as an older program.
    ///
    /// # Panics
    /// When its config cannot be written.
    pub fn withhold(&self, features: &[Feature]) {
        let names: Vec<_> = features.iter().map(|feature| feature.name()).collect();
        let config = fs::read_to_string(self.config()).expect("it was configured");
        let lines = config.lines().filter(|line| !line.starts_with("withhold_features ="));
        let config: Vec<String> = lines
            .map(|line| {
                if line == "[mesh]" {
                    format!("[mesh]\nwithhold_features = {names:?}")
                } else {
                    line.to_owned()
                }
            })
            .collect();
        fs::write(self.config(), config.join("\n") + "\n").expect("the folder can be written");
    }

    /// The URL of an edge for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", SocketAddr::new(self.address, EDGE_PORT))
    }

    /// The address of the admin endpoint.
    #[must_use]
    pub fn admin(&self) -> String {
        format!("http://{}", SocketAddr::new(self.address, ADMIN_PORT))
    }

    /// The status that the node reports.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<Value, String> {
        let admin = self.admin();
        let asked = http::request("GET", &admin, "/status", None, "");
        let answer = tokio::time::timeout(STATUS_TIMEOUT, asked).await;
        answer.map_err(|_| "it is silent".to_owned())?.map(|answer| answer.body)
    }

    /// Starts it on what it has.
    ///
    /// # Panics
    /// When it lives.
    pub fn start(&self) {
        let kind = if self.role == NodeRole::Core { "core" } else { "edge" };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the folder can be written");
        let mut command = self.hosts.command(self.region, hearth());
        command.arg(kind).arg("--config").arg(self.config());
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("hearth starts");
        self.reaper.process(process.id());
        assert!(self.process().replace(process).is_none(), "{} lives already", self.name);
    }

    /// Whether it runs, or is paused.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut process = self.process();
        let Some(alive) = process.as_mut() else { return false };
        if alive.try_wait().is_ok_and(|ended| ended.is_none()) {
            return true;
        }
        self.reaper.gone(alive.id());
        *process = None;
        false
    }

    /// SIGKILL, and waits for its end.
    ///
    /// # Panics
    /// When it is dead.
    pub fn kill(&self) {
        let mut process = self.process().take().unwrap_or_else(|| panic!("{} is dead", self.name));
        process.kill().expect("a signal");
        process.wait().expect("its end");
        self.reaper.gone(process.id());
    }

    /// SIGTERM, and waits until it has ended in order.
    ///
    /// # Panics
    /// When it is dead, or ends otherwise.
    pub fn end(&self) {
        self.signal("TERM");
        let mut process = self.process().take().unwrap_or_else(|| panic!("{} is dead", self.name));
        let status = process.wait().expect("its end");
        self.reaper.gone(process.id());
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.end_of_log());
    }

    /// SIGSTOP: it holds its sockets and answers nothing.
    ///
    /// # Panics
    /// When it is dead.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT, if it lives.
    pub fn wake(&self) {
        if self.is_alive() {
            self.signal("CONT");
        }
    }

    fn signal(&self, name: &str) {
        let pid = self
            .process()
            .as_ref()
            .map(Child::id)
            .unwrap_or_else(|| panic!("{} is dead", self.name));
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "SIG{name} to {}", self.name);
    }

    /// Seconds that its process has spent on processors since it started.
    ///
    /// # Panics
    /// When it is dead.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        // /proc counts in hundredths of a second on all that Linux runs on.
        const TICKS: f64 = 100.0;
        let pid = self
            .process()
            .as_ref()
            .map(Child::id)
            .unwrap_or_else(|| panic!("{} is dead", self.name));
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        // After the name, which may hold anything.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| fields[n].parse::<u32>().expect("a number");
        f64::from(ticks(11) + ticks(12)) / TICKS
    }

    /// A place in its log: now.
    #[must_use]
    pub fn log_mark(&self) -> u64 {
        File::open(self.log_file()).and_then(|file| file.metadata()).map_or(0, |file| file.len())
    }

    /// The lines that it has logged since, as they are: a JSON object each.
    #[must_use]
    pub fn logged_since(&self, mark: u64) -> Vec<Value> {
        let log = fs::read(self.log_file()).unwrap_or_default();
        let from = usize::try_from(mark).unwrap_or(usize::MAX).min(log.len());
        log[from..]
            .split(|&byte| byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    /// The end of its log, for failures.
    #[must_use]
    pub fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("log.jsonl")
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process().take() {
            _ = process.kill();
            _ = process.wait();
            self.reaper.gone(process.id());
        }
    }
}
