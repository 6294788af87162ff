//! Brings a session to where a conversation is, from history, in order and at the client's pace:
//! after a `sync`, after its outbox was full, and when it joins a conversation that others here
//! were served beyond.
//!
//! While that lasts, the session is off the live events of that conversation. Two steps: messages
//! by `seq`, up to where the session was paused (only for a `sync`); then changes by `ver`, until
//! what is missing is at hand in the [delivery](crate::delivery), where it rejoins. So there is
//! neither a hole nor a double.
//!
//! One task per session, and only while there is something to do.

mod job;
mod page;
pub(crate) mod requests;
mod runner;

use std::sync::Arc;

use crate::delivery::effects::Backfill;
use crate::session::state::Session;
use crate::shared::Shared;
use requests::BackfillRequest;

/// How many other frames a `sync` of so many conversations weighs, among those of a session that
/// are not answered: each of them may become an answer of its own.
pub(crate) fn weight(conversations: usize) -> u32 {
    1 + u32::try_from(conversations / 64).unwrap_or(u32::MAX / 2)
}

/// The session has ended.
pub(crate) fn end(session: &Session) {
    session.backfill.end();
}

/// Adds a request, and starts the task when there is none.
pub(crate) fn request(shared: &Arc<Shared>, session: &Arc<Session>, request: BackfillRequest) {
    if session.backfill.push(request) {
        let run = runner::run(shared.clone(), session.clone());
        shared.tasks.spawn_until_stop("backfill", shared.backfills.track_future(run));
    }
}

/// Delivery has taken a session off the live events of a conversation.
pub(crate) fn needed(shared: &Arc<Shared>, needed: Backfill) {
    let Backfill { session, conversation, have, slow } = needed;
    request(shared, &session, BackfillRequest::Behind { conversation, have, slow });
}
