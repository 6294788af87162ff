//! Where a conversation lives, and the way there. From sessions and from HTTP; over the mesh to the
//! core that owns the shard.
//!
//! Nobody is asked for the owner: it follows from the world and from who is alive. One link per
//! shard is opened when it is first needed; it keeps what is not answered and sends it again, in
//! order and unchanged, to whoever owns the shard next.
//!
//! A conversation that has moved is remembered with its new [home](homes); everything of it,
//! requests and interest, goes over to the link of that shard at once, so that nothing passes
//! anything else.

mod fair;
pub(crate) mod homes;
pub(crate) mod link;
mod requests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use conversation::delivery::StartAt;
use mesh::Mesh;
use runtime::Tasks;
use shard_client::OwnerView;
use shard_client::owner_view::Follow;
use tokio::sync::{oneshot, watch};
use topology::World;
use wire::change::Home;
use wire::command::{Actor, Answer, Query, Refusal, UserCommand};
use wire::stream::ToOwner;
use wire::{ConversationId, ErrorCode, NodeId, ShardId};

use crate::delivery::Interest;
use crate::delivery::effects::{Backfill, Effects, Hole};
use crate::delivery::encoder::EventEncoder;
use crate::delivery::recipient::Guard;
use crate::options::Limits;
use crate::session::state::Session;
use homes::Homes;
use link::Link;

/// Pause before a link whose task has panicked runs again.
const LINK_RESTART_BACKOFF: Duration = Duration::from_millis(100);
/// Changes asked for at once to fill a hole.
const HOLE_CHANGES: u16 = 200;

/// A request.
pub(crate) enum Ask {
    /// A command of a user.
    Command(Actor, UserCommand),
    /// A question of a user, or of the edge itself.
    Query(Option<Actor>, Query),
}

/// Takes the answer. It is called once, without any lock held, and must not block.
pub(crate) type Reply = Box<dyn FnOnce(Result<Answer, Refusal>) + Send>;

impl Ask {
    /// In whose name; none: the edge's own.
    fn actor(&self) -> Option<&Actor> {
        match self {
            Self::Command(actor, _) => Some(actor),
            Self::Query(actor, _) => actor.as_ref(),
        }
    }

    fn frame(self, rid: u64, conversation: ConversationId) -> ToOwner {
        match self {
            Self::Command(actor, command) => {
                ToOwner::Command { rid, actor, conversation, command: command.into() }
            }
            Self::Query(actor, query) => ToOwner::Query { rid, actor, conversation, query },
        }
    }
}

/// See the module.
pub(crate) struct Route {
    mesh: Mesh,
    links: Mutex<HashMap<ShardId, Arc<Link>>>,
    placement: watch::Receiver<Arc<OwnerView>>,
    homes: Arc<Homes>,
    /// Held, shared, by who works on a conversation where it is; alone, by who takes it to another
    /// link.
    staying: RwLock<()>,
    world: Arc<World>,
    pub(crate) encoder: EventEncoder,
    limits: Limits,
    /// Starts the backfill of a session. Sessions stand above the route, so it is given later.
    backfill: OnceLock<StartBackfill>,
    tasks: Tasks,
}

/// See [`Route::on_backfill`].
type StartBackfill = Box<dyn Fn(Backfill) + Send + Sync>;

/// State of a link, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// To which shard.
    pub shard: ShardId,
    /// The core at its other end; none while there is none.
    pub owner: Option<NodeId>,
    /// Requests without an answer.
    pub pending: usize,
    /// Conversations watched.
    pub watched: usize,
}

impl Route {
    pub(crate) fn new(
        mesh: Mesh,
        world: Arc<World>,
        limits: Limits,
        tasks: Tasks,
    ) -> (Arc<Self>, Follow) {
        let (follow, placement) = OwnerView::follow(mesh.membership(), world.clone());
        let homes: Arc<Homes> = Arc::default();
        let encoder = EventEncoder::new(world.clone(), homes.clone());
        let (links, staying, backfill) = (Mutex::default(), RwLock::default(), OnceLock::new());
        let route = Self {
            mesh,
            links,
            placement,
            homes,
            staying,
            world,
            encoder,
            limits,
            backfill,
            tasks,
        };
        (Arc::new(route), follow)
    }

    /// What is called, once it is set, when a session needs a backfill. No lock is held then.
    pub(crate) fn on_backfill(&self, start: impl Fn(Backfill) + Send + Sync + 'static) {
        let _ = self.backfill.set(Box::new(start));
    }

    /// Does what a delivery has left to do. Call it without holding any lock.
    pub(crate) fn apply(self: &Arc<Self>, effects: Effects) {
        let Effects { backfills, joins, holes, .. } = effects;
        for (session, conversation, at_ver) in joins {
            let from = StartAt::After(at_ver.saturating_sub(1));
            self.attach(&session, conversation, from, None);
        }
        if let Some(start) = self.backfill.get() {
            backfills.into_iter().for_each(start);
        }
        for hole in holes {
            self.ask_for_hole(hole);
        }
    }

    /// A session is to get the events of a conversation. `guard` is dropped when it does, or may
    /// not.
    pub(crate) fn attach(
        self: &Arc<Self>,
        session: &Arc<Session>,
        conversation: ConversationId,
        from: StartAt,
        guard: Option<Guard>,
    ) {
        let mut effects = Effects::new(self.limits.outbox());
        self.interest(&conversation, |interest| {
            interest.attach(session, conversation, from, guard, &mut effects);
        });
        self.apply(effects);
    }

    fn stay(&self) -> RwLockReadGuard<'_, ()> {
        self.staying.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(self: &Arc<Self>, shard: &ShardId) -> Arc<Link> {
        let mut links = self.links();
        if let Some(link) = links.get(shard) {
            return link.clone();
        }
        let link = Arc::new(Link::new(*shard, self.limits.requests_per_shard));
        links.insert(*shard, link.clone());
        self.tasks.spawn_until_stop("links", keep_running(self.clone(), link.clone()));
        link
    }

    fn links(&self) -> std::sync::MutexGuard<'_, HashMap<ShardId, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the interest among which a conversation is. Not to be called by `work`.
    pub(crate) fn interest<T>(
        self: &Arc<Self>,
        conversation: &ConversationId,
        work: impl FnOnce(&mut Interest) -> T,
    ) -> T {
        let _stays = self.stay();
        self.link(&self.homes.shard_of(conversation)).interest(work)
    }

    /// The owner of a shard says that a conversation is in another. `rid`: what it says so to;
    /// none: a watch has ended.
    pub(crate) fn moved(
        self: &Arc<Self>,
        at: &Link,
        rid: Option<u64>,
        conversation: ConversationId,
        home: Home,
    ) {
        if self.take_over(conversation, home) {
            return;
        }
        // Told before, and then nothing of it is left there; or by an owner who knows less than
        // this edge.
        match rid {
            Some(rid) if rid % 2 == 0 => at.answered(rid, Err(unavailable())),
            Some(rid) => at.interest(|interest| interest.put_off(rid)),
            None => at.interest(|interest| interest.lagged(&conversation)),
        }
    }

    /// Takes all of a conversation to the link of its new home, if that is news.
    fn take_over(self: &Arc<Self>, conversation: ConversationId, home: Home) -> bool {
        let alone = self.staying.write().unwrap_or_else(PoisonError::into_inner);
        let old = self.link(&self.homes.shard_of(&conversation));
        if !self.homes.learn(&self.world, conversation, home) {
            return false;
        }
        tracing::debug!(%conversation, shard = %home.shard, n = home.generation, "the conversation has moved");
        metrics::counter!("hearth_edge_moved_total").increment(1);
        let new = self.link(&home.shard);
        let requests = old.requests().take(&conversation);
        let refused: Vec<_> = {
            let mut taking = new.requests();
            requests.into_iter().filter_map(|request| taking.push_again(request)).collect()
        };
        if let Some(watched) = old.interest(|interest| interest.take(&conversation)) {
            new.interest(|interest| interest.put(conversation, watched));
        }
        new.wake();
        drop(alone);
        for to in refused {
            to(Err(overloaded()));
        }
        true
    }

    /// Sends a request on its way; what it comes to goes to `to`, which is called also when there
    /// is no room.
    pub(crate) fn ask(self: &Arc<Self>, conversation: ConversationId, ask: Ask, to: Reply) {
        let deadline = Instant::now() + self.limits.home_deadline;
        let refused = {
            let _stays = self.stay();
            let link = self.link(&self.homes.shard_of(&conversation));
            let refused = link.requests().push(conversation, ask, to, deadline);
            link.wake();
            refused
        };
        if let Some(to) = refused {
            to(Err(overloaded()));
        }
    }

    /// A command, and its answer. Not cancel safe: a command that was sent may be done whatever
    /// happens to the caller.
    pub(crate) async fn command(
        self: &Arc<Self>,
        conversation: ConversationId,
        actor: Actor,
        command: UserCommand,
    ) -> Result<Answer, Refusal> {
        self.call(conversation, Ask::Command(actor, command)).await
    }

    /// A question, and its answer; in the name of a user or of the edge itself.
    pub(crate) async fn query(
        self: &Arc<Self>,
        conversation: ConversationId,
        actor: Option<Actor>,
        query: Query,
    ) -> Result<Answer, Refusal> {
        self.call(conversation, Ask::Query(actor, query)).await
    }

    async fn call(
        self: &Arc<Self>,
        conversation: ConversationId,
        ask: Ask,
    ) -> Result<Answer, Refusal> {
        let (sender, receiver) = oneshot::channel();
        // Perhaps nobody waits any more.
        self.ask(conversation, ask, Box::new(|result| drop(sender.send(result))));
        receiver.await.unwrap_or_else(|_| {
            Err(Refusal::new(ErrorCode::HomeUnavailable, "this edge is stopping"))
        })
    }

    /// Changes after `ver` that the feed has left out.
    fn ask_for_hole(self: &Arc<Self>, hole: Hole) {
        let query = Query::Changes { after_ver: hole.after_ver, limit: HOLE_CHANGES };
        // The route keeps what is not answered, so the answer must not keep the route.
        let route = Arc::downgrade(self);
        let reply = Box::new(move |result| {
            if let Some(route) = route.upgrade() {
                route.hole_answered(hole, result);
            }
        });
        self.ask(hole.conversation, Ask::Query(None, query), reply);
    }

    fn hole_answered(self: &Arc<Self>, hole: Hole, result: Result<Answer, Refusal>) {
        let changes = match result {
            Ok(Answer::Changes { changes, .. }) => changes,
            Ok(_) | Err(_) => Vec::new(),
        };
        let mut effects = Effects::new(self.limits.outbox());
        self.interest(&hole.conversation, |interest| {
            interest.hole_answered(hole, changes, &self.encoder, &mut effects);
        });
        self.apply(effects);
    }

    /// Once a second: what was given up, and what is tried again.
    pub(crate) fn tick(self: &Arc<Self>, linger: std::time::Duration) {
        let now = Instant::now();
        let links: Vec<_> = self.links().values().cloned().collect();
        for link in links {
            link.interest(|interest| interest.tick(now, linger));
        }
        if self.homes.len() > homes::KEPT_MAX {
            let _alone = self.staying.write().unwrap_or_else(PoisonError::into_inner);
            self.homes.tidy(|conversation, shard| {
                self.link(shard).interest(|interest| interest.has(conversation))
            });
        }
    }

    /// How many links there are.
    pub(crate) fn len(&self) -> usize {
        self.links().len()
    }

    /// All links.
    pub(crate) fn status(&self) -> Vec<LinkStatus> {
        let mut status: Vec<_> = self.links().values().map(|link| link.status()).collect();
        status.sort_by_key(|status| status.shard);
        status
    }
}

/// Runs a link for ever. A panic of its task is reported; what waits there is served by the next
/// one.
async fn keep_running(route: Arc<Route>, link: Arc<Link>) {
    loop {
        let (mesh, placement) = (route.mesh.clone(), route.placement.clone());
        let run = link::run(route.clone(), link.clone(), mesh, placement);
        // Cut off only by the runtime's own end: the task does not end by itself.
        let _ = route.tasks.spawn_until_stop("link", run).await;
        tokio::time::sleep(LINK_RESTART_BACKOFF).await;
        tracing::warn!("the task of a link to a shard owner ended, starting it again");
    }
}

/// For requests whose home did not answer in time.
fn unavailable() -> Refusal {
    let refusal = Refusal::new(
        ErrorCode::HomeUnavailable,
        "the home of the conversation does not answer; try again",
    );
    Refusal { retry_after_ms: Some(1_000), ..refusal }
}

fn overloaded() -> Refusal {
    metrics::counter!("hearth_edge_overloaded_total").increment(1);
    let refusal = Refusal::new(
        ErrorCode::Overloaded,
        "too many requests wait for the home of this conversation",
    );
    Refusal { retry_after_ms: Some(500), ..refusal }
}
