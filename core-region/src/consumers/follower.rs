//! How a consumer follows the committed log of a shard: from memory while it keeps up, from the store when it does not, and
//! from the cursor that the last owner's consumer left. Delivery is at least once: the consumer says how far its work is
//! done, and that is written down now and then.

use std::sync::Arc;
use std::time::Duration;

use conversation::consumer::{Consumer, Then};
use conversation::log::{LogFrame, LogFrameError};
use conversation::shard::Starts;
use smol_str::SmolStr;
use store::{Mark, Store, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};
use wire::{Epoch, Position, ShardId, Slot};

use crate::patience::until_answered;

/// Committed frames that wait here in memory; beyond that they are read from the log.
const FRAMES_WAITING: usize = 1_024;
/// Log rows read at once when behind.
const ROWS_AT_ONCE: usize = 64;
/// Between two writes of the cursor.
const CURSOR_EVERY: Duration = Duration::from_millis(500);
/// Pause before a read that found damage is tried again.
const DAMAGED: Duration = Duration::from_secs(10);

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
pub(super) struct Frames(mpsc::Sender<Arc<LogFrame>>);

impl Frames {
    /// With the end at which a [`Follower`] takes them.
    pub(super) fn channel() -> (Self, mpsc::Receiver<Arc<LogFrame>>) {
        let (frames, taken) = mpsc::channel(FRAMES_WAITING);
        (Self(frames), taken)
    }

    /// A frame was committed. Never waits: what does not fit is read from the log later.
    pub(super) fn offer(&self, frame: &Arc<LogFrame>) {
        let _ = self.0.try_send(frame.clone());
    }
}

/// The consumer's end.
pub(super) struct Follower {
    pub(super) store: Arc<dyn Store>,
    pub(super) source: Source,
    mark: Mark,
    consumer: Consumer,
    written: Option<Position>,
    frames: mpsc::Receiver<Arc<LogFrame>>,
    tick: Interval,
}

/// What there is to do.
pub(super) enum Next {
    /// A frame from memory: to be shown to [`Follower::advance`].
    Frame(Arc<LogFrame>),
    /// Some did not fit into memory: [`Follower::page`].
    Behind,
    /// Time for [`Follower::write_cursor`].
    WriteCursor,
    /// The term is over.
    Ended,
}

/// Committed rows of the log, behind everything taken.
pub(super) struct Page {
    pub(super) rows: Vec<(Position, Result<LogFrame, LogFrameError>)>,
    /// One that is committed is not there. Said already; to be read again.
    pub(super) hole: bool,
}

impl Follower {
    /// From the cursor under this name.
    pub(super) async fn open(
        name: &'static str,
        store: Arc<dyn Store>,
        source: Source,
        frames: mpsc::Receiver<Arc<LogFrame>>,
    ) -> Self {
        let mark = Mark::Consumer(SmolStr::new_static(name));
        let written = answered(|| store.mark(source.shard, &mark)).await;
        let mut tick = tokio::time::interval(CURSOR_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut follower = Self { store, source, mark, consumer: Consumer::new(None), written, frames, tick };
        follower.go_to(written);
        follower
    }

    /// Goes on from this place, or from where the log forked before it.
    pub(super) fn go_to(&mut self, cursor: Option<Position>) {
        self.consumer = Consumer::new(cursor);
        self.consumer.rewind(&self.source.starts);
    }

    /// Behind everything taken.
    pub(super) fn cursor(&self) -> Position {
        self.consumer.cursor()
    }

    /// What is next. `room`: whether more can be taken. Cancel safe.
    pub(super) async fn next(&mut self, room: bool) -> Next {
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
    pub(super) fn is_over(&self) -> bool {
        self.frames.is_closed()
    }

    /// Moves behind a frame. Returns the cursor before it; none when it is not the next one: it was seen already, or one
    /// before it did not fit.
    pub(super) fn advance(&mut self, frame: &LogFrame) -> Option<Position> {
        (frame.slot == self.consumer.next_slot()).then(|| self.pass(frame.at()))
    }

    /// Moves behind the next row, whatever it holds. Returns the cursor before it.
    pub(super) fn pass(&mut self, at: Position) -> Position {
        let before = self.consumer.cursor();
        self.consumer = Consumer::new(Some(Position { slot: at.slot.next(), ..at }));
        before
    }

    /// Reads a page of the log from the store. Moves nothing.
    pub(super) async fn page(&self) -> Page {
        let mut reading = self.consumer;
        let (shard, from) = (self.source.shard, reading.next_slot());
        let rows = answered(|| self.store.read_log(shard, from, ROWS_AT_ONCE)).await;
        let committed = Position { epoch: self.source.epoch, slot: *self.source.committed.borrow() };
        let taken = reading.take(&rows, rows.len() < ROWS_AT_ONCE, &self.source.starts, committed);
        if let Then::Hole(slot) = taken.then {
            tracing::error!(slot = slot.0, "a committed row is not in the log; trying again");
        }
        let hole = matches!(taken.then, Then::Hole(_));
        Page { rows: taken.rows.iter().map(|row| (row.at, LogFrame::from_row(row))).collect(), hole }
    }

    /// Writes down that everything before `cursor` is done, unless that is known. What fails is written the next time.
    pub(super) async fn write_cursor(&mut self, cursor: Position) {
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
pub(super) async fn answered<T, F: Future<Output = Result<T, StoreError>>>(mut read: impl FnMut() -> F) -> T {
    loop {
        match until_answered(&mut read).await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::error!(%error, "a consumer waits for what cannot be read");
                tokio::time::sleep(DAMAGED).await;
            }
        }
    }
}
