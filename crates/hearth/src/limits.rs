//! `[limits]` of `core.toml` and `edge.toml`: every bound that a deployment may change. Both come
//! from one declaration each, as all config does; the defaults are those of `edge` and
//! `core-region`.

use std::path::Path;
use std::time::Duration;

use node::config::{self, ConfigError};
use serde::{Deserialize, Deserializer};
use store::embedded::Reserve;

/// A number within bounds. Anything else is refused with the line it stands in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Within<MIN, MAX> {
    fn count(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    fn number(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    fn millis(self) -> Duration {
        Duration::from_millis(self.0)
    }

    fn seconds(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Within<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(from)?;
        match u64::try_from(number) {
            Ok(given) if (MIN..=MAX).contains(&given) => Ok(Self(given)),
            _ => Err(serde::de::Error::custom(format!("{number} is not in {MIN} to {MAX}"))),
        }
    }
}

/// A count, or bytes.
type Count = Within<1, { u32::MAX as u64 }>;
/// Up to an hour.
type Seconds = Within<1, 3_600>;
/// From nothing to an hour.
type Millis = Within<0, 3_600_000>;

node::section! {
    /// Bounds of this edge. The defaults suit a machine that does nothing else.
    pub(crate) struct EdgeLimits {
        /// Sessions at once. When full, new ones are refused with 503 "overloaded".
        sessions: Count = or("200000"),
        /// Sessions between upgrade and hello. When full, new ones are refused with 503
        /// "overloaded".
        starting: Count = or("4096"),
        /// HTTP connections at once; a session is none. When full, a new one takes the place of one
        /// that has not shown a good token, and else of the one that is idle for the longest.
        http_connections: Count = or("8192"),
        /// Connections and sessions of one address (IPv4, or the /64 of IPv6). When full, a new one
        /// is closed. Raise it when many users come from one address.
        connections_per_address: Count = or("2048"),
        /// The head of a request must arrive within this. A slow one gets another second for each
        /// http_bytes_per_second_min bytes, as long as it does not pause for longer than this.
        /// Later, the connection is closed.
        http_head_seconds: Seconds = or("10"),
        /// The same for a body. Later, the request is refused.
        http_read_seconds: Seconds = or("15"),
        /// See http_head_seconds.
        http_bytes_per_second_min: Count = or("200"),
        /// A client that takes nothing of an answer for this long is cut off.
        http_write_seconds: Seconds = or("15"),
        /// A connection without a request for this long is closed. Keep it longer than proxies keep
        /// an idle connection.
        http_idle_seconds: Seconds = or("75"),
        /// Requests that a client may send without waiting for an answer. When full, the connection
        /// is closed after these answers.
        http_pipelined: Count = or("32"),
        /// Requests to one shard without an answer. When full, more are refused as "overloaded".
        requests_per_shard: Count = or("8192"),
        /// Frames of one session without an answer. When full, the session is not read.
        requests_per_session: Count = or("64"),
        /// Events that wait for one session. When full, it is "behind" in that conversation and
        /// catches up from history.
        outbox_events: Count = or("256"),
        /// The same in bytes.
        outbox_bytes: Count = or("262144"),
        /// Pages of history that wait for their readers, bytes in all; a user may have a sixteenth
        /// of it. When full, the next page waits for room, and over HTTP at most 5 s: then 503
        /// "overloaded".
        page_memory_bytes: Within<{ 16 * 1024 * 1024 }, { u32::MAX as u64 }> = or("268435456"),
        /// A request waits this long for its home, across takeovers. Then it is answered
        /// "home_unavailable".
        home_deadline_seconds: Seconds = or("30"),
        /// hello waits this long for the homes of the user's conversations. Later ones are attached
        /// when they answer.
        hello_wait_ms: Millis = or("3000"),
        /// Events wait this long after hello for the client's first frame, which may be a sync.
        settle_ms: Millis = or("250"),
        /// The interval of pings. A client that is silent for twice as long is closed with 4008.
        heartbeat_seconds: Seconds = or("20"),
        /// A client that reads nothing for this long, while something waits for it, is closed with
        /// 4030.
        stall_seconds: Seconds = or("30"),
        /// A client that stays "behind" for this long is closed with 4030.
        behind_seconds: Seconds = or("120"),
        /// A session with this many bad frames within abuse_window_seconds is closed with 1008.
        bad_frames: Count = or("20"),
        /// See bad_frames.
        abuse_window_seconds: Seconds = or("10"),
        /// A conversation without sessions is still watched for this long: people reconnect.
        linger_seconds: Seconds = or("15"),
        /// Longest life of a session, whatever its token says. Then it is closed with 4001.
        session_seconds: Within<60, 604_800> = or("86400"),
        /// Lifetime of a stream token.
        stream_token_seconds: Within<1, 60> = or("60"),
    }
}

impl EdgeLimits {
    pub(crate) fn limits(&self) -> edge::Limits {
        edge::Limits {
            sessions: self.sessions.count(),
            starting: self.starting.count(),
            http_connections: self.http_connections.count(),
            connections_per_address: self.connections_per_address.count(),
            count_loopback: true,
            http_head: self.http_head_seconds.seconds(),
            http_read: self.http_read_seconds.seconds(),
            http_bytes_per_second_min: self.http_bytes_per_second_min.number(),
            http_write: self.http_write_seconds.seconds(),
            http_idle: self.http_idle_seconds.seconds(),
            http_pipelined: self.http_pipelined.number(),
            requests_per_shard: self.requests_per_shard.count(),
            requests_per_session: self.requests_per_session.count(),
            outbox_events: self.outbox_events.count(),
            outbox_bytes: self.outbox_bytes.count(),
            page_memory_bytes: self.page_memory_bytes.count(),
            page_wait: edge::Limits::default().page_wait,
            home_deadline: self.home_deadline_seconds.seconds(),
            hello_wait: self.hello_wait_ms.millis(),
            settle: self.settle_ms.millis(),
            heartbeat: self.heartbeat_seconds.seconds(),
            stall: self.stall_seconds.seconds(),
            behind: self.behind_seconds.seconds(),
            bad_frames: self.bad_frames.number(),
            abuse_window: self.abuse_window_seconds.seconds(),
            linger: self.linger_seconds.seconds(),
            session: self.session_seconds.seconds(),
            stream_token: self.stream_token_seconds.seconds(),
        }
    }
}

node::section! {
    /// Bounds of this core. The defaults suit a machine that does nothing else.
    pub(crate) struct CoreLimits {
        /// Requests that wait for one shard. When full, the streams are not read.
        inputs_per_shard: Count = or("1024"),
        /// Requests of one stream without an answer. When full, that stream is not read.
        outstanding_per_stream: Count = or("4096"),
        /// Feed that waits to leave on one stream, bytes. When full, the watch is dropped as
        /// lagged.
        feed_bytes_per_stream: Count = or("8388608"),
        /// Conversations of a shard that are read from the store at once. When full, others wait.
        loads_at_once: Count = or("128"),
        /// Conversations of a shard kept in memory. When full, the longest unused one is dropped.
        conversations_cached: Count = or("50000"),
        /// The same in bytes, with the dedupe memory of each conversation.
        cached_bytes_per_shard: Count = or("268435456"),
        /// Frames of a shard on their way to the log. When full, commands wait, and the next frame
        /// is larger.
        frames_in_flight: Within<1, 1024> = or("16"),
        /// Frames of a shard that are projected at once.
        projections_at_once: Count = or("64"),
        /// History pages and the like that one shard reads at once. 16 times as many wait; more are
        /// refused as "overloaded".
        reads_at_once: Count = or("64"),
        /// Longest pause between two claims that failed.
        claim_backoff_max_ms: Within<100, 60_000> = or("3000"),
    }
}

impl CoreLimits {
    /// What is not named here is no matter of a deployment: the lease must be the same on all
    /// cores.
    pub(crate) fn limits(&self) -> core_region::Limits {
        core_region::Limits {
            inputs_per_shard: self.inputs_per_shard.count(),
            outstanding_per_stream: self.outstanding_per_stream.count(),
            feed_bytes_per_stream: self.feed_bytes_per_stream.count(),
            loads_at_once: self.loads_at_once.count(),
            conversations_cached: self.conversations_cached.count(),
            cached_bytes_per_shard: self.cached_bytes_per_shard.count(),
            frames_in_flight: self.frames_in_flight.count(),
            projections_at_once: self.projections_at_once.count(),
            reads_at_once: self.reads_at_once.count(),
            backoff_max: self.claim_backoff_max_ms.millis(),
            ..core_region::Limits::default()
        }
    }
}

node::section! {
    /// The copies that `hearth up` keeps, one a region.
    pub(crate) struct StoreLimits {
        /// Kept free on the disk of each copy, bytes; at most 5 % of the disk. Below it nothing new
        /// is taken, and sends are answered "home_unavailable".
        reserve_bytes: Within<0, { u32::MAX as u64 }> = or("268435456"),
    }
}

/// The bounds of the nodes and of the store that `hearth up` runs.
#[derive(Clone, Default)]
pub(crate) struct UpLimits {
    pub(crate) edge: edge::Limits,
    pub(crate) core: core_region::Limits,
    pub(crate) reserve: Reserve,
}

impl UpLimits {
    /// Reads a file with the sections `[edge]`, `[core]` and `[store]`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line and the cure.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        config::read(path, |file| {
            let (edge, core): (Option<EdgeLimits>, Option<CoreLimits>) =
                (file.section("edge"), file.section("core"));
            let store: Option<StoreLimits> = file.section("store");
            let reserve = Reserve { bytes: store?.reserve_bytes.0, ..Reserve::default() };
            Some(Self { edge: edge?.limits(), core: core?.limits(), reserve })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<UpLimits, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("limits.toml");
        std::fs::write(&path, text).unwrap();
        UpLimits::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_file_leaves_out_is_as_edges_and_cores_have_it() {
        let limits = read("").unwrap();
        assert_eq!(format!("{:?}", limits.edge), format!("{:?}", edge::Limits::default()));
        assert_eq!(format!("{:?}", limits.core), format!("{:?}", core_region::Limits::default()));
    }

    #[test]
    fn a_limit_that_is_given_holds_and_a_wrong_one_is_refused_with_its_line_and_the_cure() {
        let limits = read("[edge]\nsessions = 7\n[core]\nframes_in_flight = 3\n").unwrap();
        assert_eq!((limits.edge.sessions, limits.core.frames_in_flight), (7, 3));
        for (text, wanted) in [
            ("[edge]\nsessions = 0", "line 2: \"sessions\": 0 is not in 1 to 4294967295"),
            ("[edge]\nstall_seconds = -3", "-3 is not in 1 to 3600"),
            ("[edge]\nstream_token_seconds = 61", "61 is not in 1 to 60"),
            ("[edge]\nsesions = 5", "did you mean \"sessions\"?"),
            ("[core]\nframes_in_flight = \"many\"", "write for example frames_in_flight = 16"),
            ("[cores]\nreads_at_once = 1", "did you mean \"core\"?"),
        ] {
            let error = read(text).err().unwrap_or_default();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
