//! Where a conversation lives, and the way there. From sessions and from HTTP; over the mesh to the core that owns the
//! shard.
//!
//! Nobody is asked for the owner: it follows from the world and from who is alive. One link per shard is opened when it is
//! first needed; it keeps what is not answered and sends it again, in order and unchanged, to whoever owns the shard next.
//!
//! A conversation that has moved is remembered with its new [home](homes); everything of it, requests and interest, goes over
//! to the link of that shard at once, so that nothing passes anything else.

pub(crate) mod homes;
pub(crate) mod link;
mod owner_view;
pub(crate) mod pending;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Instant;

use mesh::Mesh;
use tokio::sync::{oneshot, watch};
use wire::change::Home;
use wire::command::{Actor, Answer, Query, Refusal, UserCommand};
use wire::{ConversationId, ErrorCode, NodeId, ShardId};

use crate::shared::Shared;
use crate::subscriptions::Interest;
use homes::Homes;
use link::Link;
use owner_view::OwnerView;
use pending::{Ask, ReplyTo, unavailable};

/// Changes asked for at once to fill a hole.
const HOLE_CHANGES: u16 = 200;

/// See the module.
pub(crate) struct Route {
    mesh: Mesh,
    links: Mutex<HashMap<ShardId, Arc<Link>>>,
    placement: watch::Receiver<Arc<OwnerView>>,
    homes: Arc<Homes>,
    /// Held, shared, by who works on a conversation where it is; alone, by who takes it to another link.
    staying: RwLock<()>,
    shared: OnceLock<Weak<Shared>>,
}

/// How a link stands, for operators.
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
    pub(crate) fn new(mesh: Mesh, world: &Arc<topology::World>) -> (Self, owner_view::Follow) {
        let (follow, placement) = OwnerView::follow(mesh.membership(), world.clone());
        let (homes, staying) = (Arc::default(), RwLock::default());
        (
            Self {
                mesh,
                links: Mutex::default(),
                placement,
                homes,
                staying,
                shared: OnceLock::new(),
            },
            follow,
        )
    }

    /// Links run with what the edge shares; it is known only after the route.
    pub(crate) fn bind(&self, shared: &Arc<Shared>) {
        let _ = self.shared.set(Arc::downgrade(shared));
    }

    /// Where the conversations are that have moved.
    pub(crate) fn homes(&self) -> Arc<Homes> {
        self.homes.clone()
    }

    fn stay(&self) -> RwLockReadGuard<'_, ()> {
        self.staying.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, shard: &ShardId) -> Arc<Link> {
        let mut links = self.links();
        if let Some(link) = links.get(shard) {
            return link.clone();
        }
        let link = Arc::new(Link::new(*shard));
        links.insert(*shard, link.clone());
        if let Some(shared) = self.shared.get().and_then(Weak::upgrade) {
            let (mesh, placement) = (self.mesh.clone(), self.placement.clone());
            shared.spawn_until_stop(link::run(shared.clone(), link.clone(), mesh, placement));
        }
        link
    }

    fn links(&self) -> std::sync::MutexGuard<'_, HashMap<ShardId, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the interest among which a conversation is. Not to be called by `work`.
    pub(crate) fn interest<T>(
        &self,
        conversation: &ConversationId,
        work: impl FnOnce(&mut Interest) -> T,
    ) -> T {
        let _stays = self.stay();
        self.link(&self.homes.shard_of(conversation)).interest(work)
    }

    /// The owner of a shard says that a conversation is in another. `rid`: what it says so to; none: a watch has ended.
    pub(crate) fn moved(
        &self,
        shared: &Arc<Shared>,
        at: &Link,
        rid: Option<u64>,
        conversation: ConversationId,
        home: Home,
    ) {
        if self.take_over(shared, conversation, home) {
            return;
        }
        // Told before, and then nothing of it is left there; or by an owner who knows less than this edge.
        match rid {
            Some(rid) if rid % 2 == 0 => {
                let to = at.pending().answered(rid);
                if let Some(to) = to {
                    to.reply(shared, Err(unavailable()));
                }
            }
            Some(rid) => at.interest(|interest| interest.put_off(rid)),
            None => at.interest(|interest| interest.lagged(&conversation)),
        }
    }

    /// Takes all of a conversation to the link of its new home, if that is news.
    fn take_over(&self, shared: &Arc<Shared>, conversation: ConversationId, home: Home) -> bool {
        let alone = self.staying.write().unwrap_or_else(PoisonError::into_inner);
        let old = self.link(&self.homes.shard_of(&conversation));
        if !self.homes.learn(&shared.world, conversation, home) {
            return false;
        }
        tracing::debug!(%conversation, shard = %home.shard, n = home.generation, "the conversation has moved");
        metrics::counter!("hearth_edge_moved_total").increment(1);
        let new = self.link(&home.shard);
        let requests = old.pending().take(&conversation);
        let most = shared.limits.requests_per_shard;
        let refused: Vec<_> = {
            let mut pending = new.pending();
            requests
                .into_iter()
                .filter_map(|request| pending.push_again(request, most).err())
                .collect()
        };
        if let Some(watched) = old.interest(|interest| interest.take(&conversation)) {
            new.interest(|interest| interest.put(conversation, watched));
        }
        new.wake();
        drop(alone);
        for to in refused {
            to.reply(shared, Err(overloaded()));
        }
        true
    }

    /// Sends a request on its way; what it comes to goes to `to`, which is called also when there is no room.
    pub(crate) fn ask(&self, conversation: ConversationId, ask: Ask, to: ReplyTo) {
        let Some(shared) = self.shared.get().and_then(Weak::upgrade) else { return };
        let deadline = Instant::now() + shared.limits.home_deadline;
        let refused = {
            let _stays = self.stay();
            let link = self.link(&self.homes.shard_of(&conversation));
            let pushed = link.pending().push(
                conversation,
                ask,
                to,
                deadline,
                shared.limits.requests_per_shard,
            );
            link.wake();
            pushed.err()
        };
        if let Some(to) = refused {
            to.reply(&shared, Err(overloaded()));
        }
    }

    /// A command, and its answer. Not cancel safe: a command that was sent may be done whatever happens to the caller.
    pub(crate) async fn command(
        &self,
        conversation: ConversationId,
        actor: Actor,
        command: UserCommand,
    ) -> Result<Answer, Refusal> {
        self.call(conversation, Ask::Command(actor, command)).await
    }

    /// A question, and its answer; in the name of a user or of the edge itself.
    pub(crate) async fn query(
        &self,
        conversation: ConversationId,
        actor: Option<Actor>,
        query: Query,
    ) -> Result<Answer, Refusal> {
        self.call(conversation, Ask::Query(actor, query)).await
    }

    async fn call(&self, conversation: ConversationId, ask: Ask) -> Result<Answer, Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.ask(conversation, ask, ReplyTo::Caller(sender));
        receiver.await.unwrap_or_else(|_| {
            Err(Refusal::new(ErrorCode::HomeUnavailable, "this edge is stopping"))
        })
    }

    /// Changes after `ver` that the feed has left out.
    pub(crate) fn ask_for_hole(&self, conversation: ConversationId, after_ver: u64) {
        let query = Query::Changes { after_ver, limit: HOLE_CHANGES };
        self.ask(conversation, Ask::Query(None, query), ReplyTo::Hole(conversation));
    }

    /// Once a second: what was given up, and what is tried again.
    pub(crate) fn tick(&self, linger: std::time::Duration) {
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

fn overloaded() -> Refusal {
    metrics::counter!("hearth_edge_overloaded_total").increment(1);
    let refusal = Refusal::new(
        ErrorCode::Overloaded,
        "too many requests wait for the home of this conversation",
    );
    Refusal { retry_after_ms: Some(500), ..refusal }
}
