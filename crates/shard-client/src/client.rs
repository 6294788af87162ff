//! A client that sends commands until they are answered: one queue and one stream for each shard.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh::{Channel, Mesh, Receiver, Sender};
use runtime::{Backoff, Tasks};
use tokio::sync::{mpsc, oneshot, watch};
use topology::World;
use wire::change::Home;
use wire::command::{Actor, Answer, MeshCommand, Refusal};
use wire::stream::{FromOwner, StreamEnd, ToOwner};
use wire::{ConversationId, NodeId, ShardId, TenantId, UserId, version};

use crate::connect;
use crate::owner_view::OwnerView;
use crate::pending::Pending;

/// Requests without an answer on one stream.
const OPEN_MAX: usize = 512;
/// Bytes of them.
const OPEN_BYTES_MAX: usize = 1024 * 1024;
/// Frames handed to the stream at once.
const FRAMES_PER_FLUSH: usize = 256;
/// A stream without requests is closed after this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// An owner that owes answers and sends nothing for this long is given up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// A command to the owner of a shard.
pub struct Request {
    pub shard: ShardId,
    pub conversation: ConversationId,
    /// The user, or the [`system_actor`].
    pub actor: Actor,
    pub command: MeshCommand,
    /// Called once, with the answer. A transient refusal is not told: the request is sent again.
    /// It must not wait.
    pub respond: Respond,
}

/// See [`Request::respond`].
type Respond = Box<dyn FnOnce(Response) + Send + Sync>;

/// What a request came to.
#[derive(Debug)]
pub enum Response {
    /// What it asks for is committed, or cannot be.
    Answered(Result<Answer, Refusal>),
    /// The conversation is in another shard.
    Moved(Home),
}

/// The actor of what nodes do in no user's name, such as moves.
///
/// # Panics
/// Never: both names are well formed.
#[must_use]
pub fn system_actor() -> Actor {
    let tenant = TenantId::new("mesh").expect("a tenant's name");
    Actor { tenant, user: UserId::new("operator").expect("a user's name"), device: None }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct ShardClient {
    shared: Arc<Shared>,
}

struct Shared {
    world: Arc<World>,
    mesh: Mesh,
    views: watch::Receiver<Arc<OwnerView>>,
    tasks: Tasks,
    /// Unbounded here, bounded by what each consumer has outstanding.
    queues: Mutex<HashMap<ShardId, mpsc::UnboundedSender<Request>>>,
}

impl ShardClient {
    /// Sends from this node, in its own tasks.
    #[must_use]
    pub fn new(world: Arc<World>, mesh: Mesh, tasks: Tasks) -> Self {
        let (follow, views) = OwnerView::follow(mesh.membership(), world.clone());
        tasks.spawn_until_stop("owner-view", follow.run());
        Self { shared: Arc::new(Shared { world, mesh, views, tasks, queues: Mutex::default() }) }
    }

    /// A user's own stream; none when the world does not know the tenant.
    #[must_use]
    pub fn user_stream(&self, tenant: &TenantId, user: &UserId) -> Option<ConversationId> {
        self.shared.world.user_stream_id(tenant, user)
    }

    /// Asks the owner of a shard, and waits for as long as it takes. Dropped, the request is on its
    /// way all the same.
    pub async fn ask(
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
    pub fn send(&self, request: Request) {
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
                open: Pending::new(OPEN_MAX, OPEN_BYTES_MAX),
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
    /// The owner that the last one named.
    hint: Option<NodeId>,
    open: Pending<Respond>,
}

/// Why a stream ended.
enum StreamOver {
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
            let Some(channel) = self.open_stream().await else {
                self.hint = None;
                backoff.pause().await;
                continue;
            };
            let mut has_answered = false;
            match self.drive(channel, &mut requests, &mut has_answered).await {
                StreamOver::Idle => {}
                StreamOver::Broken(hint) => self.hint = hint,
            }
            if has_answered {
                backoff.reset();
            } else {
                backoff.pause().await;
            }
        }
    }

    fn take(&mut self, request: Request) {
        let Request { conversation, actor, command, respond, .. } = request;
        let frame = |rid| ToOwner::Command { rid, actor, conversation, command: command.into() };
        let pushed = self.open.push(conversation, frame, respond, None);
        debug_assert!(pushed.is_ok(), "a request is taken only when there is room");
    }

    /// Opens a stream to the owner, as far as it is known. This node may be the owner, or know it:
    /// after a failover another region serves the shard.
    async fn open_stream(&self) -> Option<Channel> {
        let Shared { mesh, views, .. } = &*self.shared;
        let owner = {
            let view = views.borrow();
            // A hint may name a node that has died meanwhile.
            let is_live = |hint: &&NodeId| *hint == mesh.node() || view.is_alive(hint);
            let hint = self.hint.as_ref().filter(is_live);
            hint.or_else(|| view.owner(&self.shard))?.clone()
        };
        connect::open(mesh, views, &owner, self.shard).await
    }

    /// Sends what is open, then each new request, and takes the answers.
    async fn drive(
        &mut self,
        channel: Channel,
        requests: &mut mpsc::UnboundedReceiver<Request>,
        has_answered: &mut bool,
    ) -> StreamOver {
        let (mut sender, mut receiver) = channel.split();
        self.open.begin_stream();
        if !self.send_open(&mut sender).await {
            return StreamOver::Broken(None);
        }
        let over = loop {
            let wait = if self.open.is_empty() { IDLE_TIMEOUT } else { SILENCE_TIMEOUT };
            tokio::select! {
                received = receive(&mut receiver) => match received {
                    Received::Answer(rid, response) => match self.answered(rid, response) {
                        Taken::Answered => *has_answered = true,
                        Taken::Unasked => {}
                        Taken::SendAgain => break StreamOver::Broken(None),
                    },
                    Received::Other => {}
                    Received::End(owner) => break StreamOver::Broken(owner),
                },
                request = requests.recv(), if !self.open.is_full() => {
                    let Some(request) = request else { break StreamOver::Idle };
                    self.take(request);
                    while !self.open.is_full() && let Ok(request) = requests.try_recv() {
                        self.take(request);
                    }
                    if !self.send_open(&mut sender).await {
                        break StreamOver::Broken(None);
                    }
                }
                () = tokio::time::sleep(wait) => {
                    let is_idle = self.open.is_empty();
                    break if is_idle { StreamOver::Idle } else { StreamOver::Broken(None) };
                }
            }
        };
        // Best effort: the stream is given up.
        let _ = sender.finish().await;
        over
    }

    /// Sends what is not yet sent on this stream. False when it is broken.
    async fn send_open(&mut self, sender: &mut Sender) -> bool {
        while self.open.has_unsent() {
            // An owner that is too old for a request: what follows does not wait for its upgrade.
            for (respond, feature) in
                self.open.refused(FRAMES_PER_FLUSH, |needs| sender.lacks(needs))
            {
                respond(Response::Answered(Err(version::lacking(feature))));
            }
            for frame in self.open.unsent(FRAMES_PER_FLUSH) {
                if sender.feed(frame).await.is_err() {
                    return false;
                }
            }
        }
        sender.flush().await.is_ok()
    }

    fn answered(&mut self, rid: u64, response: Response) -> Taken {
        if !self.open.waits_for(rid) {
            return Taken::Unasked;
        }
        if let Response::Answered(Err(refusal)) = &response
            && refusal.code.is_retryable()
        {
            return Taken::SendAgain;
        }
        // A permanent refusal is an answer too: what follows must not wait for it.
        match self.open.answered(rid) {
            Some(respond) => {
                respond(response);
                Taken::Answered
            }
            None => Taken::Unasked,
        }
    }
}

/// What became of an answer.
enum Taken {
    Answered,
    /// Nobody waits for it.
    Unasked,
    /// It is transient: on the next stream.
    SendAgain,
}

/// What came back.
enum Received {
    Answer(u64, Response),
    /// Nothing that this client has asked for.
    Other,
    /// The stream ends, perhaps naming the owner.
    End(Option<NodeId>),
}

/// Waits for the next frame. Cancel safe.
async fn receive(receiver: &mut Receiver) -> Received {
    let Ok(Some(bytes)) = receiver.recv().await else { return Received::End(None) };
    match FromOwner::from_bytes(&bytes) {
        Ok(FromOwner::Reply { rid, result }) => Received::Answer(rid, Response::Answered(result)),
        Ok(FromOwner::Moved { rid: Some(rid), placement, .. }) => {
            Received::Answer(rid, Response::Moved(placement))
        }
        Ok(FromOwner::End(StreamEnd::NotOwner { owner })) => Received::End(owner),
        Ok(FromOwner::End(StreamEnd::Stopping | StreamEnd::Unknown(_))) => Received::End(None),
        Ok(
            FromOwner::Moved { rid: None, .. }
            | FromOwner::Feed { .. }
            | FromOwner::Lagged { .. }
            | FromOwner::Unsupported { .. }
            | FromOwner::Unknown(_),
        ) => Received::Other,
        Err(error) => {
            tracing::warn!(%error, "malformed frame from a shard owner, reconnecting");
            Received::End(None)
        }
    }
}
