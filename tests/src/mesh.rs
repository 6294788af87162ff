//! `hearth up` and the other commands, as processes.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// The program, built as the tests are.
///
/// `cargo test --workspace` has built it: this only finds that out. It asks for the whole workspace
/// and for a test, because cargo then resolves the features of every dependency as the tests have
/// them, and builds none of them twice.
pub fn hearth() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let this = std::env::current_exe().expect("a path of this test");
        // target/PROFILE/deps/NAME for tests, target/PROFILE/NAME for programs.
        let profile_dir =
            this.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).expect("a folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet"]);
        if profile_dir.file_name().is_some_and(|name| name == "release") {
            // Benches measure the program as it is released.
            cargo.args(["--release", "--package", "hearth", "--bin", "hearth"]);
        } else {
            cargo.args(["--workspace", "--bin", "hearth", "--test", "program"]);
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(built.success(), "hearth does not build");
        profile_dir.join("hearth")
    })
}

/// The text of a shipped world, with limits that no test reaches.
#[must_use]
pub fn load_world(name: &str) -> String {
    let (_, text) =
        topology::world::SHIPPED.iter().find(|(shipped, _)| *shipped == name).expect("a world");
    let limits: String = [
        "sends_per_second",
        "sends_burst",
        "conversations_per_minute",
        "conversations_burst",
        "members_added_per_hour",
        "requests_per_minute",
        "frames_per_second",
        "sessions_per_device_type",
    ]
    .map(|limit| format!("{limit} = 65535\n"))
    .concat();
    text.replace("[[tenant]]\n", &format!("[[tenant]]\n{limits}"))
}

/// A mesh of its own data folder; killed when dropped.
pub struct Mesh {
    up: Option<Child>,
    dir: TempDir,
    args: Vec<String>,
    /// A world that was written for this mesh alone.
    world: Option<tempfile::NamedTempFile>,
    /// The ready line.
    pub ready: Value,
}

impl Mesh {
    /// The default world.
    #[must_use]
    pub fn up() -> Self {
        Self::up_with(&[])
    }

    /// A shipped world whose users may ask as much as they like, for tests that send as fast as
    /// they can.
    #[must_use]
    pub fn for_load(world: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), load_world(world)).expect("a world");
        let mut mesh = Self::up_with(&["--world", file.path().to_str().expect("UTF-8")]);
        mesh.world = Some(file);
        mesh
    }

    /// With further arguments of `hearth up`.
    #[must_use]
    pub fn up_with(args: &[&str]) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        Self::started(tempfile::tempdir().expect("a folder"), args)
    }

    /// The default world, on this folder.
    #[must_use]
    pub fn up_on(dir: TempDir) -> Self {
        Self::started(dir, Vec::new())
    }

    fn started(dir: TempDir, args: Vec<String>) -> Self {
        let mut mesh = Self { up: None, dir, args, world: None, ready: Value::Null };
        mesh.start();
        mesh
    }

    /// Starts it again on the same data.
    pub fn start(&mut self) {
        assert!(self.up.is_none(), "it runs");
        let mut up = Command::new(hearth())
            .args(["up", "--json", "--data"])
            .arg(self.dir.path())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("hearth up starts");
        let mut line = String::new();
        BufReader::new(up.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("a ready line");
        self.ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line:?}"));
        self.up = Some(up);
    }

    /// SIGKILL: nobody is told.
    pub fn kill_9(&mut self) {
        let mut up = self.up.take().expect("it runs");
        up.kill().expect("a signal");
        up.wait().expect("its end");
    }

    /// SIGTERM, and waits for the end in order.
    pub fn end(&mut self) {
        let mut up = self.up.take().expect("it runs");
        let sent = Command::new("kill").arg(up.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
        let status = up.wait().expect("its end");
        assert!(status.success(), "hearth up ended with {status}");
    }

    /// The data folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The URL of a region's edge.
    #[must_use]
    pub fn edge(&self, region: &str) -> String {
        self.url(region, "edge")
    }

    /// The URL of a region's admin listener.
    #[must_use]
    pub fn admin(&self, region: &str) -> String {
        self.url(region, "admin")
    }

    fn url(&self, region: &str, of: &str) -> String {
        let regions = self.ready["regions"].as_array().expect("regions");
        let region =
            regions.iter().find(|found| found["name"] == region).expect("a region of this world");
        region[of].as_str().expect("a URL").to_owned()
    }

    /// The names of the regions, in the order of the world.
    #[must_use]
    pub fn regions(&self) -> Vec<String> {
        let regions = self.ready["regions"].as_array().expect("regions");
        regions.iter().map(|region| region["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// A command on this mesh, not started.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(hearth());
        command.args(args).env("HEARTH_DATA", self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command on this mesh to its end. Blocks.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("hearth runs")
    }

    /// Runs a command that must succeed; its stdout. Blocks.
    pub fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hearth {args:?}: {}: {stderr}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// An identity token of the first tenant.
    #[must_use]
    pub fn token(&self, user: &str) -> String {
        self.must(&["token", "--user", user]).trim().to_owned()
    }

    /// An identity token of a tenant.
    #[must_use]
    pub fn token_of(&self, tenant: &str, user: &str) -> String {
        self.must(&["token", "--user", user, "--tenant", tenant]).trim().to_owned()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            let _ = up.kill();
            let _ = up.wait();
        }
    }
}
