//! A real Cassandra cluster: a datacenter of one node in each region.
//!
//! The jars come from Maven, pinned by `cassandra/pom.xml`, and are kept under the target folder.
//! `HEARTH_CQL=host,host,host` takes a cluster that runs already instead, one host of each
//! datacenter; it is neither stopped nor paused.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::hosts::Hosts;
use crate::reaper::Reaper;

/// Ends a hang: the three need 10 to 20 s until they answer each other.
const START_TIMEOUT: Duration = Duration::from_secs(240);
const CQL_PORT: u16 = 9042;
/// Evenly over the ring.
const TOKENS: [&str; 3] = ["-9223372036854775808", "-3074457345618258603", "3074457345618258602"];

/// Three datacenters that answer.
#[derive(Debug)]
pub struct Cluster {
    /// One of each datacenter, in the order of the regions.
    pub nodes: Vec<Node>,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// The address of its CQL port.
    pub address: SocketAddr,
    /// The name of its datacenter.
    pub datacenter: String,
    /// None when it was not started here.
    ours: Option<Ours>,
}

#[derive(Debug)]
struct Ours {
    hosts: Arc<Hosts>,
    reaper: Arc<Reaper>,
    /// From 1.
    region: usize,
    home: PathBuf,
    jars: PathBuf,
    /// None while it is dead.
    process: Mutex<Option<Child>>,
}

impl Cluster {
    /// The cluster that `HEARTH_CQL` names, or a new one on these hosts. None, with the reason on
    /// stderr, when this machine cannot run one.
    ///
    /// # Panics
    /// When the cluster does not come up; and with `HEARTH_CI` set also when this machine cannot
    /// run one.
    #[must_use]
    pub fn take(hosts: &Arc<Hosts>, reaper: &Arc<Reaper>) -> Option<Self> {
        if let Ok(hosts) = std::env::var("HEARTH_CQL") {
            return Some(Self::running(&hosts));
        }
        for program in ["java", "mvn"] {
            if !runs(program) {
                crate::skip(&format!(
                    "`{program}` is not there: install JDK 17 and Maven, or name a running cluster in HEARTH_CQL=host,host,host"
                ));
                return None;
            }
        }
        Some(Self::start(hosts, reaper))
    }

    /// One that runs already: three hosts, one of each datacenter, with commas between them.
    ///
    /// # Panics
    /// When one of them is not there.
    #[must_use]
    pub fn running(hosts: &str) -> Self {
        let nodes = hosts.split(',').map(|host| {
            let host = host.trim();
            let with_port =
                if host.contains(':') { host.to_owned() } else { format!("{host}:{CQL_PORT}") };
            let address = std::net::ToSocketAddrs::to_socket_addrs(&with_port)
                .ok()
                .and_then(|mut found| found.next())
                .unwrap_or_else(|| panic!("{host} is no address"));
            let datacenter = Cql::connect(address)
                .and_then(|mut cql| cql.text("SELECT data_center FROM system.local"))
                .unwrap_or_else(|error| panic!("{host}: {error}"));
            Node { address, datacenter, ours: None }
        });
        let nodes: Vec<Node> = nodes.collect();
        assert_eq!(nodes.len(), TOKENS.len(), "three hosts are wanted, one of each datacenter");
        Self { nodes }
    }

    fn start(hosts: &Arc<Hosts>, reaper: &Arc<Reaper>) -> Self {
        let cache = cache();
        let jars = jars(&cache);
        let folder = cache.join(format!("run-{}-{}", std::process::id(), hosts.store(1)));
        reaper.folder(&folder);
        let address = |n: usize| hosts.store(n + 1).to_string();
        let seeds = (0..TOKENS.len()).map(address).collect::<Vec<_>>().join(",");
        let nodes = TOKENS.iter().enumerate().map(|(n, token)| {
            let home = folder.join(format!("node-{}", n + 1));
            let datacenter = format!("dc{}", n + 1);
            configure(
                &home,
                &datacenter,
                &[("ADDRESS", &address(n)), ("SEEDS", &seeds), ("TOKEN", token)],
            );
            let ours = Ours {
                hosts: Arc::clone(hosts),
                reaper: Arc::clone(reaper),
                region: n + 1,
                home,
                jars: jars.clone(),
                process: Mutex::new(None),
            };
            let node = Node {
                address: SocketAddr::new(hosts.store(n + 1), CQL_PORT),
                datacenter,
                ours: Some(ours),
            };
            node.start();
            node
        });
        let cluster = Self { nodes: nodes.collect() };
        cluster.wait();
        cluster
    }

    /// Waits until each node reads from all three: an open port is not a quorum.
    ///
    /// # Panics
    /// When one of them ends, or is not there in time.
    pub fn wait(&self) {
        // Three copies, so one in each datacenter.
        const ON_ALL: &str = "SELECT parent_id FROM system_distributed.parent_repair_history \
                              WHERE parent_id = 00000000-0000-1000-8000-000000000000";
        let begun = Instant::now();
        for node in &self.nodes {
            while let Err(error) =
                Cql::connect(node.address).and_then(|mut cql| cql.query(ON_ALL, Cql::ALL))
            {
                assert!(
                    node.is_alive() && begun.elapsed() < START_TIMEOUT,
                    "{} does not answer ({error}). The end of its log:\n{}",
                    node.datacenter,
                    node.end_of_log()
                );
                sleep(Duration::from_millis(200));
            }
        }
    }
}

impl Node {
    /// Whether it may be killed and paused: it was started here.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// The folder of all its files; none when it was not started here.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.ours.as_ref().map(|ours| ours.home.as_path())
    }

    /// Its process; none when it was not started here, or is dead.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.ours.as_ref().and_then(|ours| ours.process().as_ref().map(Child::id))
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

    /// SIGKILL, and waits for its end.
    ///
    /// # Panics
    /// When it was not started here, or is dead.
    pub fn kill(&self) {
        let ours = self.ours();
        let mut process = ours.process().take().expect("it lives");
        process.kill().expect("a signal");
        process.wait().expect("its end");
        ours.reaper.gone(process.id());
    }

    /// Starts it on what it has on its disk. See [`Cluster::wait`].
    ///
    /// # Panics
    /// When it was not started here, or lives.
    pub fn start(&self) {
        let ours = self.ours();
        let process = ours.launch();
        ours.reaper.process(process.id());
        assert!(ours.process().replace(process).is_none(), "it lives already");
    }

    fn is_alive(&self) -> bool {
        let Some(ours) = &self.ours else { return true };
        ours.process()
            .as_mut()
            .is_some_and(|process| process.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    fn ours(&self) -> &Ours {
        self.ours.as_ref().expect("a cluster of HEARTH_CQL is not ours to signal")
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().expect("it was started here, and lives");
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "SIG{name} to {pid}");
    }

    fn end_of_log(&self) -> String {
        let log = self.ours.as_ref().map(|ours| ours.home.join("stdout.log"));
        let log = log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Ours {
    fn launch(&self) -> Child {
        let home = &self.home;
        let out = File::create(home.join("stdout.log")).expect("the target folder can be written");
        let err = out.try_clone().expect("a file has two handles");
        let mut java = self.hosts.command(self.region, "java");
        // A small first heap: as root, Cassandra locks all of it into memory.
        java.args(["-Xms64m", "-Xmx256m", "-XX:MaxDirectMemorySize=256m", "-Xss512k"]);
        // These start fastest on few cores.
        java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ActiveProcessorCount=2"]);
        java.arg("-XX:+ExitOnOutOfMemoryError");
        java.args(["--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED"]);
        java.args([
            "--add-opens",
            "java.base/java.io=ALL-UNNAMED",
            "--add-opens",
            "java.base/sun.nio.ch=ALL-UNNAMED",
        ]);
        java.args([
            "-Djdk.attach.allowAttachSelf=true",
            "-Dio.netty.tryReflectionSetAccessible=true",
        ]);
        // No other server joins.
        java.args([
            "-Dcassandra.ring_delay_ms=1000",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        ]);
        java.args(["-Dcassandra.consistent.rangemovement=false", "-Dcassandra-foreground=yes"]);
        java.arg(format!("-Dcassandra.config=file:{}", home.join("cassandra.yaml").display()));
        java.arg(format!(
            "-Dcassandra-rackdc.properties=file:{}",
            home.join("rackdc.properties").display()
        ));
        java.arg(format!("-Dcassandra.storagedir={}", home.display()));
        java.arg(format!("-Dlogback.configurationFile={}", recipe().join("logback.xml").display()));
        java.arg("-cp").arg(format!("{}/*", self.jars.display()));
        java.arg("org.apache.cassandra.service.CassandraDaemon");
        java.stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("java was there a moment ago")
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let ours = || self.nodes.iter().filter_map(|node| node.ours.as_ref());
        for ours in ours() {
            if let Some(process) = ours.process().as_mut() {
                _ = process.kill();
            }
        }
        for ours in ours() {
            if let Some(mut process) = ours.process().take() {
                _ = process.wait();
                ours.reaper.gone(process.id());
            }
        }
    }
}

fn runs(program: &str) -> bool {
    // java says its version with one dash, mvn with either.
    let run =
        Command::new(program).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

/// The folder with what every node is started with.
fn recipe() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cassandra")
}

/// In the target folder.
fn cache() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows where it is");
    // target/debug/deps/test or target/debug/program
    let below = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    below.expect("cargo builds into a target folder").join("cassandra")
}

/// The folder with the jars of `pom.xml`. Maven checks them as it brings them.
fn jars(cache: &Path) -> PathBuf {
    let pom = recipe().join("pom.xml");
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

fn configure(home: &Path, datacenter: &str, values: &[(&str, &str)]) {
    _ = fs::remove_dir_all(home);
    fs::create_dir_all(home).expect("the target folder can be written");
    let mut yaml = fs::read_to_string(recipe().join("cassandra.yaml")).expect("the tree has it");
    for (name, value) in values {
        yaml = yaml.replace(&format!("@{name}@"), value);
    }
    fs::write(home.join("cassandra.yaml"), yaml).expect("the target folder can be written");
    let place = format!("dc={datacenter}\nrack=rack1\n");
    fs::write(home.join("rackdc.properties"), place).expect("the target folder can be written");
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
            (length > 0 && length == result.len() - at - 4)
                .then(|| String::from_utf8_lossy(&result[at + 4..]).into())
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
