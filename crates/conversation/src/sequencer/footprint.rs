//! What a conversation takes in memory, so that an owner can bound its cache by bytes.

use super::Conversation;

/// Upper estimates of one entry, with its share of the tree or table around it, bytes.
const MEMBER_BYTES: usize = 192;
const JOIN_BYTES: usize = 256;
const TENURE_BYTES: usize = 512;

impl Conversation {
    /// An upper estimate, bytes. Costs no more than a few additions.
    #[must_use]
    pub fn estimated_bytes(&self) -> usize {
        size_of::<Self>()
            + self.members.len() * MEMBER_BYTES
            + self.joins.len() * JOIN_BYTES
            + self.location.tenures.len() * TENURE_BYTES
            + self.dedupe.estimated_bytes()
    }
}
