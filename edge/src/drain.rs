//! An edge that goes away sends its clients elsewhere, one after the other, so that the others do
//! not get all of them at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::time::Instant;
use wire::client::close;
use wire::client::event::GoawayPayload;

use crate::gate::residency;
use crate::session::frame;
use crate::session::outbox::Close;
use crate::session::state::Session;
use crate::shared::Shared;

/// A session lives so much longer than its slot: a client may first open the new session and then
/// leave this one.
const GRACE: Duration = Duration::from_millis(500);
/// And so much longer while a message of its client is not acknowledged.
const UNANSWERED: Duration = Duration::from_secs(2);
/// How often it is looked at then.
const LOOK: Duration = Duration::from_millis(20);

/// What sessions are told at the end.
const GOING_AWAY: Close = Close { code: close::GOING_AWAY, reason: "this edge goes away" };

/// Refuses whoever comes; tells every session its slot within `window`, and closes it after that.
/// Returns when all have ended. Cancel safe: the edge stays as it is then, refusing.
pub(crate) async fn drain(shared: &Arc<Shared>, window: Duration) {
    shared.draining.store(true, Ordering::Relaxed);
    let mut sessions = shared.sessions.all();
    sessions.shuffle(&mut rand::rng());
    tracing::info!(sessions = sessions.len(), ?window, "draining");
    let started = Instant::now();
    let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
    let slot = |n: usize| window / count * u32::try_from(n).unwrap_or(u32::MAX);
    for (n, session) in sessions.iter().enumerate() {
        session.outbox.answer(goaway(shared, session, slot(n)));
    }
    for (n, session) in sessions.iter().enumerate() {
        let end = started + slot(n) + GRACE;
        tokio::time::sleep_until(end).await;
        while session.requests() > 0 && end.elapsed() < UNANSWERED && !session.outbox.is_closed() {
            tokio::time::sleep(LOOK).await;
        }
        session.outbox.close(GOING_AWAY);
    }
    // Sessions whose upgrade was under way.
    while shared.sessions.len() > 0 {
        for session in shared.sessions.all() {
            session.outbox.close(GOING_AWAY);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells every session that the edge goes away now, and closes it.
pub(crate) fn close_all(shared: &Shared) {
    for session in shared.sessions.all() {
        if session.outbox.closing().is_none() {
            session.outbox.answer(goaway(shared, &session, Duration::ZERO));
        }
        session.outbox.close(GOING_AWAY);
    }
}

fn goaway(shared: &Shared, session: &Session, slot: Duration) -> crate::session::encoded::Encoded {
    let payload = GoawayPayload {
        reconnect_after_ms: u64::try_from(slot.as_millis()).unwrap_or(u64::MAX),
        alternatives: residency::alternatives(shared, &session.actor.tenant),
        reason: "draining".into(),
    };
    frame::notice("goaway", None, payload)
}
