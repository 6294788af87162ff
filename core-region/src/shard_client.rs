//! Carries notes to the owners of users' own streams, and what concerns moves to the owners of other shards: one queue and
//! one connection for each shard that gets any, shared by all shards that this core serves. A connection leads to the shard's task in
//! this node or over the mesh to another; when it breaks, everything without an answer is sent again on the next one, in
//! order, for as long as it takes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mesh::{Mesh, Receiver, Sender};
use tokio::sync::mpsc;
use topology::World;
use topology::placement::{self, Live};
use wire::change::Home;
use wire::command::{Actor, Answer, MeshCommand, Refusal};
use wire::stream::{FromOwner, Purpose, StreamEnd, ToOwner};
use wire::{ConversationId, NodeId, ShardId, TenantId, UserId};

use crate::backoff::Backoff;
use crate::intake::outbox::{Out, Outbox};
use crate::intake::{Ask, Input};
use crate::ownership::state::{ShardTable, TermHandle};
use crate::tasks::Tasks;

/// Notes without an answer on one connection.
const OPEN_MAX: usize = 512;
/// A connection without notes is given up after this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Another owner is thought of when opening a connection takes longer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// An owner that says nothing for this long, although it should, is given up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// A command to the owner of another shard, or of this one.
pub(crate) struct Request {
    pub(crate) shard: ShardId,
    pub(crate) conversation: ConversationId,
    /// The user; see [`nobody`].
    pub(crate) actor: Actor,
    pub(crate) command: MeshCommand,
    /// Told to `done`, with what it came to.
    pub(crate) number: u64,
    pub(crate) done: mpsc::UnboundedSender<(u64, Response)>,
}

/// What a note came to. What may pass is not told: the note is response again.
#[derive(Debug)]
pub(crate) enum Response {
    /// It was answered: what it asks for is committed, or cannot be.
    Answered(Result<Answer, Refusal>),
    /// The conversation is in another shard.
    Moved(Home),
}

/// Who moves conversations: a node of the mesh, for itself.
pub(crate) fn system_actor() -> Actor {
    let tenant = TenantId::new("mesh").expect("a tenant's name");
    Actor { tenant, user: UserId::new("operator").expect("a user's name"), device: None }
}

/// All shard_client of a core. Cheap to clone.
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
        let shared = Shared {
            node,
            world,
            mesh,
            tasks,
            shard_table: OnceLock::new(),
            queues: Mutex::new(HashMap::new()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says where the shards of this node stand; until then all notes go over the mesh.
    pub(crate) fn know(&self, shard_table: Arc<ShardTable>) {
        // Said once.
        let _ = self.shared.shard_table.set(shard_table);
    }

    /// A user's own stream; none when the world does not know the tenant.
    pub(crate) fn stream_of(&self, tenant: &TenantId, user: &UserId) -> Option<ConversationId> {
        self.shared.world.user_stream_id(tenant, user)
    }

    /// Asks the owner of a shard, and waits for as long as it takes. Dropped, the question is on its way all the same.
    pub(crate) async fn ask(
        &self,
        shard: ShardId,
        conversation: ConversationId,
        command: MeshCommand,
    ) -> Response {
        #[expect(clippy::disallowed_methods, reason = "holds one answer")]
        let (done, mut answered) = mpsc::unbounded_channel();
        self.carry(Request {
            shard,
            conversation,
            actor: system_actor(),
            command,
            number: 0,
            done,
        });
        match answered.recv().await {
            Some((_, response)) => response,
            // The core stops.
            None => std::future::pending().await,
        }
    }

    /// Takes a note, to be delivered at least once. Never waits.
    pub(crate) fn carry(&self, note: Request) {
        let shard = note.shard;
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(shard).or_insert_with(|| {
            #[expect(
                clippy::disallowed_methods,
                reason = "never holds more than the consumers have outstanding"
            )]
            let (queue, notes) = mpsc::unbounded_channel();
            let carrier = Carrier {
                shared: self.shared.clone(),
                shard,
                hint: None,
                open: VecDeque::new(),
                rids: 0,
            };
            self.shared.tasks.spawn_while_running("carrier", carrier.run(notes));
            queue
        });
        // The carrier ends only with the core.
        let _ = queue.send(note);
    }
}

/// One connection's traveller.
struct Carrier {
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
    /// Nothing to carry.
    Idle,
    /// Perhaps with a hint where to go.
    Broken(Option<NodeId>),
}

impl Carrier {
    async fn run(mut self, mut notes: mpsc::UnboundedReceiver<Request>) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            if self.open.is_empty() {
                let Some(note) = notes.recv().await else { return };
                self.take(note);
            }
            let Some(mut connection) = self.connection().await else {
                self.hint = None;
                backoff.pause().await;
                continue;
            };
            let answered = self.rids;
            match self.drive(&mut connection, &mut notes).await {
                ConnectionEnd::Idle => {}
                ConnectionEnd::Broken(hint) => self.hint = hint,
            }
            connection.close().await;
            // Progress was made if an older note was answered.
            if self.open.front().is_none_or(|(rid, _)| *rid > answered) {
                backoff.reset();
            } else {
                backoff.pause().await;
            }
        }
    }

    fn take(&mut self, note: Request) {
        self.rids += 1;
        self.open.push_back((self.rids, note));
    }

    /// To the owner, as far as it is known.
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
        // Where it would be asked this node would say what it knows itself: of a region that is failed over, another serves the shard.
        let owner =
            if owner == self.shared.node { shard_table?.elsewhere(&self.shard)? } else { owner };
        let mut membership = self.shared.mesh.membership();
        let opened = tokio::select! {
            opened = self.shared.mesh.open(&owner, Purpose::Shard(self.shard)) => opened,
            _ = membership.wait_for(|membership| !membership.is_alive(&owner)) => return None,
            () = tokio::time::sleep(OPEN_TIMEOUT) => return None,
        };
        let channel =
            opened.inspect_err(|error| tracing::debug!(%error, "no connection for notes")).ok()?;
        let (sender, receiver) = channel.split();
        Some(Connection::Mesh { sender, receiver })
    }

    /// Sends what is open, then whatever comes, and takes the answers.
    async fn drive(
        &mut self,
        connection: &mut Connection,
        notes: &mut mpsc::UnboundedReceiver<Request>,
    ) -> ConnectionEnd {
        for (rid, note) in &self.open {
            if !connection.send(*rid, note).await {
                return ConnectionEnd::Broken(None);
            }
        }
        if !connection.flush().await {
            return ConnectionEnd::Broken(None);
        }
        loop {
            let wait = if self.open.is_empty() { IDLE_TIMEOUT } else { SILENCE_TIMEOUT };
            tokio::select! {
                heard = connection.recv() => match heard {
                    Received::Answers(answers) => {
                        for (rid, response) in answers {
                            if let Some(again) = self.answered(rid, response) {
                                return again;
                            }
                        }
                    }
                    Received::End(owner) => return ConnectionEnd::Broken(owner),
                },
                note = notes.recv(), if self.open.len() < OPEN_MAX => {
                    let Some(note) = note else { return ConnectionEnd::Idle };
                    let first = self.open.len();
                    self.take(note);
                    while self.open.len() < OPEN_MAX && let Ok(note) = notes.try_recv() {
                        self.take(note);
                    }
                    for (rid, note) in self.open.range(first..) {
                        if !connection.send(*rid, note).await {
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

    /// One answer; some when the connection is to be left and the note sent again.
    fn answered(&mut self, rid: u64, response: Response) -> Option<ConnectionEnd> {
        let index = self.open.iter().position(|(open, _)| *open == rid)?;
        if let Response::Answered(Err(refusal)) = &response
            && refusal.code.is_retryable()
        {
            return Some(ConnectionEnd::Broken(None));
        }
        // Of a refusal for ever, too: to hold up all that follows would help nobody.
        let (_, note) = self.open.remove(index)?;
        // The consumer is gone when its term is: then nobody counts.
        let _ = note.done.send((note.number, response));
        None
    }
}

/// Where notes go.
enum Connection {
    /// To the shard's task in this node.
    Inside { outbox: Arc<Outbox>, term: TermHandle, taken: VecDeque<Out> },
    /// To another node.
    Mesh { sender: Sender, receiver: Receiver },
}

/// What came back.
enum Received {
    Answers(Vec<(u64, Response)>),
    /// The connection ends; perhaps the owner is that one.
    End(Option<NodeId>),
}

impl Connection {
    async fn inside(node: &NodeId, term: TermHandle) -> Option<Self> {
        let outbox = Arc::new(Outbox::new(node.clone(), OPEN_MAX, 0));
        term.inputs.send(Input { from: outbox.clone(), ask: Ask::Attach }).await.ok()?;
        Some(Self::Inside { outbox, term, taken: VecDeque::new() })
    }

    /// False when the connection is broken.
    async fn send(&mut self, rid: u64, note: &Request) -> bool {
        let (actor, conversation, command) =
            (note.actor.clone(), note.conversation, note.command.clone().into());
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
                        tracing::warn!(%error, "garbage from the owner of a shard");
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
                // Nothing is replies to a connection that is left.
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
