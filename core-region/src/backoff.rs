//! Pauses that grow, each drawn at random from its upper half, so that two that failed together do
//! not retry together.

use std::time::Duration;

use rand::Rng;

#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// What was tried has worked.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause; the one after it is twice as long.
    pub(crate) fn draw(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.max);
        pause.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// Waits for the next pause. Cancel safe.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.draw()).await;
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
            let pause = backoff.draw();
            assert!(pause >= ms(upper) / 2 && pause < ms(upper), "{pause:?} of {upper}");
        }
        backoff.reset();
        assert!(backoff.draw() < ms(10));
    }
}
