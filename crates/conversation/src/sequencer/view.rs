//! A conversation as its members see it.

use std::ops::Bound;

use wire::command::{Answer, InboxLine, MemberView, View};
use wire::limits::MEMBERS_PER_PAGE;
use wire::{ConversationId, Durability, RegionId, UserId};

use super::{Conversation, Outcome};

impl Conversation {
    /// The view for members, served by `acting`: one page of members, after `members_after`.
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
            members_next: if more { members.last().map(|last| last.user_id.clone()) } else { None },
            members,
            ..self.outline(acting)
        }
    }

    /// As [`Conversation::view`] without a member: it travels with changes, to everyone.
    #[must_use]
    pub fn outline(&self, acting: RegionId) -> View {
        View {
            conversation: self.id,
            name: self.facts.as_ref().and_then(|facts| facts.name.clone()),
            acting_region: acting,
            epoch: self.last_epoch,
            head_seq: self.head_seq,
            head_ver: self.head_ver,
            members: Vec::new(),
            members_next: None,
            member_count: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
        }
    }

    /// The answer, from the state as it is now.
    #[must_use]
    pub fn answer(&self, outcome: Outcome, acting: RegionId) -> Answer {
        match outcome {
            Outcome::Ack(ack) => Answer::Ack(ack),
            Outcome::View { created } => {
                Answer::View { view: Box::new(self.view(acting, None)), created }
            }
            Outcome::Noted => Answer::Noted,
            Outcome::Moving(to) => Answer::Moving(to),
            // The driver of a single-region shard knows which regions have the slot. An arrival
            // that is not yet everywhere is offered again.
            Outcome::TransferAccepted => Answer::TransferAccepted {
                everywhere: self.id.shard.durability == Durability::MultiRegion,
            },
        }
    }

    /// For a user stream: the user's conversations in the order of ids, at most `limit` (0: all)
    /// after `after`, and whether there are more. Other shards know heads and read cursors, so the
    /// caller fills them in. Here they are as if nothing had been written since the user joined.
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
