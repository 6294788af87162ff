//! A test edge: finds the owner as a real one does, and sends what was not answered again,
//! unchanged.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh::{Mesh, Receiver, Sender};
use topology::World;
use topology::placement::{self, Live};
use wire::change::Event;
use wire::command::{
    Ack, Actor, Answer, Command, Delivery, Draft, Query, Refusal, UserCommand, View,
};
use wire::stream::{FromOwner, Purpose, StreamEnd, ToOwner};
use wire::{ClientMsgId, ConversationId, Epoch, NodeId, ShardId, TenantId, UserId};

use super::harness::DEADLINE;

/// An edge without sessions.
pub(crate) struct Edge {
    pub(crate) world: Arc<World>,
    pub(crate) mesh: Mesh,
}

/// A stream to the owner of a shard.
pub(crate) struct Stream {
    sender: Sender,
    receiver: Receiver,
    rids: u64,
    /// What was fed while answers were waited for.
    pub(crate) fed: VecDeque<FromOwner>,
    pub(crate) ended: Option<StreamEnd>,
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn actor(tenant: &str, name: &str) -> Actor {
    Actor { tenant: TenantId::new(tenant).unwrap(), user: user(name), device: None }
}

pub(crate) fn send(client_msg_id: &str, body: &str) -> UserCommand {
    UserCommand::Send(Draft::text(ClientMsgId::new(client_msg_id).unwrap(), body))
}

/// The newest page.
pub(crate) fn newest(limit: u16) -> Query {
    Query::History { before: None, after: None, limit }
}

impl Edge {
    pub(crate) fn new(world: Arc<World>, mesh: Mesh) -> Self {
        Self { world, mesh }
    }

    /// An id for a group in this shard.
    pub(crate) fn group_in(&self, shard: ShardId) -> ConversationId {
        ConversationId { kind: wire::ConversationKind::Group, shard, unique: rand_bytes() }
    }

    /// A stream to whoever serves the shard, however long that takes.
    pub(crate) async fn open(&self, shard: ShardId) -> Stream {
        let began = Instant::now();
        let mut hint: Option<NodeId> = None;
        loop {
            assert!(began.elapsed() < DEADLINE, "nobody serves {shard}");
            let owner = hint.take().or_else(|| {
                let membership = self.mesh.membership();
                let view = membership.borrow();
                let live =
                    Live::from_view(view.nodes.iter().map(|(node, state)| (node, state.draining)));
                placement::whom_to_ask(&self.world, &shard, &live)
            });
            if let Some(owner) = owner
                && let Ok(stream) = Stream::open(&self.mesh, shard, &owner).await
            {
                match stream {
                    Ok(stream) => return stream,
                    Err(StreamEnd::NotOwner { owner }) => hint = owner,
                    Err(StreamEnd::Stopping | StreamEnd::Unknown(_)) => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks until there is an answer, over as many streams as it takes.
    pub(crate) async fn ask(
        &self,
        actor: &Actor,
        id: ConversationId,
        command: impl Into<Command>,
    ) -> Result<Answer, Refusal> {
        let command = command.into();
        loop {
            let mut stream = self.open(id.shard).await;
            if let Some(answer) = stream.command(actor, id, command.clone()).await {
                return answer;
            }
        }
    }

    pub(crate) async fn query(
        &self,
        actor: &Actor,
        id: ConversationId,
        query: Query,
    ) -> Result<Answer, Refusal> {
        loop {
            let mut stream = self.open(id.shard).await;
            if let Some(answer) = stream.query(Some(actor), id, query.clone()).await {
                return answer;
            }
        }
    }

    /// A group with these members besides its creator.
    pub(crate) async fn create(&self, actor: &Actor, id: ConversationId, members: &[&str]) -> View {
        let members = members.iter().map(|name| user(name)).collect();
        let command = UserCommand::CreateGroup { name: "g".into(), members };
        match self.ask(actor, id, command).await.unwrap() {
            Answer::View { view, .. } => *view,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send(
        &self,
        actor: &Actor,
        id: ConversationId,
        client_msg_id: &str,
        body: &str,
    ) -> Ack {
        ack(self.ask(actor, id, send(client_msg_id, body)).await)
    }

    /// All messages of the newest page: seq, `client_msg_id`.
    pub(crate) async fn history(&self, actor: &Actor, id: ConversationId) -> Vec<(u64, String)> {
        match self.query(actor, id, newest(200)).await.unwrap() {
            Answer::History { messages, .. } => {
                messages.iter().map(|change| seq_and_id(change)).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn seq_and_id(change: &wire::change::Change) -> (u64, String) {
    match &change.event {
        Event::Message(message) => (message.seq, message.draft.client_msg_id.to_string()),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn ack(answer: Result<Answer, Refusal>) -> Ack {
    match answer {
        Ok(Answer::Ack(ack)) => ack,
        other => panic!("{other:?}"),
    }
}

impl Stream {
    /// To this node; an error when it sends the stream away at once.
    pub(crate) async fn open(
        mesh: &Mesh,
        shard: ShardId,
        owner: &NodeId,
    ) -> Result<Result<Self, StreamEnd>, ()> {
        let opened =
            tokio::time::timeout(Duration::from_secs(1), mesh.open(owner, Purpose::Shard(shard)));
        let channel = opened.await.map_err(drop)?.map_err(drop)?;
        let (sender, receiver) = channel.split();
        let (fed, ended) = (VecDeque::new(), None);
        let mut stream = Self { sender, receiver, rids: 0, fed, ended };
        // Answered by whoever serves the shard, whatever the answer.
        let unique = [0; 16];
        let nobody = ConversationId { kind: wire::ConversationKind::Group, shard, unique };
        if stream.query(None, nobody, Query::View { members_after: None }).await.is_some() {
            return Ok(Ok(stream));
        }
        Ok(Err(stream.ended.unwrap_or(StreamEnd::Stopping)))
    }

    pub(crate) async fn raw(&mut self, bytes: Bytes) {
        // Broken: the next receive says so.
        let _ = self.sender.send(bytes).await;
    }

    /// Sends without waiting for the answer.
    pub(crate) async fn start(
        &mut self,
        actor: &Actor,
        conversation: ConversationId,
        command: impl Into<Command>,
    ) -> u64 {
        self.rids += 1;
        let rid = self.rids;
        let command = command.into();
        let frame = ToOwner::Command { rid, actor: actor.clone(), conversation, command };
        let _ = self.sender.feed(frame.to_bytes()).await;
        rid
    }

    pub(crate) async fn flush(&mut self) {
        let _ = self.sender.flush().await;
    }

    /// None when the stream ended without an answer.
    pub(crate) async fn command(
        &mut self,
        actor: &Actor,
        conversation: ConversationId,
        command: impl Into<Command>,
    ) -> Option<Result<Answer, Refusal>> {
        let rid = self.start(actor, conversation, command).await;
        self.flush().await;
        self.answer(rid).await
    }

    pub(crate) async fn query(
        &mut self,
        actor: Option<&Actor>,
        conversation: ConversationId,
        query: Query,
    ) -> Option<Result<Answer, Refusal>> {
        self.rids += 1;
        let rid = self.rids;
        self.raw(ToOwner::Query { rid, actor: actor.cloned(), conversation, query }.to_bytes())
            .await;
        self.answer(rid).await
    }

    pub(crate) async fn watch(
        &mut self,
        conversation: ConversationId,
        after_ver: Option<u64>,
        users: &[&str],
    ) -> Option<Result<Answer, Refusal>> {
        self.rids += 1;
        let rid = self.rids;
        let users = users.iter().map(|name| user(name)).collect();
        self.raw(
            ToOwner::Watch { rid, conversation, after_ver, users, after_epoch: None }.to_bytes(),
        )
        .await;
        self.answer(rid).await
    }

    /// Watches after this change of this epoch.
    pub(crate) async fn watch_after(&mut self, conversation: ConversationId, ver: u64, epoch: u64) {
        self.rids += 1;
        let (rid, after_epoch) = (self.rids, Some(Epoch(epoch)));
        let frame =
            ToOwner::Watch { rid, conversation, after_ver: Some(ver), users: vec![], after_epoch };
        self.raw(frame.to_bytes()).await;
        self.answer(rid).await.unwrap().unwrap();
    }

    /// Watches from there, without waiting for the answer.
    pub(crate) async fn watch_again(&mut self, conversation: ConversationId, after_ver: u64) {
        self.rids += 1;
        let frame = ToOwner::Watch {
            rid: self.rids,
            conversation,
            after_ver: Some(after_ver),
            users: vec![],
            after_epoch: None,
        };
        self.raw(frame.to_bytes()).await;
    }

    pub(crate) async fn answer(&mut self, rid: u64) -> Option<Result<Answer, Refusal>> {
        loop {
            match self.next().await? {
                FromOwner::Reply { rid: of, result } if of == rid => return Some(result),
                FromOwner::Reply { rid: of, .. } => panic!("an answer to {of} instead of {rid}"),
                other => self.fed.push_back(other),
            }
        }
    }

    /// The answers to these, in whatever order they come; fewer when the stream ends.
    pub(crate) async fn answers(&mut self, count: usize) -> BTreeMap<u64, Result<Answer, Refusal>> {
        let mut answers = BTreeMap::new();
        while answers.len() < count {
            match self.next().await {
                Some(FromOwner::Reply { rid, result }) => {
                    assert!(answers.insert(rid, result).is_none(), "answered twice: {rid}");
                }
                Some(other) => self.fed.push_back(other),
                None => break,
            }
        }
        answers
    }

    /// The next frame; none at the end.
    pub(crate) async fn next(&mut self) -> Option<FromOwner> {
        if self.ended.is_some() {
            return None;
        }
        let received = tokio::time::timeout(DEADLINE, self.receiver.recv())
            .await
            .expect("waited too long for a frame");
        let Ok(Some(bytes)) = received else { return None };
        match FromOwner::from_bytes(&bytes).unwrap() {
            FromOwner::End(end) => {
                self.ended = Some(end);
                None
            }
            frame => Some(frame),
        }
    }

    /// Deliveries, at least this many, and what else was fed.
    pub(crate) async fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while deliveries.len() < count {
            let frame = match self.fed.pop_front() {
                Some(frame) => frame,
                None => {
                    self.next().await.expect("the stream ended before everything was delivered")
                }
            };
            match frame {
                FromOwner::Feed { deliveries: more } => deliveries.extend(more),
                other => panic!("{other:?}"),
            }
        }
        deliveries
    }
}

/// Vers of each conversation, in the order of delivery.
pub(crate) fn vers(deliveries: &[Delivery]) -> HashMap<ConversationId, Vec<u64>> {
    let mut vers: HashMap<ConversationId, Vec<u64>> = HashMap::new();
    for delivery in deliveries {
        vers.entry(delivery.change.conversation).or_default().push(delivery.change.ver);
    }
    vers
}

fn rand_bytes() -> [u8; 16] {
    rand::random()
}
