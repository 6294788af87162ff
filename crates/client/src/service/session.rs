//! One session: what the socket says and what is said to it.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{self, Message};
use wire::client::event::{
    self, Envelope, ErrorPayload, GoawayPayload, GroupPayload, MessagePayload,
};
use wire::client::request::{Request, RequestBody};
use wire::client::{Event as Frame, close};
use wire::{ConversationId, ErrorCode};

use super::{Service, Session};
use crate::order::Order;
use crate::outbox::Refused;
use crate::{Event, Read, SendError};

/// Most conversations in one `sync` of ours: small, so that one refusal costs little.
const SYNC_BATCH: usize = 64;
/// Most frames that are read before what they caused is written.
const READ_BATCH: usize = 64;
/// Pause before a hole is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A socket that takes nothing for so long is dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the silence_timeout with an edge that acknowledges nothing is doubled.
const STALL_DOUBLINGS: u32 = 3;
/// For the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// How a session ended.
pub(super) enum End {
    /// By the program.
    Closed,
    /// For good, by the edge.
    Final(String),
    /// Broken.
    Lost(String),
    /// The edge talks, but nothing comes through it.
    Stalled(String),
    /// The edge asked us to go.
    Sent { why: String, alternatives: Vec<String>, not_before: Instant },
}

type Socket = WebSocketStream<net::Stream>;

/// What lives and dies with the session.
struct Live {
    user: String,
    heartbeat: Duration,
    last_heard: Instant,
    last_said: Instant,
    /// Since when the edge owes us an answer.
    owed_since: Option<Instant>,
    /// Since when messages wait and none is acknowledged.
    stalled_since: Option<Instant>,
    /// Conversations asked about, by the number of the `sync`.
    asked: HashMap<u64, Vec<ConversationId>>,
    ask_not_before: Instant,
    ask_batch: usize,
    goaway: Option<(Instant, GoawayPayload)>,
}

impl Service {
    /// Serves the session to its end.
    pub(super) async fn serve(&mut self, session: Session) -> End {
        let now = Instant::now();
        let mut live = Live {
            user: session.hello.user_id,
            heartbeat: Duration::from_millis(session.hello.heartbeat_ms.max(1_000)),
            last_heard: now,
            last_said: now,
            owed_since: None,
            stalled_since: None,
            asked: HashMap::new(),
            ask_not_before: now,
            ask_batch: SYNC_BATCH,
            goaway: None,
        };
        self.want_everything();
        let (mut sink, mut stream) = session.socket.split();
        let end = loop {
            if let Err(end) = self.write(&mut sink, &mut live).await {
                break end;
            }
            if let Err(end) = self.wait(&mut stream, &mut live).await {
                break end;
            }
        };
        if matches!(end, End::Closed | End::Sent { .. }) {
            // Politeness: a socket that does not take it is dropped all the same.
            let _ = timeout(CLOSE_TIMEOUT, sink.close()).await;
        }
        match (end, live.goaway) {
            (End::Lost(_), Some((not_before, goaway))) => sent(not_before, goaway),
            (end, _) => end,
        }
    }

    /// Says everything that may be said now.
    async fn write(
        &mut self,
        sink: &mut SplitSink<Socket, Message>,
        live: &mut Live,
    ) -> Result<(), End> {
        let now = Instant::now();
        let mut said = false;
        let saying = async {
            while let Some(frame) = self.outbox.next(now) {
                sink.feed(Message::Text(frame)).await?;
                said = true;
            }
            while let Some(request) = self.next_ask(live, now) {
                sink.feed(Message::text(request.to_json())).await?;
                said = true;
            }
            if !said && now >= self.ping_at(live) {
                let ping = Request { id: None, body: RequestBody::Ping };
                sink.feed(Message::text(ping.to_json())).await?;
                said = true;
            }
            // Also carries what tungstenite queued by itself: answers to pings and closes.
            sink.flush().await
        };
        match timeout(WRITE_TIMEOUT, saying).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(End::Lost(words(&error))),
            Err(_) => return Err(End::Lost("the edge takes nothing".into())),
        }
        if said {
            live.last_said = now;
        }
        let owed = self.outbox.is_owed() || !live.asked.is_empty();
        live.owed_since = owed.then(|| live.owed_since.unwrap_or(now));
        live.stalled_since = (!self.outbox.is_empty()).then(|| live.stalled_since.unwrap_or(now));
        Ok(())
    }

    /// Waits until something happens, and takes it in.
    async fn wait(&mut self, stream: &mut SplitStream<Socket>, live: &mut Live) -> Result<(), End> {
        let wakes_at = self.wakes_at(live);
        let events = self.events.clone();
        let cancel = self.wishes.cancel.clone();
        let follows = self.wishes.follows.clone();
        tokio::select! {
            message = stream.next() => {
                self.hear(message, live)?;
                for _ in 1..READ_BATCH {
                    let Some(message) = stream.next().now_or_never() else { break };
                    self.hear(message, live)?;
                }
            }
            draft = self.wishes.drafts.recv() => match draft {
                Some(draft) => {
                    self.accept(draft);
                    while let Ok(draft) = self.wishes.drafts.try_recv() {
                        self.accept(draft);
                    }
                }
                None => return Err(End::Closed),
            },
            () = follows.told.notified() => self.follow(),
            // What is left at the edge is in `wanting`: the next turn asks for it.
            () = events.room() => self.starved = false,
            () = pin!(sleep_until(wakes_at)) => self.check_time(live)?,
            () = cancel.cancelled() => return Err(End::Closed),
        }
        Ok(())
    }

    fn wakes_at(&self, live: &Live) -> Instant {
        let asks = (!self.wanting.is_empty() && !self.starved).then_some(live.ask_not_before);
        let leave = live.goaway.as_ref().map(|(at, _)| *at);
        let fixed = self.ping_at(live).min(self.lost_at(live));
        [asks, leave, self.outbox.wakes_at(), self.stalled_at(live)]
            .into_iter()
            .flatten()
            .fold(fixed, Instant::min)
    }

    /// How long an edge may be silent. One that owes us an answer must show a sign of life sooner.
    fn silence_timeout(&self, live: &Live) -> Duration {
        let usual = live.heartbeat * 2;
        if live.owed_since.is_some() { usual.min(self.options.silence_max) } else { usual }
    }

    /// Since when the edge is silent, as far as it counts.
    fn silent_since(live: &Live) -> Instant {
        live.owed_since.map_or(live.last_heard, |since| since.max(live.last_heard))
    }

    /// Often enough to be heard ourselves, and once at half the silence_timeout with a silent edge.
    fn ping_at(&self, live: &Live) -> Instant {
        let doubt = live.last_said.max(Self::silent_since(live)) + self.silence_timeout(live) / 2;
        doubt.min(live.last_said + live.heartbeat)
    }

    fn lost_at(&self, live: &Live) -> Instant {
        Self::silent_since(live) + self.silence_timeout(live)
    }

    /// When it is left for want of an acknowledgement.
    fn stalled_at(&self, live: &Live) -> Option<Instant> {
        Some(
            live.stalled_since?
                + self.options.stall_max * 2u32.pow(self.stalls.min(STALL_DOUBLINGS)),
        )
    }

    fn check_time(&mut self, live: &mut Live) -> Result<(), End> {
        let now = Instant::now();
        if self.stalled_at(live).is_some_and(|at| at <= now) {
            self.stalls += 1;
            return Err(End::Stalled("nothing is acknowledged through this edge".into()));
        }
        if now >= self.lost_at(live) {
            return Err(End::Lost(format!(
                "the edge was silent for {} s",
                self.silence_timeout(live).as_secs()
            )));
        }
        match live.goaway.take() {
            Some((at, goaway)) if at <= now => Err(sent(at, goaway)),
            waiting => {
                live.goaway = waiting;
                Ok(())
            }
        }
    }

    /// The next `sync`, when there are holes and someone may be asked.
    fn next_ask(&mut self, live: &mut Live, now: Instant) -> Option<Request> {
        if self.starved || self.wanting.is_empty() || now < live.ask_not_before {
            return None;
        }
        let mut after = std::collections::BTreeMap::new();
        while after.len() < live.ask_batch {
            let Some(conversation) = self.wanting.pop_first() else { break };
            if let Some(seq) = self.orders.get_mut(&conversation).and_then(|order| order.ask()) {
                after.insert(conversation, seq);
            }
        }
        if after.is_empty() {
            return None;
        }
        let id = self.draw_id();
        live.asked.insert(id, after.keys().copied().collect());
        Some(Request { id: Some(format!("s{id}")), body: RequestBody::Sync { after } })
    }

    /// Takes in what the socket gave.
    fn hear(
        &mut self,
        message: Option<tungstenite::Result<Message>>,
        live: &mut Live,
    ) -> Result<(), End> {
        live.last_heard = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => {
                self.hear_frame(&text, live);
                Ok(())
            }
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) =
                    frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                let why = format!("the edge closed: {code} {reason}").trim_end().to_owned();
                Err(if code == close::SESSION_MOVED { End::Final(why) } else { End::Lost(why) })
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(End::Lost(words(&error))),
            None => Err(End::Lost("the edge hung up".into())),
        }
    }

    fn hear_frame(&mut self, text: &str, live: &mut Live) {
        if self.options.read == Read::Acks && is_message(text) {
            return;
        }
        let (envelope, frame) = match event::parse(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::warn!(%error, "a frame of the edge is not the protocol's; skipped");
                return;
            }
        };
        match frame {
            Frame::Ack(ack) => {
                (self.stalls, live.stalled_since) = (0, None);
                if let Some(ticket) = number(&envelope, 'm').and_then(|id| self.outbox.acked(id)) {
                    ticket.answer(Ok(ack));
                }
            }
            Frame::Message(message) => self.hear_message(&envelope, message),
            Frame::Joined(group) => self.hear_joined(group, live),
            Frame::Updated(group) => self.hear_updated(group),
            Frame::Left(group) => self.hear_left(group),
            Frame::SyncDone(done) => {
                let asked = number(&envelope, 's')
                    .and_then(|id| live.asked.remove(&id))
                    .unwrap_or_default();
                for conversation in asked {
                    self.settle(conversation, |order| {
                        order.answered(done.heads.get(&conversation).copied())
                    });
                }
                if !self.wanting.is_empty() {
                    live.ask_not_before = Instant::now() + ASK_AGAIN;
                }
            }
            Frame::Error(error) => self.hear_error(&envelope, error, live),
            Frame::Goaway(goaway) => {
                let at = Instant::now() + Duration::from_millis(goaway.reconnect_after_ms);
                live.goaway.get_or_insert((at, goaway));
            }
            // `hello` was read before; `behind` announces what follows in order; `pong` was a sign
            // of life.
            _ => {}
        }
    }

    /// Lets one conversation's order know something, and delivers what became deliverable.
    fn settle(
        &mut self,
        conversation: ConversationId,
        what: impl FnOnce(&mut Order<Box<MessagePayload>>),
    ) {
        let Some(order) = self.orders.get_mut(&conversation) else { return };
        what(order);
        while let Some((seq, message)) = order.pop() {
            if self.events.push(Event::Message { conversation, message }).is_err() {
                order.put_back(seq);
                // Asked for when the reader has made room.
                self.starved = true;
                self.wanting.insert(conversation);
                return;
            }
        }
        if order.wants() {
            self.wanting.insert(conversation);
        }
    }

    fn hear_message(&mut self, envelope: &Envelope<()>, message: MessagePayload) {
        let Some(conversation) =
            envelope.conversation_id.as_deref().and_then(|text| text.parse().ok())
        else {
            tracing::warn!("a message without a conversation; skipped");
            return;
        };
        if !self.orders.contains_key(&conversation) {
            // What the program has asked for says where delivery starts, not the first message that
            // happens to be here.
            self.follow();
            let class = conversation.shard.durability;
            self.orders.entry(conversation).or_insert_with(|| Order::new(class, None));
        }
        self.settle(conversation, |order| {
            order.take(message.seq, message.epoch, Box::new(message))
        });
    }

    /// Delivery of a new conversation starts where the user joined it.
    fn hear_joined(&mut self, group: GroupPayload, live: &Live) {
        if !self.is_news(&group) {
            return;
        }
        let me = group.members.iter().find(|member| member.user_id == live.user);
        let joined_after = me.map_or(group.head_seq, |member| member.joined_seq.saturating_sub(1));
        let conversation = group.conversation_id;
        self.follow();
        let class = conversation.shard.durability;
        let order = self
            .orders
            .entry(conversation)
            .or_insert_with(|| Order::new(class, Some(joined_after)));
        if order.last().is_some_and(|last| last < group.head_seq) {
            order.unanswered();
            self.wanting.insert(conversation);
        }
        self.tell(Event::Joined(Box::new(group)));
    }

    fn hear_updated(&mut self, group: GroupPayload) {
        if self.is_news(&group) {
            self.tell(Event::Updated(Box::new(group)));
        }
    }

    fn hear_left(&mut self, group: GroupPayload) {
        if self.is_news(&group) {
            self.orders.remove(&group.conversation_id);
            self.wanting.remove(&group.conversation_id);
            self.tell(Event::Left(Box::new(group)));
        }
    }

    /// Whether this view is newer than the last one delivered.
    fn is_news(&mut self, group: &GroupPayload) -> bool {
        let Some(ver) = group.ver else { return true };
        let last = self.views.entry(group.conversation_id).or_default();
        let news = ver > *last;
        *last = ver.max(*last);
        news
    }

    fn hear_error(&mut self, envelope: &Envelope<()>, error: ErrorPayload, live: &mut Live) {
        let retry_after = error.retry_after_ms.map(Duration::from_millis);
        if let Some(id) = number(envelope, 'm') {
            if let Refused::Failed(ticket) =
                self.outbox.refused(id, error.code, retry_after, Instant::now())
            {
                ticket.answer(Err(SendError::Refused { code: error.code, message: error.message }));
            }
        } else if let Some(id) = number(envelope, 's') {
            self.hear_sync_refused(id, envelope, &error, live);
        } else {
            self.tell(Event::Error(error));
        }
    }

    /// A `sync` that could not be answered is asked again, later; one for good only costs the
    /// conversation it is about.
    fn hear_sync_refused(
        &mut self,
        id: u64,
        envelope: &Envelope<()>,
        error: &ErrorPayload,
        live: &mut Live,
    ) {
        let retry = error.code.is_retryable() || error.code == ErrorCode::Internal;
        let about = envelope.conversation_id.as_deref().and_then(|text| text.parse().ok());
        let asked = match about {
            // The rest of this `sync` goes on.
            Some(conversation) => {
                if let Some(asked) = live.asked.get_mut(&id) {
                    asked.retain(|other| *other != conversation);
                }
                vec![conversation]
            }
            None => live.asked.remove(&id).unwrap_or_default(),
        };
        if let (false, [conversation]) = (retry, asked.as_slice()) {
            self.orders.remove(conversation);
            self.tell(Event::Error(error.clone()));
            return;
        }
        if !retry {
            live.ask_batch = 1;
        }
        for conversation in asked {
            self.settle(conversation, |order| order.unanswered());
        }
        let pause = error.retry_after_ms.map_or(ASK_AGAIN, Duration::from_millis);
        live.ask_not_before = Instant::now() + if retry { pause } else { Duration::ZERO };
    }
}

/// The number in `re`, when the answered frame was of that sort.
fn number(envelope: &Envelope<()>, sort: char) -> Option<u64> {
    envelope.re.as_deref()?.strip_prefix(sort)?.parse().ok()
}

/// Whether the frame is a message, looked at as little as possible.
fn is_message(text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(borrow, rename = "type")]
        kind: std::borrow::Cow<'a, str>,
    }
    serde_json::from_str::<Head<'_>>(text).is_ok_and(|head| head.kind == "message.new")
}

fn sent(not_before: Instant, goaway: GoawayPayload) -> End {
    let why = format!("the edge sends its sessions elsewhere: {}", goaway.reason);
    End::Sent { why, alternatives: goaway.alternatives, not_before }
}

fn words(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Io(error) => error.to_string(),
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the edge hung up".into()
        }
        error => error.to_string(),
    }
}
