//! How something follows the committed log of a shard: from memory while it keeps up, from the
//! store when it lags, and from the cursor that the last owner's follower left.
//!
//! The owner publishes each committed frame once, into one ring a shard ([`Publisher`]). A follower
//! that lags behind the ring reads pages of the log instead, and all that lag share one page reader
//! ([`Pages`]). Delivery is at least once: the follower says how far its work is done, and that is
//! written down now and then. Publishing never waits.

use std::sync::Arc;
use std::time::Duration;

use conversation::consumer::{Consumer, Then};
use conversation::log::{LogFrame, LogFrameError};
use conversation::rebuild::Gap;
use conversation::shard::Starts;
use smol_str::SmolStr;
use store::{Mark, Store, StoreError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use wire::{Epoch, Position, ShardId, Slot};

use super::pages::{Pages, ROWS_MAX};
use crate::owner::projector::Projected;
use crate::replication::rebuild::{REBUILD_AFTER, Rebuild};
use crate::retry::retry_forever;

/// Committed frames kept in memory for those that follow; older ones are read from the log.
const RING_FRAMES_MAX: usize = 256;
const CURSOR_INTERVAL: Duration = Duration::from_millis(500);
/// Pause before the log is read again where a row was missing.
const HOLE_BACKOFF: Duration = Duration::from_secs(1);
/// Pause before a read that found damage is tried again.
const DAMAGE_BACKOFF: Duration = Duration::from_secs(10);

/// The committed log of one shard in one term. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CommittedLog {
    pub(crate) shard: ShardId,
    pub(crate) starts: Starts,
    pub(crate) epoch: Epoch,
    /// Everything before it is acknowledged. It moves after the frame was published.
    pub(crate) committed: watch::Receiver<Slot>,
    /// Everything before it is projected.
    pub(crate) projected: Projected,
    /// Cancelled when the term is over.
    pub(crate) over: CancellationToken,
    pub(crate) store: Arc<dyn Store>,
    pages: Arc<Pages>,
    ring: broadcast::WeakSender<Arc<LogFrame>>,
}

/// The owner's end of a [`CommittedLog`]. Dropped, it ends the term for all that follow.
pub(crate) struct Publisher {
    ring: broadcast::Sender<Arc<LogFrame>>,
    _over: DropGuard,
}

impl Publisher {
    pub(crate) fn start(
        store: Arc<dyn Store>,
        shard: ShardId,
        (starts, epoch): (Starts, Epoch),
        committed: watch::Receiver<Slot>,
        projected: Projected,
    ) -> (Self, CommittedLog) {
        let (ring, _) = broadcast::channel(RING_FRAMES_MAX);
        let over = CancellationToken::new();
        let log = CommittedLog {
            shard,
            starts,
            epoch,
            committed,
            projected,
            over: over.clone(),
            store,
            pages: Arc::default(),
            ring: ring.downgrade(),
        };
        (Self { ring, _over: over.drop_guard() }, log)
    }

    /// Publishes a committed frame, before the committed mark moves past it. Never waits.
    pub(crate) fn publish(&self, frame: &Arc<LogFrame>) {
        // Nobody follows: that is fine.
        let _ = self.ring.send(frame.clone());
    }
}

/// One that follows a [`CommittedLog`], at its own pace, with a durable cursor.
pub(crate) struct LogTail {
    pub(crate) log: CommittedLog,
    mark: Mark,
    consumer: Consumer,
    written: Option<Position>,
    /// Since when the next row is committed and not in the log.
    missing_since: Option<Instant>,
    rebuild: Option<Rebuild>,
    /// None: the term was over before this began.
    frames: Option<broadcast::Receiver<Arc<LogFrame>>>,
    tick: Interval,
}

/// What there is to do.
pub(crate) enum Next {
    /// A frame from memory, to be shown to [`LogTail::advance`].
    Frame(Arc<LogFrame>),
    /// The ring has no longer what comes next: [`LogTail::page`].
    Behind,
    /// Time for [`LogTail::write_cursor`].
    WriteCursor,
    /// The term is over.
    Ended,
}

/// What follows everything taken.
pub(crate) enum Page {
    /// Committed rows of the log: [`LogTail::pass`] each. Empty: read again.
    Rows(Vec<(Position, Result<LogFrame, LogFrameError>)>),
    /// A part of what the log has no longer, made from the projections. The cursor stays.
    Rebuilt(LogFrame),
    /// All of it was made; the cursor stands behind it.
    RebuiltAll,
}

impl LogTail {
    /// From the cursor under this name.
    pub(crate) async fn open(name: &'static str, log: CommittedLog) -> Self {
        let mark = Mark::Consumer(SmolStr::new_static(name));
        // Subscribed before the cursor is read: nothing between the two is missed.
        let frames = log.ring.upgrade().map(|ring| ring.subscribe());
        let written = read_despite_damage(|| log.store.mark(log.shard, &mark)).await;
        let mut tick = tokio::time::interval(CURSOR_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let consumer = Consumer::new(None);
        let mut tail =
            Self { log, mark, consumer, written, missing_since: None, rebuild: None, frames, tick };
        tail.go_to(written);
        tail
    }

    /// Goes on from this place, or from where the log forked before it.
    pub(crate) fn go_to(&mut self, cursor: Option<Position>) {
        self.consumer = Consumer::new(cursor);
        self.consumer.rewind(&self.log.starts);
    }

    /// The place behind everything taken.
    pub(crate) fn cursor(&self) -> Position {
        self.consumer.cursor()
    }

    /// What is next. `room`: whether the follower can take more. Cancel safe.
    pub(crate) async fn next(&mut self, room: bool) -> Next {
        let Some(frames) = &mut self.frames else { return Next::Ended };
        loop {
            // A frame is published before the mark moves. If none waits and the mark is ahead, the
            // ring has dropped one.
            let behind = self.consumer.next_slot() < *self.log.committed.borrow_and_update();
            if room && behind && frames.is_empty() {
                return Next::Behind;
            }
            tokio::select! {
                biased;
                () = self.log.over.cancelled() => return Next::Ended,
                _ = self.tick.tick() => return Next::WriteCursor,
                frame = frames.recv(), if room => match frame {
                    Ok(frame) => return Next::Frame(frame),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Next::Ended,
                },
                Ok(()) = self.log.committed.changed() => {}
            }
        }
    }

    /// Moves behind a frame. Returns the cursor before it; none when it is not the next one: it was
    /// seen already, or the ring has dropped one before it.
    pub(crate) fn advance(&mut self, frame: &LogFrame) -> Option<Position> {
        (frame.slot == self.consumer.next_slot()).then(|| self.pass(frame.at()))
    }

    /// Whether this slot is the next one.
    pub(crate) fn is_next(&self, slot: Slot) -> bool {
        slot == self.consumer.next_slot()
    }

    /// Moves behind the next row, whatever it holds. Returns the cursor before it.
    pub(crate) fn pass(&mut self, at: Position) -> Position {
        let before = self.consumer.cursor();
        self.consumer = Consumer::new(Some(Position { slot: at.slot.next(), ..at }));
        before
    }

    /// Reads a page from the store. Moves nothing before [`Page::RebuiltAll`]. Where a row of the
    /// log is missing it waits a moment.
    pub(crate) async fn page(&mut self) -> Page {
        if let Some(rebuild) = self.rebuild.take() {
            return self.rebuilt(rebuild).await;
        }
        let mut reading = self.consumer;
        let rows = self.log.pages.read(&self.log, reading.next_slot()).await;
        let committed = Position { epoch: self.log.epoch, slot: *self.log.committed.borrow() };
        let taken = reading.take(&rows, rows.len() < ROWS_MAX, &self.log.starts, committed);
        let page = taken.rows.iter().map(|row| (row.at, LogFrame::from_row(row))).collect();
        match taken.then {
            Then::Hole(slot) if taken.rows.is_empty() => self.missing(slot).await,
            Then::Hole(_) | Then::ReadOn | Then::CaughtUp | Then::StaleStarts(_) => {
                self.missing_since = None;
            }
        }
        Page::Rows(page)
    }

    /// This slot is committed, and the log does not have it: not yet, or not any more.
    async fn missing(&mut self, slot: Slot) {
        let projected = self.log.projected.slot();
        let since = *self.missing_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= REBUILD_AFTER && slot < projected {
            let gap = Gap {
                shard: self.log.shard,
                starts: self.log.starts.clone(),
                from: slot,
                until: projected,
            };
            self.rebuild = Some(Rebuild::new(self.log.store.clone(), gap));
        } else {
            tracing::warn!(
                shard = %self.log.shard,
                slot = slot.0,
                "a committed row is not in the log, retrying"
            );
            tokio::time::sleep(HOLE_BACKOFF).await;
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
                tracing::warn!(shard = %self.log.shard, %not_now, "rebuild of trimmed log rows waits");
                self.rebuild = Some(rebuild);
                tokio::time::sleep(HOLE_BACKOFF).await;
                Page::Rows(Vec::new())
            }
        }
    }

    /// Writes down that everything before `cursor` is done, unless that is known. A write that
    /// fails is made up for by the next one.
    pub(crate) async fn write_cursor(&mut self, cursor: Position) {
        if self.written.is_some_and(|written| written >= cursor) {
            return;
        }
        match self.log.store.write_mark(self.log.shard, &self.mark, cursor).await {
            Ok(()) => self.written = Some(cursor),
            Err(error) => tracing::debug!(%error, mark = ?self.mark, "cursor not written"),
        }
    }
}

/// Reads until the store answers. Damage is reported and read again: a follower has time.
pub(super) async fn read_despite_damage<T, F: Future<Output = Result<T, StoreError>>>(
    mut read: impl FnMut() -> F,
) -> T {
    loop {
        match retry_forever(&mut read).await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::error!(%error, "a read found damage, retrying");
                tokio::time::sleep(DAMAGE_BACKOFF).await;
            }
        }
    }
}
