//! One request: admission, retries, and the meaning of the driver's errors.

use std::time::Duration;

use futures_util::future::BoxFuture;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::bound::BoundStatement;
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};
use tokio::time::{Instant, sleep};

use super::Scylla;
use super::reach::{Reach, SPECULATION_AFTER};
use crate::contract::StoreError;

/// Of one plain request, the first included.
const ATTEMPTS_MAX: u32 = 3;
/// No attempt begins after this.
const RETRY_TIMEOUT: Duration = Duration::from_secs(4);
/// Errors of connections come at once, and a new connection takes a moment.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// Bounds the requests in flight and those that wait.
pub(super) struct Admission {
    running: Semaphore,
    /// In flight or waiting.
    admitted: Semaphore,
}

impl Admission {
    pub(super) fn new(in_flight_max: usize, waiting_max: usize) -> Self {
        let running = in_flight_max.clamp(1, Semaphore::MAX_PERMITS / 2);
        let waiting = waiting_max.min(Semaphore::MAX_PERMITS / 2);
        Self { running: Semaphore::new(running), admitted: Semaphore::new(running + waiting) }
    }

    pub(super) fn close(&self) {
        self.admitted.close();
        self.running.close();
    }

    /// Waits for a turn.
    pub(super) async fn enter(&self, reach: &Reach) -> Result<Turn<'_>, StoreError> {
        let admitted = match self.admitted.try_acquire() {
            Ok(admitted) => admitted,
            Err(TryAcquireError::Closed) => return Err(StoreError::Closed),
            Err(TryAcquireError::NoPermits) => return Err(unavailable(reach, 0)),
        };
        let running = self.running.acquire().await.map_err(|_| StoreError::Closed)?;
        Ok(Turn { _admitted: admitted, _running: running })
    }
}

/// The request's place; dropping it frees the place.
pub(super) struct Turn<'a> {
    _admitted: SemaphorePermit<'a>,
    _running: SemaphorePermit<'a>,
}

/// The state after a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was not done. `answering`: copies that could be reached.
    Nothing { answering: usize },
    /// It may have been done.
    Doubt { answering: usize },
}

impl Failure {
    pub(super) fn answering(self) -> usize {
        match self {
            Self::Nothing { answering } | Self::Doubt { answering } => answering,
        }
    }
}

pub(super) fn unavailable(reach: &Reach, answering: usize) -> StoreError {
    StoreError::Unavailable { zone: reach.zone, needed: reach.needed, answering }
}

/// The state after this error. Only errors raised before anything was sent to a replica count as
/// [`Failure::Nothing`].
pub(super) fn failure(error: &ExecutionError) -> Failure {
    let count = |answering: i32| usize::try_from(answering).unwrap_or(0);
    match error {
        // No coordinator had a connection, or there was none to ask.
        ExecutionError::ConnectionPoolError(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::BadQuery(_) => Failure::Nothing { answering: 0 },
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, said)) => {
            match error {
                DbError::Unavailable { alive, .. } => Failure::Nothing { answering: count(*alive) },
                DbError::IsBootstrapping => Failure::Nothing { answering: 0 },
                DbError::ReadTimeout { received, .. }
                | DbError::WriteTimeout { received, .. }
                | DbError::ReadFailure { received, .. }
                | DbError::WriteFailure { received, .. } => {
                    Failure::Doubt { answering: count(*received) }
                }
                DbError::Invalid
                | DbError::SyntaxError
                | DbError::Unauthorized
                | DbError::ConfigError => {
                    tracing::warn!(%error, said, "cluster refused a statement, check the schema");
                    Failure::Nothing { answering: 0 }
                }
                _ => Failure::Doubt { answering: 0 },
            }
        }
        ExecutionError::LastAttemptError(
            RequestAttemptError::SerializationError(_)
            | RequestAttemptError::CqlRequestSerialization(_)
            | RequestAttemptError::UnableToAllocStreamId,
        ) => Failure::Nothing { answering: 0 },
        _ => Failure::Doubt { answering: 0 },
    }
}

/// As [`failure`], for a request that the driver may have sent twice: it returns one error only.
fn failure_since(begun: Instant, error: &ExecutionError) -> Failure {
    match failure(error) {
        Failure::Nothing { answering } if begun.elapsed() >= SPECULATION_AFTER => {
            Failure::Doubt { answering }
        }
        failure => failure,
    }
}

impl Scylla {
    /// A plain write, retried unchanged until it is confirmed or [`RETRY_TIMEOUT`] has passed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] only if no attempt can have written anything; otherwise
    /// [`StoreError::Unknown`].
    pub(super) async fn write(
        &self,
        reach: &Reach,
        mut bound: BoundStatement,
    ) -> Result<(), StoreError> {
        bound.set_execution_profile_handle(Some(reach.profile.clone()));
        bound.set_is_idempotent(true);
        let request =
            || -> BoxFuture<'_, _> { Box::pin(self.session.execute_bound_unpaged(&bound)) };
        self.repeat(reach, request).await
    }

    /// As [`Scylla::write`], for any request that may be repeated.
    pub(super) async fn repeat<'a, T>(
        &self,
        reach: &Reach,
        request: impl Fn() -> BoxFuture<'a, Result<T, ExecutionError>>,
    ) -> Result<(), StoreError> {
        let _turn = self.admission.enter(reach).await?;
        let begun = Instant::now();
        let (mut doubt, mut attempt) = (false, 0);
        loop {
            attempt += 1;
            let since = Instant::now();
            let Err(error) = request().await else { return Ok(()) };
            let failure = failure_since(since, &error);
            tracing::debug!(%error, ?failure, attempt, "write attempt failed");
            doubt |= matches!(failure, Failure::Doubt { .. });
            if attempt == ATTEMPTS_MAX || begun.elapsed() >= RETRY_TIMEOUT {
                return Err(if doubt {
                    StoreError::Unknown
                } else {
                    unavailable(reach, failure.answering())
                });
            }
            sleep(RETRY_BACKOFF).await;
        }
    }

    /// At most `limit` rows of what the statement asks for, read in pages of what its page size
    /// says.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] when the rows do not have the form
    /// that was asked for.
    pub(super) async fn rows<R>(
        &self,
        reach: &Reach,
        mut bound: BoundStatement,
        limit: usize,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        bound.set_execution_profile_handle(Some(reach.profile.clone()));
        bound.set_is_idempotent(true);
        let _turn = self.admission.enter(reach).await?;
        let mut state = PagingState::start();
        let mut rows = Vec::new();
        while rows.len() < limit {
            let (page, next) = self.page(reach, &bound, &state).await?;
            let malformed = |error: &dyn std::error::Error| StoreError::Corrupt {
                region: self.options.region,
                what: format!("an answer of another form: {error}"),
            };
            let page = page.into_rows_result().map_err(|error| malformed(&error))?;
            for row in page.rows::<R>().map_err(|error| malformed(&error))? {
                rows.push(row.map_err(|error| malformed(&error))?);
            }
            match next {
                PagingStateResponse::HasMorePages { state: next } => state = next,
                PagingStateResponse::NoMorePages => break,
            }
        }
        rows.truncate(limit);
        Ok(rows)
    }

    async fn page(
        &self,
        reach: &Reach,
        bound: &BoundStatement,
        state: &PagingState,
    ) -> Result<(scylla::response::query_result::QueryResult, PagingStateResponse), StoreError>
    {
        let begun = Instant::now();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.session.execute_bound_single_page(bound, state.clone()).await {
                Ok(page) => return Ok(page),
                Err(error) => error,
            };
            let failure = failure(&error);
            tracing::debug!(%error, ?failure, attempt, "read attempt failed");
            if attempt == ATTEMPTS_MAX || begun.elapsed() >= RETRY_TIMEOUT {
                return Err(unavailable(
                    reach,
                    failure.answering().min(reach.needed.saturating_sub(1)),
                ));
            }
            sleep(RETRY_BACKOFF).await;
        }
    }

    /// The only row, if there is one.
    ///
    /// # Errors
    /// As [`Scylla::rows`].
    pub(super) async fn row<R>(
        &self,
        reach: &Reach,
        bound: BoundStatement,
    ) -> Result<Option<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        Ok(self.rows(reach, bound, 1).await?.pop())
    }
}

#[cfg(test)]
mod tests {
    use scylla::statement::Consistency;

    use super::*;

    fn db(error: DbError) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, String::new()))
    }

    #[test]
    fn what_was_refused_before_it_was_sent_leaves_nothing_and_all_else_leaves_doubt() {
        let consistency = Consistency::Quorum;
        let refused = db(DbError::Unavailable { consistency, required: 2, alive: 1 });
        assert_eq!(failure(&refused), Failure::Nothing { answering: 1 });
        assert_eq!(failure(&ExecutionError::EmptyPlan), Failure::Nothing { answering: 0 });
        let write_type = scylla::errors::WriteType::Simple;
        let timeout =
            db(DbError::WriteTimeout { consistency, required: 2, received: 0, write_type });
        assert_eq!(failure(&timeout), Failure::Doubt { answering: 0 });
        for error in [DbError::Overloaded, DbError::ServerError, DbError::Other(0x1700)] {
            assert_eq!(failure(&db(error)), Failure::Doubt { answering: 0 });
        }
        let silent = ExecutionError::RequestTimeout(Duration::from_secs(3));
        assert_eq!(failure(&silent), Failure::Doubt { answering: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_error_of_a_request_that_may_have_been_made_twice_leaves_doubt() {
        let error = ExecutionError::EmptyPlan;
        let begun = Instant::now();
        assert_eq!(failure_since(begun, &error), Failure::Nothing { answering: 0 });
        tokio::time::advance(SPECULATION_AFTER).await;
        assert_eq!(failure_since(begun, &error), Failure::Doubt { answering: 0 });
    }
}
