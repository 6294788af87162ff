//! What the sequencer loads of a conversation, row by row.

use super::{
    FactsRow, HeadRow, HomeRow, InboxRow, Kind, LastMessageRow, MemberRow, Projection, RoleRow,
};
use crate::sequencer::LoadedConversation;

impl LoadedConversation {
    /// Adds a row; rows of kinds that the sequencer does not load are passed over. Nothing when
    /// this version cannot read it.
    #[must_use]
    pub fn add(&mut self, kind: Kind, value: &[u8]) -> Option<()> {
        match kind {
            Kind::Facts => self.facts = Some(FactsRow::read(value)?),
            Kind::Head => self.head = Some(HeadRow::read(value)?),
            Kind::LastMessage => self.last_message = Some(LastMessageRow::read(value)?),
            Kind::Home => self.placement = Some(HomeRow::read(value)?),
            Kind::Member => self.members.push(MemberRow::read(value)?),
            Kind::Role => self.roles.push(RoleRow::read(value)?),
            Kind::Inbox => self.inbox.push(InboxRow::read(value)?),
            Kind::Message | Kind::Change | Kind::Dedupe | Kind::ReadCursor => {}
        }
        Some(())
    }
}
