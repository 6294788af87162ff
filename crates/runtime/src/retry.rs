//! Repeats an operation whose failure may pass.
//!
//! ```
//! # async fn example() -> Result<u32, std::io::Error> {
//! use std::io::{Error, ErrorKind};
//! use std::time::Duration;
//! use hearth_runtime::{Backoff, retry};
//!
//! let backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
//! let is_transient = |error: &Error| error.kind() == ErrorKind::TimedOut;
//! let read = || std::future::ready(Ok(7));
//! retry::within(Duration::from_secs(5), backoff, is_transient, read).await
//! # }
//! ```

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use crate::Backoff;

/// Repeats `attempt` until it succeeds, or fails with an error that is not transient.
///
/// # Errors
/// The first error for which `is_transient` is false.
pub async fn forever<T, E, F>(
    backoff: Backoff,
    is_transient: impl Fn(&E) -> bool,
    attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    repeat(None, backoff, is_transient, attempt).await
}

/// As [`forever`], but begins no attempt after `timeout`. A running attempt is not interrupted.
///
/// # Errors
/// The first error that is not transient, or the last one before the timeout.
pub async fn within<T, E, F>(
    timeout: Duration,
    backoff: Backoff,
    is_transient: impl Fn(&E) -> bool,
    attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    repeat(Some(Instant::now() + timeout), backoff, is_transient, attempt).await
}

async fn repeat<T, E, F>(
    deadline: Option<Instant>,
    mut backoff: Backoff,
    is_transient: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    loop {
        let error = match attempt().await {
            Err(error) if is_transient(&error) => error,
            outcome => return outcome,
        };
        let pause = backoff.next_pause();
        if deadline.is_some_and(|deadline| Instant::now() + pause > deadline) {
            return Err(error);
        }
        tracing::debug!(%error, ?pause, "attempt failed, retrying");
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

    #[tokio::test(start_paused = true)]
    async fn a_transient_error_is_retried_and_another_is_returned() {
        let mut attempts = 0;
        let outcome = forever(
            BACKOFF,
            |error: &&str| *error == "busy",
            || {
                attempts += 1;
                std::future::ready(if attempts < 4 { Err("busy") } else { Ok(7) })
            },
        );
        assert_eq!(outcome.await, Ok(7));
        let broken = forever(
            BACKOFF,
            |error: &&str| *error == "busy",
            || std::future::ready(Err::<(), _>("broken")),
        );
        assert_eq!(broken.await, Err("broken"));
    }

    #[tokio::test(start_paused = true)]
    async fn retrying_ends_at_the_timeout_with_the_last_error() {
        let (timeout, began) = (Duration::from_secs(10), Instant::now());
        let mut attempts = 0;
        let outcome = within(
            timeout,
            BACKOFF,
            |_: &i32| true,
            || {
                attempts += 1;
                std::future::ready(Err::<(), _>(attempts))
            },
        );
        let last = outcome.await.unwrap_err();
        assert!(last > 10 && last == attempts, "{last} of {attempts}");
        assert!(began.elapsed() <= timeout);
    }
}
