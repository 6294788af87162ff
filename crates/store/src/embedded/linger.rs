//! How long the committer waits for a fuller batch.
//!
//! Appenders that the last batch woke are likely to come again at once. When a sync is slow, the
//! first of them would get a sync of its own, and all others would wait for it. So the committer
//! waits until about as many have come as it woke, but never longer than a quarter of a sync, nor
//! than the bound. One appender alone never waits: its batch woke one.

use std::time::{Duration, Instant};

/// Shorter waits than this are not worth a sleep: the scheduler's own delay is longer.
const WORTH_IT: Duration = Duration::from_micros(40);

#[derive(Debug)]
pub(super) struct Linger {
    longest: Duration,
    /// A moving average of what a synced commit takes.
    sync: Duration,
    woken: usize,
}

impl Linger {
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, sync: Duration::ZERO, woken: 0 }
    }

    /// Until when to wait, with `waiting` already in the batch that was begun at `begun`.
    pub(super) fn until(&self, begun: Instant, waiting: usize) -> Option<Instant> {
        let budget = self.longest.min(self.sync / 4);
        (waiting < self.woken && budget >= WORTH_IT).then(|| begun + budget)
    }

    /// A synced commit took so long and woke so many.
    pub(super) fn learn(&mut self, took: Duration, woken: usize) {
        self.sync = (self.sync * 7 + took) / 8;
        self.woken = woken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_never_waits_and_many_wait_no_longer_than_a_quarter_of_a_sync() {
        let now = Instant::now();
        let mut linger = Linger::new(Duration::from_micros(300));
        assert_eq!(linger.until(now, 1), None);
        for _ in 0..100 {
            linger.learn(Duration::from_millis(1), 1);
        }
        assert_eq!(linger.until(now, 1), None);
        linger.learn(Duration::from_millis(1), 60);
        let until = linger.until(now, 3).unwrap();
        assert!(until - now <= Duration::from_micros(250));
        assert_eq!(linger.until(now, 60), None);
    }

    #[test]
    fn a_fast_disk_is_not_waited_for() {
        let mut linger = Linger::new(Duration::from_micros(300));
        for _ in 0..100 {
            linger.learn(Duration::from_micros(90), 60);
        }
        assert_eq!(linger.until(Instant::now(), 1), None);
    }
}
