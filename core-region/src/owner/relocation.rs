//! Conversations that leave this shard and come to it (rules M1-M6 of [`conversation::moving`]):
//! redirects of requests, offers of other shards, and what those who watch are told. The rules of
//! redirects stand in [`conversation::moving::redirects`].

use std::collections::BTreeSet;

use conversation::moving::Offer;
use conversation::moving::redirects::{Redirect, Redirects};
use conversation::sequencer::{Conversation, Decision};
use wire::change::Home;
use wire::command::{Answer, MeshCommand};
use wire::{ConversationId, ShardId, Slot};

use super::decide::{Decider, ReplyTo, not_yet};
use super::entry::Entry;
use super::moves::Moves;
use crate::replication::watermark::ReplicationWatermark;
use shard_client::system_actor;

/// An offer, and who waits for the answer.
pub(super) struct PendingOffer {
    pub(super) offer: Offer,
    pub(super) to: ReplyTo,
}

/// The relocations of one shard in one term.
pub(super) struct Relocation {
    moves: Moves,
    watermark: ReplicationWatermark,
    redirects: Redirects,
}

impl Relocation {
    pub(super) fn new(moves: Moves, watermark: ReplicationWatermark) -> Self {
        Self { moves, watermark, redirects: Redirects::default() }
    }

    /// What to do with a request for this conversation; none when it is served here.
    pub(super) fn redirect(&mut self, entry: &Entry, here: ShardId) -> Option<Redirect> {
        let elsewhere = entry.conversation.served_from(here).err()?;
        let id = entry.conversation.id();
        let may_tell = self.moves.may_tell(&id, entry.away_before);
        let confirmed = entry.is_confirmed();
        Some(self.redirects.on_request(id, here, elsewhere, may_tell, confirmed))
    }

    pub(super) fn reloaded(&mut self, id: &ConversationId) {
        self.redirects.reloaded(id);
    }

    /// `MovedOut` was committed, before this slot. Those who watch are told when it has arrived.
    pub(super) fn departed(&mut self, id: ConversationId, to: Home, before: Slot) {
        self.redirects.departed(id, to, before);
        self.moves.await_news();
    }

    /// Resolves when something that was awaited may be told now. Cancel safe.
    pub(super) async fn news(&mut self) {
        self.moves.news().await;
    }

    /// See [`Redirects::look_again`].
    pub(super) fn look_again(&mut self) -> (Vec<(ConversationId, Home)>, BTreeSet<ConversationId>) {
        let moves = &self.moves;
        self.redirects.look_again(|id, before| moves.may_tell(id, before))
    }

    /// Answers an offer if the conversation is known to be here. Else it is handed back, to be
    /// accepted with what the store has: nothing in memory says for certain that it is not here.
    pub(super) fn answer_if_here(
        &mut self,
        decider: &mut Decider,
        entry: Option<&Entry>,
        offer: PendingOffer,
    ) -> Option<PendingOffer> {
        let Some(entry) = entry else { return Some(offer) };
        let Offer { n, ver, from, .. } = offer.offer;
        let command = MeshCommand::AcceptTransfer { n, ver, from };
        let conversation = &entry.conversation;
        let decision = conversation.decide(decider.context(), &system_actor(), command, None);
        let Decision::Already(decided) = decision else { return Some(offer) };
        let answer = conversation.answer(decided, decider.region);
        let answer = self.with_replication(entry, offer.offer, answer);
        decider.reply(entry, offer.to, Ok(answer));
        None
    }

    /// Accepts what was offered and loaded, unless it is here by now. `entry`: what was in memory
    /// of it, which is replaced.
    pub(super) fn accept(
        &mut self,
        decider: &mut Decider,
        entry: &mut Option<Entry>,
        offer: PendingOffer,
        loaded: Conversation,
    ) {
        let offer = self.answer_if_here(decider, entry.as_ref(), offer);
        let Some(PendingOffer { offer, to }) = offer else { return };
        let is_settled = entry.as_ref().is_none_or(Entry::is_settled);
        if !is_settled || decider.pending.is_backed_up() {
            return to.reply(Err(not_yet()));
        }
        let decision = loaded.admit(decider.context(), offer);
        let entry = entry.insert(Entry::new(loaded, decider.pending.committed()));
        let outcome = decider.outcome(entry, decision);
        let outcome = outcome.map(|answer| self.with_replication(entry, offer, answer));
        decider.reply(entry, to, outcome);
    }

    /// The answer to an offer of what is here: whether its arrival is everywhere already, if that
    /// does not come with the acknowledgement (M5).
    fn with_replication(&mut self, entry: &Entry, offer: Offer, answer: Answer) -> Answer {
        let Answer::TransferAccepted { everywhere: false } = answer else { return answer };
        let before = entry.touched.map_or(entry.away_before, Slot::next);
        let watermark = &self.watermark;
        let reached = |slot| watermark.wait_for(slot);
        let everywhere = self.redirects.is_replicated(offer.conversation, offer.n, before, reached);
        Answer::TransferAccepted { everywhere }
    }
}
