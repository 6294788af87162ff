//! Carries notes to the owners of users' own streams, and what concerns moves to the owners of other shards: one queue and
//! one road for each shard that gets any, shared by all shards that this core serves. A road leads to the shard's task in
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
use wire::command::{Actor, Answer, Command, Refusal};
use wire::mesh::{Frame, Purpose, StreamEnd};
use wire::{ConversationId, NodeId, ShardId, TenantId, UserId};

use crate::backoff::Backoff;
use crate::intake::outbox::{Out, Outbox};
use crate::intake::{Ask, Input};
use crate::shards::standing::{Directory, TermHandle};
use crate::tasks::Tasks;

/// Notes without an answer on one road.
const OPEN_MAX: usize = 512;
/// A road without notes is given up after this long.
const IDLE: Duration = Duration::from_secs(30);
/// Another owner is thought of when opening a road takes longer.
const OPEN: Duration = Duration::from_secs(3);
/// An owner that says nothing for this long, although it should, is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// A command to the owner of another shard, or of this one.
pub(crate) struct Note {
    pub(crate) shard: ShardId,
    pub(crate) conversation: ConversationId,
    /// The user; see [`nobody`].
    pub(crate) actor: Actor,
    pub(crate) command: Command,
    /// Told to `done`, with what it came to.
    pub(crate) number: u64,
    pub(crate) done: mpsc::UnboundedSender<(u64, Carried)>,
}

/// What a note came to. What may pass is not told: the note is carried again.
#[derive(Debug)]
pub(crate) enum Carried {
    /// It was answered: what it asks for is committed, or cannot be.
    Answered(Result<Answer, Refusal>),
    /// The conversation is in another shard.
    Moved(Home),
}

/// Who moves conversations: a node of the mesh, for itself.
pub(crate) fn nobody() -> Actor {
    let tenant = TenantId::new("mesh").expect("a tenant's name");
    Actor { tenant, user: UserId::new("operator").expect("a user's name"), device: None }
}

/// All carriers of a core. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Carriers {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeId,
    world: Arc<World>,
    mesh: Mesh,
    tasks: Tasks,
    /// Set once the shards are there.
    directory: OnceLock<Arc<Directory>>,
    /// Unbounded here, bounded by what each consumer has outstanding.
    queues: Mutex<HashMap<ShardId, mpsc::UnboundedSender<Note>>>,
}

impl Carriers {
    pub(crate) fn new(node: NodeId, world: Arc<World>, mesh: Mesh, tasks: Tasks) -> Self {
        let shared = Shared {
            node,
            world,
            mesh,
            tasks,
            directory: OnceLock::new(),
            queues: Mutex::new(HashMap::new()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says where the shards of this node stand; until then all notes go over the mesh.
    pub(crate) fn know(&self, directory: Arc<Directory>) {
        // Said once.
        let _ = self.shared.directory.set(directory);
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
        command: Command,
    ) -> Carried {
        #[expect(clippy::disallowed_methods, reason = "holds one answer")]
        let (done, mut answered) = mpsc::unbounded_channel();
        self.carry(Note { shard, conversation, actor: nobody(), command, number: 0, done });
        match answered.recv().await {
            Some((_, carried)) => carried,
            // The core stops.
            None => std::future::pending().await,
        }
    }

    /// Takes a note, to be delivered at least once. Never waits.
    pub(crate) fn carry(&self, note: Note) {
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

/// One road's traveller.
struct Carrier {
    shared: Arc<Shared>,
    shard: ShardId,
    /// Who the last owner said is the owner.
    hint: Option<NodeId>,
    /// Not answered, oldest first, by the number they are asked under.
    open: VecDeque<(u64, Note)>,
    rids: u64,
}

/// Why a road ended.
enum RoadEnd {
    /// Nothing to carry.
    Idle,
    /// Perhaps with a hint where to go.
    Broken(Option<NodeId>),
}

impl Carrier {
    async fn run(mut self, mut notes: mpsc::UnboundedReceiver<Note>) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            if self.open.is_empty() {
                let Some(note) = notes.recv().await else { return };
                self.take(note);
            }
            let Some(mut road) = self.road().await else {
                self.hint = None;
                backoff.pause().await;
                continue;
            };
            let answered = self.rids;
            match self.travel(&mut road, &mut notes).await {
                RoadEnd::Idle => {}
                RoadEnd::Broken(hint) => self.hint = hint,
            }
            road.leave().await;
            // Progress was made if an older note was answered.
            if self.open.front().is_none_or(|(rid, _)| *rid > answered) {
                backoff.reset();
            } else {
                backoff.pause().await;
            }
        }
    }

    fn take(&mut self, note: Note) {
        self.rids += 1;
        self.open.push_back((self.rids, note));
    }

    /// To the owner, as far as it is known.
    async fn road(&self) -> Option<Road> {
        let directory = self.shared.directory.get();
        if let Some(term) = directory.and_then(|directory| directory.serving(&self.shard)) {
            return Road::inside(&self.shared.node, term).await;
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
            if owner == self.shared.node { directory?.elsewhere(&self.shard)? } else { owner };
        let mut membership = self.shared.mesh.membership();
        let opened = tokio::select! {
            opened = self.shared.mesh.open(&owner, Purpose::Shard(self.shard)) => opened,
            _ = membership.wait_for(|membership| !membership.is_alive(&owner)) => return None,
            () = tokio::time::sleep(OPEN) => return None,
        };
        let channel =
            opened.inspect_err(|error| tracing::debug!(%error, "no road for notes")).ok()?;
        let (sender, receiver) = channel.split();
        Some(Road::Mesh { sender, receiver })
    }

    /// Sends what is open, then whatever comes, and takes the answers.
    async fn travel(
        &mut self,
        road: &mut Road,
        notes: &mut mpsc::UnboundedReceiver<Note>,
    ) -> RoadEnd {
        for (rid, note) in &self.open {
            if !road.send(*rid, note).await {
                return RoadEnd::Broken(None);
            }
        }
        if !road.flush().await {
            return RoadEnd::Broken(None);
        }
        loop {
            let wait = if self.open.is_empty() { IDLE } else { SILENCE };
            tokio::select! {
                heard = road.hear() => match heard {
                    Heard::Answers(answers) => {
                        for (rid, carried) in answers {
                            if let Some(again) = self.answered(rid, carried) {
                                return again;
                            }
                        }
                    }
                    Heard::End(owner) => return RoadEnd::Broken(owner),
                },
                note = notes.recv(), if self.open.len() < OPEN_MAX => {
                    let Some(note) = note else { return RoadEnd::Idle };
                    let first = self.open.len();
                    self.take(note);
                    while self.open.len() < OPEN_MAX && let Ok(note) = notes.try_recv() {
                        self.take(note);
                    }
                    for (rid, note) in self.open.range(first..) {
                        if !road.send(*rid, note).await {
                            return RoadEnd::Broken(None);
                        }
                    }
                    if !road.flush().await {
                        return RoadEnd::Broken(None);
                    }
                }
                () = tokio::time::sleep(wait) => {
                    return if self.open.is_empty() { RoadEnd::Idle } else { RoadEnd::Broken(None) };
                }
            }
        }
    }

    /// One answer; some when the road is to be left and the note sent again.
    fn answered(&mut self, rid: u64, carried: Carried) -> Option<RoadEnd> {
        let index = self.open.iter().position(|(open, _)| *open == rid)?;
        if let Carried::Answered(Err(refusal)) = &carried
            && refusal.code.is_retryable()
        {
            return Some(RoadEnd::Broken(None));
        }
        // Of a refusal for ever, too: to hold up all that follows would help nobody.
        let (_, note) = self.open.remove(index)?;
        // The consumer is gone when its term is: then nobody counts.
        let _ = note.done.send((note.number, carried));
        None
    }
}

/// Where notes go.
enum Road {
    /// To the shard's task in this node.
    Inside { outbox: Arc<Outbox>, term: TermHandle, taken: VecDeque<Out> },
    /// To another node.
    Mesh { sender: Sender, receiver: Receiver },
}

/// What came back.
enum Heard {
    Answers(Vec<(u64, Carried)>),
    /// The road ends; perhaps the owner is that one.
    End(Option<NodeId>),
}

impl Road {
    async fn inside(node: &NodeId, term: TermHandle) -> Option<Self> {
        let outbox = Arc::new(Outbox::new(node.clone(), OPEN_MAX, 0));
        term.inputs.send(Input { from: outbox.clone(), ask: Ask::Attach }).await.ok()?;
        Some(Self::Inside { outbox, term, taken: VecDeque::new() })
    }

    /// False when the road is broken.
    async fn send(&mut self, rid: u64, note: &Note) -> bool {
        let (actor, conversation, command) =
            (note.actor.clone(), note.conversation, note.command.clone());
        match self {
            Self::Inside { outbox, term, .. } => {
                let ask = Ask::Command { rid, actor, conversation, command };
                outbox.admit().await;
                term.inputs.send(Input { from: outbox.clone(), ask }).await.is_ok()
            }
            Self::Mesh { sender, .. } => {
                let frame = Frame::Command { rid, actor, conversation, command };
                sender.feed(frame.to_bytes()).await.is_ok()
            }
        }
    }

    /// False when the road is broken.
    async fn flush(&mut self) -> bool {
        match self {
            Self::Inside { .. } => true,
            Self::Mesh { sender, .. } => sender.flush().await.is_ok(),
        }
    }

    /// Cancel safe.
    async fn hear(&mut self) -> Heard {
        match self {
            Self::Inside { outbox, term, taken } => {
                tokio::select! {
                    more = outbox.take(taken) => if !more { return Heard::End(None) },
                    () = term.inputs.closed() => return Heard::End(None),
                }
                let mut answers = Vec::new();
                for out in taken.drain(..) {
                    match out {
                        Out::Reply { rid, outcome, .. } => {
                            answers.push((rid, Carried::Answered(outcome)))
                        }
                        Out::Moved { rid, placement, .. } => {
                            answers.extend(rid.map(|rid| (rid, Carried::Moved(placement))))
                        }
                        Out::End(end) => return Heard::End(hint(end)),
                        Out::Delivery(_) | Out::Lagged(_) | Out::Unsupported(_) => {}
                    }
                }
                Heard::Answers(answers)
            }
            Self::Mesh { receiver, .. } => {
                let Ok(Some(bytes)) = receiver.recv().await else { return Heard::End(None) };
                match Frame::from_bytes(bytes) {
                    Ok(Frame::Reply { rid, result }) => {
                        Heard::Answers(vec![(rid, Carried::Answered(result))])
                    }
                    Ok(Frame::Moved { rid: Some(rid), placement, .. }) => {
                        Heard::Answers(vec![(rid, Carried::Moved(placement))])
                    }
                    Ok(Frame::End(end)) => Heard::End(hint(end)),
                    Ok(_) => Heard::Answers(Vec::new()),
                    Err(error) => {
                        tracing::warn!(%error, "garbage from the owner of a shard");
                        Heard::End(None)
                    }
                }
            }
        }
    }

    async fn leave(self) {
        match self {
            Self::Inside { outbox, term, .. } => {
                outbox.abandon();
                // A term that is over has forgotten the stream already.
                let _ = term.inputs.send(Input { from: outbox, ask: Ask::Detach }).await;
            }
            Self::Mesh { sender, .. } => {
                // Nothing is owed to a road that is left.
                let _ = sender.finish().await;
            }
        }
    }
}

fn hint(end: StreamEnd) -> Option<NodeId> {
    match end {
        StreamEnd::NotOwner { owner } => owner,
        StreamEnd::Stopping => None,
    }
}
