//! The heart: one task that serves one shard in one term. Requests come in through one bounded queue, are decided on top
//! of everything decided before, and gather in a frame; frames go to the log several at a time; what a frame answers and
//! feeds leaves when the frame is committed, in slot order, and not before (DESIGN 3.1):
//!
//! append at (slot, epoch) at quorum -> then a read of the fence, started after the append succeeded, or of the clock
//! against the timed lease, or both, as the zone and the class say -> no newer epoch, and the lease holds: acknowledge,
//! feed, project. A newer epoch, or a broken lease: stop, acknowledge nothing. Unknown outcome: the same frame into the
//! same slot again.
//!
//! The rules of that stand in [`conversation::shard::Owner`]; this task does its I/O. Group commit needs no timer: while
//! frames are on their way, whatever arrives gathers in the next one.

mod cache;
mod commit;
pub(crate) mod moves;
mod reads;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use conversation::dedupe::Seen;
use conversation::log::LogFrame;
use conversation::moving::Offer;
use conversation::shard::Term;
use conversation::shard::owner::Stopped;
use futures_util::stream::{FuturesUnordered, StreamExt};
use store::Store;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use wire::change::Event;
use wire::command::{Command, MeshCommand, Refusal};
use wire::stream::StreamEnd;
use wire::{ConversationId, ErrorCode, NodeId, RegionId, ShardId, Slot};

use self::cache::{Entries, Lookup, QueuedRequest};
use self::commit::batch::{self, Pending};
use self::commit::pipeline::{self as commits, Commits};
use self::moves::Moves;
use self::reads::Reads;
use self::work::{Fetched, Loaded, Offered, Work};
use crate::clock;
use crate::consumers::Source;
use crate::consumers::notes::Notes;
use crate::feed::{Feed, replay};
use crate::intake::outbox::Outbox;
use crate::intake::{Ask, Input};
use crate::limits::Limits;
use crate::log::projector::Projector;
use crate::ownership::lease_renewal::TimedLease;
use crate::replication::watermark::ReplicationWatermark;
use crate::shard_client::ShardClient;
use crate::status::Progress;
use crate::tasks::Tasks;

/// Requests taken from the queue in one turn.
const INPUTS_AT_ONCE: usize = 256;

/// What a term is served with.
pub(crate) struct ServeOptions {
    pub(crate) shard: ShardId,
    /// The regions of its zone.
    pub(crate) zone: Vec<RegionId>,
    pub(crate) node: NodeId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) tasks: Tasks,
    pub(crate) shard_client: ShardClient,
    pub(crate) progress: Arc<Progress>,
    /// The timed lease of this process; none where none is kept.
    pub(crate) held: Option<watch::Receiver<TimedLease>>,
}

/// How a term ended.
pub(crate) enum Ended {
    /// Another owner has come: what was not acknowledged never is, by this one.
    Fenced(Stopped),
    /// As asked: everything decided is committed and projected, and the checkpoint says so. Everything that was ever
    /// acknowledged stands before this slot, and this owner acknowledges nothing more.
    Drained(Option<Slot>),
}

/// Those who still wait to hear that the term has ended.
pub(crate) struct ShutdownNotice {
    streams: Vec<Arc<Outbox>>,
    inputs: mpsc::Receiver<Input>,
}

impl ShutdownNotice {
    /// Ends all streams of the term.
    pub(crate) fn end(mut self, end: &StreamEnd) {
        for stream in self.streams {
            stream.end(end.clone());
        }
        self.inputs.close();
        while let Ok(input) = self.inputs.try_recv() {
            if matches!(input.ask, Ask::Attach) {
                input.from.end(end.clone());
            }
        }
    }
}

/// One shard in one term.
pub(crate) struct Serving {
    inputs: mpsc::Receiver<Input>,
    entries: Entries,
    /// Conversations with waiting requests that can be gone on with.
    runnable: VecDeque<ConversationId>,
    /// Requests that wait in all conversations.
    gated: usize,
    work: Work,
    replayed: mpsc::Receiver<replay::Done>,
    commits: Commits,
    projector: Projector,
    projected: watch::Receiver<Slot>,
    /// Committed, not projected, in slot order; and the changes in them.
    unprojected: VecDeque<Arc<LogFrame>>,
    changes_unprojected: usize,
    notes: Notes,
    limits: Arc<Limits>,
    progress: Arc<Progress>,
}

impl Serving {
    /// Begins the term, whose tail is projected.
    pub(crate) fn begin(options: ServeOptions, term: &Term, inputs: mpsc::Receiver<Input>) -> Self {
        let ServeOptions { shard, zone, node, store, limits, tasks, shard_client, progress, held } =
            options;
        let projector = Projector::start(
            &tasks,
            store.clone(),
            (shard, node.region),
            term.epoch,
            term.start,
            &limits,
        );
        let (committed, projected) = (projector.committed(), projector.projected());
        let source = Source {
            shard,
            starts: term.starts.clone(),
            epoch: term.epoch,
            committed,
            projected: projected.clone(),
        };
        let watermark = ReplicationWatermark::start(&tasks, &store, &source, node.region, &zone);
        let moves = Moves::start(
            &tasks,
            store.clone(),
            source.clone(),
            watermark.clone(),
            shard_client.clone(),
        );
        let notes =
            Notes::start(&tasks, store.clone(), source, shard_client, limits.notes_outstanding);
        let last = term.tail.last().and_then(|row| LogFrame::from_row(row).ok());
        let last_ts_ms = last.map_or(0, |frame| frame.ts_ms);
        let (replays, replayed) = mpsc::channel(INPUTS_AT_ONCE);
        let work = Work {
            region: node.region,
            shard,
            epoch: term.epoch,
            starts: term.starts.clone(),
            now_ms: clock::wall_ms(),
            store: store.clone(),
            tasks,
            pending: Pending::new(term.epoch, term.start, last_ts_ms),
            feed: Feed::new(limits.deliveries_behind_replay),
            moves,
            watermark,
            awaiting_replication: BTreeMap::new(),
            progress: progress.clone(),
            away: BTreeSet::new(),
            unconfirmed: BTreeSet::new(),
            departing: BTreeMap::new(),
            reads: Reads::new(store.clone(), projected.clone(), limits.reads_at_once),
            replays,
            loading: Arc::new(Semaphore::new(limits.loads_at_once)),
            fetches: FuturesUnordered::new(),
            lookups: 0,
        };
        progress.began(term);
        Self {
            inputs,
            entries: Entries::new(limits.conversations_cached),
            runnable: VecDeque::new(),
            gated: 0,
            work,
            replayed,
            commits: Commits::new(term, store, shard, held, limits.frames_in_flight),
            projector,
            projected,
            unprojected: VecDeque::new(),
            changes_unprojected: 0,
            notes,
            limits,
            progress,
        }
    }

    /// Serves until another owner is met, or until `drain` resolves and everything decided is committed and projected.
    /// Dropped, it leaves the shard as a crash would.
    pub(crate) async fn run(mut self, drain: impl Future<Output = ()>) -> (Ended, ShutdownNotice) {
        tokio::pin!(drain);
        let mut arrived = Vec::with_capacity(INPUTS_AT_ONCE);
        let mut draining = false;
        let mut idle = tokio::time::interval(self.limits.idle_fence_every);
        idle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            self.work.now_ms = clock::wall_ms();
            if !draining {
                self.go_on();
            }
            let wake = match self.launch(draining) {
                Ok(wake) => wake,
                Err(stopped) => break Ended::Fenced(stopped),
            };
            if let Err(stopped) = self.on_clock() {
                break Ended::Fenced(stopped);
            }
            if draining && self.work.pending.is_empty() {
                break Ended::Drained(self.commits.release());
            }
            let reading = !draining && self.has_room();
            let turn = tokio::select! {
                biased;
                Some(append) = self.commits.appends.next() => self.commits.on_append(append),
                Some(read) = self.commits.fence_reads.next() => self.on_fence(read),
                () = commits::renewed(&mut self.commits.held) => self.commits.on_renewed(),
                Some(fetched) = self.work.fetches.next() => { self.on_fetched(fetched); Ok(()) }
                Ok(()) = self.projected.changed() => { self.on_projected(); Ok(()) }
                () = self.work.moves.news() => { self.on_moved(); Ok(()) }
                Some(done) = self.replayed.recv() => { self.work.feed.replayed(&done); Ok(()) }
                () = &mut drain, if !draining => { draining = true; Ok(()) }
                open = self.inputs.recv_many(&mut arrived, INPUTS_AT_ONCE), if reading => {
                    // Every way in is closed only when the intake is: the streams are gone then.
                    draining |= open == 0;
                    for input in arrived.drain(..) {
                        self.arrive(input);
                    }
                    Ok(())
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => Ok(()),
                _ = idle.tick() => { self.commits.read_fence_when_idle(); Ok(()) }
            };
            if let Err(stopped) = turn {
                break Ended::Fenced(stopped);
            }
        };
        if matches!(ended, Ended::Drained(_)) {
            self.projector.finish().await;
            self.progress.projected(self.work.pending.committed());
        }
        let streams = self.work.feed.into_streams().collect();
        (ended, ShutdownNotice { streams, inputs: self.inputs })
    }

    /// Whether more may be taken in: no full frame waits, and neither too many requests nor too many changes.
    fn has_room(&self) -> bool {
        !self.work.pending.is_backed_up()
            && self.gated < self.limits.gated_per_shard
            && self.work.pending.changes() + self.changes_unprojected
                < 2 * self.limits.changes_unprojected
    }

    /// Sends what is gathered on its way to the log. Returns when to look again, if time alone will allow more.
    fn launch(&mut self, at_once: bool) -> Result<Option<Instant>, Stopped> {
        while self.work.pending.next_bytes() > 0
            && self.changes_unprojected < self.limits.changes_unprojected
        {
            let eager = at_once || self.work.pending.is_backed_up();
            match self.commits.may_launch(eager) {
                commits::Launch::Now => {}
                commits::Launch::At(when) => return Ok(Some(when)),
                commits::Launch::AfterCommit => break,
            }
            let Some(frame) = self.work.pending.launch(self.work.now_ms) else { break };
            self.commits.append(&frame)?;
            if feeds_too_early() {
                frame.changes.iter().for_each(|change| self.work.feed.publish(change, None));
            }
        }
        Ok(None)
    }

    fn arrive(&mut self, input: Input) {
        let conversation = match &input.ask {
            Ask::Attach => return self.work.feed.attach(input.from),
            Ask::Detach => return self.work.feed.detach(&input.from),
            Ask::Command { conversation, .. }
            | Ask::Query { conversation, .. }
            | Ask::Watch { conversation, .. }
            | Ask::Unwatch { conversation } => *conversation,
            Ask::Recover { stranded, .. } => stranded.conversation,
        };
        let input = match offered(self.work.shard, input) {
            Ok(offered) => {
                let entry = self.entries.peek(&conversation).and_then(|place| place.entry.as_ref());
                return self.work.offered(entry, offered);
            }
            Err(input) => input,
        };
        let backed_up = self.work.pending.is_backed_up();
        let (place, known) = self.entries.place(conversation);
        if !known {
            self.work.load(conversation);
        }
        let mut held = QueuedRequest { input, lookup: Lookup::Unasked };
        if let Some(entry) = &mut place.entry
            && place.waiting.is_empty()
            && !backed_up
        {
            held = match self.work.attempt(entry, held) {
                Ok(()) => {
                    place.head_ticket += 1;
                    return;
                }
                Err(held) => held,
            };
        }
        place.waiting.push_back(held);
        self.gated += 1;
        let ticket = place.last_ticket();
        self.work.look_up(conversation, place, ticket);
        if backed_up && !place.runnable {
            place.runnable = true;
            self.runnable.push_back(conversation);
        }
    }

    /// Goes on with conversations whose requests need not wait any more.
    fn go_on(&mut self) {
        while !self.work.pending.is_backed_up() {
            let Some(id) = self.runnable.pop_front() else { return };
            let Some(place) = self.entries.peek(&id) else { continue };
            place.runnable = false;
            let Some(entry) = &mut place.entry else { continue };
            while let Some(held) = place.waiting.pop_front() {
                match self.work.attempt(entry, held) {
                    Ok(()) => {
                        place.head_ticket += 1;
                        self.gated -= 1;
                    }
                    Err(held) => {
                        place.waiting.push_front(held);
                        break;
                    }
                }
                if self.work.pending.is_backed_up() {
                    place.runnable = !place.waiting.is_empty();
                    break;
                }
            }
            if place.runnable {
                self.runnable.push_front(id);
            }
            let first = place.head_ticket;
            self.work.look_up(id, place, first);
        }
    }

    fn on_fetched(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Conversation { id, loaded } => {
                let Some(place) = self.entries.peek(&id) else { return };
                match loaded {
                    // It was taken in meanwhile.
                    Ok(_) if place.entry.is_some() => {}
                    Ok(conversation) => {
                        let committed = self.work.pending.committed();
                        place.entry = Some(cache::Entry::new(*conversation, committed));
                        for ticket in
                            place.head_ticket..place.head_ticket + place.waiting.len() as u64
                        {
                            self.work.look_up(id, place, ticket);
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, conversation = %id, "cannot be read");
                        self.gated -= place.waiting.len();
                        for held in std::mem::take(&mut place.waiting) {
                            refuse(held.input);
                        }
                        self.entries.forget(&id);
                        return;
                    }
                }
                self.make_runnable(id);
            }
            Fetched::Offered { offered, loaded } => self.take_in(offered, loaded),
            Fetched::Again { id, loaded } => self.reload(id, loaded),
            Fetched::Lookup { id, ticket, projected_then, seen } => {
                self.work.lookups -= 1;
                let Some(place) = self.entries.peek(&id) else { return };
                let conversation = place.entry.as_ref().map(|entry| &entry.conversation);
                // A row may stem from a frame that was voided by a later term: then it says nothing (R4).
                let counts = |seen: &Seen| {
                    conversation.is_some_and(|known| known.counts(seen, &self.work.starts))
                };
                let seen = seen.map(|seen| seen.filter(counts));
                let Some(held) = place.ticket(ticket) else { return };
                match seen {
                    Ok(seen) => held.lookup = Lookup::Known { seen, projected_then },
                    Err(error) => {
                        tracing::error!(%error, conversation = %id, "what was sent before cannot be read");
                        held.lookup = Lookup::Failed;
                    }
                }
                self.make_runnable(id);
            }
        }
    }

    /// A conversation that was offered has been read.
    fn take_in(&mut self, offered: Offered, loaded: Loaded) {
        let id = offered.offer.conversation;
        // One of which nothing is here was never created.
        let Some(loaded) = loaded.ok().filter(|loaded| loaded.head_ver() > 0) else {
            let refusal =
                Refusal::new(ErrorCode::HomeUnavailable, "what is offered cannot be read");
            return offered.to.reply(offered.rid, Err(refusal));
        };
        let place = self.entries.renew(id);
        self.work.take_in(&mut place.entry, offered, *loaded);
        if place.entry.is_none() && place.waiting.is_empty() {
            self.entries.forget(&id);
        }
        self.make_runnable(id);
    }

    /// A conversation of which there was unconfirmed only has been read again.
    fn reload(&mut self, id: ConversationId, loaded: Loaded) {
        self.work.unconfirmed.remove(&id);
        let committed = self.work.pending.committed();
        let Some(place) = self.entries.peek(&id) else { return };
        if let Ok(loaded) = loaded
            && place.entry.as_ref().is_some_and(|entry| entry.is_settled() && !entry.is_certain())
        {
            let place = self.entries.renew(id);
            place.entry = Some(cache::Entry::new(*loaded, committed));
        }
        self.make_runnable(id);
    }

    /// A move of some conversation is finished, or more is known of them.
    fn on_moved(&mut self) {
        for id in self.work.look_for_moved() {
            self.make_runnable(id);
        }
    }

    fn on_fence(&mut self, read: commits::FenceAnswer) -> Result<(), Stopped> {
        let acknowledged = self.commits.on_fence(read)?;
        self.acknowledge(acknowledged);
        Ok(())
    }

    fn on_clock(&mut self) -> Result<(), Stopped> {
        let acknowledged = self.commits.on_clock()?;
        self.acknowledge(acknowledged);
        Ok(())
    }

    fn acknowledge(&mut self, slots: Range<u64>) {
        if slots.is_empty() {
            return;
        }
        for slot in slots {
            let Some(batch::InFlight { frame, on_commit, launched }) = self.work.pending.commit()
            else {
                break;
            };
            debug_assert_eq!(frame.slot.0, slot);
            self.commits.committed(&frame, launched);
            for change in &frame.changes {
                if let Some(place) = self.entries.peek(&change.conversation)
                    && let Some(entry) = &mut place.entry
                {
                    entry.note_committed(change);
                }
                if let Event::MovedOut(out) = &change.event {
                    // Those who watch are told when it has arrived.
                    self.work.departing.insert(change.conversation, (out.to, frame.slot.next()));
                    self.work.moves.await_news();
                }
                self.make_runnable(change.conversation);
            }
            for reply in on_commit.replies {
                reply.send();
            }
            let mut views = on_commit.views.into_iter().peekable();
            for (index, change) in frame.changes.iter().enumerate() {
                let view = views.next_if(|(of, _)| *of == index).map(|(_, view)| view);
                self.work.feed.publish(change, view);
            }
            self.changes_unprojected += frame.changes.len();
            self.unprojected.push_back(frame.clone());
            self.work.moves.offer(&frame);
            self.notes.offer(&frame);
            self.projector.take(frame);
        }
        self.progress.committed(self.work.pending.committed(), self.entries.len(), self.gated);
    }

    fn on_projected(&mut self) {
        let projected = *self.projected.borrow_and_update();
        while self.unprojected.front().is_some_and(|frame| frame.slot < projected) {
            let Some(frame) = self.unprojected.pop_front() else { break };
            self.changes_unprojected -= frame.changes.len();
            for change in &frame.changes {
                if let Some(place) = self.entries.peek(&change.conversation)
                    && let Some(entry) = &mut place.entry
                {
                    entry.projected += 1;
                }
                self.make_runnable(change.conversation);
            }
        }
        self.progress.projected(projected);
    }

    fn make_runnable(&mut self, id: ConversationId) {
        if let Some(place) = self.entries.peek(&id)
            && !place.waiting.is_empty()
            && !place.runnable
        {
            place.runnable = true;
            self.runnable.push_back(id);
        }
    }
}

/// The input as an offer, if it is one.
#[allow(clippy::result_large_err, reason = "what is no offer goes on as it came")]
fn offered(shard: ShardId, input: Input) -> Result<Offered, Input> {
    match input {
        Input {
            from: to,
            ask:
                Ask::Command {
                    rid,
                    conversation,
                    command: Command::Mesh(MeshCommand::AcceptTransfer { n, ver, from }),
                    ..
                },
        } => {
            let offer = Offer { conversation, n, ver, from, to: shard };
            Ok(Offered { offer, to, rid })
        }
        input => Err(input),
    }
}

/// A request on what the store cannot show, now or later.
fn refuse(input: Input) {
    if let Some(rid) = work::asks(&input.ask) {
        input
            .from
            .reply(rid, Err(Refusal::new(ErrorCode::Internal, "the conversation cannot be read")));
    }
}

/// Only in the simulator's test of its own checker: elsewhere a fail point is nothing.
fn feeds_too_early() -> bool {
    fail::fail_point!("feed-past-the-mark", |_| true);
    false
}
