//! The task that does what a session's backfill is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use conversation::delivery::{
    Delivered, Pause, Place, Progress, Pushed, Rejoined, Settling, StartAt,
};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use wire::client::event::SyncDonePayload;
use wire::command::{Answer, Delivery, Refusal};
use wire::{ConversationId, ErrorCode};

use super::job::{Job, PAGE, Step};
use super::page;
use super::requests::BackfillRequest;
use crate::delivery::effects::Effects;
use crate::memory::Held;
use crate::session::frame::{self, Echo};
use crate::session::outbox::{Bound, Queued};
use crate::session::state::{self, Session};
use crate::shared::Shared;

/// Questions under way at once.
const QUESTIONS_MAX: usize = 8;
/// Pause before something that did not work is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Held until its changes are in the outbox.
type Answered = (ConversationId, u64, Result<Answer, Refusal>, Option<Held>);

/// A `sync` frame that is being answered.
struct Sync {
    re: Option<String>,
    heads: BTreeMap<ConversationId, u64>,
    left: usize,
    weight: u32,
}

struct Runner {
    shared: Arc<Shared>,
    session: Arc<Session>,
    jobs: HashMap<ConversationId, Job>,
    syncs: HashMap<u64, Sync>,
    questions: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// Jobs that have no question under way and want one.
    ready: Vec<ConversationId>,
    /// Jobs that are looked at again after a pause.
    paused: Vec<ConversationId>,
    next: u64,
    /// Since when the session has been too slow.
    slow_since: Option<Instant>,
}

/// Runs until there is nothing to do, or the session ends.
pub(super) async fn run(shared: Arc<Shared>, session: Arc<Session>) {
    let mut runner = Runner {
        shared,
        session,
        jobs: HashMap::new(),
        syncs: HashMap::new(),
        questions: FuturesUnordered::new(),
        ready: Vec::new(),
        paused: Vec::new(),
        next: 0,
        slow_since: None,
    };
    while !runner.session.outbox.is_closed() {
        runner.slow_since = runner.slow_since.filter(|_| runner.jobs.values().any(|job| job.slow));
        if runner.jobs.is_empty() && runner.session.backfill.is_finished() {
            return;
        }
        let session = runner.session.clone();
        if session.outbox.poll_settled(&Context::from_waker(Waker::noop())).is_pending() {
            // A sync may come first and say where the client stands.
            tokio::select! {
                request = std::future::poll_fn(|cx| session.backfill.poll_next(cx)) => runner.take(request),
                () = std::future::poll_fn(|cx| session.outbox.poll_settled(cx)) => {}
            }
            continue;
        }
        runner.ask();
        // The last job may have ended without a question.
        if runner.jobs.is_empty() && runner.session.backfill.is_finished() {
            return;
        }
        tokio::select! {
            Some((conversation, generation, result, held)) = runner.questions.next(), if !runner.questions.is_empty() => {
                runner.answered(conversation, generation, result).await;
                drop(held);
            }
            request = std::future::poll_fn(|cx| session.backfill.poll_next(cx)) => runner.take(request),
            () = tokio::time::sleep(PAUSE), if !runner.paused.is_empty() => runner.look_again(),
        }
    }
}

impl Runner {
    fn take(&mut self, request: BackfillRequest) {
        match request {
            BackfillRequest::Behind { conversation, have, slow } => {
                self.next += 1;
                if slow {
                    self.slow_since.get_or_insert_with(Instant::now);
                }
                let mut job = self.job(Step::Changes, Vec::new());
                (job.slow, job.progress) = (slow, Progress::from(have));
                self.paused.retain(|paused| *paused != conversation);
                let waiting = self.jobs.insert(conversation, job);
                if let Some(Job {
                    step: Step::Await { after } | Step::Probe { after },
                    syncs,
                    ..
                }) = waiting
                {
                    // A sync came before: its answer goes first.
                    self.restart(conversation, after, syncs);
                }
                if !self.ready.contains(&conversation) {
                    self.ready.push(conversation);
                }
            }
            BackfillRequest::Sync { re, after } => self.sync(re, after),
            // The loop sees that the outbox is closed.
            BackfillRequest::End => {}
        }
    }

    fn sync(&mut self, re: Option<String>, after: BTreeMap<ConversationId, u64>) {
        self.next += 1;
        let number = self.next;
        self.syncs.insert(
            number,
            Sync {
                re,
                heads: BTreeMap::new(),
                left: after.len(),
                weight: super::weight(after.len()),
            },
        );
        for (conversation, after) in after {
            if let Err(refusal) = self.shared.admits(&self.session.actor.tenant, &conversation) {
                self.report(&conversation, &[number], &refusal);
            } else if self.jobs.contains_key(&conversation) {
                self.restart(conversation, after, vec![number]);
            } else {
                let mut job = self.job(Step::Probe { after }, vec![number]);
                self.first_step(conversation, after, &mut job);
                self.begin(conversation, job);
            }
        }
        // What is queued now is of other conversations, or older than what these get.
        self.session.outbox.settle(Settling::placed);
        self.finish_sync(number);
    }

    fn job(&mut self, step: Step, syncs: Vec<u64>) -> Job {
        self.next += 1;
        Job {
            generation: self.next,
            step,
            progress: Progress::default(),
            syncs,
            slow: false,
            probed: false,
            since: Instant::now(),
        }
    }

    /// Takes the session off the live events, if it is attached.
    fn first_step(&self, conversation: ConversationId, after: u64, job: &mut Job) {
        let session = &self.session;
        let paused = self.shared.route.interest(&conversation, |i| i.pause(session, &conversation));
        match paused {
            Some(Pause::At(have)) => {
                session.outbox.take_back(&conversation, after);
                job.begin(after, have);
            }
            // Its request is on the way. What is queued must not go before the answer, which
            // repeats it.
            Some(Pause::Already) => {
                session.outbox.take_back(&conversation, after);
                job.step = Step::Await { after };
            }
            Some(Pause::Pending) => job.step = Step::Await { after },
            None => job.step = Step::Probe { after },
        }
    }

    fn begin(&mut self, conversation: ConversationId, job: Job) {
        match job.step {
            Step::Await { .. } => self.paused.push(conversation),
            _ => self.ready.push(conversation),
        }
        self.jobs.insert(conversation, job);
    }

    fn restart(&mut self, conversation: ConversationId, after: u64, syncs: Vec<u64>) {
        self.next += 1;
        let Some(job) = self.jobs.get_mut(&conversation) else { return };
        self.session.outbox.take_back(&conversation, after);
        job.restart(after);
        job.generation = self.next;
        job.syncs.extend(syncs);
        if !matches!(job.step, Step::Await { .. }) && !self.ready.contains(&conversation) {
            self.ready.push(conversation);
        }
    }

    /// Sends questions for the jobs that want one.
    fn ask(&mut self) {
        while self.questions.len() < QUESTIONS_MAX {
            let Some(conversation) = self.ready.pop() else { break };
            let Some(job) = self.jobs.get(&conversation) else { continue };
            if job.step == Step::Changes && self.rejoin(conversation) {
                continue;
            }
            let Some(job) = self.jobs.get(&conversation) else { continue };
            // All questions together ask for one page.
            let asked = (self.questions.len() + self.ready.len() + 1).min(QUESTIONS_MAX) as u16;
            let Some((query, as_user)) = job.question(PAGE / asked) else { continue };
            let question = page::ask(
                self.shared.clone(),
                self.session.actor.clone(),
                (conversation, query, as_user),
                PAGE / asked,
            );
            let generation = job.generation;
            self.questions.push(Box::pin(async move {
                let (result, held) = question.await;
                (conversation, generation, result, held)
            }));
        }
    }

    async fn answered(
        &mut self,
        conversation: ConversationId,
        generation: u64,
        result: Result<Answer, Refusal>,
    ) {
        let Some(job) = self.jobs.get(&conversation).filter(|job| job.generation == generation)
        else {
            return;
        };
        let deliveries = match (job.step, result) {
            (_, Err(refusal)) => return self.refused(conversation, &refusal),
            (Step::Probe { after }, Ok(Answer::History { .. })) => {
                return self.admitted(conversation, after);
            }
            (Step::Messages { after }, Ok(Answer::History { messages, has_more, .. })) => {
                let up_to = job.have().seq;
                let last = messages
                    .iter()
                    .filter_map(|change| seq(change))
                    .next_back()
                    .filter(|_| has_more);
                let next = last.unwrap_or(up_to).max(after);
                let wanted = |change: &wire::change::Recorded| {
                    seq(change).is_some_and(|n| n > after && n <= up_to)
                };
                let messages = messages
                    .into_iter()
                    .filter(wanted)
                    .map(|change| Delivery { change, view: None });
                (messages.collect(), Some(next))
            }
            (Step::Changes, Ok(Answer::Changes { changes, .. })) => (changes, None),
            _ => return self.refused(conversation, &frame::internal()),
        };
        let (deliveries, next): (Vec<Delivery>, Option<u64>) = deliveries;
        let nothing = deliveries.is_empty() && next.is_none();
        for delivery in deliveries {
            if !self.deliver(conversation, delivery, next.is_none()).await {
                return;
            }
        }
        if let (Some(next), Some(job)) = (next, self.jobs.get_mut(&conversation)) {
            job.ask_after(next);
        }
        let Some(job) = self.jobs.get_mut(&conversation) else { return };
        if nothing && job.progress.is_short() {
            // The client claims more than there is.
            job.progress.claim(0);
            self.ready.push(conversation);
            return;
        }
        if nothing { self.paused.push(conversation) } else { self.ready.push(conversation) }
    }

    /// Waits for room, then sends one change. False when there is nothing more to do for this
    /// conversation.
    async fn deliver(
        &mut self,
        conversation: ConversationId,
        delivery: Delivery,
        moves: bool,
    ) -> bool {
        let bound = self.shared.limits.outbox();
        let deadline = self.slow_since.map(|since| since + self.shared.limits.behind);
        let room = std::future::poll_fn(|cx| self.session.outbox.poll_room(cx, bound));
        let has_room = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, room).await,
            None => Ok(room.await),
        };
        match has_room {
            Ok(true) => {}
            Ok(false) => return false,
            Err(_) => {
                self.session.outbox.close(state::TOO_SLOW);
                return false;
            }
        }
        let event = self.shared.route.encoder.encode(delivery);
        let Some(job) = self.jobs.get_mut(&conversation) else { return false };
        if moves && event.ver() <= job.have().ver {
            return true;
        }
        // There was room for an event of any size, and nobody else may take it.
        let mut effects = Effects::new(Bound { events: usize::MAX, bytes: usize::MAX });
        if !(moves && job.progress.has_message(event.seqs())) {
            let pushed = event.send(&self.session, &mut effects);
            debug_assert_eq!(pushed, Pushed::Queued);
        }
        let is_removed = event.removes(&self.session.actor.user);
        if moves {
            let seq = event.seqs().map_or(job.have().seq, |seqs| seqs.after);
            job.progress.brought(Place { ver: event.ver(), seq }, event.epoch());
        }
        self.shared.route.apply(effects);
        if !is_removed {
            return true;
        }
        let (session, ver) = (&self.session, event.ver());
        let again =
            self.shared.route.interest(&conversation, |i| i.remove(session, &conversation, ver));
        let (Some(again), Some(job)) = (again, self.jobs.get_mut(&conversation)) else {
            self.give_up(&conversation, &not_a_member());
            return false;
        };
        // Nothing of what was said meanwhile is for the user.
        job.progress.brought(again, event.epoch());
        job.step = Step::Changes;
        true
    }

    /// True when the session is live again, or gone from the conversation.
    fn rejoin(&mut self, conversation: ConversationId) -> bool {
        let mut effects = Effects::new(self.shared.limits.outbox());
        let Some(job) = self.jobs.get_mut(&conversation) else { return true };
        let (session, progress) = (&self.session, &mut job.progress);
        let rejoined = (self.shared.route)
            .interest(&conversation, |i| i.rejoin(session, &conversation, progress, &mut effects));
        self.shared.route.apply(effects);
        match rejoined {
            Rejoined::Live { head_seq } => {
                let Some(job) = self.jobs.remove(&conversation) else { return true };
                for number in job.syncs {
                    if let Some(sync) = self.syncs.get_mut(&number) {
                        sync.heads.insert(conversation, head_seq);
                        sync.left -= 1;
                    }
                    self.finish_sync(number);
                }
                true
            }
            Rejoined::Missing => false,
            Rejoined::Gone => {
                self.give_up(&conversation, &not_a_member());
                true
            }
        }
    }

    /// The home lets the user read a conversation that the session was not attached to.
    fn admitted(&mut self, conversation: ConversationId, after: u64) {
        self.shared.route.attach(&self.session, conversation, StartAt::Now { at_ver: 0 }, None);
        let Some(mut job) = self.jobs.remove(&conversation) else { return };
        // No live event goes before the answer to the sync.
        self.first_step(conversation, after, &mut job);
        if matches!(job.step, Step::Probe { .. }) {
            job.step = Step::Await { after };
        }
        job.probed = true;
        self.begin(conversation, job);
    }

    fn refused(&mut self, conversation: ConversationId, refusal: &Refusal) {
        let Some(job) = self.jobs.get_mut(&conversation) else { return };
        let syncs = std::mem::take(&mut job.syncs);
        match job.step {
            Step::Probe { .. } | Step::Await { .. } => {
                self.jobs.remove(&conversation);
            }
            // The client is told, and can ask again. What is live goes on, and tells if the user is
            // out.
            Step::Messages { .. } => {
                job.step = Step::Changes;
                self.ready.push(conversation);
            }
            Step::Changes if refusal.code == ErrorCode::NotFound => {
                self.jobs.remove(&conversation);
                self.shared
                    .route
                    .interest(&conversation, |i| i.remove(&self.session, &conversation, u64::MAX));
            }
            Step::Changes => self.paused.push(conversation),
        }
        self.report(&conversation, &syncs, refusal);
        syncs.iter().for_each(|number| self.finish_sync(*number));
    }

    fn give_up(&mut self, conversation: &ConversationId, refusal: &Refusal) {
        let Some(job) = self.jobs.remove(conversation) else { return };
        self.report(conversation, &job.syncs, refusal);
        job.syncs.iter().for_each(|number| self.finish_sync(*number));
    }

    /// Tells the client that a conversation could not be synced.
    fn report(&mut self, conversation: &ConversationId, syncs: &[u64], refusal: &Refusal) {
        for number in syncs {
            let Some(sync) = self.syncs.get_mut(number) else { continue };
            sync.left -= 1;
            let echo = Echo {
                re: sync.re.clone(),
                conversation_id: Some(conversation.to_string()),
                client_msg_id: None,
            };
            let frame = frame::error(echo, refusal.clone());
            self.session.outbox.push_always(Queued { conversation: None, seq: 0, frame });
        }
    }

    fn finish_sync(&mut self, number: u64) {
        if self.syncs.get(&number).is_some_and(|sync| sync.left == 0)
            && let Some(Sync { re, heads, weight, .. }) = self.syncs.remove(&number)
        {
            let echo = Echo { re, ..Echo::default() };
            let frame = frame::answer("sync.done", echo, SyncDonePayload { heads });
            self.session.outbox.push_always(Queued { conversation: None, seq: 0, frame });
            self.session.end_requests(weight);
        }
    }

    fn look_again(&mut self) {
        for conversation in std::mem::take(&mut self.paused) {
            let Some(job) = self.jobs.get(&conversation) else { continue };
            match job.step {
                Step::Await { after } => self.still_waiting(conversation, after),
                _ => self.ready.push(conversation),
            }
        }
    }
}

impl Runner {
    /// Attached meanwhile? Not for ever: what cannot be reached is reported.
    fn still_waiting(&mut self, conversation: ConversationId, after: u64) {
        let Some(mut job) = self.jobs.remove(&conversation) else { return };
        self.first_step(conversation, after, &mut job);
        let late = job.since.elapsed() >= self.shared.limits.home_deadline;
        let refusal = match job.step {
            // The owner, asked for the members, did not name the user.
            Step::Probe { .. } if job.probed => not_a_member(),
            Step::Await { .. } if late => Refusal {
                retry_after_ms: Some(1_000),
                ..Refusal::new(
                    ErrorCode::HomeUnavailable,
                    "the home of the conversation does not answer",
                )
            },
            _ => {
                self.next += 1;
                job.generation = self.next;
                return self.begin(conversation, job);
            }
        };
        self.report(&conversation, &job.syncs, &refusal);
        job.syncs.iter().for_each(|number| self.finish_sync(*number));
    }
}

fn not_a_member() -> Refusal {
    Refusal::new(ErrorCode::NotAMember, "you are not a member of this conversation")
}

fn seq(change: &wire::change::Change) -> Option<u64> {
    change.event.message().map(|message| message.seq)
}
