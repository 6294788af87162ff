//! Runs one consumer for one shard and term: follows the log, bounds what is outstanding, writes
//! the cursor, reports the lag. When the consumer fails or panics, it is made anew after a pause
//! and goes on from the cursor. A row that cannot be read stops it too: to skip one would lose its
//! effects without a word.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use conversation::log::{LogFrame, LogFrameError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use node::{Backoff, Tasks};
use wire::Position;

use super::{Consumer, ConsumerContext, ConsumerError, Consumers, Done, Make};
use crate::feed::log_tail::{CommittedLog, LogTail, Next, Page};
use crate::limits::Limits;
use crate::status::Progress;
use shard_client::ShardClient;

const RETRY_BACKOFF: Duration = Duration::from_millis(200);
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(10);
const LAG_INTERVAL: Duration = Duration::from_millis(500);

/// Starts all consumers of a term.
pub(crate) fn start(
    consumers: &Consumers,
    log: &CommittedLog,
    shard_client: &ShardClient,
    progress: &Arc<Progress>,
    limits: &Limits,
    tasks: &Tasks,
) {
    for make in &consumers.makes {
        let name = make().name();
        let runner = Runner {
            name,
            make: make.clone(),
            log: log.clone(),
            context: ConsumerContext {
                shard: log.shard,
                store: log.store.clone(),
                projected: log.projected.clone(),
                shard_client: shard_client.clone(),
            },
            progress: progress.clone(),
            frames_open_max: limits.consumer_frames_open.max(1),
            lag: metrics::gauge!(
                "hearth_consumer_lag_frames",
                "consumer" => name,
                "shard" => log.shard.to_string()
            ),
        };
        tasks.spawn("consumer", runner.run());
    }
}

struct Runner {
    name: &'static str,
    make: Make,
    log: CommittedLog,
    context: ConsumerContext,
    progress: Arc<Progress>,
    frames_open_max: usize,
    lag: metrics::Gauge,
}

/// Why a consumer stands still.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    #[error("a row cannot be read: {0}")]
    Row(#[from] LogFrameError),
    #[error("it panicked")]
    Panicked,
}

impl Runner {
    async fn run(self) {
        let mut backoff = Backoff::new(RETRY_BACKOFF, RETRY_BACKOFF_MAX);
        // Everything before it was done when the consumer failed last.
        let mut failed_at = None;
        loop {
            let mut done = Position::default();
            let attempt = AssertUnwindSafe(self.attempt(&mut done, failed_at)).catch_unwind();
            let failure = match attempt.await {
                Ok(Ok(())) => return,
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Panicked,
            };
            if failed_at.replace(done) != Some(done) {
                backoff.reset();
            }
            metrics::counter!("hearth_consumer_failures_total", "consumer" => self.name)
                .increment(1);
            tracing::error!(
                consumer = self.name,
                shard = %self.log.shard,
                slot = done.slot.0,
                %failure,
                "consumer failed, retrying from its cursor"
            );
            self.report(done, failed_at);
            tokio::select! {
                () = self.log.over.cancelled() => return,
                () = backoff.pause() => {}
            }
        }
    }

    /// Runs a new consumer until it fails, or until the term is over. `done`: how far it came.
    async fn attempt(
        &self,
        done: &mut Position,
        failed_at: Option<Position>,
    ) -> Result<(), Failure> {
        let open = LogTail::open(self.name, self.log.clone());
        let Some(mut tail) = self.log.over.run_until_cancelled(open).await else { return Ok(()) };
        *done = tail.cursor();
        let mut work = Work {
            runner: self,
            consumer: (self.make)(),
            window: Window::default(),
            cursor: done,
            failed_at,
            tick: tokio::time::interval(LAG_INTERVAL),
        };
        let ended = tokio::select! {
            ended = work.follow(&mut tail) => ended,
            () = self.log.over.cancelled() => Ok(()),
        };
        let cursor = *work.cursor;
        drop(work);
        tail.write_cursor(cursor).await;
        ended
    }

    /// `failed_at`: until the cursor has passed it, the consumer counts as failing.
    fn report(&self, cursor: Position, failed_at: Option<Position>) {
        let lag = self.log.committed.borrow().0.saturating_sub(cursor.slot.0);
        self.lag.set(lag as f64);
        let is_failing = failed_at.is_some_and(|at| cursor <= at);
        self.progress.consumer(self.name, lag, is_failing);
    }
}

/// One consumer at work.
struct Work<'a> {
    runner: &'a Runner,
    consumer: Box<dyn Consumer>,
    window: Window,
    /// Everything before it is done.
    cursor: &'a mut Position,
    /// Where the last one failed.
    failed_at: Option<Position>,
    tick: tokio::time::Interval,
}

impl Work<'_> {
    async fn follow(&mut self, tail: &mut LogTail) -> Result<(), Failure> {
        loop {
            let room = self.window.len() < self.runner.frames_open_max;
            tokio::select! {
                biased;
                Some((number, done)) = self.window.running.next() => {
                    self.window.done(number, done)?;
                    self.settle(tail.cursor());
                }
                next = tail.next(room) => match next {
                    Next::Frame(frame) => if tail.is_next(frame.slot) {
                        let at = frame.at();
                        self.take(frame, tail.cursor()).await?;
                        tail.pass(at);
                        self.settle(tail.cursor());
                    },
                    Next::Behind => self.catch_up(tail).await?,
                    Next::WriteCursor => {
                        self.runner.report(*self.cursor, self.failed_at);
                        tail.write_cursor(*self.cursor).await;
                    }
                    Next::Ended => return Ok(()),
                },
            }
        }
    }

    /// Takes a page of the log from the store.
    async fn catch_up(&mut self, tail: &mut LogTail) -> Result<(), Failure> {
        match tail.page().await {
            Page::Rows(rows) => {
                for (at, frame) in rows {
                    self.take(Arc::new(frame?), tail.cursor()).await?;
                    tail.pass(at);
                    self.settle(tail.cursor());
                }
            }
            Page::Rebuilt(frame) => self.take(Arc::new(frame), tail.cursor()).await?,
            Page::RebuiltAll => self.settle(tail.cursor()),
        }
        tokio::task::coop::consume_budget().await;
        Ok(())
    }

    /// Shows the consumer a frame, once there is room for it. What is outstanding goes on
    /// meanwhile, and the lag is reported.
    async fn take(&mut self, frame: Arc<LogFrame>, before: Position) -> Result<(), Failure> {
        let Self { runner, consumer, window, cursor, failed_at, tick } = self;
        while window.len() >= runner.frames_open_max {
            tokio::select! {
                Some((number, done)) = window.running.next() => window.done(number, done)?,
                _ = tick.tick() => runner.report(**cursor, *failed_at),
            }
            **cursor = window.first().unwrap_or(before);
        }
        let frame = consumer.frame(frame, &runner.context);
        tokio::pin!(frame);
        let done = loop {
            tokio::select! {
                biased;
                Some((number, done)) = window.running.next() => {
                    window.done(number, done)?;
                    **cursor = window.first().unwrap_or(before);
                }
                done = &mut frame => break done?,
                _ = tick.tick() => runner.report(**cursor, *failed_at),
            }
        };
        if let Done::When(done) = done {
            window.push(before, done);
        }
        Ok(())
    }

    /// Moves the cursor up to the first frame that is not done; `taken` when all are.
    fn settle(&mut self, taken: Position) {
        *self.cursor = self.window.first().unwrap_or(taken);
    }
}

type Outcome = Result<(), ConsumerError>;

/// Frames with work outstanding, oldest first.
#[derive(Default)]
struct Window {
    /// The cursor before each, and whether it is done.
    frames: VecDeque<(Position, bool)>,
    /// Number of the first one.
    first: u64,
    running: FuturesUnordered<BoxFuture<'static, (u64, Outcome)>>,
}

impl Window {
    fn len(&self) -> usize {
        self.frames.len()
    }

    /// The cursor before the first one that is not done.
    fn first(&self) -> Option<Position> {
        self.frames.front().map(|(before, _)| *before)
    }

    fn push(&mut self, before: Position, done: BoxFuture<'static, Outcome>) {
        let number = self.first + self.frames.len() as u64;
        self.frames.push_back((before, false));
        self.running.push(Box::pin(async move { (number, done.await) }));
    }

    fn done(&mut self, number: u64, outcome: Outcome) -> Outcome {
        outcome?;
        let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        if let Some((_, is_done)) = self.frames.get_mut(index) {
            *is_done = true;
        }
        while self.frames.front().is_some_and(|(_, is_done)| *is_done) {
            self.frames.pop_front();
            self.first += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wire::{Epoch, Slot};

    use super::*;

    fn at(slot: u64) -> Position {
        Position { epoch: Epoch(1), slot: Slot(slot) }
    }

    #[test]
    fn the_cursor_waits_for_the_first_frame_that_is_not_done() {
        let mut window = Window::default();
        for slot in 3..6 {
            window.push(at(slot), Box::pin(std::future::pending()));
        }
        window.done(1, Ok(())).unwrap();
        assert_eq!((window.first(), window.len()), (Some(at(3)), 3));
        window.done(0, Ok(())).unwrap();
        assert_eq!((window.first(), window.len()), (Some(at(5)), 1));
        window.done(2, Err(ConsumerError::Failed("x".into()))).unwrap_err();
        assert_eq!(window.first(), Some(at(5)), "a frame that failed is not passed");
        window.done(2, Ok(())).unwrap();
        assert_eq!(window.first(), None);
    }
}
