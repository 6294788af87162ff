//! The task that owns the connection: finds an edge, serves the session, finds the next.

mod session;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;
use wire::client::event::MessagePayload;
use wire::client::request::{Request, RequestBody};
use wire::{ConversationId, ErrorCode};

use crate::dial::{DialError, Session, dial};
use crate::events::{Event, Queue};
use crate::http::{Http, is_elsewhere};
use crate::order::MessageOrder;
use crate::outbox::Outbox;
use crate::rotation::Rotation;
use crate::{Ack, Options, SendError};
use session::End;

/// So many refusals for good, one after the other, end the client: one may be a mistake of an edge
/// that is starting.
const REFUSALS_MAX: u32 = 3;
/// A session that lived so long was a real one.
const SETTLED_MIN: Duration = Duration::from_secs(1);

/// How the connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Looking for an edge.
    Connecting,
    /// There is a session.
    Connected {
        /// The name of the edge's region.
        region: String,
        /// The URL of the edge.
        edge: String,
    },
    /// No edge let us in; trying again soon.
    Waiting {
        /// What the last attempt came to.
        why: String,
    },
    /// For good.
    Closed {
        /// For people.
        why: String,
    },
}

/// What the handle asks of the service.
pub(crate) struct Inputs {
    pub(crate) drafts: mpsc::Receiver<Draft>,
    pub(crate) follows: Arc<Follows>,
    pub(crate) cancel: CancellationToken,
}

/// A message to send.
pub(crate) struct Draft {
    pub(crate) conversation: ConversationId,
    pub(crate) draft: Box<wire::command::Draft>,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) reply: Reply,
}

/// Conversations to follow: bounded by how many the program knows.
#[derive(Debug, Default)]
pub(crate) struct Follows {
    wanted: Mutex<BTreeMap<ConversationId, u64>>,
    changed: Notify,
}

impl Follows {
    pub(crate) fn add(&self, conversation: ConversationId, after: u64) {
        self.lock().entry(conversation).or_insert(after);
        self.changed.notify_one();
    }

    fn take(&self) -> BTreeMap<ConversationId, u64> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConversationId, u64>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Reply = oneshot::Sender<Result<Ack, SendError>>;

/// Who waits for a message's outcome, and its room in the outbox.
pub(crate) struct Ticket {
    reply: Reply,
    _permit: OwnedSemaphorePermit,
}

impl Ticket {
    fn answer(self, answer: Result<Ack, SendError>) {
        // Whoever asked may have stopped waiting.
        let _ = self.reply.send(answer);
    }
}

/// Owns everything that outlives a session.
pub(crate) struct Service {
    options: Options,
    http: Http,
    events: Arc<Queue>,
    inputs: Inputs,
    state: watch::Sender<State>,
    rng: SmallRng,
    rotation: Rotation,
    refusals: u32,
    /// Edges that were left, one after the other, because nothing was acknowledged through them.
    stalls: u32,
    next_id: u64,
    outbox: Outbox<Utf8Bytes, Ticket>,
    orders: BTreeMap<ConversationId, MessageOrder<Box<MessagePayload>>>,
    /// Conversations with a hole that nobody was asked for yet.
    pending_syncs: BTreeSet<ConversationId>,
    /// The program does not keep up: nothing is asked for until it has made room.
    starved: bool,
    /// The newest `ver` of a conversation's view that was delivered.
    views: HashMap<ConversationId, u64>,
}

impl Service {
    pub(crate) fn new(
        options: Options,
        http: Http,
        events: Arc<Queue>,
        inputs: Inputs,
        state: watch::Sender<State>,
        rng: SmallRng,
    ) -> Self {
        let orders = options
            .cursors
            .iter()
            .map(|(id, last)| (*id, MessageOrder::new(id.shard.durability, Some(*last))))
            .collect();
        Self {
            rotation: Rotation::new(options.backoff_min, options.backoff_max),
            outbox: Outbox::new(options.window),
            options,
            http,
            events,
            inputs,
            state,
            rng,
            refusals: 0,
            stalls: 0,
            next_id: 0,
            orders,
            pending_syncs: BTreeSet::new(),
            starved: false,
            views: HashMap::new(),
        }
    }

    /// Runs until it is cancelled or refused for good.
    pub(crate) async fn run(mut self) {
        let cancel = self.inputs.cancel.clone();
        let why = loop {
            let found = tokio::select! {
                found = self.find_edge() => found,
                () = cancel.cancelled() => Err("closed by the program".to_owned()),
            };
            let session = match found {
                Ok(session) => session,
                Err(why) => break why,
            };
            if let Err(why) = self.live(session).await {
                break why;
            }
        };
        self.finish(&why);
    }

    /// Serves one session to its end. An error is for good.
    async fn live(&mut self, session: Session) -> Result<(), String> {
        let (url, began) = (session.url.clone(), Instant::now());
        self.refusals = 0;
        let region = session.hello.region.clone();
        tracing::debug!(edge = %url, %region, "session begins");
        self.state.send_replace(State::Connected { region, edge: url.clone() });
        self.emit(Event::Connected(Box::new(session.hello.clone())));
        let end = Box::pin(self.serve(session)).await;
        self.outbox.disconnected();
        self.want_everything();
        let settled = began.elapsed() >= SETTLED_MIN;
        if settled {
            self.rotation.settled();
        }
        let (why, not_before) = match end {
            End::Closed => return Err("closed by the program".into()),
            End::Final(why) => return Err(why),
            End::Lost(why) if settled => (why, Instant::now() + self.jitter()),
            // An edge that lets us in and drops us at once is an attempt that failed.
            End::Lost(why) => {
                self.rotation.avoid(&url);
                (why, Instant::now() + self.rotation.failed(self.rng.random()))
            }
            End::Stalled(why) => {
                self.rotation.avoid(&url);
                (why, Instant::now() + self.jitter())
            }
            End::Sent { why, alternatives, not_before } => {
                self.rotation.suggest(&url, &alternatives);
                (why, not_before)
            }
        };
        tracing::debug!(edge = %url, why, "session ended");
        self.emit(Event::Disconnected { why: why.clone() });
        self.state.send_replace(State::Waiting { why });
        let cancel = self.inputs.cancel.clone();
        tokio::select! {
            () = sleep_until(not_before) => Ok(()),
            () = cancel.cancelled() => Err("closed by the program".into()),
        }
    }

    /// Tries edges, round after round, until one lets us in. An error is for good.
    async fn find_edge(&mut self) -> Result<Session, String> {
        loop {
            let edges = self.options.endpoints.edges().await;
            self.rotation.begin(edges);
            let (mut why, mut pause) = ("no edge is known".to_owned(), Duration::ZERO);
            while let Some(url) = self.rotation.next() {
                let attempt = Box::pin(dial(&self.options, &self.http, &url));
                match timeout(self.options.dial_timeout, attempt).await {
                    Ok(Ok(session)) => return Ok(session),
                    Ok(Err(error)) => {
                        why = format!("{url}: {error}");
                        pause = pause.max(self.weigh(&url, &error)?);
                    }
                    Err(_) => {
                        why = format!(
                            "{url}: no hello within {} ms",
                            self.options.dial_timeout.as_millis()
                        )
                    }
                }
                tracing::debug!(edge = %url, why, "attempt failed");
            }
            let pause =
                self.rotation.failed(self.rng.random()).max(pause).min(self.options.backoff_max);
            self.state.send_replace(State::Waiting { why });
            sleep(pause).await;
            self.state.send_replace(State::Connecting);
        }
    }

    /// What an edge's refusal means: how long it wants to be left alone; an error when it is for
    /// good.
    fn weigh(&mut self, url: &str, error: &DialError) -> Result<Duration, String> {
        let DialError::Refused { code, alternatives, retry_after, .. } = error else {
            return Ok(Duration::ZERO);
        };
        self.rotation.suggest(url, alternatives);
        if !is_elsewhere(*code, alternatives) || *code == ErrorCode::WrongZone {
            self.refusals += 1;
            if self.refusals >= REFUSALS_MAX {
                return Err(format!("refused by {url}: {error}"));
            }
        }
        Ok(retry_after.unwrap_or_default())
    }

    /// Spreads the clients of an edge that died.
    fn jitter(&mut self) -> Duration {
        self.options.backoff_min.mul_f64(self.rng.random())
    }

    /// A new session: all that may have been missed is asked for.
    fn want_everything(&mut self) {
        for (conversation, order) in &mut self.orders {
            if order.last().is_some() {
                order.begin_session();
                self.pending_syncs.insert(*conversation);
            }
        }
    }

    /// For events that are never refused.
    fn emit(&self, event: Event) {
        let refused = self.events.push(event);
        debug_assert!(refused.is_ok(), "only messages are refused");
    }

    fn finish(mut self, why: &str) {
        self.state.send_replace(State::Closed { why: why.to_owned() });
        let closed = || Err(SendError::Closed(why.to_owned()));
        self.outbox.drain().for_each(|ticket| ticket.answer(closed()));
        self.inputs.drafts.close();
        while let Ok(Draft { permit, reply, .. }) = self.inputs.drafts.try_recv() {
            Ticket { reply, _permit: permit }.answer(closed());
        }
        self.emit(Event::Closed { why: why.to_owned() });
        self.events.end();
    }

    fn accept(&mut self, draft: Draft) {
        let Draft { conversation, draft, permit, reply } = draft;
        let id = self.draw_id();
        let request = Request {
            id: Some(format!("m{id}")),
            body: RequestBody::Send { conversation, draft: *draft },
        };
        self.outbox.push(
            conversation,
            id,
            request.to_json().into(),
            Ticket { reply, _permit: permit },
        );
    }

    /// What the program follows since the last time is asked for.
    fn follow(&mut self) {
        for (conversation, after) in self.inputs.follows.take() {
            self.orders
                .entry(conversation)
                .or_insert_with(|| MessageOrder::new(conversation.shard.durability, Some(after)))
                .unanswered();
            self.pending_syncs.insert(conversation);
        }
    }

    fn draw_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}
