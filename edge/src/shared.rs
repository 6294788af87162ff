//! What all parts of one edge share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use runtime::Tasks;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use topology::World;
use wire::command::Refusal;
use wire::{ConversationId, ConversationKind, ErrorCode, NodeId, TenantId};

use crate::gate::spent::SpentTokens;
use crate::memory::Budget;
use crate::options::{EdgeUrls, Limits, Origins};
use crate::rates::{Places, Rates};
use crate::route::Route;
use crate::session::registry::Registry;
use crate::session::state::TOKEN_WITHDRAWN;

/// See the module.
pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) region_name: String,
    pub(crate) world: Arc<World>,
    pub(crate) public_url: String,
    verifier: RwLock<Arc<auth::Verifier>>,
    pub(crate) edges: EdgeUrls,
    /// The web pages that may use this edge.
    pub(crate) origins: Origins,
    pub(crate) limits: Limits,
    pub(crate) route: Arc<Route>,
    pub(crate) sessions: Registry,
    /// How much its users may ask.
    pub(crate) rates: Rates,
    /// The memory for pages of history.
    pub(crate) memory: Budget,
    /// How many sessions each user has.
    pub(crate) places: Arc<Places>,
    /// One permit a session between its upgrade and `hello`.
    pub(crate) starting: Arc<Semaphore>,
    /// The stream tokens that have opened a session, while they last.
    pub(crate) spent: SpentTokens,
    /// Numbers sessions.
    pub(crate) sessions_begun: AtomicU64,
    /// No new sessions, and no requests.
    pub(crate) draining: AtomicBool,
    started: Instant,
    /// Everything that this edge has spawned.
    pub(crate) tasks: Tasks,
    /// Of these, the backfills.
    pub(crate) backfills: TaskTracker,
    /// Cancelled when all of it is to end.
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
        origins: Origins,
        limits: Limits,
        route: Arc<Route>,
        tasks: Tasks,
    ) -> Self {
        Self {
            region_name: world.region_name(node.region),
            rates: Rates::new(&world),
            places: Arc::default(),
            spent: SpentTokens::default(),
            memory: Budget::new(limits.page_memory_bytes),
            node,
            world,
            public_url,
            verifier: RwLock::new(verifier),
            edges,
            origins,
            starting: Arc::new(Semaphore::new(limits.starting)),
            sessions: Registry::default(),
            sessions_begun: AtomicU64::new(0),
            limits,
            route,
            draining: AtomicBool::new(false),
            started: Instant::now(),
            stop: tasks.stopping(),
            tasks,
            backfills: TaskTracker::new(),
        }
    }

    /// Whom this edge believes now.
    pub(crate) fn verifier(&self) -> Arc<auth::Verifier> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn believe(&self, verifier: Arc<auth::Verifier>) {
        *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = verifier.clone();
        for session in self.sessions.all() {
            if !verifier.trusts(session.signed_by) {
                session.outbox.close(TOKEN_WITHDRAWN);
            }
        }
    }

    /// Milliseconds on this edge's own clock, never 0.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Whether the edge goes away.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether a conversation that a user has named can belong to their tenant. An id that
    /// fails here is never asked of a home.
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
}
