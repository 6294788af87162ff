//! Whether an edge is alive and useful: when to ping it, when to give it up. Pure: `now` is passed
//! in.

use std::time::Duration;

use tokio::time::Instant;

/// The stall timeout doubles this often while edge after edge acknowledges nothing.
const STALL_DOUBLINGS: u32 = 3;

/// The timing of one session.
pub(super) struct Liveness {
    heartbeat: Duration,
    /// An edge that owes an answer may be silent for this long.
    silence_max: Duration,
    stall_max: Duration,
    last_heard: Instant,
    last_sent: Instant,
    /// Since when the edge owes us an answer.
    owed_since: Option<Instant>,
    /// Since when messages wait and none is acknowledged.
    stalled_since: Option<Instant>,
}

impl Liveness {
    /// Of a session that begins now. `stalls` edges were left before, because nothing was
    /// acknowledged through them.
    pub(super) fn new(
        heartbeat: Duration,
        silence_max: Duration,
        stall_max: Duration,
        stalls: u32,
        now: Instant,
    ) -> Self {
        Self {
            heartbeat,
            silence_max,
            stall_max: stall_max * 2u32.pow(stalls.min(STALL_DOUBLINGS)),
            last_heard: now,
            last_sent: now,
            owed_since: None,
            stalled_since: None,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// Whether the edge owes an answer, and whether messages wait for an acknowledgement.
    pub(super) fn waits(&mut self, owed: bool, unacknowledged: bool, now: Instant) {
        self.owed_since = owed.then(|| self.owed_since.unwrap_or(now));
        self.stalled_since = unacknowledged.then(|| self.stalled_since.unwrap_or(now));
    }

    /// A message was acknowledged: the edge is no dead end. `stall_max` is the first one's again.
    pub(super) fn acknowledged(&mut self, stall_max: Duration) {
        (self.stalled_since, self.stall_max) = (None, stall_max);
    }

    /// How long the edge may be silent.
    pub(super) fn silence_timeout(&self) -> Duration {
        let usual = self.heartbeat * 2;
        if self.owed_since.is_some() { usual.min(self.silence_max) } else { usual }
    }

    /// The silence of an edge that owes nothing counts from the last frame heard.
    fn silent_since(&self) -> Instant {
        self.owed_since.map_or(self.last_heard, |since| since.max(self.last_heard))
    }

    /// The next ping: often enough to be heard ourselves, and once at half the timeout of a silent
    /// edge.
    pub(super) fn ping_at(&self) -> Instant {
        let doubt = self.last_sent.max(self.silent_since()) + self.silence_timeout() / 2;
        doubt.min(self.last_sent + self.heartbeat)
    }

    /// When the edge counts as dead.
    pub(super) fn lost_at(&self) -> Instant {
        self.silent_since() + self.silence_timeout()
    }

    /// When the edge is left because it acknowledges nothing.
    pub(super) fn stalled_at(&self) -> Option<Instant> {
        Some(self.stalled_since? + self.stall_max)
    }

    /// When one of the above is due.
    pub(super) fn wakes_at(&self) -> Instant {
        let fixed = self.ping_at().min(self.lost_at());
        self.stalled_at().map_or(fixed, |stalled| stalled.min(fixed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn liveness(now: Instant, stalls: u32) -> Liveness {
        Liveness::new(10 * S, 4 * S, 3 * S, stalls, now)
    }

    #[test]
    fn an_edge_that_owes_nothing_is_pinged_each_heartbeat_and_lost_after_two() {
        let start = Instant::now();
        let mut edge = liveness(start, 0);
        assert_eq!((edge.ping_at(), edge.lost_at()), (start + 10 * S, start + 20 * S));
        edge.sent(start + 10 * S);
        edge.heard(start + 11 * S);
        assert_eq!((edge.ping_at(), edge.lost_at()), (start + 20 * S, start + 31 * S));
    }

    #[test]
    fn an_edge_that_owes_an_answer_is_doubted_sooner() {
        let start = Instant::now();
        let mut edge = liveness(start, 0);
        edge.sent(start + S);
        edge.waits(true, false, start + S);
        assert_eq!((edge.ping_at(), edge.lost_at()), (start + 3 * S, start + 5 * S));
        edge.waits(true, false, start + 2 * S);
        assert_eq!(edge.lost_at(), start + 5 * S, "it owes since the first");
        edge.heard(start + 4 * S);
        assert_eq!(edge.lost_at(), start + 8 * S);
        edge.waits(false, false, start + 4 * S);
        assert_eq!(edge.lost_at(), start + 24 * S);
    }

    #[test]
    fn an_edge_that_acknowledges_nothing_is_left_and_the_next_has_twice_as_long() {
        let start = Instant::now();
        let mut edge = liveness(start, 0);
        assert_eq!(edge.stalled_at(), None);
        edge.waits(false, true, start);
        edge.waits(false, true, start + S);
        assert_eq!(edge.stalled_at(), Some(start + 3 * S));
        assert_eq!(edge.wakes_at(), start + 3 * S);
        edge.acknowledged(3 * S);
        assert_eq!(edge.stalled_at(), None);
        for (stalls, seconds) in [(1, 6), (3, 24), (9, 24)] {
            let mut next = liveness(start, stalls);
            next.waits(false, true, start);
            assert_eq!(next.stalled_at(), Some(start + seconds * S));
        }
    }
}
