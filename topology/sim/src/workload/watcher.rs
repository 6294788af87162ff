//! A watcher that shares no code with the SDK: plain frames over a plain WebSocket. So it sees an
//! *edge's* mistakes that the SDK would repair. After the first `sync` of a session the messages of
//! a conversation arrive one by one, without a hole or a duplicate.

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
use wire::client::event::{Envelope, MessagePayload, SyncDonePayload};
use wire::{ConversationId, Durability};

use super::population::Resident;
use super::{Talk, Workload, device};
use crate::net::SimNet;

/// For TCP, upgrade and `hello` together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(4);
/// Interval of pings; the watcher leaves an edge that is silent for three of them.
const PING_INTERVAL: Duration = Duration::from_secs(3);

pub struct Watcher {
    workload: Workload,
    who: Resident,
    name: String,
    /// A guest must not see everything; the verdict judges what they saw.
    is_guest: bool,
    rng: SmallRng,
    /// Per conversation: the epochs of the messages seen, from seq 1.
    seen: BTreeMap<ConversationId, Vec<u64>>,
}

type Socket = WebSocketStream<Stream>;

impl Watcher {
    /// Sees every message of the user's conversations.
    #[must_use]
    pub fn new(workload: Workload, who: Resident, talks: &[Talk], seed: u64) -> Self {
        let talks = talks.iter().filter(|talk| talk.members.contains(&who.user));
        let seen: BTreeMap<_, _> = talks.map(|talk| (talk.id, Vec::new())).collect();
        let name = who.user.to_string();
        for conversation in seen.keys() {
            workload.ledger.watches(&name, *conversation);
        }
        Self { workload, who, name, is_guest: false, rng: SmallRng::seed_from_u64(seed), seen }
    }

    /// Records each message that it is shown.
    #[must_use]
    pub fn guest(workload: Workload, who: Resident, seed: u64) -> Self {
        let name = who.user.to_string();
        Self {
            workload,
            who,
            name,
            is_guest: true,
            rng: SmallRng::seed_from_u64(seed),
            seen: BTreeMap::new(),
        }
    }

    /// Watches for ever, from edge to edge.
    pub async fn run(mut self) {
        let mut at = 0;
        loop {
            let edges = self.workload.edges(&self.who.tenant);
            let url = edges.get(at % edges.len().max(1)).cloned().unwrap_or_default();
            let why = match timeout(DIAL_TIMEOUT, self.dial(&url)).await {
                Ok(Ok(socket)) => {
                    let Err(why) = self.watch(socket).await;
                    self.workload.ledger.reconnecting(
                        &self.name,
                        self.who.region,
                        &format!("{why:#}"),
                    );
                    why
                }
                Ok(Err(why)) => why,
                Err(_) => anyhow::anyhow!("no hello within {} s", DIAL_TIMEOUT.as_secs()),
            };
            tracing::debug!(who = self.name, url, why = format!("{why:#}"), "no session");
            at += 1;
            sleep(Duration::from_millis(self.rng.random_range(100..900))).await;
        }
    }

    async fn dial(&self, url: &str) -> anyhow::Result<Socket> {
        let host: SocketAddr =
            url.trim_start_matches("http://").parse().context("an edge's address")?;
        let tcp = SimNet.connect(host).await?;
        let mut request = format!("ws://{host}/v1/stream").into_client_request()?;
        let token = self.workload.token(&self.who.tenant, &self.who.user, &device());
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
        let (mut socket, _) = client_async(request, tcp).await?;
        let hello = frame(&mut socket).await?;
        if hello.kind != "hello" {
            bail!("the first frame is {}", hello.kind);
        }
        Ok(socket)
    }

    async fn watch(&mut self, mut socket: Socket) -> anyhow::Result<std::convert::Infallible> {
        let mut session =
            Session { missing: self.seen.keys().copied().collect(), ..Session::default() };
        self.sync(&mut socket, &session).await?;
        let mut heard = Instant::now();
        let mut ping = tokio::time::interval(PING_INTERVAL);
        loop {
            tokio::select! {
                frame = frame(&mut socket) => {
                    heard = Instant::now();
                    self.take(frame?, &mut session)?;
                }
                _ = ping.tick() => {
                    if heard.elapsed() > 3 * PING_INTERVAL {
                        bail!("silent for {} s", heard.elapsed().as_secs());
                    }
                    say(&mut socket, "ping", serde_json::json!({})).await?;
                    if session.is_answered && !session.missing.is_empty() {
                        // A home did not answer: ask for its conversations again.
                        session.is_answered = false;
                        self.sync(&mut socket, &session).await?;
                    }
                }
            }
        }
    }

    async fn sync(&self, socket: &mut Socket, session: &Session) -> anyhow::Result<()> {
        let wanted = self.seen.iter().filter(|(id, _)| session.missing.contains(id));
        // A single-region message may have been lost since: read all of them again.
        let after = |id: &ConversationId, seen: &[u64]| match id.shard.durability {
            Durability::Region => 0,
            Durability::MultiRegion => seen.len(),
        };
        let after: BTreeMap<String, usize> =
            wanted.map(|(id, seen)| (id.to_string(), after(id, seen))).collect();
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
                    // The sync has delivered some of these already.
                    for message in &early {
                        let is_new = self
                            .known(conversation, message.seq)
                            .is_none_or(|known| known < message.epoch);
                        if is_new && message.epoch >= self.last_epoch(conversation) {
                            self.message(conversation, message, session);
                        }
                    }
                }
            }
            "goaway" => bail!("got a goaway"),
            _ => {}
        }
        Ok(())
    }

    /// The epoch of the message seen at this seq.
    fn known(&self, conversation: ConversationId, seq: u64) -> Option<u64> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.seen.get(&conversation)?.get(at).copied()
    }

    fn last_epoch(&self, conversation: ConversationId) -> u64 {
        self.seen.get(&conversation).and_then(|seen| seen.last()).copied().unwrap_or(0)
    }

    fn message(
        &mut self,
        conversation: ConversationId,
        message: &MessagePayload,
        session: &mut Session,
    ) {
        let now_ms = self.workload.now_ms();
        if self.is_guest {
            return self.workload.ledger.shown_to_guest(
                &self.who.user,
                conversation,
                message,
                now_ms,
            );
        }
        let known = self.known(conversation, message.seq);
        let Some(seen) = self.seen.get_mut(&conversation) else { return };
        let next = seen.len() as u64 + 1;
        let is_missing = session.missing.contains(&conversation);
        let forks = conversation.shard.durability == Durability::Region;
        match known {
            // Something else stands there now, in place of what was lost and all that came after
            // it.
            Some(known) if forks && message.epoch > known => {
                seen.truncate(usize::try_from(message.seq - 1).unwrap_or(usize::MAX));
            }
            Some(_) if is_missing => return,
            None if message.seq == next => {}
            // Live ones may come before the answer to the sync, and again with it.
            _ if is_missing => {
                return session.early.entry(conversation).or_default().push(message.clone());
            }
            _ => {
                let what = if message.seq > next { "skips to" } else { "goes back to" };
                let what = format!(
                    "a session of {} {what} seq {} in {conversation}: {next} is next",
                    self.name, message.seq
                );
                return self.workload.ledger.broken("session-order", now_ms, what);
            }
        }
        seen.push(message.epoch);
        self.workload.ledger.shown(&self.name, conversation, message, now_ms);
    }
}

#[derive(Default)]
struct Session {
    /// The last sync was answered.
    is_answered: bool,
    /// Conversations without a finished sync: until then live messages may precede missing ones.
    missing: BTreeSet<ConversationId>,
    early: BTreeMap<ConversationId, Vec<MessagePayload>>,
}

impl Session {
    /// Early messages of synced conversations, in order and once each.
    fn end_sync(
        &mut self,
        done: &SyncDonePayload,
    ) -> BTreeMap<ConversationId, Vec<MessagePayload>> {
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
    timeout(DIAL_TIMEOUT, socket.send(Message::text(frame)))
        .await
        .context("the edge does not read")??;
    Ok(())
}
