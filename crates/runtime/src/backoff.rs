//! Pauses between attempts. Each is twice as long as the one before, up to a bound, and is drawn at
//! random from its upper half, so that two who failed together do not try again together.

use std::time::Duration;

use rand::Rng;

/// The pauses of one series of attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts with `min` and never exceeds `max`.
    #[must_use]
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// An attempt has succeeded: the next pause is the first again.
    pub fn reset(&mut self) {
        self.next = self.min;
    }

    /// The next pause, with jitter from the thread's generator.
    pub fn next_pause(&mut self) -> Duration {
        self.next_pause_with(&mut rand::rng())
    }

    /// The next pause, with jitter from this generator.
    pub fn next_pause_with(&mut self, rng: &mut impl Rng) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.max);
        pause.mul_f64(rng.random_range(0.5..1.0))
    }

    /// Sleeps for the next pause. Cancel safe; a cancelled pause counts.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_start_anew() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(10), ms(30));
        for upper in [10, 20, 30, 30] {
            let pause = backoff.next_pause();
            assert!(pause >= ms(upper) / 2 && pause < ms(upper), "{pause:?} of {upper}");
        }
        backoff.reset();
        assert!(backoff.next_pause() < ms(10));
    }
}
