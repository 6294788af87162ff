//! Leaving one shard and arriving in another (M1-M4).

use wire::change::{Event, Home, MovedIn};
use wire::command::Refusal;
use wire::{ConversationKind, ErrorCode, ShardId};

use super::{Conversation, Decision, Outcome, not_found};
use crate::moving::{DecisionContext, Offer};

impl Conversation {
    /// Only asked where it is.
    pub(super) fn decide_move(
        &self,
        moment: DecisionContext<'_>,
        to: ShardId,
    ) -> Result<Decision, Refusal> {
        if self.facts.is_none() {
            return Err(not_found());
        }
        if self.id.kind == ConversationKind::User {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                "a user's own stream stays where it was born",
            ));
        }
        if to == moment.shard {
            return Ok(Decision::Already(Outcome::Moving(self.location.placement)));
        }
        let out = self.location.leave(moment, self.visible_epoch(moment), to, self.head_seq)?;
        Ok(self.commit(moment, Event::MovedOut(out)))
    }

    /// Only what memory says was done is certain.
    pub(super) fn decide_take_in(&self, n: u64) -> Decision {
        if self.has_taken_in(n) {
            Decision::Already(Outcome::TransferAccepted)
        } else {
            Decision::NeedsReload
        }
    }

    /// Accepts the transfer of a conversation that was just [`Conversation::load`]ed. The load must
    /// have begun after the offer came.
    #[must_use]
    pub fn admit(&self, moment: DecisionContext<'_>, offer: Offer) -> Decision {
        if self.has_taken_in(offer.n) {
            return Decision::Already(Outcome::TransferAccepted);
        }
        let expected = Home { generation: offer.n, shard: moment.shard };
        if self.location.placement != expected || self.head_ver != offer.ver {
            // The offer came too early, or from a log that was cut. A valid offer comes again.
            return Decision::Refuse(Refusal::new(
                ErrorCode::HomeUnavailable,
                "its last change cannot be read here yet",
            ));
        }
        let moved = MovedIn {
            here: expected,
            from: offer.from,
            epoch_base: self.location.epoch_base,
            tenures: self.location.tenures.clone(),
        };
        let mut change = self.number(moment, 0, Event::MovedIn(moved));
        // Later than everything that the other owner's clock ordered.
        change.ts_ms = change.ts_ms.max(self.last_ts_ms + 1);
        Decision::Commit(vec![change])
    }

    /// A move with a higher number happened after the conversation was here.
    fn has_taken_in(&self, n: u64) -> bool {
        let Home { generation: known, .. } = self.location.placement;
        known > n || (known == n && self.location.arrived)
    }
}
