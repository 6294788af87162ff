//! A conversation as it is shown.

use std::ops::Bound;

use wire::command::{Answer, InboxLine, MemberView, View};
use wire::limits::MEMBERS_PER_PAGE;
use wire::{ConversationId, Durability, RegionId, UserId};

use super::{Conversation, Outcome};

impl Conversation {
    /// As its members see it, served by `acting`; one page of members, after `members_after`.
    #[must_use]
    pub fn view(&self, acting: RegionId, members_after: Option<&UserId>) -> View {
        let from = members_after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.members.range::<UserId, _>((from, Bound::Unbounded));
        let members: Vec<MemberView> = rest
            .by_ref()
            .take(MEMBERS_PER_PAGE)
            .map(|(user, member)| MemberView {
                user_id: user.clone(),
                role: member.role,
                joined_seq: member.joined_seq,
            })
            .collect();
        let more = rest.next().is_some();
        View {
            conversation: self.id,
            name: self.facts.as_ref().and_then(|facts| facts.name.clone()),
            acting_region: acting,
            epoch: self.last_epoch,
            head_seq: self.head_seq,
            head_ver: self.head_ver,
            members_next: if more { members.last().map(|last| last.user_id.clone()) } else { None },
            members,
        }
    }

    /// The answer, as of now.
    #[must_use]
    pub fn answer(&self, outcome: Outcome, acting: RegionId) -> Answer {
        match outcome {
            Outcome::Ack(ack) => Answer::Ack(ack),
            Outcome::View { created } => {
                Answer::View { view: Box::new(self.view(acting, None)), created }
            }
            Outcome::Noted => Answer::Noted,
            Outcome::Moving(to) => Answer::Moving(to),
            // In class `region` its driver knows which regions have the slot; what is not everywhere yet is offered again.
            Outcome::TransferAccepted => Answer::TransferAccepted {
                everywhere: self.id.shard.durability == Durability::MultiRegion,
            },
        }
    }

    /// Of a user's own stream: the conversations he is in, in the order of ids, at most `limit` (0: all) after `after`; and
    /// whether there are more. Heads and read cursors, which other shards know, are filled in by the caller: here they are
    /// as if nothing had been written since he joined.
    #[must_use]
    pub fn inbox(&self, after: Option<&ConversationId>, limit: usize) -> (Vec<InboxLine>, bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.joins.range((from, Bound::Unbounded)).filter(|(_, join)| join.joined);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let lines = rest
            .by_ref()
            .take(limit)
            .map(|(&conversation, join)| InboxLine {
                conversation,
                name: join.name.clone(),
                at_ver: join.at_ver,
                joined_seq: join.joined_seq,
                head_seq: 0,
                read_seq: join.joined_seq.saturating_sub(1),
                last_ts_ms: 0,
            })
            .collect();
        (lines, rest.next().is_some())
    }
}
