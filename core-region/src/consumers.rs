//! What follows the committed log of a shard: notes to inboxes today; push, search, hooks, audit
//! and archive later. A consumer is one type with one method. Its [`runner`] owns all the rest: the
//! place in the log, the bounded window, the durable cursor, retries, metrics.
//!
//! Effects happen at least once, in slot order a shard; a consumer makes them idempotent. A
//! consumer that is slow, fails or panics lags, and its lag is a metric. It never delays a commit:
//! the owner publishes into a ring and goes on. The core names no consumer; whoever assembles it
//! hands over a [`Consumers`].

pub(crate) mod inbox_notifier;
pub(crate) mod runner;

use std::sync::Arc;

use async_trait::async_trait;
use conversation::log::LogFrame;
use futures_util::future::BoxFuture;
use store::{Store, StoreError};
use wire::command::{Actor, Answer, MeshCommand, Refusal};
use wire::{ConversationId, ShardId, Slot, TenantId, UserId};

use crate::owner::projector::Projected;
use shard_client::{Request, Response, ShardClient};

/// Follows the committed log of one shard during one term of its owner.
#[async_trait]
pub trait Consumer: Send {
    /// The name of its cursor and its metrics. It never changes: the cursor is durable.
    fn name(&self) -> &'static str;

    /// Takes one committed frame; frames come in slot order. While this future waits, no later
    /// frame comes. A [`Done::When`] may be outstanding meanwhile, for a bounded number of frames.
    ///
    /// # Errors
    /// The consumer stands still at this frame: it is dropped, and a new one gets the frame again
    /// after a pause.
    async fn frame(
        &mut self,
        frame: Arc<LogFrame>,
        context: &ConsumerContext,
    ) -> Result<Done, ConsumerError>;
}

/// When the work for a frame is done, so that the cursor may pass it.
pub enum Done {
    /// It is.
    Now,
    /// When this resolves. An error is one of the frame.
    When(BoxFuture<'static, Result<(), ConsumerError>>),
}

/// Why a consumer cannot pass a frame now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConsumerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Failed(String),
}

/// What a consumer works with.
#[derive(Clone)]
pub struct ConsumerContext {
    pub(crate) shard: ShardId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) projected: Projected,
    pub(crate) shard_client: ShardClient,
}

impl ConsumerContext {
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Waits until the frame in this slot is projected. Returns too when the term is over: then
    /// nothing that follows counts.
    pub async fn projected(&self, slot: Slot) {
        let _ = self.projected.clone().reach(slot.next()).await;
    }

    /// A user's own stream; none when the world does not know the tenant.
    #[must_use]
    pub fn user_stream(&self, tenant: &TenantId, user: &UserId) -> Option<ConversationId> {
        self.shard_client.user_stream(tenant, user)
    }

    /// Sends a command to the owner of its conversation, at once. The future resolves with the
    /// answer, for as long as it takes; requests to one shard arrive in the order of these calls.
    pub fn ask(
        &self,
        conversation: ConversationId,
        actor: Actor,
        command: MeshCommand,
    ) -> impl Future<Output = Result<Answer, Refusal>> + Send + use<> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let respond = Box::new(move |response| {
            // The consumer may be gone.
            let _ = answer.send(response);
        });
        let shard = conversation.shard;
        self.shard_client.send(Request { shard, conversation, actor, command, respond });
        async move {
            match answered.await {
                Ok(Response::Answered(answer)) => answer,
                Ok(Response::Moved(_)) => Err(Refusal::new(
                    wire::ErrorCode::HomeUnavailable,
                    "the conversation is in another shard",
                )),
                // The core stops.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

type Make = Arc<dyn Fn() -> Box<dyn Consumer> + Send + Sync>;

/// The consumers of a core. Each owner task runs all of them.
#[derive(Clone, Default)]
pub struct Consumers {
    makes: Vec<Make>,
}

impl Consumers {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. `make` is called for each shard and term, and after each failure.
    #[must_use]
    pub fn with<C: Consumer + 'static>(
        mut self,
        make: impl Fn() -> C + Send + Sync + 'static,
    ) -> Self {
        self.makes.push(Arc::new(move || Box::new(make())));
        self
    }
}
