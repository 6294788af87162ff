//! What the store remembers of a send that the conversation's own memory does not know. A request
//! in doubt waits in its queue until the answer is there, and holds.

use std::sync::Arc;

use conversation::dedupe::Seen;
use conversation::shard::Starts;
use store::{Store, StoreError};
use wire::change::Event;
use wire::command::{Command, UserCommand};
use wire::{ClientMsgId, ConversationId, UserId};

use super::cache::CacheSlot;
use super::entry::Entry;
use super::load::{Fetch, Fetched};
use crate::owner::input::{Ask, Input};
use crate::retry::retry_forever;

/// Lookups under way ahead of their request's turn. The others are asked for when it comes.
const LOOKUPS_MAX: usize = 1_024;

/// What is known of a send from the store.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lookup {
    Unasked,
    Asked,
    /// What counts of the answer, and how many of the conversation's changes were projected when it
    /// was asked for.
    Known {
        seen: Option<Seen>,
        projected_then: u64,
    },
    /// The store cannot say, now or later.
    Failed,
}

/// A request that waits.
pub(super) struct QueuedRequest {
    pub(super) input: Input,
    pub(super) lookup: Lookup,
}

impl QueuedRequest {
    pub(super) fn new(input: Input) -> Self {
        Self { input, lookup: Lookup::Unasked }
    }

    /// As it is, with nothing known from the store.
    pub(super) fn unasked(self) -> Self {
        Self::new(self.input)
    }
}

/// An answer of the store.
pub(super) struct LookedUp {
    pub(super) id: ConversationId,
    ticket: u64,
    projected_then: u64,
    seen: Result<Option<Seen>, StoreError>,
}

/// The lookups of one term.
pub(super) struct DedupeLookups {
    store: Arc<dyn Store>,
    under_way: usize,
}

impl DedupeLookups {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, under_way: 0 }
    }

    /// Asks the store about the send with this ticket, if its turn will need it and the answer will
    /// hold.
    pub(super) fn ask(
        &mut self,
        id: ConversationId,
        slot: &mut CacheSlot,
        ticket: u64,
    ) -> Option<Fetch> {
        let entry = slot.entry.as_ref()?;
        let projected_then = entry.projected();
        // The first of a queue is always asked for: nothing else would bring it forward.
        let is_due = ticket == slot.queue.head_ticket() || self.under_way < LOOKUPS_MAX;
        let queued = slot.queue.get_mut(ticket)?;
        if !entry.covers_since(projected_then)
            || !is_due
            || !matches!(queued.lookup, Lookup::Unasked)
        {
            return None;
        }
        let (sender, client_msg_id) = in_doubt(entry, &queued.input.ask)?;
        let (sender, client_msg_id) = (sender.clone(), client_msg_id.clone());
        queued.lookup = Lookup::Asked;
        self.under_way += 1;
        let store = self.store.clone();
        Some(Box::pin(async move {
            let seen = retry_forever(|| store.dedupe(id, &sender, &client_msg_id)).await;
            Fetched::LookedUp(LookedUp { id, ticket, projected_then, seen })
        }))
    }

    /// The store has answered. A row may stem from a frame that was voided by a later term: then it
    /// says nothing (R4).
    pub(super) fn on_answer(
        &mut self,
        slot: Option<&mut CacheSlot>,
        found: LookedUp,
        starts: &Starts,
    ) {
        self.under_way -= 1;
        let Some(slot) = slot else { return };
        let conversation = slot.entry.as_ref().map(|entry| &entry.conversation);
        let counts = |seen: &Seen| conversation.is_some_and(|known| known.counts(seen, starts));
        let lookup = match found.seen {
            Ok(seen) => {
                let seen = seen.filter(counts);
                Lookup::Known { seen, projected_then: found.projected_then }
            }
            Err(error) => {
                tracing::error!(%error, conversation = %found.id, "a dedupe row cannot be read");
                Lookup::Failed
            }
        };
        if let Some(queued) = slot.queue.get_mut(found.ticket) {
            queued.lookup = lookup;
        }
    }
}

/// What the store remembers of a send, if it was asked and its answer still holds; none when it
/// need not be asked.
///
/// # Errors
/// What is known so far, when the request has to wait.
pub(super) fn settled(entry: &Entry, ask: &Ask, lookup: Lookup) -> Result<Option<Seen>, Lookup> {
    if in_doubt(entry, ask).is_none() {
        return Ok(None);
    }
    match lookup {
        Lookup::Known { seen, projected_then } if entry.covers_since(projected_then) => Ok(seen),
        Lookup::Known { .. } | Lookup::Unasked => Err(Lookup::Unasked),
        waits @ (Lookup::Asked | Lookup::Failed) => Err(waits),
    }
}

/// The send of which only the store can say what it became, if the request is about one.
fn in_doubt<'a>(entry: &Entry, ask: &'a Ask) -> Option<(&'a UserId, &'a ClientMsgId)> {
    match ask {
        Ask::Command {
            actor, command: command @ Command::User(UserCommand::Send(draft)), ..
        } => entry
            .conversation
            .needs_dedupe_lookup(actor, command)
            .then_some((&actor.user, &draft.client_msg_id)),
        Ask::Recover { stranded, .. } => match &stranded.event {
            Event::Message(message) => entry
                .conversation
                .needs_dedupe_lookup_to_recover(stranded)
                .then_some((&message.sender, &message.draft.client_msg_id)),
            Event::Created(_)
            | Event::MembersChanged(_)
            | Event::Joined(_)
            | Event::Left(_)
            | Event::MovedOut(_)
            | Event::MovedIn(_)
            | Event::Unknown(_) => None,
        },
        Ask::Command { .. }
        | Ask::Attach
        | Ask::Detach
        | Ask::Query { .. }
        | Ask::Watch { .. }
        | Ask::Unwatch { .. } => None,
    }
}
