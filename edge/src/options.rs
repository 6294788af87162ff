//! What an edge is told at its start.

use std::sync::Arc;
use std::time::Duration;

use mesh::Mesh;
use topology::World;
use wire::{NodeId, RegionId};

use crate::gate::pace::Pace;

/// The edges that clients may be sent to instead: region and URL, as far as known now. This edge
/// may be among them.
pub type EdgeUrls = Arc<dyn Fn() -> Vec<(RegionId, String)> + Send + Sync>;

/// Whether web pages of an origin (`https://host:port`) may use this edge.
pub type Origins = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Options of [`crate::Edge::start`].
pub struct EdgeOptions {
    /// Who this edge is.
    pub node: NodeId,
    /// The world that it serves.
    pub world: Arc<World>,
    /// Its place in the mesh.
    pub mesh: Mesh,
    /// Where clients come in.
    pub listener: net::Listener,
    /// How clients reach it: `http://host:port`, without a slash at the end.
    pub public_url: String,
    /// Whom it believes.
    pub verifier: Arc<auth::Verifier>,
    /// Where it sends clients that it may not serve, or no longer.
    pub edges: EdgeUrls,
    /// The web pages that may use it.
    pub origins: Origins,
    /// Its bounds.
    pub limits: Limits,
}

/// Every bound of an edge, with what happens when it is reached.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sessions at once. Full: 503 `overloaded`.
    pub sessions: usize,
    /// Sessions between upgrade and `hello`. Full: 503 `overloaded`.
    pub starting: usize,
    /// HTTP connections at once (a session is none). Full: a new one takes the place of one without
    /// a good token, the oldest first, and else of the one that is idle for the longest. While all
    /// of them wait for answers, none is accepted, and the kernel's backlog fills.
    pub http_connections: usize,
    /// Connections and sessions of one address (IPv4, or the /64 of IPv6). Full: a new one is
    /// closed.
    pub connections_per_address: usize,
    /// Whether connections from this machine count there.
    pub count_loopback: bool,
    /// The head of a request comes within this time, longer by what
    /// [`Limits::http_bytes_per_second_min`] grants. Late: the connection is closed.
    pub http_head: Duration,
    /// The longest pause in a body; the body has as much time as a head has. Late: 400
    /// `bad_request`.
    pub http_read: Duration,
    /// What a head or a body must come with on average, after the first pause.
    pub http_bytes_per_second_min: u32,
    /// A client that takes nothing of an answer for so long is cut off.
    pub http_write: Duration,
    /// A connection without a request for so long is closed. Longer than proxies keep theirs.
    pub http_idle: Duration,
    /// Requests that a client sends without waiting for answers. Full: the connection is closed
    /// after this many answers.
    pub http_pipelined: u32,
    /// Requests of one shard without an answer. Full: `overloaded`.
    pub requests_per_shard: usize,
    /// Frames of one session without an answer. Full: the session is not read, so TCP pushes back.
    pub requests_per_session: usize,
    /// Events that wait for one session. Full: the session is `behind` in that conversation and is
    /// caught up from history.
    pub outbox_events: usize,
    /// As above, bytes.
    pub outbox_bytes: usize,
    /// Pages of history that wait for their readers, bytes in all; a user may have a sixteenth of
    /// it. Full: the next page is asked for when there is room, and over HTTP, after
    /// [`Limits::page_wait`], 503 `overloaded`.
    pub page_memory_bytes: usize,
    /// See [`Limits::page_memory_bytes`].
    pub page_wait: Duration,
    /// How long a request waits for its home, across takeovers. Late: `home_unavailable`.
    pub home_deadline: Duration,
    /// How long `hello` waits for the homes of the user's conversations. Late: they are attached
    /// when they answer.
    pub hello_wait: Duration,
    /// Events wait so long after `hello` for the client's first frame: it may be a `sync`, whose
    /// answer goes first.
    pub settle: Duration,
    /// A ping goes out so often; a client silent for twice as long is closed with 4008.
    pub heartbeat: Duration,
    /// A client that reads nothing for so long, while something waits for it, is closed with 4030.
    pub stall: Duration,
    /// A client that stays `behind` for so long is closed with 4030.
    pub behind: Duration,
    /// Bad frames within [`Limits::abuse_window`] after which a session is closed with 1008.
    pub bad_frames: u32,
    /// See [`Limits::bad_frames`].
    pub abuse_window: Duration,
    /// A conversation without sessions is watched so much longer: people reconnect.
    pub linger: Duration,
    /// Longest life of a session, whatever its token says. Over: closed with 4001.
    pub session: Duration,
    /// Lifetime of a stream token; at most 60 s.
    pub stream_token: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            sessions: 200_000,
            starting: 4_096,
            http_connections: 8_192,
            connections_per_address: 2_048,
            count_loopback: true,
            http_head: seconds(10),
            http_read: seconds(15),
            http_bytes_per_second_min: 200,
            http_write: seconds(15),
            http_idle: seconds(75),
            http_pipelined: 32,
            requests_per_shard: 8_192,
            requests_per_session: 64,
            outbox_events: 256,
            outbox_bytes: 256 * 1024,
            page_memory_bytes: 256 * 1024 * 1024,
            page_wait: seconds(5),
            home_deadline: seconds(30),
            hello_wait: seconds(3),
            settle: Duration::from_millis(250),
            heartbeat: seconds(20),
            stall: seconds(30),
            behind: seconds(120),
            bad_frames: 20,
            abuse_window: seconds(10),
            linger: seconds(15),
            session: seconds(24 * 3_600),
            stream_token: seconds(60),
        }
    }
}

impl Limits {
    /// How slowly a body may come.
    pub(crate) fn body_pace(&self) -> Pace {
        Pace { pause: self.http_read, bytes_per_second: self.http_bytes_per_second_min }
    }

    pub(crate) fn outbox(&self) -> crate::session::outbox::Bound {
        crate::session::outbox::Bound { events: self.outbox_events, bytes: self.outbox_bytes }
    }
}
