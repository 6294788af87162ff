//! One who talks, with the SDK. He keeps what is not acknowledged over his own restarts and sends it again, unchanged, when he is
//! back; sometimes he sends again what is acknowledged long since, as a client does that lost its ack.

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
use wire::client::request::SendPayload;
use wire::{ClientMsgId, ConversationId};

use super::cast::Resident;
use super::{Phase, Talk, Town, marker};
use crate::scenario::Load;

/// Messages that one person has under way at most; he says nothing new while there are so many.
const UNDER_WAY_MAX: usize = 30;

/// See the module.
pub struct Person {
    town: Town,
    who: Resident,
    talks: Vec<Talk>,
    pace: Pace,
    dice: SmallRng,
    turn: Arc<AtomicUsize>,
    said: u64,
    /// Not acknowledged, in the order in which it was said.
    owed: VecDeque<Said>,
    /// Acknowledged, to be sent again then.
    again: VecDeque<(Instant, Said)>,
    seen: BTreeMap<ConversationId, u64>,
}

/// How he talks.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Messages a second.
    pub messages_per_s: f64,
    /// Share that is sent again after its ack.
    pub resend: f64,
    /// Length of a message, about.
    pub body_bytes: u16,
}

impl Pace {
    /// Everyone's share of a load.
    #[must_use]
    pub fn of(load: &Load, people: usize) -> Self {
        let messages_per_s = load.messages_per_s / people.max(1) as f64;
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

/// Why one client's life ended.
enum End {
    Flapped,
    Done,
}

impl Person {
    /// Talks in those of the conversations that he is a member of.
    #[must_use]
    pub fn new(town: Town, who: Resident, talks: &[Talk], pace: Pace, seed: u64) -> Self {
        let talks: Vec<Talk> =
            talks.iter().filter(|talk| talk.members.contains(&who.user)).cloned().collect();
        for talk in &talks {
            town.ledger.watches(who.user.as_str(), talk.id);
        }
        let seen = talks.iter().map(|talk| (talk.id, 0)).collect();
        let dice = SmallRng::seed_from_u64(seed);
        Self {
            town,
            who,
            talks,
            pace,
            dice,
            turn: Arc::default(),
            said: 0,
            owed: VecDeque::new(),
            again: VecDeque::new(),
            seen,
        }
    }

    /// Lives until the run ends.
    pub async fn run(mut self) {
        loop {
            let options =
                self.town.options(&self.who.tenant, &self.who.user, &self.turn, self.dice.random());
            let (client, events) = Client::connect(options);
            let end = self.live(&client, events).await;
            client.close().await;
            match end {
                End::Done => return,
                End::Flapped => {
                    self.turn.fetch_add(1, Ordering::Relaxed);
                    let away = Duration::from_millis(self.dice.random_range(50..1_500));
                    sleep(away).await;
                }
            }
        }
    }

    async fn live(&mut self, client: &Client, mut events: Events) -> End {
        for (conversation, seen) in &self.seen {
            // The client was just made; it ends with this function.
            let _ = client.follow(*conversation, *seen);
        }
        let mut answers = FuturesUnordered::new();
        for said in self.owed.clone() {
            answers.extend(hand_over(client, said));
        }
        let mut phase = self.town.phase.clone();
        let mut flap = self.town.flap.clone();
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
                    if self.owed.len() < UNDER_WAY_MAX {
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
                + Duration::from_millis(self.dice.random_range(every_ms / 2..every_ms * 3 / 2)),
        )
    }

    /// Until he says the next thing: as long as chance will have it, at his pace on average.
    fn pause(&mut self) -> Duration {
        let drawn: f64 = self.dice.random_range(0.001..1.0);
        let seconds = -drawn.ln() / self.pace.messages_per_s.max(0.001);
        Duration::from_secs_f64(seconds.min(3_600.0))
    }

    fn say(&mut self, client: &Client) -> Option<Answer> {
        let conversation = self.talks.choose(&mut self.dice)?.id;
        self.said += 1;
        let marker = marker(&self.town.world, &self.who.tenant);
        let mut body = format!("{marker} {} says {}", self.who.user, self.said);
        let room = usize::from(self.pace.body_bytes).saturating_sub(body.len());
        body.extend(std::iter::repeat_n('.', room));
        let said = Said { conversation, id: client.new_message_id(), body };
        let answer = hand_over(client, said.clone())?;
        let Self { town, who, .. } = self;
        let lane = lane(&said.conversation, who);
        town.ledger.sending(
            (lane, who.region),
            said.conversation,
            &who.user,
            &said.id,
            &said.body,
            town.now_ms(),
        );
        self.owed.push_back(said);
        Some(answer)
    }

    fn answered(&mut self, said: Said, answer: Result<Ack, SendError>) {
        let Self { town, who, .. } = self;
        match answer {
            Ok(ack) => {
                town.ledger.acked(said.conversation, &who.user, &said.id, &ack, town.now_ms());
                let was_owed = self.owed.iter().any(|owed| owed.id == said.id);
                self.owed.retain(|owed| owed.id != said.id);
                if was_owed && self.dice.random::<f64>() < self.pace.resend {
                    let later =
                        Instant::now() + Duration::from_millis(self.dice.random_range(200..9_000));
                    let at = self.again.partition_point(|(at, _)| *at <= later);
                    self.again.insert(at, (later, said));
                }
            }
            Err(SendError::Refused { code, message }) => {
                let why = format!("{code}: {message}");
                town.ledger.refused(said.conversation, &who.user, &said.id, &why, town.now_ms());
                self.owed.retain(|owed| owed.id != said.id);
            }
            // The client's life ended first: the next one sends it again.
            Err(SendError::Full | SendError::Closed(_)) => {}
        }
    }

    fn event(&mut self, event: Event) {
        let Self { town, who, .. } = self;
        match event {
            Event::Message { conversation, message } => {
                if let Some(seen) = self.seen.get_mut(&conversation) {
                    *seen = message.seq.max(*seen);
                    town.ledger.shown(who.user.as_str(), conversation, &message, town.now_ms());
                }
            }
            Event::Disconnected { why } => {
                town.ledger.reconnecting(who.user.as_str(), who.region, &why)
            }
            Event::Closed { why } => {
                town.ledger.broken("shut-out", town.now_ms(), format!("{}: {why}", who.user));
            }
            _ => {}
        }
    }
}

/// One sender's way of sending one after the other into one conversation.
fn lane(conversation: &ConversationId, who: &Resident) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{conversation} {}", who.user).as_bytes())
}

/// Gives it to the client. None when its outbox is full, or it has ended: nothing was sent.
fn hand_over(client: &Client, said: Said) -> Option<Answer> {
    let payload = SendPayload { body: said.body.clone(), ..SendPayload::default() };
    let pending = client.try_queue(said.conversation, said.id.clone(), payload).ok()?;
    Some(Box::pin(async move { (said, pending.await) }))
}
