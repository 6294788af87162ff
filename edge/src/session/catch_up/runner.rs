//! The task that does a session's orders.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use wire::client::event::SyncDonePayload;
use wire::command::{Answer, Delivery, Refusal};
use wire::{ConversationId, ErrorCode};

use super::job::{Job, Step};
use super::{Order, Session};
use crate::fanout::{Effects, Outcome};
use crate::session::frame::{self, Echo};
use crate::session::outbox::Queued;
use crate::shared::Shared;
use crate::subscriptions::{At, Attached, From, Rejoined};

/// Questions under way at once.
const QUESTIONS_MAX: usize = 8;
/// Pause before something that did not work is tried again.
const PAUSE: Duration = Duration::from_millis(100);

type Answered = (ConversationId, u64, Result<Answer, Refusal>);

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
        if runner.jobs.is_empty() && runner.session.catch_up.is_finished() {
            return;
        }
        let session = runner.session.clone();
        if session.outbox.poll_settled(&Context::from_waker(Waker::noop())).is_pending() {
            // A sync may come first and say where the client stands.
            tokio::select! {
                order = std::future::poll_fn(|cx| session.catch_up.poll_next(cx)) => runner.take(order),
                () = std::future::poll_fn(|cx| session.outbox.poll_settled(cx)) => {}
            }
            continue;
        }
        runner.ask();
        tokio::select! {
            Some((conversation, generation, result)) = runner.questions.next(), if !runner.questions.is_empty() => {
                runner.answered(conversation, generation, result).await;
            }
            order = std::future::poll_fn(|cx| session.catch_up.poll_next(cx)) => runner.take(order),
            () = tokio::time::sleep(PAUSE), if !runner.paused.is_empty() => runner.look_again(),
        }
    }
}

impl Runner {
    fn take(&mut self, order: Order) {
        match order {
            Order::Behind { conversation, at } => {
                self.next += 1;
                let slow = at.seq > 0;
                if slow {
                    self.slow_since.get_or_insert_with(Instant::now);
                }
                let job = Job { slow, ..self.job(Step::Changes { have: at }, Vec::new()) };
                let waiting = self.jobs.insert(conversation, job);
                if let Some(Job {
                    step: Step::Await { after } | Step::Knock { after },
                    syncs,
                    ..
                }) = waiting
                {
                    // A sync came between the mark and this order.
                    self.restart(conversation, after, syncs);
                }
                self.ready.push(conversation);
            }
            Order::Sync { re, after } => self.sync(re, after),
            // The loop sees that the outbox is closed.
            Order::End => {}
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
                let step = self.first_step(conversation, after);
                let job = self.job(step, vec![number]);
                self.begin(conversation, job);
            }
        }
        // What waits now is not about these conversations, or older than what they get.
        self.session.outbox.set_settling(false);
        self.finish_sync(number);
    }

    fn job(&mut self, step: Step, syncs: Vec<u64>) -> Job {
        self.next += 1;
        Job {
            generation: self.next,
            step,
            syncs,
            slow: false,
            knocked: false,
            since: Instant::now(),
        }
    }

    /// Takes the session off the live events, if it is attached.
    fn first_step(&mut self, conversation: ConversationId, after: u64) -> Step {
        let session = &self.session;
        let attached =
            self.shared.route.interest(&conversation, |i| i.take_off(session, &conversation));
        match attached {
            Some(Attached::TakenOff(up_to)) => {
                session.outbox.take_back(&conversation, after);
                Step::Messages { after, up_to }.skip_nothing()
            }
            Some(Attached::Off | Attached::Asking) => Step::Await { after },
            None => Step::Knock { after },
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
        job.step = job.step.restart(after);
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
            if let Step::Changes { have } = job.step
                && self.rejoin(conversation, have)
            {
                continue;
            }
            let Some(job) = self.jobs.get(&conversation) else { continue };
            let Some((query, as_user)) = job.step.question() else { continue };
            let actor = as_user.then(|| self.session.actor.clone());
            let (shared, generation) = (self.shared.clone(), job.generation);
            self.questions.push(Box::pin(async move {
                (conversation, generation, shared.route.query(conversation, actor, query).await)
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
            (Step::Knock { after }, Ok(Answer::History { .. })) => {
                return self.admitted(conversation, after);
            }
            (Step::Messages { after, up_to }, Ok(Answer::History { messages, has_more, .. })) => {
                let last = messages.iter().filter_map(seq).next_back().filter(|_| has_more);
                let step = Step::Messages { after: last.unwrap_or(up_to.seq).max(after), up_to }
                    .skip_nothing();
                let wanted = |change: &wire::change::Change| {
                    seq(change).is_some_and(|n| n > after && n <= up_to.seq)
                };
                let messages = messages
                    .into_iter()
                    .filter(wanted)
                    .map(|change| Delivery { change, view: None });
                (messages.collect(), Some(step))
            }
            (Step::Changes { .. }, Ok(Answer::Changes { changes, .. })) => (changes, None),
            _ => return self.refused(conversation, &frame::internal()),
        };
        let (deliveries, step) = deliveries;
        let nothing = deliveries.is_empty() && step.is_none();
        for delivery in deliveries {
            if !self.deliver(conversation, delivery, step.is_none()).await {
                return;
            }
        }
        if let (Some(step), Some(job)) = (step, self.jobs.get_mut(&conversation)) {
            job.step = step;
        }
        if nothing { self.paused.push(conversation) } else { self.ready.push(conversation) }
    }

    /// Waits for room, then sends one change. False when there is nothing more to do for this conversation.
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
                self.session.outbox.close(super::super::TOO_SLOW);
                return false;
            }
        }
        let mut effects = Effects::new(bound);
        let (outcome, at) = {
            let printed = self.shared.printer.print(delivery);
            let Some(job) = self.jobs.get_mut(&conversation) else { return false };
            if let Step::Changes { have } = &mut job.step
                && moves
            {
                if printed.ver() <= have.ver {
                    return true;
                }
                *have = At { ver: printed.ver(), seq: printed.seq_after().unwrap_or(have.seq) };
            }
            (printed.send(&self.session, &mut effects), printed.conversation())
        };
        self.shared.apply(effects);
        if outcome == Outcome::Last {
            let ver = self.jobs.get(&conversation).map_or(0, Job::ver);
            let again = self.shared.route.interest(&at, |i| i.remove(&self.session, &at, ver));
            let (Some(again), Some(job)) = (again, self.jobs.get_mut(&conversation)) else {
                self.give_up(&conversation, &not_a_member());
                return false;
            };
            // Nothing of what was said meanwhile is for him.
            job.step = Step::Changes { have: again };
        }
        true
    }

    /// The session has everything up to `have`: true when it is live again, or gone from the conversation.
    fn rejoin(&mut self, conversation: ConversationId, have: At) -> bool {
        let mut effects = Effects::new(self.shared.limits.outbox());
        let session = &self.session;
        let rejoined = self
            .shared
            .route
            .interest(&conversation, |i| i.rejoin(session, &conversation, have, &mut effects));
        self.shared.apply(effects);
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
            Rejoined::Missing(have) => {
                if let Some(job) = self.jobs.get_mut(&conversation) {
                    job.step = Step::Changes { have };
                }
                false
            }
            Rejoined::Gone => {
                self.give_up(&conversation, &not_a_member());
                true
            }
        }
    }

    /// The home lets the user read a conversation that the session was not attached to.
    fn admitted(&mut self, conversation: ConversationId, after: u64) {
        self.shared.attach(&self.session, conversation, From::Now { at_ver: 0 }, None);
        if let Some(job) = self.jobs.get_mut(&conversation) {
            job.step = Step::Await { after };
            job.knocked = true;
        }
        self.paused.push(conversation);
    }

    fn refused(&mut self, conversation: ConversationId, refusal: &Refusal) {
        let Some(job) = self.jobs.get_mut(&conversation) else { return };
        let syncs = std::mem::take(&mut job.syncs);
        match job.step {
            Step::Knock { .. } | Step::Await { .. } => {
                self.jobs.remove(&conversation);
            }
            // The client is told, and can ask again; what is live goes on, and tells why if he is out.
            Step::Messages { up_to, .. } => {
                job.step = Step::Changes { have: up_to };
                self.ready.push(conversation);
            }
            Step::Changes { .. } if refusal.code == ErrorCode::NotFound => {
                self.jobs.remove(&conversation);
                self.shared
                    .route
                    .interest(&conversation, |i| i.remove(&self.session, &conversation, u64::MAX));
            }
            Step::Changes { .. } => self.paused.push(conversation),
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
        let step = self.first_step(conversation, after);
        let Some(job) = self.jobs.remove(&conversation) else { return };
        let late = job.since.elapsed() >= self.shared.limits.home_deadline;
        let refusal = match step {
            // The owner, asked for the members, did not name the user.
            Step::Knock { .. } if job.knocked => not_a_member(),
            Step::Await { .. } if late => Refusal {
                retry_after_ms: Some(1_000),
                ..Refusal::new(
                    ErrorCode::HomeUnavailable,
                    "the home of the conversation does not answer",
                )
            },
            _ => {
                self.next += 1;
                return self.begin(conversation, Job { step, generation: self.next, ..job });
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
    match &change.event {
        wire::change::Event::Message(message) => Some(message.seq),
        _ => None,
    }
}
