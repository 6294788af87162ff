//! How a consumer follows the committed log of a shard: from memory while it keeps up, from the store when it does not, and
//! from the cursor that the last owner's consumer left. Delivery is at least once: the consumer says how far its work is
//! done, and that is written down now and then.

use std::sync::Arc;
use std::time::Duration;

use conversation::consumer::{Consumer, Then};
use conversation::log::{LogFrame, LogFrameError};
use conversation::rebuild::Gap;
use conversation::shard::Starts;
use smol_str::SmolStr;
use store::{Mark, Store, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use wire::{Epoch, Position, ShardId, Slot};

use crate::replication::rebuild::{REBUILD_AFTER, Rebuild};
use crate::retry::retry_forever;

/// Committed frames that wait here in memory; beyond that they are read from the log.
const FRAMES_WAITING: usize = 1_024;
/// Log rows read at once when behind.
const ROWS_AT_ONCE: usize = 64;
/// Between two writes of the cursor.
const CURSOR_INTERVAL: Duration = Duration::from_millis(500);
/// Pause before the log is read again where a row was missing.
const HOLE_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before a read that found damage is tried again.
const DAMAGE_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// What is followed.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) shard: ShardId,
    pub(crate) starts: Starts,
    /// Of the term.
    pub(crate) epoch: Epoch,
    /// Everything before it is acknowledged. Moves after the frame was offered.
    pub(crate) committed: watch::Receiver<Slot>,
    /// Everything before it is projected.
    pub(crate) projected: watch::Receiver<Slot>,
}

/// The term's end. When it is dropped, the consumer ends; its successor goes on from the cursor.
pub(crate) struct Frames(mpsc::Sender<Arc<LogFrame>>);

impl Frames {
    /// With the end at which a [`Follower`] takes them.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Arc<LogFrame>>) {
        let (frames, taken) = mpsc::channel(FRAMES_WAITING);
        (Self(frames), taken)
    }

    /// A frame was committed. Never waits: what does not fit is read from the log later.
    pub(crate) fn offer(&self, frame: &Arc<LogFrame>) {
        let _ = self.0.try_send(frame.clone());
    }
}

/// The consumer's end.
pub(crate) struct Follower {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) source: Source,
    mark: Mark,
    consumer: Consumer,
    written: Option<Position>,
    /// The next row is committed and not in the log.
    missing_since: Option<Instant>,
    rebuild: Option<Rebuild>,
    frames: mpsc::Receiver<Arc<LogFrame>>,
    tick: Interval,
}

/// What there is to do.
pub(crate) enum Next {
    /// A frame from memory: to be shown to [`Follower::advance`].
    Frame(Arc<LogFrame>),
    /// Some did not fit into memory: [`Follower::page`].
    Behind,
    /// Time for [`Follower::write_cursor`].
    WriteCursor,
    /// The term is over.
    Ended,
}

/// What comes behind everything taken.
pub(crate) enum Page {
    /// Committed rows of the log: [`Follower::pass`] each. None: to be read again.
    Rows(Vec<(Position, Result<LogFrame, LogFrameError>)>),
    /// The log has no longer what comes next. A part of it, made again from the projections; the cursor stays where it is.
    Rebuilt(LogFrame),
    /// That was all of it: the cursor stands behind it.
    RebuiltAll,
}

impl Follower {
    /// From the cursor under this name.
    pub(crate) async fn open(
        name: &'static str,
        store: Arc<dyn Store>,
        source: Source,
        frames: mpsc::Receiver<Arc<LogFrame>>,
    ) -> Self {
        let mark = Mark::Consumer(SmolStr::new_static(name));
        let written = answered(|| store.mark(source.shard, &mark)).await;
        let mut tick = tokio::time::interval(CURSOR_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let consumer = Consumer::new(None);
        let mut follower = Self {
            store,
            source,
            mark,
            consumer,
            written,
            missing_since: None,
            rebuild: None,
            frames,
            tick,
        };
        follower.go_to(written);
        follower
    }

    /// Goes on from this place, or from where the log forked before it.
    pub(crate) fn go_to(&mut self, cursor: Option<Position>) {
        self.consumer = Consumer::new(cursor);
        self.consumer.rewind(&self.source.starts);
    }

    /// Behind everything taken.
    pub(crate) fn cursor(&self) -> Position {
        self.consumer.cursor()
    }

    /// What is next. `room`: whether more can be taken. Cancel safe.
    pub(crate) async fn next(&mut self, room: bool) -> Next {
        loop {
            // A frame is offered before the mark moves: if none waits and the mark is ahead, one did not fit.
            let behind = self.consumer.next_slot() < *self.source.committed.borrow_and_update();
            if room && behind && self.frames.is_empty() {
                return Next::Behind;
            }
            tokio::select! {
                biased;
                _ = self.tick.tick() => return Next::WriteCursor,
                frame = self.frames.recv(), if room => return frame.map_or(Next::Ended, Next::Frame),
                Ok(()) = self.source.committed.changed() => {}
            }
        }
    }

    /// Whether the term is over.
    pub(crate) fn is_over(&self) -> bool {
        self.frames.is_closed()
    }

    /// Moves behind a frame. Returns the cursor before it; none when it is not the next one: it was seen already, or one
    /// before it did not fit.
    pub(crate) fn advance(&mut self, frame: &LogFrame) -> Option<Position> {
        (frame.slot == self.consumer.next_slot()).then(|| self.pass(frame.at()))
    }

    /// Moves behind the next row, whatever it holds. Returns the cursor before it.
    pub(crate) fn pass(&mut self, at: Position) -> Position {
        let before = self.consumer.cursor();
        self.consumer = Consumer::new(Some(Position { slot: at.slot.next(), ..at }));
        before
    }

    /// Reads a page from the store. Moves nothing before [`Page::RebuiltAll`]. Where a row of the log is missing it waits a moment.
    pub(crate) async fn page(&mut self) -> Page {
        if let Some(rebuild) = self.rebuild.take() {
            return self.rebuilt(rebuild).await;
        }
        let mut reading = self.consumer;
        let (shard, from) = (self.source.shard, reading.next_slot());
        let rows = answered(|| self.store.read_log(shard, from, ROWS_AT_ONCE)).await;
        let committed =
            Position { epoch: self.source.epoch, slot: *self.source.committed.borrow() };
        let taken = reading.take(&rows, rows.len() < ROWS_AT_ONCE, &self.source.starts, committed);
        let page = taken.rows.iter().map(|row| (row.at, LogFrame::from_row(row))).collect();
        match taken.then {
            Then::Hole(slot) if taken.rows.is_empty() => self.missing(slot).await,
            _ => self.missing_since = None,
        }
        Page::Rows(page)
    }

    /// This slot is committed, and the log does not have it: not yet, or not any more.
    async fn missing(&mut self, slot: Slot) {
        let projected = *self.source.projected.borrow();
        let since = *self.missing_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= REBUILD_AFTER && slot < projected {
            let gap = Gap {
                shard: self.source.shard,
                starts: self.source.starts.clone(),
                from: slot,
                until: projected,
            };
            self.rebuild = Some(Rebuild::new(self.store.clone(), gap));
        } else {
            tracing::warn!(shard = %self.source.shard, slot = slot.0, "a committed row is not in the log; trying again");
            tokio::time::sleep(HOLE_RETRY_INTERVAL).await;
        }
    }

    async fn rebuilt(&mut self, mut rebuild: Rebuild) -> Page {
        match rebuild.next().await {
            Ok(Some(frame)) => {
                self.rebuild = Some(rebuild);
                Page::Rebuilt(frame)
            }
            Ok(None) => {
                self.missing_since = None;
                self.go_to(Some(rebuild.end()));
                Page::RebuiltAll
            }
            Err(not_now) => {
                tracing::warn!(shard = %self.source.shard, %not_now, "a consumer waits for what the log has no longer");
                self.rebuild = Some(rebuild);
                tokio::time::sleep(HOLE_RETRY_INTERVAL).await;
                Page::Rows(Vec::new())
            }
        }
    }

    /// Writes down that everything before `cursor` is done, unless that is known. What fails is written the next time.
    pub(crate) async fn write_cursor(&mut self, cursor: Position) {
        if self.written.is_some_and(|written| written >= cursor) {
            return;
        }
        match self.store.write_mark(self.source.shard, &self.mark, cursor).await {
            Ok(()) => self.written = Some(cursor),
            Err(error) => tracing::debug!(%error, mark = ?self.mark, "the cursor was not written"),
        }
    }
}

/// Until the store answers. A consumer has time; of damage it can only say that it is there.
pub(crate) async fn answered<T, F: Future<Output = Result<T, StoreError>>>(
    mut read: impl FnMut() -> F,
) -> T {
    loop {
        match retry_forever(&mut read).await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::error!(%error, "a consumer waits for what cannot be read");
                tokio::time::sleep(DAMAGE_RETRY_INTERVAL).await;
            }
        }
    }
}
