//! The select loop of one shard in one term. See [`crate::owner`].

use std::ops::Range;
use std::sync::Arc;

use conversation::moving::Offer;
use conversation::shard::Term;
use conversation::shard::owner::Stopped;
use futures_util::stream::StreamExt;
use node::clock;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::change::Event;
use wire::command::{Command, MeshCommand};

use super::cache::ConversationCache;
use super::commit::batch::InFlight;
use super::commit::committed::Committed;
use super::commit::pipeline::{self, AppendAnswer, FenceAnswer, Launch, Pipeline};
use super::decide::ReplyTo;
use super::dispatch::Dispatch;
use super::moves::Moves;
use super::relocation::{PendingOffer, Relocation};
use super::requests::Requests;
use super::{Ended, OwnerOptions, ShutdownNotice};
use crate::consumers::runner;
use crate::feed::log_tail::Publisher;
use crate::feed::replay;
use crate::limits::Limits;
use crate::owner::input::{Ask, Input};
use crate::owner::projector::Projector;
use crate::replication::watermark::ReplicationWatermark;
use crate::status::Progress;

/// Requests taken from the queue in one turn.
const INPUTS_AT_ONCE: usize = 256;

/// One shard in one term.
pub(crate) struct OwnerTask {
    inputs: mpsc::Receiver<Input>,
    requests: Requests,
    dispatch: Dispatch,
    replayed: mpsc::Receiver<replay::Done>,
    pipeline: Pipeline,
    committed: Committed,
    limits: Arc<Limits>,
    progress: Arc<Progress>,
}

impl OwnerTask {
    /// Begins the term, whose tail is projected.
    pub(crate) fn begin(options: OwnerOptions, term: &Term, inputs: mpsc::Receiver<Input>) -> Self {
        let OwnerOptions { shard, store, limits, tasks, progress, .. } = &options;
        let region = options.node.region;
        let projector = Projector::start(
            tasks,
            store.clone(),
            (*shard, region),
            term.epoch,
            term.start,
            limits,
        );
        let projected = projector.projected();
        let (publisher, log) = Publisher::start(
            store.clone(),
            *shard,
            (term.starts.clone(), term.epoch),
            projector.committed(),
            projected.clone(),
        );
        let watermark = ReplicationWatermark::start(tasks, &log, region, &options.zone);
        let moves =
            Moves::start(tasks, log.clone(), watermark.clone(), options.shard_client.clone());
        progress.began(term);
        runner::start(&options.consumers, &log, &options.shard_client, progress, limits, tasks);
        let (replays, replayed) = mpsc::channel(INPUTS_AT_ONCE);
        let relocation = Relocation::new(moves, watermark);
        let dispatch = Dispatch::new(&options, term, relocation, projected.clone(), replays);
        let OwnerOptions { shard, store, limits, progress, timed_lease, .. } = options;
        let cache =
            ConversationCache::new(limits.conversations_cached, limits.cached_bytes_per_shard);
        Self {
            inputs,
            requests: Requests::new(cache),
            dispatch,
            replayed,
            pipeline: Pipeline::new(term, store, shard, timed_lease, limits.frames_in_flight),
            committed: Committed::new(projector, publisher),
            limits,
            progress,
        }
    }

    /// Serves until another owner is met, or until `drain` resolves and everything decided is
    /// committed and projected. Dropped, it leaves the shard as a crash would.
    pub(crate) async fn run(mut self, drain: impl Future<Output = ()>) -> (Ended, ShutdownNotice) {
        tokio::pin!(drain);
        let mut arrived = Vec::with_capacity(INPUTS_AT_ONCE);
        let mut draining = false;
        let mut idle = tokio::time::interval(self.limits.idle_fence_every);
        idle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            self.dispatch.decider.now_ms = clock::unix_ms();
            if !draining {
                self.requests.serve_runnable(&mut self.dispatch);
            }
            let wake = match self.launch(draining) {
                Ok(wake) => wake,
                Err(stopped) => break Ended::Fenced(stopped),
            };
            if let Err(stopped) = self.on_clock() {
                break Ended::Fenced(stopped);
            }
            if draining && self.dispatch.decider.pending.is_empty() {
                break Ended::Drained(self.pipeline.release());
            }
            let reading = !draining && self.has_room();
            let wake_at = wake.unwrap_or_else(Instant::now);
            let turn = tokio::select! {
                biased;
                Some(append) = self.pipeline.appends.next() => self.on_append(append),
                Some(read) = self.pipeline.fence_reads.next() => self.on_fence(read),
                () = pipeline::renewed(&mut self.pipeline.held) => self.pipeline.on_renewed(),
                Some(fetched) = self.dispatch.loader.next() => {
                    self.requests.on_fetched(fetched, &mut self.dispatch);
                    Ok(())
                }
                () = self.committed.projected() => { self.on_projected(); Ok(()) }
                () = self.dispatch.relocation.news() => { self.on_moved(); Ok(()) }
                Some(done) = self.replayed.recv() => {
                    self.dispatch.feed.replayed(&done);
                    Ok(())
                }
                () = &mut drain, if !draining => { draining = true; Ok(()) }
                open = self.inputs.recv_many(&mut arrived, INPUTS_AT_ONCE), if reading => {
                    // All senders are dropped only with the intake: then no stream is left.
                    draining |= open == 0;
                    arrived.drain(..).for_each(|input| self.arrive(input));
                    Ok(())
                }
                () = tokio::time::sleep_until(wake_at), if wake.is_some() => Ok(()),
                _ = idle.tick() => { self.pipeline.read_fence_when_idle(); Ok(()) }
            };
            if let Err(stopped) = turn {
                break Ended::Fenced(stopped);
            }
        };
        if matches!(ended, Ended::Drained(_)) {
            self.committed.finish().await;
            self.progress.projected(self.dispatch.decider.pending.committed());
        }
        let streams = self.dispatch.feed.into_streams().collect();
        (ended, ShutdownNotice { streams, inputs: self.inputs })
    }

    /// Whether more may be taken in: no full frame waits, and neither too many requests nor too
    /// many changes.
    fn has_room(&self) -> bool {
        let pending = &self.dispatch.decider.pending;
        !pending.is_backed_up()
            && self.requests.waiting() < self.limits.gated_per_shard
            && pending.changes() + self.committed.changes_unprojected()
                < 2 * self.limits.changes_unprojected
    }

    /// Sends what is gathered on its way to the log. Returns when to look again, if time alone will
    /// allow more.
    fn launch(&mut self, at_once: bool) -> Result<Option<Instant>, Stopped> {
        let Dispatch { decider, feed, .. } = &mut self.dispatch;
        while decider.pending.next_bytes() > 0
            && self.committed.changes_unprojected() < self.limits.changes_unprojected
        {
            let eager = at_once || decider.pending.is_backed_up();
            match self.pipeline.may_launch(eager) {
                Launch::Now => {}
                Launch::At(when) => return Ok(Some(when)),
                Launch::AfterCommit => break,
            }
            let Some(frame) = decider.pending.launch(decider.now_ms) else { break };
            self.pipeline.append(&frame)?;
            if feeds_too_early() {
                frame.changes.iter().for_each(|change| feed.publish(change, &None));
            }
        }
        Ok(None)
    }

    fn arrive(&mut self, input: Input) {
        let id = match &input.ask {
            Ask::Attach => return self.dispatch.feed.attach(input.from),
            Ask::Detach => return self.dispatch.feed.detach(&input.from),
            Ask::Command { rid, conversation, command, .. } => {
                if let Command::Mesh(MeshCommand::AcceptTransfer { n, ver, from }) = *command {
                    let to = self.dispatch.decider.shard;
                    let offer = Offer { conversation: *conversation, n, ver, from, to };
                    let to = ReplyTo { rid: *rid, outbox: input.from };
                    let offer = PendingOffer { offer, to };
                    return self.requests.offered(offer, &mut self.dispatch);
                }
                if let Some(refusal) = self.pipeline.refusal() {
                    return input.from.reply(*rid, Err(refusal));
                }
                *conversation
            }
            Ask::Query { conversation, .. }
            | Ask::Watch { conversation, .. }
            | Ask::Unwatch { conversation } => *conversation,
            Ask::Recover { stranded, .. } => stranded.conversation,
        };
        self.requests.arrive(id, input, &mut self.dispatch);
    }

    /// A move of some conversation is finished, or more is known of it.
    fn on_moved(&mut self) {
        let (arrived, waiting) = self.dispatch.relocation.look_again();
        for (id, home) in arrived {
            self.dispatch.feed.moved(id, home);
        }
        for id in waiting {
            self.requests.make_runnable(id);
        }
    }

    /// Nobody waits for a store that says that it takes nothing.
    fn on_append(&mut self, append: AppendAnswer) -> Result<(), Stopped> {
        let has_failed = append.has_failed();
        self.pipeline.on_append(append)?;
        if has_failed && let Some(refusal) = self.pipeline.refusal() {
            self.dispatch.decider.pending.give_up_waiting(&refusal);
        }
        Ok(())
    }

    fn on_fence(&mut self, read: FenceAnswer) -> Result<(), Stopped> {
        let acknowledged = self.pipeline.on_fence(read)?;
        self.acknowledge(acknowledged);
        Ok(())
    }

    fn on_clock(&mut self) -> Result<(), Stopped> {
        let acknowledged = self.pipeline.on_clock()?;
        self.acknowledge(acknowledged);
        Ok(())
    }

    fn acknowledge(&mut self, slots: Range<u64>) {
        if slots.is_empty() {
            return;
        }
        for slot in slots {
            let Some(in_flight) = self.dispatch.decider.pending.commit() else { break };
            debug_assert_eq!(in_flight.frame.slot.0, slot);
            // Before the answers leave: a caller that is acknowledged finds it in the status.
            let committed = self.dispatch.decider.pending.committed();
            let (cache, waiting) = (&self.requests.cache, self.requests.waiting());
            self.progress.committed(committed, (cache.len(), cache.bytes()), waiting);
            self.commit(in_flight);
        }
    }

    /// A frame is committed: what waited for it leaves, in the order in which it was decided.
    fn commit(&mut self, in_flight: InFlight) {
        let InFlight { frame, on_commit, launched } = in_flight;
        self.pipeline.committed(&frame, launched);
        for change in &frame.changes {
            let id = change.conversation;
            if let Some(entry) = self.requests.cache.entry(&id) {
                entry.note_committed(change);
            }
            if let Event::MovedOut(out) = &change.event {
                self.dispatch.relocation.departed(id, out.to, frame.slot.next());
            }
            self.requests.make_runnable(id);
        }
        for reply in on_commit.replies {
            reply.send();
        }
        let mut views = on_commit.views.into_iter().peekable();
        for (index, change) in frame.changes.iter().enumerate() {
            let view = views.next_if(|(of, _)| *of == index).map(|(_, view)| view);
            self.dispatch.feed.publish(change, &view);
        }
        self.committed.take(frame);
    }

    fn on_projected(&mut self) {
        let (projected, frames) = self.committed.take_projected();
        for frame in frames {
            for change in &frame.changes {
                let id = change.conversation;
                if let Some(entry) = self.requests.cache.entry(&id) {
                    entry.note_projected();
                }
                // Measured here: only what is projected can be dropped to keep the bound.
                self.requests.cache.measure(&id);
                self.requests.make_runnable(id);
            }
        }
        self.progress.projected(projected);
    }
}

/// A fail point of the simulator's mutants; it does nothing elsewhere.
fn feeds_too_early() -> bool {
    fail::fail_point!("feed-past-the-mark", |_| true);
    false
}
