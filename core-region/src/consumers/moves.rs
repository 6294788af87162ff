//! The consumer `moves`: brings every conversation that has left this shard to the owner of the shard that it goes to (rules
//! M1-M4 of [`conversation::moving`]). It starts where the last owner's consumer was, so a move is driven by whoever owns
//! the shard until it is finished. The term asks it what those who come for such a conversation may be told.
//!
//! Only class `multi-region` moves so far: of class `region` nobody can say here what every region has (M5), and the shard's
//! task refuses to send it away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conversation::consumer::{Consumer, Then};
use conversation::log::LogFrame;
use conversation::moving::{Mover, Offer};
use smol_str::SmolStr;
use store::{Mark, Store};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wire::command::{Answer, Command};
use wire::{ConversationId, Position, Slot};

use super::notes::{Source, answered};
use super::{Carried, Carriers, Note, nobody};
use crate::tasks::Tasks;

/// Committed frames that wait here in memory; beyond that they are read from the log.
const FRAMES_WAITING: usize = 1_024;
/// Log rows read at once when behind.
const ROWS_AT_ONCE: usize = 64;
/// Between two writes of the cursor.
const CURSOR_EVERY: Duration = Duration::from_millis(500);
/// Pause before what did not work is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// The term's end of the consumer. When it is dropped, the consumer ends; its successor goes on from the cursor.
pub(crate) struct Moves {
    frames: mpsc::Sender<Arc<LogFrame>>,
    shared: Arc<Mutex<Shared>>,
    news: watch::Receiver<u64>,
}

struct Shared {
    mover: Mover,
    /// Somebody waits to be told where a conversation is.
    awaited: bool,
}

impl Moves {
    /// Starts from the cursor that the last one left.
    pub(crate) fn start(tasks: &Tasks, store: Arc<dyn Store>, source: Source, carriers: Carriers) -> Self {
        let (frames, frames_in) = mpsc::channel(FRAMES_WAITING);
        let (news_out, news) = watch::channel(0);
        #[expect(clippy::disallowed_methods, reason = "never holds more than the moves that are open")]
        let (done_out, done) = mpsc::unbounded_channel();
        let shared = Arc::new(Mutex::new(Shared { mover: Mover::new(source.shard, None), awaited: false }));
        let driver = Driver {
            store,
            source,
            carriers,
            consumer: Consumer::new(None),
            shared: shared.clone(),
            under_way: BTreeSet::new(),
            numbers: BTreeMap::new(),
            count: 0,
            again_at: None,
            done_out,
            news: news_out,
            written: None,
        };
        tasks.spawn("moves", driver.run(frames_in, done));
        Self { frames, shared, news }
    }

    /// A frame was committed. Never waits: what does not fit is read from the log later.
    pub(crate) fn offer(&self, frame: &Arc<LogFrame>) {
        let _ = self.frames.try_send(frame.clone());
    }

    /// See [`Mover::may_tell`]. When not, [`Moves::news`] says when to ask again.
    pub(crate) fn may_tell(&self, conversation: &ConversationId, before: Slot) -> bool {
        let mut shared = lock(&self.shared);
        let told = shared.mover.may_tell(conversation, before);
        shared.awaited |= !told;
        told
    }

    /// Something is to be told as soon as it may be.
    pub(crate) fn await_news(&self) {
        lock(&self.shared).awaited = true;
    }

    /// Resolves when something that was awaited may be told now. Cancel safe.
    pub(crate) async fn news(&mut self) {
        if self.news.changed().await.is_err() {
            // The consumer ends with the core.
            std::future::pending::<()>().await;
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // The machine's steps do not panic half way.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Driver {
    store: Arc<dyn Store>,
    source: Source,
    carriers: Carriers,
    /// As far as the mover has taken.
    consumer: Consumer,
    shared: Arc<Mutex<Shared>>,
    /// Offered and not answered.
    under_way: BTreeSet<Offer>,
    numbers: BTreeMap<u64, Offer>,
    count: u64,
    /// After an offer that was refused: when the next are made.
    again_at: Option<Instant>,
    done_out: mpsc::UnboundedSender<(u64, Carried)>,
    news: watch::Sender<u64>,
    written: Option<Position>,
}

impl Driver {
    async fn run(
        mut self,
        mut frames: mpsc::Receiver<Arc<LogFrame>>,
        mut done: mpsc::UnboundedReceiver<(u64, Carried)>,
    ) {
        let mark = Mark::Consumer(SmolStr::new_static("moves"));
        let cursor = answered(|| self.store.mark(self.source.shard, &mark)).await;
        self.consumer = Consumer::new(cursor);
        if forgets_moves() {
            let slot = *self.source.committed.borrow();
            self.consumer = Consumer::new(Some(Position { epoch: self.source.epoch, slot }));
        }
        self.consumer.rewind(&self.source.starts);
        self.written = cursor;
        lock(&self.shared).mover = Mover::new(self.source.shard, Some(self.consumer.cursor()));
        let mut tick = tokio::time::interval(CURSOR_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut projected = self.source.projected.clone();
        loop {
            let offers_wait = self.make_offers(*projected.borrow_and_update());
            let room = lock(&self.shared).mover.has_room();
            // A frame is offered before the mark moves: if none waits and the mark is ahead, one did not fit.
            let behind = self.consumer.next_slot() < *self.source.committed.borrow_and_update();
            if room && behind && frames.is_empty() {
                if frames.is_closed() {
                    return;
                }
                self.catch_up().await;
                tokio::task::coop::consume_budget().await;
                continue;
            }
            let again_at = self.again_at;
            tokio::select! {
                biased;
                Some((number, carried)) = done.recv() => self.answered(number, &carried),
                _ = tick.tick() => self.write_cursor(&mark).await,
                frame = frames.recv(), if room => match frame {
                    Some(frame) => self.take(&frame),
                    None => {
                        self.write_cursor(&mark).await;
                        return;
                    }
                },
                Ok(()) = projected.changed(), if offers_wait => {}
                () = tokio::time::sleep_until(again_at.unwrap_or_else(Instant::now)), if again_at.is_some() => {
                    self.again_at = None;
                }
                Ok(()) = self.source.committed.changed() => {}
            }
        }
    }

    /// Offers what can be read where it goes. Returns whether there is more, which cannot yet.
    fn make_offers(&mut self, projected: Slot) -> bool {
        let (ready, open): (Vec<Offer>, usize) = {
            let mover = &mut lock(&self.shared).mover;
            mover.reach(projected);
            (mover.offers().collect(), mover.open())
        };
        if self.again_at.is_none() {
            for offer in ready.iter().filter(|offer| !self.under_way.contains(offer)) {
                self.count += 1;
                self.numbers.insert(self.count, *offer);
                let Offer { conversation, n, ver, from, to } = *offer;
                self.carriers.carry(Note {
                    shard: to,
                    conversation,
                    actor: nobody(),
                    command: Command::TakeIn { n, ver, from },
                    number: self.count,
                    done: self.done_out.clone(),
                });
            }
            self.under_way.extend(&ready);
        }
        open > ready.len()
    }

    fn answered(&mut self, number: u64, carried: &Carried) {
        let Some(offer) = self.numbers.remove(&number) else { return };
        self.under_way.remove(&offer);
        if let Carried::Answered(Ok(Answer::TakenIn { everywhere: true })) = carried {
            tracing::info!(conversation = %offer.conversation, to = %offer.to, n = offer.n, "moved");
            metrics::counter!("hearth_moves_total").increment(1);
            lock(&self.shared).mover.taken_in(offer.conversation, offer.n);
            self.tell();
        } else {
            tracing::warn!(?carried, conversation = %offer.conversation, to = %offer.to, "not taken in; offered again");
            self.again_at = Some(Instant::now() + AGAIN);
        }
    }

    fn take(&mut self, frame: &LogFrame) {
        // Another was seen already, or one before it did not fit.
        if frame.slot == self.consumer.next_slot() {
            self.consumer = Consumer::new(Some(Position { slot: frame.slot.next(), ..frame.at() }));
            lock(&self.shared).mover.take(frame);
            self.tell();
        }
    }

    /// Whoever waits looks again.
    fn tell(&self) {
        if std::mem::take(&mut lock(&self.shared).awaited) {
            self.news.send_modify(|news| *news += 1);
        }
    }

    /// Takes a page of the log from the store, as much as there is room for.
    async fn catch_up(&mut self) {
        let (shard, from) = (self.source.shard, self.consumer.next_slot());
        let rows = answered(|| self.store.read_log(shard, from, ROWS_AT_ONCE)).await;
        let committed = Position { epoch: self.source.epoch, slot: *self.source.committed.borrow() };
        let mut reading = self.consumer;
        let taken = reading.take(&rows, rows.len() < ROWS_AT_ONCE, &self.source.starts, committed);
        if let Then::Hole(slot) = taken.then {
            tracing::error!(slot = slot.0, "a committed row is not in the log; trying again");
            tokio::time::sleep(AGAIN).await;
        }
        for row in taken.rows {
            if !lock(&self.shared).mover.has_room() {
                break;
            }
            match LogFrame::from_row(row) {
                Ok(frame) => self.take(&frame),
                // To go on behind it could leave a conversation nowhere.
                Err(error) => {
                    tracing::error!(%error, "the moves wait for a row that cannot be read");
                    return tokio::time::sleep(AGAIN * 25).await;
                }
            }
        }
    }

    async fn write_cursor(&mut self, mark: &Mark) {
        let cursor = lock(&self.shared).mover.cursor();
        if self.written.is_some_and(|written| written >= cursor) {
            return;
        }
        match self.store.write_mark(self.source.shard, mark, cursor).await {
            Ok(()) => self.written = Some(cursor),
            Err(error) => tracing::debug!(%error, "the cursor of the moves was not written"),
        }
    }
}

/// Only in the simulator's test of its own checker: elsewhere a fail point is nothing.
fn forgets_moves() -> bool {
    fail::fail_point!("move-forgotten", |_| true);
    false
}
