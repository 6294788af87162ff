//! Drives the moves of a shard: offers each conversation that has left to the owner of the shard
//! that it goes to (rules M1-M4 of [`conversation::moving`]). It starts from the last owner's
//! cursor, so whoever owns the shard goes on with a move until it is finished. The owner task asks
//! it whom it may tell where a conversation is.
//!
//! For single-region shards, a move is offered only after `MovedOut` has reached every region, and
//! the offer is repeated until `MovedIn` has too (M5); otherwise losing a region could undo half of
//! a move.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conversation::log::LogFrame;
use conversation::moving::{Mover, Offer};
use node::Tasks;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wire::command::{Answer, MeshCommand};
use wire::{ConversationId, Position, Slot};

use crate::feed::log_tail::{CommittedLog, LogTail, Next, Page};
use crate::replication::watermark::ReplicationWatermark;
use shard_client::{Request, Response, ShardClient, system_actor};

/// Pause before what did not work is tried again.
const OFFER_BACKOFF: Duration = Duration::from_millis(200);
/// Pause before a row that cannot be read is tried again.
const UNREADABLE_BACKOFF: Duration = Duration::from_secs(5);

/// The owner task's end.
pub(crate) struct Moves {
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
    pub(crate) fn start(
        tasks: &Tasks,
        log: CommittedLog,
        watermark: ReplicationWatermark,
        shard_client: ShardClient,
    ) -> Self {
        let (news_out, news) = watch::channel(0);
        #[expect(
            clippy::disallowed_methods,
            reason = "never holds more than the moves that are open"
        )]
        let (done_out, done) = mpsc::unbounded_channel();
        let shared =
            Arc::new(Mutex::new(Shared { mover: Mover::new(log.shard, None), awaited: false }));
        let known = shared.clone();
        tasks.spawn("moves", async move {
            let driver = Driver {
                tail: LogTail::open("moves", log).await,
                shard_client,
                watermark,
                shared: known,
                under_way: BTreeSet::new(),
                numbers: BTreeMap::new(),
                count: 0,
                again_at: None,
                done_out,
                news: news_out,
            };
            driver.run(done).await;
        });
        Self { shared, news }
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
            // The driver ends with the core.
            std::future::pending::<()>().await;
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // The machine's steps do not panic half way.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Driver {
    /// As far as the mover has taken.
    tail: LogTail,
    shard_client: ShardClient,
    watermark: ReplicationWatermark,
    shared: Arc<Mutex<Shared>>,
    /// Offered and not answered.
    under_way: BTreeSet<Offer>,
    numbers: BTreeMap<u64, Offer>,
    count: u64,
    /// After an offer that was refused: when the next are made.
    again_at: Option<Instant>,
    done_out: mpsc::UnboundedSender<(u64, Response)>,
    news: watch::Sender<u64>,
}

impl Driver {
    async fn run(mut self, mut done: mpsc::UnboundedReceiver<(u64, Response)>) {
        let log = self.tail.log.clone();
        if forgets_moves() {
            let slot = *log.committed.borrow();
            self.tail.go_to(Some(Position { epoch: log.epoch, slot }));
        }
        lock(&self.shared).mover = Mover::new(log.shard, Some(self.tail.cursor()));
        // If the last owner finished every move, the cursor is all that the owner task waits for.
        self.tell();
        let mut watermark = self.watermark.watermark();
        loop {
            let offers_wait = self.make_offers(*watermark.borrow_and_update());
            let room = lock(&self.shared).mover.has_room();
            let again_at = self.again_at;
            tokio::select! {
                biased;
                Some((number, response)) = done.recv() => self.answered(number, &response),
                next = self.tail.next(room) => match next {
                    Next::Frame(frame) => self.take(&frame),
                    Next::Behind => self.catch_up().await,
                    Next::WriteCursor => self.write_cursor().await,
                    Next::Ended => return self.write_cursor().await,
                },
                Ok(()) = watermark.changed(), if offers_wait => {}
                () = tokio::time::sleep_until(again_at.unwrap_or_else(Instant::now)), if again_at.is_some() => {
                    self.again_at = None;
                }
            }
        }
    }

    /// Offers what can be read where it goes. Returns whether there is more, which cannot yet.
    fn make_offers(&mut self, watermark: Slot) -> bool {
        let (ready, open, next): (Vec<Offer>, usize, Slot) = {
            let mover = &mut lock(&self.shared).mover;
            mover.reach(watermark);
            (mover.offers().collect(), mover.open(), mover.next_slot())
        };
        if self.again_at.is_none() {
            for offer in ready.iter().filter(|offer| !self.under_way.contains(offer)) {
                self.count += 1;
                self.numbers.insert(self.count, *offer);
                let Offer { conversation, n, ver, from, to } = *offer;
                let (number, done) = (self.count, self.done_out.clone());
                let respond = Box::new(move |response| {
                    // The term may be over: the next owner offers it again.
                    let _ = done.send((number, response));
                });
                self.shard_client.send(Request {
                    shard: to,
                    conversation,
                    actor: system_actor(),
                    command: MeshCommand::AcceptTransfer { n, ver, from },
                    respond,
                });
            }
            self.under_way.extend(&ready);
        }
        let more = open > ready.len();
        if more {
            self.watermark.wait_for(next);
        }
        more
    }

    fn answered(&mut self, number: u64, response: &Response) {
        let Some(offer) = self.numbers.remove(&number) else { return };
        self.under_way.remove(&offer);
        match response {
            Response::Answered(Ok(Answer::TransferAccepted { everywhere: true })) => {
                tracing::info!(conversation = %offer.conversation, to = %offer.to, n = offer.n, "moved");
                metrics::counter!("hearth_moves_total").increment(1);
                lock(&self.shared).mover.taken_in(offer.conversation, offer.n);
                self.tell();
            }
            Response::Answered(Ok(Answer::TransferAccepted { everywhere: false })) => {
                lock(&self.shared).mover.arrived(offer.conversation, offer.n);
                self.tell();
                self.again_at = Some(Instant::now() + OFFER_BACKOFF);
            }
            Response::Answered(_) | Response::Moved(_) => {
                tracing::warn!(
                    ?response,
                    conversation = %offer.conversation,
                    to = %offer.to,
                    "transfer not accepted, offering it again"
                );
                self.again_at = Some(Instant::now() + OFFER_BACKOFF);
            }
        }
    }

    fn take(&mut self, frame: &LogFrame) {
        if self.tail.advance(frame).is_some() {
            lock(&self.shared).mover.take(frame);
            self.tell();
        }
    }

    /// Wakes the owner task, if it waits for news.
    fn tell(&self) {
        if std::mem::take(&mut lock(&self.shared).awaited) {
            self.news.send_modify(|news| *news += 1);
        }
    }

    /// Takes a page of the log from the store, as much as there is room for.
    async fn catch_up(&mut self) {
        let rows = match self.tail.page().await {
            Page::Rows(rows) => rows,
            Page::Rebuilt(frame) => {
                lock(&self.shared).mover.take_rebuilt(&frame);
                return;
            }
            Page::RebuiltAll => {
                lock(&self.shared).mover.skip_to(self.tail.cursor());
                return self.tell();
            }
        };
        for (_, frame) in rows {
            // What is left of the page is read again.
            if !lock(&self.shared).mover.has_room() {
                break;
            }
            match frame {
                Ok(frame) => self.take(&frame),
                // To go on behind it could leave a conversation nowhere.
                Err(error) => {
                    tracing::error!(%error, "a log row cannot be read, moves wait for it");
                    return tokio::time::sleep(UNREADABLE_BACKOFF).await;
                }
            }
        }
        tokio::task::coop::consume_budget().await;
    }

    async fn write_cursor(&mut self) {
        let cursor = lock(&self.shared).mover.cursor();
        self.tail.write_cursor(cursor).await;
    }
}

/// Only in the simulator's test of its own checker: elsewhere a fail point is nothing.
fn forgets_moves() -> bool {
    fail::fail_point!("move-forgotten", |_| true);
    false
}
