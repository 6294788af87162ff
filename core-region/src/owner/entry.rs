//! One conversation in memory: decided up to its last change, with what of that is committed and
//! what is projected.

use conversation::dedupe::DEDUPE_RECENT;
use conversation::sequencer::Conversation;
use wire::change::{Change, Event};
use wire::command::View;
use wire::{ConversationKind, Epoch, RegionId, Slot, UserId};

pub(super) struct Entry {
    /// With everything decided, acknowledged or not.
    pub(super) conversation: Conversation,
    pub(super) committed_seq: u64,
    pub(super) committed_ver: u64,
    /// Of that change, as clients see it.
    pub(super) committed_epoch: Epoch,
    /// The last slot with a change of it in this term.
    pub(super) touched: Option<Slot>,
    /// Last `ver` that may have changed who is in it.
    last_membership_ver: u64,
    /// While there are any, it is not settled who may read.
    membership_changes_uncommitted: u32,
    /// Changes applied since it was loaded, and how many of these are projected.
    applied: u64,
    projected: u64,
    /// If it is away, what took it to another shard stands before this slot.
    pub(super) away_before: Slot,
    /// This owner has sent it there.
    has_left: bool,
}

impl Entry {
    /// As it was loaded: all of it committed, before this slot, and projected.
    pub(super) fn new(conversation: Conversation, committed: Slot) -> Self {
        Self {
            committed_seq: conversation.head_seq(),
            committed_ver: conversation.head_ver(),
            committed_epoch: conversation.last_epoch(),
            last_membership_ver: conversation.head_ver(),
            conversation,
            touched: None,
            membership_changes_uncommitted: 0,
            applied: 0,
            projected: 0,
            away_before: committed,
            has_left: false,
        }
    }

    /// A change was decided and applied; it goes into this slot.
    pub(super) fn note_applied(&mut self, change: &Change, slot: Slot) {
        self.touched = Some(slot);
        self.applied += 1;
        if change.event.changes_membership() {
            self.last_membership_ver = change.ver;
            self.membership_changes_uncommitted += 1;
        }
        if matches!(change.event, Event::MovedOut(_)) {
            self.away_before = slot.next();
            self.has_left = true;
        }
    }

    /// A change of it was committed.
    pub(super) fn note_committed(&mut self, change: &Change) {
        (self.committed_ver, self.committed_epoch) = (change.ver, change.epoch);
        if let Event::Message(message) = &change.event {
            self.committed_seq = message.seq;
        }
        if change.event.changes_membership() {
            self.membership_changes_uncommitted -= 1;
        }
    }

    pub(super) fn note_projected(&mut self) {
        self.projected += 1;
    }

    /// Of the changes applied since it was loaded, how many are projected.
    pub(super) fn projected(&self) -> u64 {
        self.projected
    }

    /// Whether it is committed who may read it.
    pub(super) fn is_membership_committed(&self) -> bool {
        self.membership_changes_uncommitted == 0
    }

    /// Whether where it is may be told: no lost region can take its last move back
    /// ([`Location::is_certain`](conversation::moving::Location::is_certain)).
    pub(super) fn is_confirmed(&self) -> bool {
        self.has_left || self.conversation.location().is_certain()
    }

    /// Whether nothing would be lost if it were loaded anew.
    pub(super) fn is_settled(&self) -> bool {
        self.applied == self.projected
    }

    /// Whether what the store said of a send still holds, said when `projected_then` changes were
    /// projected: everything since is in the conversation's own memory.
    pub(super) fn covers_since(&self, projected_then: u64) -> bool {
        self.applied - projected_then <= DEDUPE_RECENT as u64
    }

    /// The view with committed heads. Its members are committed when this is called.
    pub(super) fn view(&self, region: RegionId, members_after: Option<&UserId>) -> View {
        let (head_seq, head_ver) = (self.committed_seq, self.committed_ver);
        View { head_seq, head_ver, ..self.conversation.view(region, members_after) }
    }

    /// The outline, if its members may have changed after this `ver`.
    pub(super) fn outline_after(&self, region: RegionId, after_ver: u64) -> Option<Box<View>> {
        let shown = self.last_membership_ver > after_ver
            && self.conversation.id().kind != ConversationKind::User;
        let (head_seq, head_ver) = (self.committed_seq, self.committed_ver);
        let outline = || View { head_seq, head_ver, ..self.conversation.outline(region) };
        shown.then(|| Box::new(outline()))
    }
}
