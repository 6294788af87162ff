//! What all parts of one edge share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use topology::World;
use wire::command::Refusal;
use wire::{ConversationId, ConversationKind, ErrorCode, NodeId, TenantId};

use crate::fanout::{Effects, Printer};
use crate::options::{EdgeUrls, Limits};
use crate::route::Route;
use crate::session::registry::Registry;
use crate::session::{Session, catch_up};
use crate::subscriptions::{From, Guard};

/// See the module.
pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) region_name: String,
    pub(crate) world: Arc<World>,
    pub(crate) public_url: String,
    verifier: RwLock<Arc<auth::Verifier>>,
    pub(crate) edges: EdgeUrls,
    pub(crate) limits: Limits,
    pub(crate) route: Route,
    pub(crate) printer: Printer,
    pub(crate) sessions: Registry,
    pub(crate) starting: Arc<Places>,
    /// Numbers sessions.
    pub(crate) sessions_begun: AtomicU64,
    /// No new sessions, and no requests.
    pub(crate) draining: AtomicBool,
    started: Instant,
    /// Everything that this edge has spawned.
    pub(crate) tasks: TaskTracker,
    /// Ends all of it.
    pub(crate) stop: CancellationToken,
}

impl Shared {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        node: NodeId,
        world: Arc<World>,
        public_url: String,
        verifier: Arc<auth::Verifier>,
        edges: EdgeUrls,
        limits: Limits,
        route: Route,
    ) -> Self {
        Self {
            region_name: world.region_name(node.region),
            node,
            printer: Printer::new(world.clone(), route.homes()),
            world,
            public_url,
            verifier: RwLock::new(verifier),
            edges,
            starting: Places::new(limits.starting),
            sessions: Registry::default(),
            sessions_begun: AtomicU64::new(0),
            limits,
            route,
            draining: AtomicBool::new(false),
            started: Instant::now(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Whom this edge believes now.
    pub(crate) fn verifier(&self) -> Arc<auth::Verifier> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn believe(&self, verifier: Arc<auth::Verifier>) {
        *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = verifier;
    }

    /// Milliseconds on this edge's own clock, never 0.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Spawns what is dropped where it stands when the edge stops. What has a goodbye to say is spawned on `tasks` itself.
    pub(crate) fn spawn_until_stop(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Whether the edge goes away.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether a conversation that a user has named can be one of his tenant's: what fails here is never asked of a home.
    ///
    /// # Errors
    /// `not_found`, as for everything that is not in the tenant.
    pub(crate) fn admits(
        &self,
        tenant: &TenantId,
        conversation: &ConversationId,
    ) -> Result<(), Refusal> {
        let zone = self.world.tenant(tenant).map(|tenant| tenant.zone);
        let fits = zone == Some(conversation.shard.zone)
            && self.world.has_shard(&conversation.shard)
            && conversation.kind != ConversationKind::User;
        if fits { Ok(()) } else { Err(Refusal::new(ErrorCode::NotFound, "no such conversation")) }
    }

    /// A session is to get the events of a conversation. `guard` is dropped when it does, or may not.
    pub(crate) fn attach(
        self: &Arc<Self>,
        session: &Arc<Session>,
        conversation: ConversationId,
        from: From,
        guard: Option<Guard>,
    ) {
        let order = self.route.interest(&conversation, |interest| {
            interest.attach(session, conversation, from, guard)
        });
        if let Some(order) = order {
            catch_up::order(self, session, order);
        }
    }

    /// Does what a fan-out has left to do. Call it without holding any lock.
    pub(crate) fn apply(self: &Arc<Self>, effects: Effects) {
        if effects.is_empty() {
            return;
        }
        let Effects { behind, joins, holes, .. } = effects;
        for (session, conversation, at_ver) in joins {
            self.attach(&session, conversation, From::Ver(at_ver.saturating_sub(1)), None);
        }
        for (session, order) in behind {
            catch_up::order(self, &session, order);
        }
        for (conversation, after_ver) in holes {
            self.route.ask_for_hole(conversation, after_ver);
        }
    }
}

/// Wall clock, milliseconds since 1970: for tokens and for people.
pub(crate) fn wall_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A bounded number of places.
pub(crate) struct Places {
    taken: AtomicUsize,
    most: usize,
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), most })
    }

    /// A place, given back when it is dropped; none when all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Held> {
        let take = |taken| (taken < self.most).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
            .then(|| Held(self.clone()))
    }
}

/// See [`Places::take`].
pub(crate) struct Held(Arc<Places>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
