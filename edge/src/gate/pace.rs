//! How slowly a request may come: with a pause of at most `pause` between two pieces, and, after
//! the first `pause`, at [`Pace::bytes_per_second`] on average. So a slow uplink gets through and a
//! drip does not hold a connection.

use std::time::Duration;

use tokio::time::Instant;

/// What is asked of a sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two pieces, and until the average counts.
    pub(crate) pause: Duration,
    /// On average.
    pub(crate) bytes_per_second: u32,
}

/// One head, or one body, on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    begun: Instant,
    last: Instant,
    bytes: usize,
}

impl Arrival {
    pub(crate) fn begin() -> Self {
        let begun = Instant::now();
        Self { begun, last: begun, bytes: 0 }
    }

    /// A piece has come.
    pub(crate) fn note(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.last = Instant::now();
    }

    /// When it is too slow, unless more comes before.
    pub(crate) fn deadline(&self, pace: Pace) -> Instant {
        let bytes = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        let earned = Duration::from_secs(1) * bytes / pace.bytes_per_second.max(1);
        (self.begun + pace.pause + earned).min(self.last + pace.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { pause: Duration::from_secs(15), bytes_per_second: 200 };

    /// Sends pieces at an interval; how many of them came in time.
    async fn sent(pieces: usize, bytes: usize, interval: Duration) -> usize {
        let mut arrival = Arrival::begin();
        for n in 0..pieces {
            tokio::time::advance(interval).await;
            if Instant::now() > arrival.deadline(PACE) {
                return n;
            }
            arrival.note(bytes);
        }
        pieces
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_sender_gets_through_and_neither_a_silent_one_nor_a_drip_does() {
        let second = Duration::from_secs(1);
        // 16 KiB at 300 bytes a second.
        assert_eq!(sent(55, 300, second).await, 55);
        assert_eq!(sent(10, 3_000, 14 * second).await, 10);
        assert_eq!(sent(10, 100_000, 16 * second).await, 0, "nothing for too long");
        assert_eq!(sent(1_000, 1, second).await, 15, "a drip");
    }
}
