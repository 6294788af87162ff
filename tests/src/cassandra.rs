//! A real Cassandra cluster on this machine: three datacenters with one node each, on loopback addresses of their own.
//!
//! The jars come from Maven, pinned by `tests/cassandra/pom.xml`, and are kept under the target folder. `HEARTH_CQL=host,host,host`
//! takes a cluster that runs already instead, one host of each datacenter; it is neither stopped nor paused.
//!
//! Only processes that were started here are ever signalled, by their ids. They end with the [`Cluster`], and also when the
//! test's process dies: a watcher holds a pipe from it and kills them when that closes.
//!
//! The file knows nothing but std, so that the tests of the store include it as it is.

#![allow(clippy::disallowed_types, reason = "the three of them are real, and so are the sockets to them")]
#![allow(clippy::disallowed_methods, reason = "nothing here runs on an async worker")]
#![allow(unreachable_pub, dead_code, reason = "more than one crate includes it")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the three may take to answer each other. Only ends a hang: it takes them 10 to 20 s.
const START_PATIENCE: Duration = Duration::from_secs(240);
const CQL_PORT: u16 = 9042;
/// Evenly over the ring.
const TOKENS: [&str; 3] = ["-9223372036854775808", "-3074457345618258603", "3074457345618258602"];

/// Three datacenters that answer.
#[derive(Debug)]
pub struct Cluster {
    /// One of each datacenter.
    pub nodes: Vec<Node>,
    watcher: Option<Child>,
    folder: Option<PathBuf>,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Where its CQL is spoken.
    pub address: SocketAddr,
    /// The name of its datacenter.
    pub datacenter: String,
    process: Option<Child>,
    log: PathBuf,
}

impl Cluster {
    /// The cluster that `HEARTH_CQL` names, or a new one. None, with the reason on stderr, when this machine cannot run one.
    ///
    /// # Panics
    /// When the cluster does not come up; and with `HEARTH_CI` set also when this machine cannot run one.
    #[must_use]
    pub fn take() -> Option<Self> {
        if let Ok(hosts) = std::env::var("HEARTH_CQL") {
            return Some(Self::running(&hosts));
        }
        for program in ["java", "mvn"] {
            if !runs(program) {
                let why = format!(
                    "`{program}` is not there: install JDK 17 and Maven, or name a running cluster in HEARTH_CQL=host,host,host"
                );
                assert!(std::env::var_os("HEARTH_CI").is_none(), "nothing may be skipped in CI: {why}");
                eprintln!("SKIPPED: {why}");
                return None;
            }
        }
        Some(Self::start())
    }

    fn running(hosts: &str) -> Self {
        let nodes = hosts.split(',').map(|host| {
            let host = host.trim();
            let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:{CQL_PORT}") };
            let address = std::net::ToSocketAddrs::to_socket_addrs(&with_port)
                .ok()
                .and_then(|mut found| found.next())
                .unwrap_or_else(|| panic!("HEARTH_CQL: {host} is no address"));
            let datacenter = Cql::connect(address)
                .and_then(|mut cql| cql.text("SELECT data_center FROM system.local"))
                .unwrap_or_else(|error| panic!("HEARTH_CQL: {host}: {error}"));
            Node { address, datacenter, process: None, log: PathBuf::new() }
        });
        let nodes: Vec<Node> = nodes.collect();
        assert_eq!(nodes.len(), 3, "HEARTH_CQL takes three hosts, one of each datacenter");
        Self { nodes, watcher: None, folder: None }
    }

    fn start() -> Self {
        let (root, cache) = (root(), cache());
        let jars = jars(&root, &cache);
        let id = std::process::id();
        let folder = cache.join(format!("run-{id}"));
        // Another test's cluster may run beside this one: the ports are the same, so the addresses may not be.
        let address = |n: usize| format!("127.{}.{}.{}", 16 + id % 200, id / 200 % 250, n + 1);
        let seeds = (0..3).map(address).collect::<Vec<_>>().join(",");
        let nodes = (0..3).map(|n| {
            let home = folder.join(format!("node-{}", n + 1));
            let datacenter = format!("dc{}", n + 1);
            configure(&root, &home, &datacenter, &[("ADDRESS", &address(n)), ("SEEDS", &seeds), ("TOKEN", TOKENS[n])]);
            let log = home.join("stdout.log");
            let process = launch(&root, &jars, &home, &log);
            let address = SocketAddr::new(address(n).parse().expect("an address"), CQL_PORT);
            Node { address, datacenter, process: Some(process), log }
        });
        let mut cluster = Self { nodes: nodes.collect(), watcher: None, folder: Some(folder) };
        cluster.watch();
        cluster.wait();
        cluster
    }

    /// Sees to it that no node outlives this process.
    fn watch(&mut self) {
        let pids = self.nodes.iter().filter_map(Node::pid).map(|pid| pid.to_string());
        let folder = self.folder.as_ref().expect("a started cluster has one");
        let script = "trap '' INT TERM; folder=$1; shift; read -r _; kill -KILL \"$@\"; sleep 1; rm -rf \"$folder\"";
        let watcher = Command::new("sh")
            .args(["-c", script, "watcher"])
            .arg(folder)
            .args(pids)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.watcher = Some(watcher.expect("sh runs"));
    }

    /// Waits until each node reads from all three: an open port is not a quorum.
    ///
    /// # Panics
    /// When one of them ends, or is not there in time.
    pub fn wait(&mut self) {
        // Three copies, so one in each datacenter.
        const ON_ALL: &str = "SELECT parent_id FROM system_distributed.parent_repair_history \
                              WHERE parent_id = 00000000-0000-1000-8000-000000000000";
        let begun = Instant::now();
        for node in &mut self.nodes {
            while let Err(error) = Cql::connect(node.address).and_then(|mut cql| cql.query(ON_ALL, Cql::ALL)) {
                let ended = node.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
                assert!(
                    ended.is_none() && begun.elapsed() < START_PATIENCE,
                    "{} does not answer ({error}, ended: {ended:?}). The end of its log:\n{}",
                    node.datacenter,
                    node.end_of_log()
                );
                sleep(Duration::from_millis(200));
            }
        }
    }
}

impl Node {
    /// Its process; none when it was not started here.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Where it keeps everything; none when it was not started here.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.process.as_ref().and(self.log.parent())
    }

    /// SIGSTOP: it holds its sockets and answers nothing.
    ///
    /// # Panics
    /// When it was not started here.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// When it was not started here.
    pub fn wake(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().expect("a cluster of HEARTH_CQL is not ours to signal");
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "SIG{name} to {pid}");
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // First the watcher, or it would signal ids that may by then belong to others.
        if let Some(watcher) = &mut self.watcher {
            _ = watcher.kill();
            _ = watcher.wait();
        }
        for process in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            _ = process.kill();
        }
        for process in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            _ = process.wait();
        }
        if let Some(folder) = &self.folder {
            _ = fs::remove_dir_all(folder);
        }
    }
}

fn runs(program: &str) -> bool {
    // java says its version with one dash, mvn with either.
    let run = Command::new(program).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().find(|folder| folder.join("tests/cassandra/pom.xml").exists());
    root.expect("the crate lies in the tree").to_owned()
}

fn cache() -> PathBuf {
    let program = std::env::current_exe().expect("a test knows where it is");
    // target/debug/deps/program
    program.ancestors().nth(3).expect("cargo puts tests below target").join("cassandra")
}

/// The folder with the jars of `pom.xml`. Maven checks them as it brings them.
fn jars(root: &Path, cache: &Path) -> PathBuf {
    let pom = root.join("tests/cassandra/pom.xml");
    let wanted = fs::read_to_string(&pom).expect("the tree has it");
    let jars = cache.join("jars");
    if fs::read_to_string(jars.join("pom.xml")).is_ok_and(|there| there == wanted) {
        return jars;
    }
    let arriving = cache.join(format!("jars-{}", std::process::id()));
    fs::create_dir_all(&arriving).expect("the target folder can be written");
    let run = Command::new("mvn")
        .args(["-B", "-q", "--strict-checksums", "-f"])
        .arg(&pom)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", arriving.display()))
        .output()
        .expect("mvn was there a moment ago");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "mvn could not bring Cassandra:\n{said}");
    fs::write(arriving.join("pom.xml"), wanted).expect("the target folder can be written");
    _ = fs::remove_dir_all(&jars);
    if fs::rename(&arriving, &jars).is_err() {
        // Another test was quicker.
        _ = fs::remove_dir_all(&arriving);
    }
    jars
}

fn configure(root: &Path, home: &Path, datacenter: &str, values: &[(&str, &str)]) {
    _ = fs::remove_dir_all(home);
    fs::create_dir_all(home).expect("the target folder can be written");
    let template = root.join("tests/cassandra/cassandra.yaml");
    let mut yaml = fs::read_to_string(template).expect("the tree has it");
    for (name, value) in values {
        yaml = yaml.replace(&format!("@{name}@"), value);
    }
    fs::write(home.join("cassandra.yaml"), yaml).expect("the target folder can be written");
    let place = format!("dc={datacenter}\nrack=rack1\n");
    fs::write(home.join("rackdc.properties"), place).expect("the target folder can be written");
}

fn launch(root: &Path, jars: &Path, home: &Path, log: &Path) -> Child {
    let out = File::create(log).expect("the target folder can be written");
    let err = out.try_clone().expect("a file has two handles");
    let mut java = Command::new("java");
    // A small first heap: as root, Cassandra locks all of it into memory.
    java.args(["-Xms64m", "-Xmx256m", "-XX:MaxDirectMemorySize=256m", "-Xss512k"]);
    // What starts soonest on few cores.
    java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ActiveProcessorCount=2"]);
    java.arg("-XX:+ExitOnOutOfMemoryError");
    java.args(["--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED"]);
    java.args(["--add-opens", "java.base/java.io=ALL-UNNAMED", "--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED"]);
    java.args(["-Djdk.attach.allowAttachSelf=true", "-Dio.netty.tryReflectionSetAccessible=true"]);
    // Nobody else will join.
    java.args(["-Dcassandra.ring_delay_ms=1000", "-Dcassandra.skip_wait_for_gossip_to_settle=0"]);
    java.args(["-Dcassandra.consistent.rangemovement=false", "-Dcassandra-foreground=yes"]);
    java.arg(format!("-Dcassandra.config=file:{}", home.join("cassandra.yaml").display()));
    java.arg(format!("-Dcassandra-rackdc.properties=file:{}", home.join("rackdc.properties").display()));
    java.arg(format!("-Dcassandra.storagedir={}", home.display()));
    java.arg(format!("-Dlogback.configurationFile={}", root.join("tests/cassandra/logback.xml").display()));
    java.arg("-cp").arg(format!("{}/*", jars.display()));
    java.arg("org.apache.cassandra.service.CassandraDaemon");
    java.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("java was there a moment ago")
}

/// Enough of CQL's binary protocol, version 4, to ask whether it is there.
struct Cql(TcpStream);

impl Cql {
    const ONE: u16 = 1;
    const ALL: u16 = 5;

    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut cql = Self(stream);
        let mut startup = vec![0, 1];
        for text in ["CQL_VERSION", "3.0.0"] {
            startup.extend_from_slice(&u16::try_from(text.len()).expect("short").to_be_bytes());
            startup.extend_from_slice(text.as_bytes());
        }
        cql.call(1, &startup)?;
        Ok(cql)
    }

    fn query(&mut self, text: &str, consistency: u16) -> io::Result<Vec<u8>> {
        let mut body = i32::try_from(text.len()).expect("short").to_be_bytes().to_vec();
        body.extend_from_slice(text.as_bytes());
        body.extend_from_slice(&consistency.to_be_bytes());
        body.push(0);
        self.call(7, &body)
    }

    /// The only column of the only row.
    fn text(&mut self, query: &str) -> io::Result<String> {
        let result = self.query(query, Self::ONE)?;
        // It stands at the end, after its length.
        let found = (0..result.len().saturating_sub(4)).rev().find_map(|at| {
            let length = u32::from_be_bytes(*result.get(at..)?.first_chunk()?) as usize;
            (length > 0 && length == result.len() - at - 4).then(|| String::from_utf8_lossy(&result[at + 4..]).into())
        });
        found.ok_or_else(|| io::Error::other("no row"))
    }

    fn call(&mut self, opcode: u8, body: &[u8]) -> io::Result<Vec<u8>> {
        const ERROR: u8 = 0;
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        let mut frame = vec![4, 0, 0, 1, opcode];
        frame.extend_from_slice(&length);
        frame.extend_from_slice(body);
        self.0.write_all(&frame)?;
        let mut head = [0; 9];
        self.0.read_exact(&mut head)?;
        let mut answer = vec![0; u32::from_be_bytes([head[5], head[6], head[7], head[8]]) as usize];
        self.0.read_exact(&mut answer)?;
        if head[4] == ERROR {
            return Err(io::Error::other(String::from_utf8_lossy(&answer[4..]).into_owned()));
        }
        Ok(answer)
    }
}
