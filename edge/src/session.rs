//! One client connection, from its upgrade to its close. From the [gate](crate::gate); to the
//! [route](crate::route) with what the client asks, and from the [delivery](crate::delivery) with
//! what it gets.
//!
//! A session is one task. It is small while idle: a parser, a 512-byte buffer, a handle; what a
//! start, a catch-up or a close needs is allocated for that time only. It never waits for a home:
//! answers come back through its outbox. It must never drop a message: what the outbox cannot take
//! becomes a mark from which the [backfill](crate::backfill) goes on.

pub(crate) mod encoded;
pub(crate) mod frame;
pub(crate) mod outbox;
pub(crate) mod registry;
pub(crate) mod requests;
mod start;
pub(crate) mod state;

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::backfill;
use crate::rates::Place;
use crate::shared::Shared;
use state::Session;

/// What a session that is about to be holds.
pub(crate) struct Starting {
    /// To be among those that start.
    pub(crate) permit: OwnedSemaphorePermit,
    /// Among those of its user.
    pub(crate) place: Place,
}

/// Begins a session: its events come, and `hello` waits in its outbox.
pub(crate) async fn begin(shared: &Arc<Shared>, session: &Arc<Session>, starting: Box<Starting>) {
    shared.sessions.insert(session);
    let Starting { permit, place } = *starting;
    place.keep();
    start::start(shared, session, permit).await;
}

/// Ends a session: nothing more reaches it.
pub(crate) fn end(shared: &Shared, session: &Session) {
    shared.sessions.remove(session);
    shared.places.leave(&session.actor);
    session.outbox.end();
    backfill::end(session);
    detach(shared, session);
}

fn detach(shared: &Shared, session: &Session) {
    for conversation in session.end_attached() {
        shared.route.interest(&conversation, |interest| interest.detach(&conversation));
    }
}
