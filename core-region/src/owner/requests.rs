//! The requests of a shard: each goes into its conversation's queue and is served in order, at once
//! if nothing stands before it. The rules of one queue stand in [`conversation::request_queue`].

use std::collections::VecDeque;

use wire::{ConversationId, ConversationKind};

use super::cache::{CacheSlot, ConversationCache};
use super::commit::batch::Pending;
use super::dedupe_lookup::QueuedRequest;
use super::dispatch::{Dispatch, refuse_unreadable};
use super::entry::Entry;
use super::load::{Fetched, Loaded};
use super::relocation::PendingOffer;
use crate::owner::input::Input;
use wire::ErrorCode;
use wire::command::Refusal;

/// Requests of one conversation that are served before the others have their turn.
const REQUESTS_PER_TURN: usize = 16;

/// All requests of one term that wait, with the conversations they are about.
pub(super) struct Requests {
    pub(super) cache: ConversationCache,
    /// Conversations whose first request can be looked at again.
    runnable: VecDeque<ConversationId>,
    /// The same of user streams. Their turn is after the others'.
    runnable_streams: VecDeque<ConversationId>,
    waiting: usize,
}

impl Requests {
    pub(super) fn new(cache: ConversationCache) -> Self {
        let (runnable, runnable_streams) = (VecDeque::new(), VecDeque::new());
        Self { cache, runnable, runnable_streams, waiting: 0 }
    }

    /// Requests that wait in all conversations.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// A request on this conversation came.
    #[allow(clippy::result_large_err, reason = "a request that has to wait moves into its queue")]
    pub(super) fn arrive(&mut self, id: ConversationId, input: Input, dispatch: &mut Dispatch) {
        let pending = &dispatch.decider.pending;
        let is_note = id.kind == ConversationKind::User && input.ask.is_command();
        let is_held = if is_note { !pending.has_room_for_notes() } else { pending.is_backed_up() };
        let (slot, is_known) = self.cache.slot(id);
        if !is_known {
            dispatch.loader.load(id);
        }
        let CacheSlot { entry, queue, .. } = slot;
        let serve = match entry {
            Some(entry) if !is_held => Some(|request| dispatch.attempt(entry, request)),
            Some(_) | None => None,
        };
        if !queue.arrive(QueuedRequest::new(input), serve) {
            return;
        }
        self.waiting += 1;
        let ticket = queue.tickets().end - 1;
        dispatch.look_up(id, slot, ticket);
        if is_held && slot.queue.list() {
            self.list_of(id).push_back(id);
        }
    }

    /// An offer of another shard came. It is answered, or what the store has is read first.
    pub(super) fn offered(&mut self, offer: PendingOffer, dispatch: &mut Dispatch) {
        let entry = self.cache.entry(&offer.offer.conversation).map(|entry| &*entry);
        let Dispatch { relocation, decider, loader, .. } = dispatch;
        if let Some(offer) = relocation.answer_if_here(decider, entry, offer) {
            loader.load_offered(offer);
        }
    }

    fn list_of(&mut self, id: ConversationId) -> &mut VecDeque<ConversationId> {
        if id.kind == ConversationKind::User {
            &mut self.runnable_streams
        } else {
            &mut self.runnable
        }
    }

    /// Serves those that need not wait any more, some of each conversation in turn, until a full
    /// frame waits; then those of user streams, until they have their share of the frame.
    pub(super) fn serve_runnable(&mut self, dispatch: &mut Dispatch) {
        while !dispatch.decider.pending.is_backed_up()
            && let Some(id) = self.runnable.pop_front()
        {
            self.serve_some(id, dispatch, Pending::is_backed_up);
        }
        while dispatch.decider.pending.has_room_for_notes()
            && let Some(id) = self.runnable_streams.pop_front()
        {
            self.serve_some(id, dispatch, |pending| !pending.has_room_for_notes());
        }
    }

    #[allow(clippy::result_large_err, reason = "a request that has to wait moves into its queue")]
    fn serve_some(
        &mut self,
        id: ConversationId,
        dispatch: &mut Dispatch,
        is_over: impl Fn(&Pending) -> bool,
    ) {
        let Some(slot) = self.cache.peek(&id) else { return };
        slot.queue.unlist();
        let CacheSlot { entry: Some(entry), queue, .. } = slot else { return };
        let (mut served, mut is_cut) = (0, false);
        while !is_cut && queue.serve_first(|request| dispatch.attempt(entry, request)) {
            served += 1;
            is_cut = served == REQUESTS_PER_TURN || is_over(&dispatch.decider.pending);
        }
        let is_listed = is_cut && queue.list();
        let first = slot.queue.head_ticket();
        dispatch.look_up(id, slot, first);
        self.waiting -= served;
        if is_listed {
            self.list_of(id).push_back(id);
        }
    }

    /// Something has been read from the store.
    pub(super) fn on_fetched(&mut self, fetched: Fetched, dispatch: &mut Dispatch) {
        let id = match fetched {
            Fetched::Conversation { id, loaded } => {
                self.on_loaded(id, loaded, dispatch);
                id
            }
            Fetched::Offered { offer, loaded } => {
                let id = offer.offer.conversation;
                self.on_offered(offer, loaded, dispatch);
                id
            }
            Fetched::Reloaded { id, loaded } => {
                self.on_reloaded(id, loaded, dispatch);
                id
            }
            Fetched::LookedUp(found) => {
                let id = found.id;
                let slot = self.cache.peek(&id);
                dispatch.lookups.on_answer(slot, found, &dispatch.decider.starts);
                id
            }
        };
        self.cache.measure(&id);
        self.make_runnable(id);
    }

    fn on_loaded(&mut self, id: ConversationId, loaded: Loaded, dispatch: &mut Dispatch) {
        let Some(slot) = self.cache.peek(&id) else { return };
        match loaded {
            // It was accepted from another shard meanwhile.
            Ok(_) if slot.entry.is_some() => {}
            Ok(conversation) => {
                let committed = dispatch.decider.pending.committed();
                slot.entry = Some(Entry::new(*conversation, committed));
                for ticket in slot.queue.tickets() {
                    dispatch.look_up(id, slot, ticket);
                }
            }
            Err(error) => {
                tracing::error!(%error, conversation = %id, "a conversation cannot be read");
                self.waiting -= slot.queue.len();
                for request in slot.queue.drain() {
                    refuse_unreadable(request.input, "the conversation cannot be read");
                }
                self.cache.forget(&id);
            }
        }
    }

    /// A conversation that was offered has been read.
    fn on_offered(&mut self, offer: PendingOffer, loaded: Loaded, dispatch: &mut Dispatch) {
        let id = offer.offer.conversation;
        // One of which nothing is here was never created.
        let Some(loaded) = loaded.ok().filter(|loaded| loaded.head_ver() > 0) else {
            return offer.to.reply(Err(Refusal::new(
                ErrorCode::HomeUnavailable,
                "the offered conversation cannot be read here yet; try again",
            )));
        };
        let slot = self.cache.renew(id);
        let Dispatch { relocation, decider, .. } = dispatch;
        relocation.accept(decider, &mut slot.entry, offer, *loaded);
        if slot.entry.is_none() && slot.queue.is_empty() {
            self.cache.forget(&id);
        }
    }

    /// A conversation has been read again, because it was unconfirmed where it is.
    fn on_reloaded(&mut self, id: ConversationId, loaded: Loaded, dispatch: &mut Dispatch) {
        dispatch.relocation.reloaded(&id);
        let committed = dispatch.decider.pending.committed();
        let Some(entry) = self.cache.entry(&id) else { return };
        if let Ok(loaded) = loaded
            && entry.is_settled()
            && !entry.is_confirmed()
        {
            self.cache.renew(id).entry = Some(Entry::new(*loaded, committed));
        }
    }

    /// What this conversation's requests wait for may be there.
    pub(super) fn make_runnable(&mut self, id: ConversationId) {
        if let Some(slot) = self.cache.peek(&id)
            && slot.queue.list()
        {
            self.list_of(id).push_back(id);
        }
    }
}
