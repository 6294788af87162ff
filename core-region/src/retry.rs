//! Retries reads of the store: a replica may be away for a moment, and a reader has time.

use std::time::Duration;

use node::{Backoff, retry};
use store::StoreError;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// Reads until the store answers, or says that it never will.
pub(crate) async fn retry_forever<T, F>(read: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    retry::forever(BACKOFF, is_transient, read).await
}

/// As [`retry_forever`], but gives up after `timeout` with the last error.
pub(crate) async fn retry_within<T, F>(
    timeout: Duration,
    read: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    retry::within(timeout, BACKOFF, is_transient, read).await
}

fn is_transient(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::Unknown | StoreError::Closed)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use wire::RegionId;

    use super::*;

    #[tokio::test]
    async fn what_may_pass_is_waited_for_and_damage_is_not() {
        let mut failures = 3;
        let answered = retry_forever(|| {
            failures -= 1;
            std::future::ready(if failures > 0 { Err(StoreError::Unknown) } else { Ok(7) })
        });
        assert_eq!(answered.await, Ok(7));
        let damaged = StoreError::Corrupt { region: RegionId(1), what: "x".into() };
        assert_eq!(
            retry_forever(|| std::future::ready(Err::<(), _>(damaged.clone()))).await,
            Err(damaged)
        );
        let began = Instant::now();
        let timeout = Duration::from_millis(50);
        let never =
            retry_within(timeout, || std::future::ready(Err::<(), _>(StoreError::Unknown))).await;
        assert_eq!(never, Err(StoreError::Unknown));
        assert!(began.elapsed() < timeout * 100, "it does give up");
    }
}
