//! A session, as the rules of delivery see it.

use std::sync::Arc;

use conversation::delivery::{Outboxes, Pushed, Subscriber, SubscriberId};
use tokio::sync::mpsc;
use wire::UserId;

use super::effects::Effects;
use super::encoder::EncodedEvent;
use crate::session::state::Session;

/// Held by everything that a starting session waits for. It is dropped when the owner has answered.
pub(crate) type Guard = mpsc::Sender<std::convert::Infallible>;

#[derive(Clone)]
pub(crate) struct Recipient {
    pub(super) session: Arc<Session>,
    guard: Option<Guard>,
}

impl Recipient {
    pub(super) fn new(session: Arc<Session>, guard: Option<Guard>) -> Self {
        Self { session, guard }
    }
}

impl Subscriber for Recipient {
    fn id(&self) -> SubscriberId {
        self.session.id()
    }

    fn user(&self) -> &UserId {
        &self.session.actor.user
    }

    fn has_ended(&self) -> bool {
        self.session.outbox.is_closed()
    }

    fn answered(&mut self) {
        self.guard = None;
    }
}

impl Outboxes<Recipient, EncodedEvent> for Effects {
    fn push(&mut self, to: &Recipient, event: &EncodedEvent) -> Pushed {
        event.send(&to.session, self)
    }
}
