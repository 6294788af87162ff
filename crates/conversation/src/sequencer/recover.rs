//! A change that was committed in a region which was then lost, offered again (R7).

use wire::UserId;
use wire::change::{Change, Event, MembersChanged, Message, Role};

use wire::command::Draft;

use super::Conversation;
use crate::dedupe::Seen;
use crate::moving::DecisionContext;
use crate::roles::{self, MembershipRequest};

impl Conversation {
    /// Whether [`Conversation::recover`] needs what the store remembers of this send.
    #[must_use]
    pub fn needs_dedupe_lookup_to_recover(&self, stranded: &Change) -> bool {
        let Event::Message(message) = &stranded.event else { return false };
        !self.dedupe.is_surely_new(&message.sender, &message.draft.client_msg_id)
            && self.dedupe.find(&message.sender, &message.draft.client_msg_id).is_none()
    }

    /// The change that brings this one back now. None when it is here already, or when changes
    /// after the fork leave no place for it. A message gets a new `seq` and is marked as recovered;
    /// its sender may have left since, for it was acknowledged.
    ///
    /// `seen` is as for [`Conversation::decide`]. `first_seq` is that of the first message of this
    /// conversation that was stranded with it. From there on the old numbers name other messages
    /// now, so references to them are dropped.
    #[must_use]
    pub fn recover(
        &self,
        moment: DecisionContext<'_>,
        stranded: &Change,
        seen: Option<&Seen>,
        first_seq: u64,
    ) -> Option<Change> {
        let event = match &stranded.event {
            Event::Message(message) => {
                Event::Message(self.recover_message(message, seen, first_seq)?)
            }
            Event::Created(created) => {
                self.facts.is_none().then(|| Event::Created(created.clone()))?
            }
            Event::MembersChanged(changed) => Event::MembersChanged(self.recover_members(changed)?),
            Event::Joined(joined) => {
                let known = self
                    .joins
                    .get(&joined.conversation)
                    .is_some_and(|join| join.at_ver >= joined.at_ver);
                (!known).then(|| stranded.event.clone())?
            }
            Event::Left(left) => {
                let known = self
                    .joins
                    .get(&left.conversation)
                    .is_some_and(|join| join.at_ver >= left.at_ver);
                (!known).then(|| stranded.event.clone())?
            }
            // It moved on the fork that was lost: here it is where it was.
            Event::MovedOut(_) | Event::MovedIn(_) => return None,
            // Of a newer node: only that node knows what it would mean here.
            Event::Unknown(_) => return None,
        };
        Some(self.number(moment, 0, event))
    }

    fn recover_message(
        &self,
        stranded: &Message,
        seen: Option<&Seen>,
        first_seq: u64,
    ) -> Option<Message> {
        let here =
            self.dedupe.find(&stranded.sender, &stranded.draft.client_msg_id).or(seen).is_some();
        if here || self.facts.is_none() {
            return None;
        }
        let kept = |seq: Option<u64>| seq.filter(|&seq| seq < first_seq);
        Some(Message {
            seq: self.head_seq + 1,
            draft: Draft {
                reply_to: kept(stranded.draft.reply_to),
                thread: kept(stranded.draft.thread),
                ..stranded.draft.clone()
            },
            recovered: true,
            ..stranded.clone()
        })
    }

    /// The same membership request again, reduced to what the requester may still do and what still
    /// changes anything.
    fn recover_members(&self, stranded: &MembersChanged) -> Option<MembersChanged> {
        let add: Vec<UserId> = stranded.added.iter().map(|(user, _)| user.clone()).collect();
        let raised = stranded.added.iter().filter(|(_, role)| *role != Role::Member);
        let roles: Vec<(UserId, Role)> = raised.chain(&stranded.roles).cloned().collect();
        let wish = MembershipRequest { add: &add, remove: &stranded.removed, roles: &roles };
        roles::change_members(
            &self.members,
            |member| member.role,
            &stranded.by,
            wish,
            self.head_seq,
        )
        .ok()?
    }
}
