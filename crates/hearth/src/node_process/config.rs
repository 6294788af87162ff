//! `core.toml` and `edge.toml`. The example files and the refusal of what is unknown come from the
//! declarations below.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::store::scylla::schema::Dialect;
use node::LogFormat;
use node::config::{self, ConfigError, File, Shape, beside, example};
use wire::NodeRole;
use wire::version::Feature;

use super::origins::Origin;
use crate::limits::{CoreLimits, EdgeLimits};

node::section! {
    /// Who this node is.
    pub(crate) struct WhoSection {
        /// Who this node is: region (a name of the world), role and name. Its certificate says the
        /// same.
        node: String = must(r#""eu-west/core/1""#),
        /// The world, the same file on all nodes. Paths are relative to this file.
        world: PathBuf = or(r#""world.toml""#),
        /// Where all nodes are, the same file on all nodes.
        nodes: PathBuf = or(r#""nodes.toml""#),
    }
}

node::section! {
    /// How it reaches the other nodes, and proves who it is.
    pub(crate) struct MeshSection {
        /// Where it listens (UDP). Left out: on all addresses, at the port of its entry in
        /// nodes.toml.
        bind: Option<SocketAddr> = may(r#""0.0.0.0:7400""#),
        /// The authority that it trusts, PEM. Two, one after the other, while the mesh changes from
        /// one to the next.
        ca: PathBuf = or(r#""ca.pem""#),
        /// Its certificate, PEM.
        cert: PathBuf = or(r#""node.pem""#),
        /// The certificate's private key, PEM. Only its owner may read the file.
        key: PathBuf = or(r#""node.key.pem""#),
        /// Features that this node does not tell and does not use, as if its program did not know
        /// them. While some are withheld by all nodes, the program of before can still be started
        /// again. Known: "moves".
        withhold_features: Vec<Feature> = or("[]"),
    }
}

node::section! {
    /// For operators and their tools: /healthz, /readyz, /status, /metrics; POST /drain, /undrain,
    /// /reload.
    pub(crate) struct AdminSection {
        /// Where it listens (TCP). Not for clients: let nobody but operators reach it.
        bind: SocketAddr = or(r#""127.0.0.1:9400""#),
        /// Whoever shows what stands in this file, as a Bearer, may drain the node and reload it.
        /// Left out: nobody may, and signals remain. Only its owner may read the file.
        token_file: Option<PathBuf> = may(r#""admin.token""#),
    }
}

node::section! {
    /// What it writes to stderr.
    pub(crate) struct LogSection {
        /// "json", an object a line, or "text".
        format: LogFormat = or(r#""json""#),
        /// How much: error, warn, info, debug, trace; also per part, such as
        /// "info,hearth_mesh=debug". The variable HEARTH_LOG comes first.
        level: String = or(r#""info,scylla=warn""#),
    }
}

node::section! {
    /// How it ends when it is asked to (SIGTERM, Ctrl-C).
    pub(crate) struct ShutdownSection {
        /// Its shards or sessions have so long to go elsewhere. Nothing that was acknowledged is
        /// lost when they do not.
        drain_seconds: u64 = or("30"),
        /// Then its tasks have so long to end.
        stop_seconds: u64 = or("5"),
    }
}

node::section! {
    /// The cluster, ScyllaDB or Cassandra, with a datacenter in each region.
    pub(crate) struct StoreSection {
        /// host or host:port of some servers, best of this region; the others are found by
        /// themselves.
        contact_points: Vec<String> = must(r#"["10.0.0.21:9042", "10.0.0.22:9042"]"#),
        /// What the cluster calls the datacenter of each region.
        datacenters: BTreeMap<String, String> = must(r#"{ eu-west = "dc1", us-east = "dc2", ap-south = "dc3" }"#),
        /// Copies in each datacenter. With three a region bears the loss of a server.
        copies: NonZeroUsize = or("3"),
        /// Before the names of all keyspaces, for several meshes in one cluster: letters, digits,
        /// underscores.
        prefix: String = or(r#""""#),
        /// "scylla" or "cassandra".
        dialect: Dialect = or(r#""scylla""#),
        /// Requests on their way at once.
        in_flight_max: NonZeroUsize = or("256"),
        /// Requests that may wait; more are refused at once, unsent.
        waiting_max: NonZeroUsize = or("4096"),
        /// Whether to look, before it starts, that keyspaces, tables and servers are as they must
        /// be, and to refuse otherwise.
        check: bool = or("true"),
        /// At the start the cluster has so long to answer.
        wait_seconds: u64 = or("60"),
    }
}

node::section! {
    /// Clients.
    pub(crate) struct EdgeSection {
        /// Where they come in (TCP): the url of this node's entry in nodes.toml leads here.
        bind: SocketAddr = or(r#""0.0.0.0:8080""#),
        /// When the edge drains, its sessions are asked to leave one after the other over this
        /// time.
        spread_seconds: u64 = or("10"),
        /// Web pages that may use this edge, beside those at the urls of all edges: their origins,
        /// such as "https://chat.example.org". "*" is any page.
        origins: Vec<Origin> = or("[]"),
    }
}

node::section! {
    /// Whom it believes, beside the identity providers that the world names for its tenants.
    pub(crate) struct AuthSection {
        /// The folder with stream.pem, which signs stream tokens: the same on all edges (hearth
        /// admin keys init).
        keys: PathBuf = or(r#""keys""#),
        /// Whether tokens signed with dev.pem of that folder are good, for any user of any tenant:
        /// for tests only.
        dev_tokens: bool = or("false"),
    }
}

/// What both kinds of nodes are told.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// The file itself.
    pub(crate) file: PathBuf,
    pub(crate) who: WhoSection,
    pub(crate) mesh: MeshSection,
    pub(crate) admin: AdminSection,
    pub(crate) log: LogSection,
    pub(crate) shutdown: ShutdownSection,
}

impl Common {
    /// With all paths as they are for this process.
    fn read(path: &Path, file: &mut File<'_>) -> Option<Self> {
        let (who, mesh, admin) = (file.top(), file.section("mesh"), file.section("admin"));
        let (log, shutdown) = (file.section("log"), file.section("shutdown"));
        let (mut who, mut mesh, mut admin): (WhoSection, MeshSection, AdminSection) =
            (who?, mesh?, admin?);
        let paths = [&mut who.world, &mut who.nodes, &mut mesh.ca, &mut mesh.cert, &mut mesh.key];
        for relative in paths.into_iter().chain(&mut admin.token_file) {
            *relative = beside(path, relative);
        }
        Some(Self { file: path.to_owned(), who, mesh, admin, log: log?, shutdown: shutdown? })
    }
}

/// A core's file.
#[derive(Clone, Debug)]
pub(crate) struct CoreConfig {
    pub(crate) common: Common,
    pub(crate) store: StoreSection,
    pub(crate) limits: CoreLimits,
}

impl CoreConfig {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line and the cure.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        config::read(path, |file| {
            let (common, store) = (Common::read(path, file), file.section("store"));
            let limits = file.section("limits");
            Some(Self { common: common?, store: store?, limits: limits? })
        })
    }
}

/// An edge's file.
#[derive(Clone, Debug)]
pub(crate) struct EdgeConfig {
    pub(crate) common: Common,
    pub(crate) edge: EdgeSection,
    pub(crate) auth: AuthSection,
    pub(crate) limits: EdgeLimits,
}

impl EdgeConfig {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line and the cure.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        config::read(path, |file| {
            let (common, edge, auth) =
                (Common::read(path, file), file.section("edge"), file.section("auth"));
            let limits: Option<EdgeLimits> = file.section("limits");
            let (common, edge, mut auth): (Common, EdgeSection, AuthSection) =
                (common?, edge?, auth?);
            let drain = common.shutdown.drain_seconds;
            if edge.spread_seconds >= drain {
                let problem = format!(
                    "[edge] spread_seconds = {} leaves no time to end",
                    edge.spread_seconds
                );
                let cure = format!("write less than [shutdown] drain_seconds = {drain}");
                file.refuse(1, problem, cure);
            }
            auth.keys = beside(path, &auth.keys);
            Some(Self { common, edge, auth, limits: limits? })
        })
    }
}

/// Either.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Core(CoreConfig),
    Edge(EdgeConfig),
}

impl Role {
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::Core(config) => &config.common,
            Self::Edge(config) => &config.common,
        }
    }

    pub(crate) fn node_role(&self) -> NodeRole {
        match self {
            Self::Core(_) => NodeRole::Core,
            Self::Edge(_) => NodeRole::Edge,
        }
    }

    /// Over which its sessions leave.
    pub(crate) fn spread(&self) -> Duration {
        match self {
            Self::Core(_) => Duration::ZERO,
            Self::Edge(config) => Duration::from_secs(config.edge.spread_seconds),
        }
    }
}

/// The example of a core's file.
#[must_use]
pub(crate) fn core_example() -> String {
    let head = "A core: sequences, persists, feeds.  hearth core --config core.toml";
    let own = [Shape::of::<StoreSection>("[store]"), Shape::of::<CoreLimits>("[limits]")];
    example(head, &[&common_shapes()[..], &own].concat())
}

/// The example of an edge's file.
#[must_use]
pub(crate) fn edge_example() -> String {
    let head = "An edge: where clients connect.  hearth edge --config edge.toml";
    let own = [
        Shape::of::<EdgeSection>("[edge]"),
        Shape::of::<AuthSection>("[auth]"),
        Shape::of::<EdgeLimits>("[limits]"),
    ];
    example(head, &[&common_shapes()[..], &own].concat())
        .replace("eu-west/core/1", "eu-west/edge/1")
}

fn common_shapes() -> [Shape; 5] {
    [
        Shape::of::<WhoSection>(""),
        Shape::of::<MeshSection>("[mesh]"),
        Shape::of::<AdminSection>("[admin]"),
        Shape::of::<LogSection>("[log]"),
        Shape::of::<ShutdownSection>("[shutdown]"),
    ]
}

#[cfg(test)]
mod tests;
