//! The first moments of a session: which conversations are its user's, the wish to get their
//! events, and `hello`.
//!
//! `hello` waits until all of them are watched, so that from there on nothing is missed. A home
//! that does not answer in time is not waited for: its conversations are attached as soon as it
//! does.

use std::sync::Arc;
use std::time::Duration;

use conversation::delivery::{Settling, StartAt};
use runtime::clock::unix_ms;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use wire::client::event::{Hello, HelloLimits};
use wire::command::{Answer, InboxLine, Query, Refusal};
use wire::{ConversationId, limits};

use super::encoded::Encoded;
use super::frame;
use super::state::{Session, random_id};
use crate::delivery::recipient::Guard;
use crate::shared::Shared;

/// Pause before a user's own stream is asked again after it has failed to answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Attaches the session and puts `hello` into its outbox. `permit` lets it be among those that
/// start.
pub(super) async fn start(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    permit: OwnedSemaphorePermit,
) {
    session.outbox.settle(|settling| *settling = Settling::begin());
    let (guard, mut attached) = mpsc::channel(1);
    let (shared_of_task, session_of_task) = (shared.clone(), session.clone());
    shared.tasks.spawn_until_stop("attach", attach(shared_of_task, session_of_task, guard));
    // Nothing is ever sent: it ends when the last guard is dropped.
    let attached = shared.stop.run_until_cancelled(attached.recv());
    if tokio::time::timeout(shared.limits.hello_wait, attached).await.is_err() {
        metrics::counter!("hearth_edge_late_attaches_total").increment(1);
        tracing::info!(session = session.number, "hello goes out before all homes have answered");
    }
    session.outbox.answer(hello(shared, session));
    drop(permit);
}

/// Attaches the user's own stream and every conversation that it names, however long that takes.
async fn attach(shared: Arc<Shared>, session: Arc<Session>, guard: Guard) {
    let actor = &session.actor;
    let Some(own) = shared.world.user_stream_id(&actor.tenant, &actor.user) else { return };
    let mut after = None;
    let mut is_first = true;
    while !session.outbox.is_closed() {
        match page(&shared, &session, own, after).await {
            Ok((lines, next, head_ver)) => {
                if std::mem::take(&mut is_first) {
                    shared.route.attach(&session, own, StartAt::After(head_ver), None);
                }
                for line in lines {
                    let from = StartAt::Now { at_ver: line.at_ver };
                    shared.route.attach(&session, line.conversation, from, Some(guard.clone()));
                }
                if next.is_none() {
                    return;
                }
                after = next;
            }
            Err(refusal) if refusal.code.is_retryable() => tokio::time::sleep(PAUSE).await,
            Err(refusal) => {
                tracing::error!(session = session.number, code = %refusal.code, "the user's own stream cannot be read");
                return;
            }
        }
    }
}

type Page = (Vec<InboxLine>, Option<ConversationId>, u64);

async fn page(
    shared: &Shared,
    session: &Session,
    own: ConversationId,
    after: Option<ConversationId>,
) -> Result<Page, Refusal> {
    match shared
        .route
        .query(own, Some(session.actor.clone()), Query::Inbox { after, limit: 0 })
        .await?
    {
        Answer::Inbox { lines, next, head_ver } => Ok((lines, next, head_ver)),
        _ => Err(frame::internal()),
    }
}

fn hello(shared: &Shared, session: &Session) -> Encoded {
    let actor = &session.actor;
    let hello = Hello {
        session_id: format!("ses_{}", random_id()),
        user_id: actor.user.to_string(),
        tenant: actor.tenant.to_string(),
        device_id: actor.device.as_ref().map(ToString::to_string).unwrap_or_default(),
        region: shared.region_name.clone(),
        edge: shared.node.to_string(),
        server_time_ms: unix_ms(),
        heartbeat_ms: u64::try_from(shared.limits.heartbeat.as_millis()).unwrap_or(u64::MAX),
        resume: format!("rsm_{}", random_id()),
        limits: HelloLimits {
            frame_bytes: limits::FRAME_BYTES as u64,
            body_bytes: limits::BODY_BYTES as u64,
        },
    };
    frame::notice("hello", None, hello)
}
