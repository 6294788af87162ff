//! Watches with a client that shares nothing with the SDK: bare frames over a bare WebSocket, so that what an *edge* does wrong is
//! seen even where the SDK would mend it. In one session, once its first `sync` is answered, the messages of a conversation come
//! one by one, without a hole and without a double.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use net::{Net as _, Stream};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::{WebSocketStream, client_async};
use wire::ConversationId;
use wire::client::event::{Envelope, MessagePayload, SyncDonePayload};

use super::cast::Resident;
use super::{Talk, Town, device};
use crate::net::SimNet;

/// For TCP, upgrade and `hello` together.
const DIAL: Duration = Duration::from_secs(4);
/// A ping goes out so often; an edge that is silent for three times as long is left.
const PING: Duration = Duration::from_secs(3);

/// See the module.
pub struct Watcher {
    town: Town,
    who: Resident,
    name: String,
    /// Comes and goes: he must not see everything, and what he sees is judged at the end.
    is_guest: bool,
    dice: SmallRng,
    seen: BTreeMap<ConversationId, u64>,
}

type Socket = WebSocketStream<Stream>;

impl Watcher {
    /// Sees every message of the conversations that he is a member of.
    #[must_use]
    pub fn new(town: Town, who: Resident, talks: &[Talk], seed: u64) -> Self {
        let talks = talks.iter().filter(|talk| talk.members.contains(&who.user));
        let seen: BTreeMap<_, _> = talks.map(|talk| (talk.id, 0)).collect();
        let name = who.user.to_string();
        for conversation in seen.keys() {
            town.ledger.watches(&name, *conversation);
        }
        Self { town, who, name, is_guest: false, dice: SmallRng::seed_from_u64(seed), seen }
    }

    /// Sees what he is shown, and that is all written down.
    #[must_use]
    pub fn guest(town: Town, who: Resident, seed: u64) -> Self {
        let name = who.user.to_string();
        Self { town, who, name, is_guest: true, dice: SmallRng::seed_from_u64(seed), seen: BTreeMap::new() }
    }

    /// Watches for ever, from edge to edge.
    pub async fn run(mut self) {
        let mut at = 0;
        loop {
            let edges = self.town.edges(&self.who.tenant);
            let url = edges.get(at % edges.len().max(1)).cloned().unwrap_or_default();
            let why = match timeout(DIAL, self.dial(&url)).await {
                Ok(Ok(socket)) => {
                    let Err(why) = self.watch(socket).await;
                    self.town.ledger.reconnecting(&self.name, self.who.region, &format!("{why:#}"));
                    why
                }
                Ok(Err(why)) => why,
                Err(_) => anyhow::anyhow!("no hello within {} s", DIAL.as_secs()),
            };
            tracing::debug!(who = self.name, url, why = format!("{why:#}"), "no session");
            at += 1;
            sleep(Duration::from_millis(self.dice.random_range(100..900))).await;
        }
    }

    async fn dial(&self, url: &str) -> anyhow::Result<Socket> {
        let host: SocketAddr = url.trim_start_matches("http://").parse().context("an edge's address")?;
        let tcp = SimNet.connect(host).await?;
        let mut request = format!("ws://{host}/v1/stream").into_client_request()?;
        let token = self.town.token(&self.who.tenant, &self.who.user, &device());
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
        let (mut socket, _) = client_async(request, tcp).await?;
        let hello = frame(&mut socket).await?;
        if hello.kind != "hello" {
            bail!("the first frame is {}", hello.kind);
        }
        Ok(socket)
    }

    async fn watch(&mut self, mut socket: Socket) -> anyhow::Result<std::convert::Infallible> {
        let mut session = Session { missing: self.seen.keys().copied().collect(), ..Session::default() };
        self.sync(&mut socket, &session).await?;
        let mut heard = Instant::now();
        let mut ping = tokio::time::interval(PING);
        loop {
            tokio::select! {
                frame = frame(&mut socket) => {
                    heard = Instant::now();
                    self.take(frame?, &mut session)?;
                }
                _ = ping.tick() => {
                    if heard.elapsed() > 3 * PING {
                        bail!("silent for {} s", heard.elapsed().as_secs());
                    }
                    say(&mut socket, "ping", serde_json::json!({})).await?;
                    if session.is_answered && !session.missing.is_empty() {
                        // A home did not answer: what cannot be read is asked for again.
                        session.is_answered = false;
                        self.sync(&mut socket, &session).await?;
                    }
                }
            }
        }
    }

    async fn sync(&self, socket: &mut Socket, session: &Session) -> anyhow::Result<()> {
        let wanted = self.seen.iter().filter(|(id, _)| session.missing.contains(id));
        let after: BTreeMap<String, u64> = wanted.map(|(id, seq)| (id.to_string(), *seq)).collect();
        say(socket, "sync", serde_json::json!({ "after": after })).await
    }

    fn take(&mut self, frame: Envelope<Value>, session: &mut Session) -> anyhow::Result<()> {
        match frame.kind.as_str() {
            "message.new" => {
                let id: ConversationId = frame.conversation_id.unwrap_or_default().parse()?;
                let message: MessagePayload = serde_json::from_value(frame.payload)?;
                self.message(id, &message, session);
            }
            "sync.done" => {
                let done: SyncDonePayload = serde_json::from_value(frame.payload)?;
                for (conversation, early) in session.end_sync(&done) {
                    // What the sync has brought meanwhile is no news.
                    let seen = self.seen.get(&conversation).copied().unwrap_or(0);
                    for message in early.iter().filter(|message| message.seq > seen) {
                        self.message(conversation, message, session);
                    }
                }
            }
            "goaway" => bail!("asked to go"),
            _ => {}
        }
        Ok(())
    }

    fn message(&mut self, conversation: ConversationId, message: &MessagePayload, session: &mut Session) {
        let now_ms = self.town.now_ms();
        if self.is_guest {
            return self.town.ledger.shown_to_guest(&self.who.user, conversation, message, now_ms);
        }
        let Some(seen) = self.seen.get_mut(&conversation) else { return };
        let wanted = *seen + 1;
        if message.seq == wanted {
            *seen = wanted;
            self.town.ledger.shown(&self.name, conversation, message, now_ms);
        } else if session.missing.contains(&conversation) {
            // Live ones may come before the answer to the sync, and again with it.
            session.early.entry(conversation).or_default().push(message.clone());
        } else {
            let what = if message.seq > wanted { "skips to" } else { "goes back to" };
            let what =
                format!("a session of {} {what} seq {} in {conversation}: {wanted} is next", self.name, message.seq);
            self.town.ledger.broken("session-order", now_ms, what);
        }
    }
}

#[derive(Default)]
struct Session {
    /// The last sync was answered.
    is_answered: bool,
    /// What no sync has brought yet: until then live messages may come before what is missing.
    missing: BTreeSet<ConversationId>,
    early: BTreeMap<ConversationId, Vec<MessagePayload>>,
}

impl Session {
    /// What came early, in order and each once, of the conversations that the sync has brought.
    fn end_sync(&mut self, done: &SyncDonePayload) -> BTreeMap<ConversationId, Vec<MessagePayload>> {
        self.is_answered = true;
        let mut early = BTreeMap::new();
        for conversation in done.heads.keys() {
            self.missing.remove(conversation);
            let mut messages = self.early.remove(conversation).unwrap_or_default();
            messages.sort_by_key(|message| message.seq);
            messages.dedup_by_key(|message| message.seq);
            early.insert(*conversation, messages);
        }
        early
    }
}

async fn frame(socket: &mut Socket) -> anyhow::Result<Envelope<Value>> {
    loop {
        match socket.next().await.context("the connection ended")?? {
            Message::Text(text) => return Ok(serde_json::from_str(&text)?),
            Message::Close(why) => bail!("closed: {why:?}"),
            _ => {}
        }
    }
}

async fn say(socket: &mut Socket, kind: &str, payload: Value) -> anyhow::Result<()> {
    let frame = Envelope::new(kind, payload).to_json();
    timeout(DIAL, socket.send(Message::text(frame))).await.context("the edge takes nothing")??;
    Ok(())
}
