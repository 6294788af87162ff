//! A writer with the SDK. It keeps unacknowledged sends over its own restarts and resends them
//! unchanged. Sometimes it resends an acknowledged message, like a client that lost the ack.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::{Ack, Client, Event, Events, SendError};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, sleep, sleep_until};
use wire::client::MessageContent;
use wire::{ClientMsgId, ConversationId};

use super::population::Resident;
use super::{Phase, Talk, Workload, marker};
use crate::scenario::Load;

/// Maximum unacknowledged messages of one writer.
const UNACKED_MAX: usize = 30;

pub struct Writer {
    workload: Workload,
    who: Resident,
    talks: Vec<Talk>,
    pace: Pace,
    rng: SmallRng,
    turn: Arc<AtomicUsize>,
    said: u64,
    /// Unacknowledged, in send order.
    owed: VecDeque<Said>,
    /// Acknowledged, to be resent at this time.
    again: VecDeque<(Instant, Said)>,
    seen: BTreeMap<ConversationId, u64>,
}

/// A writer's pace.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Messages a second.
    pub messages_per_s: f64,
    /// Share of messages that are resent after their ack.
    pub resend: f64,
    /// Approximate length of a message.
    pub body_bytes: u16,
}

impl Pace {
    /// One writer's share of a load.
    #[must_use]
    pub fn of(load: &Load, clients: usize) -> Self {
        let messages_per_s = load.messages_per_s / clients.max(1) as f64;
        Self { messages_per_s, resend: load.resend, body_bytes: load.body_bytes }
    }
}

#[derive(Clone)]
struct Said {
    conversation: ConversationId,
    id: ClientMsgId,
    body: String,
}

type Answer = Pin<Box<dyn Future<Output = (Said, Result<Ack, SendError>)> + Send>>;

/// Why one connection ended.
enum End {
    Flapped,
    Done,
}

impl Writer {
    /// Writes in the conversations of which the user is a member.
    #[must_use]
    pub fn new(workload: Workload, who: Resident, talks: &[Talk], pace: Pace, seed: u64) -> Self {
        let talks: Vec<Talk> =
            talks.iter().filter(|talk| talk.members.contains(&who.user)).cloned().collect();
        for talk in &talks {
            workload.ledger.watches(who.user.as_str(), talk.id);
        }
        let seen = talks.iter().map(|talk| (talk.id, 0)).collect();
        let rng = SmallRng::seed_from_u64(seed);
        Self {
            workload,
            who,
            talks,
            pace,
            rng,
            turn: Arc::default(),
            said: 0,
            owed: VecDeque::new(),
            again: VecDeque::new(),
            seen,
        }
    }

    /// Runs until the run ends.
    pub async fn run(mut self) {
        loop {
            let options = self.workload.options(
                &self.who.tenant,
                &self.who.user,
                &self.turn,
                self.rng.random(),
            );
            let (client, events) = Client::connect(options);
            let end = self.live(&client, events).await;
            client.close().await;
            match end {
                End::Done => return,
                End::Flapped => {
                    self.turn.fetch_add(1, Ordering::Relaxed);
                    let away = Duration::from_millis(self.rng.random_range(50..1_500));
                    sleep(away).await;
                }
            }
        }
    }

    async fn live(&mut self, client: &Client, mut events: Events) -> End {
        for (conversation, seen) in &self.seen {
            // The client is new; it ends with this function.
            let _ = client.follow(*conversation, *seen);
        }
        let mut answers = FuturesUnordered::new();
        for said in self.owed.clone() {
            answers.extend(hand_over(client, said));
        }
        let mut phase = self.workload.phase.clone();
        let mut flap = self.workload.flap.clone();
        let mut next = Instant::now() + self.pause();
        let mut leave = self.leave_at(*flap.borrow_and_update());
        loop {
            let is_loading = *phase.borrow_and_update() == Phase::Load;
            let again = self.again.front().map(|(at, _)| *at);
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.event(event),
                    None => return End::Done,
                },
                Some((said, answer)) = answers.next() => self.answered(said, answer),
                () = sleep_until(next), if is_loading => {
                    next = Instant::now() + self.pause();
                    if self.owed.len() < UNACKED_MAX {
                        answers.extend(self.say(client));
                    }
                }
                () = sleep_until(again.unwrap_or(next)), if again.is_some() => {
                    let said = self.again.pop_front().map(|(_, said)| said);
                    answers.extend(said.and_then(|said| hand_over(client, said)));
                }
                () = sleep_until(leave.unwrap_or(next)), if leave.is_some() => return End::Flapped,
                changed = flap.changed() => {
                    if changed.is_err() { return End::Done; }
                    leave = self.leave_at(*flap.borrow_and_update());
                }
                changed = phase.changed() => if changed.is_err() { return End::Done; },
            }
        }
    }

    fn leave_at(&mut self, every_ms: Option<u64>) -> Option<Instant> {
        let every_ms = every_ms?.max(2);
        Some(
            Instant::now()
                + Duration::from_millis(self.rng.random_range(every_ms / 2..every_ms * 3 / 2)),
        )
    }

    /// Time to the next send: exponential, with the pace's mean.
    fn pause(&mut self) -> Duration {
        let drawn: f64 = self.rng.random_range(0.001..1.0);
        let seconds = -drawn.ln() / self.pace.messages_per_s.max(0.001);
        Duration::from_secs_f64(seconds.min(3_600.0))
    }

    fn say(&mut self, client: &Client) -> Option<Answer> {
        let conversation = self.talks.choose(&mut self.rng)?.id;
        self.said += 1;
        let marker = marker(&self.workload.world, &self.who.tenant);
        let mut body = format!("{marker} {} says {}", self.who.user, self.said);
        let room = usize::from(self.pace.body_bytes).saturating_sub(body.len());
        body.extend(std::iter::repeat_n('.', room));
        let said = Said { conversation, id: client.new_message_id(), body };
        let answer = hand_over(client, said.clone())?;
        let Self { workload, who, .. } = self;
        let lane = lane(&said.conversation, who);
        workload.ledger.sending(
            (lane, who.region),
            said.conversation,
            &who.user,
            &said.id,
            &said.body,
            workload.now_ms(),
        );
        self.owed.push_back(said);
        Some(answer)
    }

    fn answered(&mut self, said: Said, answer: Result<Ack, SendError>) {
        let Self { workload, who, .. } = self;
        match answer {
            Ok(ack) => {
                workload.ledger.acked(
                    said.conversation,
                    &who.user,
                    &said.id,
                    &ack,
                    workload.now_ms(),
                );
                let was_owed = self.owed.iter().any(|owed| owed.id == said.id);
                self.owed.retain(|owed| owed.id != said.id);
                if was_owed && self.rng.random::<f64>() < self.pace.resend {
                    let later =
                        Instant::now() + Duration::from_millis(self.rng.random_range(200..9_000));
                    let at = self.again.partition_point(|(at, _)| *at <= later);
                    self.again.insert(at, (later, said));
                }
            }
            Err(SendError::Refused { code, message }) => {
                let why = format!("{code}: {message}");
                workload.ledger.refused(
                    said.conversation,
                    &who.user,
                    &said.id,
                    &why,
                    workload.now_ms(),
                );
                self.owed.retain(|owed| owed.id != said.id);
            }
            // The client ended first; the next one resends it.
            Err(SendError::Full | SendError::Closed(_)) => {}
        }
    }

    fn event(&mut self, event: Event) {
        let Self { workload, who, .. } = self;
        match event {
            Event::Message { conversation, message } => {
                if let Some(seen) = self.seen.get_mut(&conversation) {
                    *seen = message.seq.max(*seen);
                    workload.ledger.shown(
                        who.user.as_str(),
                        conversation,
                        &message,
                        workload.now_ms(),
                    );
                }
            }
            Event::Disconnected { why } => {
                workload.ledger.reconnecting(who.user.as_str(), who.region, &why)
            }
            Event::Closed { why } => {
                workload.ledger.broken(
                    "shut-out",
                    workload.now_ms(),
                    format!("{}: {why}", who.user),
                );
            }
            _ => {}
        }
    }
}

/// One sender's sends into one conversation are ordered.
fn lane(conversation: &ConversationId, who: &Resident) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{conversation} {}", who.user).as_bytes())
}

/// Injector it to the client. None when its outbox is full or it has ended: nothing was sent.
fn hand_over(client: &Client, said: Said) -> Option<Answer> {
    let payload = MessageContent::text(said.body.clone());
    let pending = client.try_queue(said.conversation, said.id.clone(), payload).ok()?;
    Some(Box::pin(async move { (said, pending.await) }))
}
