//! A client of the owners of shards: sends commands to them in the name of this core's consumers
//! and moves. There is one queue and one connection for each shard that is asked, shared by all
//! shards that this core serves. A connection leads to the owner task in this node, or over the
//! mesh to another. When it breaks, every request without an answer is sent again on the next one,
//! in order, for as long as it takes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mesh::{Mesh, Receiver, Sender};
use node::{Backoff, Tasks};
use tokio::sync::{mpsc, oneshot};
use topology::World;
use topology::placement::{self, Live};
use wire::change::Home;
use wire::command::{Actor, Answer, MeshCommand, Refusal};
use wire::stream::{FromOwner, Purpose, StreamEnd, ToOwner};
use wire::version::Feature;
use wire::{ConversationId, NodeId, ShardId, TenantId, UserId, version};

use crate::intake::outbox::{Out, Outbox};
use crate::owner::input::{Ask, Input};
use crate::ownership::state::{ShardTable, TermHandle};

/// Requests without an answer on one connection.
const OPEN_MAX: usize = 512;
/// A connection without requests is closed after this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// When opening a connection takes longer, another owner is tried.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// An owner that owes answers and sends nothing for this long is given up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// A command to the owner of a shard.
pub(crate) struct Request {
    pub(crate) shard: ShardId,
    pub(crate) conversation: ConversationId,
    /// The user, or the [`system_actor`].
    pub(crate) actor: Actor,
    pub(crate) command: MeshCommand,
    /// Called once, with the answer. It must not wait.
    pub(crate) respond: Box<dyn FnOnce(Response) + Send + Sync>,
}

/// What a request came to. What is transient is not told: the request is sent again.
#[derive(Debug)]
pub(crate) enum Response {
    /// What it asks for is committed, or cannot be.
    Answered(Result<Answer, Refusal>),
    /// The conversation is in another shard.
    Moved(Home),
}

/// The actor of what nodes do in no user's name, such as moves.
pub(crate) fn system_actor() -> Actor {
    let tenant = TenantId::new("mesh").expect("a tenant's name");
    Actor { tenant, user: UserId::new("operator").expect("a user's name"), device: None }
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct ShardClient {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeId,
    world: Arc<World>,
    mesh: Mesh,
    tasks: Tasks,
    /// Set once the shards are there.
    shard_table: OnceLock<Arc<ShardTable>>,
    /// Unbounded here, bounded by what each consumer has outstanding.
    queues: Mutex<HashMap<ShardId, mpsc::UnboundedSender<Request>>>,
}

impl ShardClient {
    pub(crate) fn new(node: NodeId, world: Arc<World>, mesh: Mesh, tasks: Tasks) -> Self {
        let (shard_table, queues) = (OnceLock::new(), Mutex::new(HashMap::new()));
        Self { shared: Arc::new(Shared { node, world, mesh, tasks, shard_table, queues }) }
    }

    /// Gives it the shards of this node. Until then all requests go over the mesh.
    pub(crate) fn set_shard_table(&self, shard_table: Arc<ShardTable>) {
        // Set once.
        let _ = self.shared.shard_table.set(shard_table);
    }

    /// A user's own stream; none when the world does not know the tenant.
    pub(crate) fn user_stream(&self, tenant: &TenantId, user: &UserId) -> Option<ConversationId> {
        self.shared.world.user_stream_id(tenant, user)
    }

    /// Asks the owner of a shard, and waits for as long as it takes. Dropped, the request is on its
    /// way all the same.
    pub(crate) async fn ask(
        &self,
        shard: ShardId,
        conversation: ConversationId,
        command: MeshCommand,
    ) -> Response {
        let (answer, answered) = oneshot::channel();
        let respond = Box::new(move |response| {
            // The caller may have gone.
            let _ = answer.send(response);
        });
        self.send(Request { shard, conversation, actor: system_actor(), command, respond });
        match answered.await {
            Ok(response) => response,
            // The core stops.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes a request, to be delivered at least once. Never waits.
    pub(crate) fn send(&self, request: Request) {
        let shard = request.shard;
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(shard).or_insert_with(|| {
            #[expect(
                clippy::disallowed_methods,
                reason = "never holds more than the consumers have outstanding"
            )]
            let (queue, requests) = mpsc::unbounded_channel();
            let driver = Driver {
                shared: self.shared.clone(),
                shard,
                hint: None,
                open: VecDeque::new(),
                rids: 0,
            };
            self.shared.tasks.spawn_until_stop("shard-client", driver.run(requests));
            queue
        });
        // The driver ends only with the core.
        let _ = queue.send(request);
    }
}

/// Drives the requests to one shard.
struct Driver {
    shared: Arc<Shared>,
    shard: ShardId,
    /// Who the last owner said is the owner.
    hint: Option<NodeId>,
    /// Not answered, oldest first, by the number they are asked under.
    open: VecDeque<(u64, Request)>,
    rids: u64,
}

/// Why a connection ended.
enum ConnectionEnd {
    Idle,
    /// With the owner that the last one named.
    Broken(Option<NodeId>),
}

impl Driver {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            if self.open.is_empty() {
                let Some(request) = requests.recv().await else { return };
                self.take(request);
            }
            let Some(mut connection) = self.connection().await else {
                self.hint = None;
                backoff.pause().await;
                continue;
            };
            let answered = self.rids;
            match self.drive(&mut connection, &mut requests).await {
                ConnectionEnd::Idle => {}
                ConnectionEnd::Broken(hint) => self.hint = hint,
            }
            connection.close().await;
            // Progress was made if an older request was answered.
            if self.open.front().is_none_or(|(rid, _)| *rid > answered) {
                backoff.reset();
            } else {
                backoff.pause().await;
            }
        }
    }

    fn take(&mut self, request: Request) {
        self.rids += 1;
        self.open.push_back((self.rids, request));
    }

    /// Connects to the owner, as far as it is known.
    async fn connection(&self) -> Option<Connection> {
        let shard_table = self.shared.shard_table.get();
        if let Some(term) = shard_table.and_then(|shard_table| shard_table.serving(&self.shard)) {
            return Connection::inside(&self.shared.node, term).await;
        }
        let owner = match &self.hint {
            Some(hint) => hint.clone(),
            None => {
                let membership = self.shared.mesh.membership();
                let view = membership.borrow();
                let live =
                    Live::from_view(view.nodes.iter().map(|(node, state)| (node, state.draining)));
                placement::whom_to_ask(&self.shared.world, &self.shard, &live)?
            }
        };
        // This node asks itself nothing. After a failover another region serves the shard, and
        // this node knows which core of it.
        let owner =
            if owner == self.shared.node { shard_table?.elsewhere(&self.shard)? } else { owner };
        let mut membership = self.shared.mesh.membership();
        let opened = tokio::select! {
            opened = self.shared.mesh.open(&owner, Purpose::Shard(self.shard)) => opened,
            _ = membership.wait_for(|membership| !membership.is_alive(&owner)) => return None,
            () = tokio::time::sleep(OPEN_TIMEOUT) => return None,
        };
        let channel = opened
            .inspect_err(|error| tracing::debug!(%error, "cannot connect to a shard owner"))
            .ok()?;
        let (sender, receiver) = channel.split();
        Some(Connection::Mesh { sender, receiver })
    }

    /// Sends what is open, then each new request, and takes the answers.
    async fn drive(
        &mut self,
        connection: &mut Connection,
        requests: &mut mpsc::UnboundedReceiver<Request>,
    ) -> ConnectionEnd {
        self.refuse_lacking(connection);
        for (rid, request) in &self.open {
            if !connection.send(*rid, request).await {
                return ConnectionEnd::Broken(None);
            }
        }
        if !connection.flush().await {
            return ConnectionEnd::Broken(None);
        }
        loop {
            let wait = if self.open.is_empty() { IDLE_TIMEOUT } else { SILENCE_TIMEOUT };
            tokio::select! {
                received = connection.recv() => match received {
                    Received::Answers(answers) => {
                        for (rid, response) in answers {
                            if let Some(again) = self.answered(rid, response) {
                                return again;
                            }
                        }
                    }
                    Received::End(owner) => return ConnectionEnd::Broken(owner),
                },
                request = requests.recv(), if self.open.len() < OPEN_MAX => {
                    let Some(request) = request else { return ConnectionEnd::Idle };
                    let first = self.open.len();
                    self.take(request);
                    while self.open.len() < OPEN_MAX && let Ok(request) = requests.try_recv() {
                        self.take(request);
                    }
                    self.refuse_lacking(connection);
                    for (rid, request) in self.open.range(first..) {
                        if !connection.send(*rid, request).await {
                            return ConnectionEnd::Broken(None);
                        }
                    }
                    if !connection.flush().await {
                        return ConnectionEnd::Broken(None);
                    }
                }
                () = tokio::time::sleep(wait) => {
                    return if self.open.is_empty() { ConnectionEnd::Idle } else { ConnectionEnd::Broken(None) };
                }
            }
        }
    }

    /// Answers what the owner is too old for; what follows does not wait for its upgrade.
    fn refuse_lacking(&mut self, connection: &Connection) {
        let mut at = 0;
        while let Some((_, request)) = self.open.get(at) {
            match connection.lacks(request.command.needs()) {
                None => at += 1,
                Some(feature) => {
                    let refused = Response::Answered(Err(version::lacking(feature)));
                    if let Some((_, request)) = self.open.remove(at) {
                        (request.respond)(refused);
                    }
                }
            }
        }
    }

    /// Takes one answer. Returns how the connection ends, when the request is to be sent again.
    fn answered(&mut self, rid: u64, response: Response) -> Option<ConnectionEnd> {
        let index = self.open.iter().position(|(open, _)| *open == rid)?;
        if let Response::Answered(Err(refusal)) = &response
            && refusal.code.is_retryable()
        {
            return Some(ConnectionEnd::Broken(None));
        }
        // A permanent refusal is an answer too: what follows must not wait for it.
        let (_, request) = self.open.remove(index)?;
        (request.respond)(response);
        None
    }
}

enum Connection {
    /// To the owner task in this node.
    Inside { outbox: Arc<Outbox>, term: TermHandle, taken: VecDeque<Out> },
    /// To another node.
    Mesh { sender: Sender, receiver: Receiver },
}

/// What came back.
enum Received {
    Answers(Vec<(u64, Response)>),
    /// The connection ends, perhaps naming the owner.
    End(Option<NodeId>),
}

impl Connection {
    async fn inside(node: &NodeId, term: TermHandle) -> Option<Self> {
        let outbox = Arc::new(Outbox::new(node.clone(), OPEN_MAX, 0));
        term.inputs.send(Input { from: outbox.clone(), ask: Ask::Attach }).await.ok()?;
        Some(Self::Inside { outbox, term, taken: VecDeque::new() })
    }

    fn lacks(&self, needs: Option<Feature>) -> Option<Feature> {
        match self {
            Self::Inside { .. } => None,
            Self::Mesh { sender, .. } => sender.lacks(needs),
        }
    }

    /// False when the connection is broken.
    async fn send(&mut self, rid: u64, request: &Request) -> bool {
        let (actor, conversation, command) =
            (request.actor.clone(), request.conversation, request.command.clone().into());
        match self {
            Self::Inside { outbox, term, .. } => {
                let ask = Ask::Command { rid, actor, conversation, command };
                outbox.admit().await;
                term.inputs.send(Input { from: outbox.clone(), ask }).await.is_ok()
            }
            Self::Mesh { sender, .. } => {
                let frame = ToOwner::Command { rid, actor, conversation, command };
                sender.feed(frame.to_bytes()).await.is_ok()
            }
        }
    }

    /// False when the connection is broken.
    async fn flush(&mut self) -> bool {
        match self {
            Self::Inside { .. } => true,
            Self::Mesh { sender, .. } => sender.flush().await.is_ok(),
        }
    }

    /// Cancel safe.
    async fn recv(&mut self) -> Received {
        match self {
            Self::Inside { outbox, term, taken } => {
                tokio::select! {
                    more = outbox.take(taken) => if !more { return Received::End(None) },
                    () = term.inputs.closed() => return Received::End(None),
                }
                let mut answers = Vec::new();
                for out in taken.drain(..) {
                    match out {
                        Out::Reply { rid, outcome, .. } => {
                            answers.push((rid, Response::Answered(outcome)))
                        }
                        Out::Moved { rid, placement, .. } => {
                            answers.extend(rid.map(|rid| (rid, Response::Moved(placement))))
                        }
                        Out::End(end) => return Received::End(hint(end)),
                        Out::Delivery(_) | Out::Lagged(_) | Out::Unsupported(_) => {}
                    }
                }
                Received::Answers(answers)
            }
            Self::Mesh { receiver, .. } => {
                let Ok(Some(bytes)) = receiver.recv().await else { return Received::End(None) };
                match FromOwner::from_bytes(&bytes) {
                    Ok(FromOwner::Reply { rid, result }) => {
                        Received::Answers(vec![(rid, Response::Answered(result))])
                    }
                    Ok(FromOwner::Moved { rid: Some(rid), placement, .. }) => {
                        Received::Answers(vec![(rid, Response::Moved(placement))])
                    }
                    Ok(FromOwner::End(end)) => Received::End(hint(end)),
                    Ok(
                        FromOwner::Moved { rid: None, .. }
                        | FromOwner::Feed { .. }
                        | FromOwner::Lagged { .. }
                        | FromOwner::Unsupported { .. }
                        | FromOwner::Unknown(_),
                    ) => Received::Answers(Vec::new()),
                    Err(error) => {
                        tracing::warn!(%error, "malformed frame from a shard owner, reconnecting");
                        Received::End(None)
                    }
                }
            }
        }
    }

    async fn close(self) {
        match self {
            Self::Inside { outbox, term, .. } => {
                outbox.abandon();
                // A term that is over has forgotten the stream already.
                let _ = term.inputs.send(Input { from: outbox, ask: Ask::Detach }).await;
            }
            Self::Mesh { sender, .. } => {
                // Best effort: the connection is given up.
                let _ = sender.finish().await;
            }
        }
    }
}

fn hint(end: StreamEnd) -> Option<NodeId> {
    match end {
        StreamEnd::NotOwner { owner } => owner,
        StreamEnd::Stopping | StreamEnd::Unknown(_) => None,
    }
}
