//! Every bound of a core, with what happens when it is reached.

use std::time::Duration;

use conversation::shard::{ClockError, Timing};

/// The bounds of one core. The defaults suit a machine that does nothing else.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests of all streams that wait for a shard's owner task. Full: the streams are not read,
    /// so the mesh pushes back.
    pub inputs_per_shard: usize,
    /// Requests of one stream without an answer. Full: that stream is not read.
    pub outstanding_per_stream: usize,
    /// Encoded deliveries that wait to leave on one stream, bytes. Full: the watch is dropped as
    /// lagged.
    pub feed_bytes_per_stream: usize,
    /// Requests of a shard that wait in their conversations' queues. Full: as `inputs_per_shard`.
    pub gated_per_shard: usize,
    /// Conversations of a shard that are read from the store at once. Full: the others wait.
    pub loads_at_once: usize,
    /// Conversations of a shard kept in memory. Full: the longest unused one that is projected is
    /// dropped.
    pub conversations_cached: usize,
    /// What these may take, an upper estimate, bytes. Full: as `conversations_cached`.
    pub cached_bytes_per_shard: usize,
    /// Frames of a shard on their way to the log. Full: commands wait, and the next frame is
    /// larger.
    pub frames_in_flight: usize,
    /// Changes of a shard that are decided and not projected. Full: commits wait for the projector.
    /// Never more than a conversation's dedupe memory, so that what memory forgets is in the store.
    pub changes_unprojected: usize,
    /// Frames of a shard that are projected at once.
    pub projections_at_once: usize,
    /// History pages and the like that one shard reads at once; 16 times as many wait. Full:
    /// `overloaded`.
    pub reads_at_once: usize,
    /// Live deliveries kept for one watch while its past is replayed. Full: it is dropped as
    /// lagged.
    pub deliveries_behind_replay: usize,
    /// Frames of a shard that one consumer works on at once. Full: it takes no more, and lags.
    pub consumer_frames_open: usize,
    /// At least this often the checkpoint follows the projections.
    pub checkpoint_every: Duration,
    /// At least this often the committed mark follows the commits.
    pub committed_every: Duration,
    /// An owner without commits reads the fence this often, so that it learns of its end.
    pub idle_fence_every: Duration,
    /// How long a stream waits while its shard is being claimed, before it is sent away.
    pub hold_while_claiming: Duration,
    /// How long a stream waits for a shard that this core does not serve: its edge may have heard
    /// first.
    pub hold_while_elsewhere: Duration,
    /// Longest pause between two failed claims.
    pub backoff_max: Duration,
    /// How long the timed lease of a core holds. The same for all cores of a zone.
    pub lease: Timing,
}

/// A core that is cut off from its zone acknowledges no longer than this, and a takeover waits as
/// long. Clock rates may differ by 1 %, far more than quartz ever does.
const LEASE: Duration = Duration::from_secs(5);
const MARGIN: Duration = Duration::from_millis(100);
const CLOCKS: ClockError =
    ClockError { rate_ppm_max: 10_000, granularity: Duration::from_millis(1) };

impl Default for Limits {
    fn default() -> Self {
        Self {
            inputs_per_shard: 1_024,
            outstanding_per_stream: 4_096,
            feed_bytes_per_stream: 8 * 1024 * 1024,
            gated_per_shard: 4_096,
            loads_at_once: 128,
            conversations_cached: 50_000,
            cached_bytes_per_shard: 256 * 1024 * 1024,
            frames_in_flight: 16,
            changes_unprojected: 4_096,
            projections_at_once: 64,
            reads_at_once: 64,
            deliveries_behind_replay: 4_096,
            consumer_frames_open: 256,
            checkpoint_every: Duration::from_millis(500),
            committed_every: Duration::from_millis(200),
            idle_fence_every: Duration::from_secs(1),
            hold_while_claiming: Duration::from_secs(5),
            hold_while_elsewhere: Duration::from_millis(300),
            backoff_max: Duration::from_secs(3),
            lease: Timing::new(LEASE, MARGIN, CLOCKS)
                .expect("the margin is larger than the clock error"),
        }
    }
}
