//! What committed frames mean to readers.

use async_trait::async_trait;
use conversation::dedupe::Seen;
use conversation::projection::{HeadRow, InboxRow, LastMessageRow, StampedRow};
use conversation::sequencer::LoadedConversation;
use wire::change::Recorded;
use wire::{ClientMsgId, ConversationId, Position, ShardId, UserId};

use super::StoreError;

/// How far a conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The last change.
    pub head: HeadRow,
    /// The last message; none when nothing was ever sent.
    pub last_message: Option<LastMessageRow>,
}

/// One entry of a full scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationRef {
    /// The last change.
    pub head: HeadRow,
    /// Whether the conversation was ever in another shard than the one it was born in.
    pub moved: bool,
}

/// One page of a full scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPage {
    /// In an order of the store's own.
    pub met: Vec<ConversationRef>,
    /// The scan continues after this conversation; none on the last page.
    pub next: Option<ConversationId>,
}

/// Rows that are made of committed frames, and can be made again.
///
/// # Errors
/// Every method: [`StoreError`].
#[async_trait]
pub trait Projections: Send + Sync {
    /// Writes rows made of committed frames of this shard
    /// ([`project`](conversation::projection::project)). Not fsynced: they can be made again from
    /// the log, and a checkpoint makes durable what stands before it.
    async fn project(&self, shard: ShardId, rows: Vec<StampedRow>) -> Result<(), StoreError>;

    /// Everything the sequencer needs to know of a conversation; nothing when it was never
    /// created. In single-region shards a row may belong to frames that were lost with a region;
    /// its `at` tells.
    async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<LoadedConversation>, StoreError>;

    /// The messages from `from_seq` to `to_seq`, both inclusive, oldest first, at most 16,384.
    async fn messages(
        &self,
        id: ConversationId,
        from_seq: u64,
        to_seq: u64,
    ) -> Result<Vec<Recorded>, StoreError>;

    /// At most `limit` changes with a higher `ver` than `after_ver`, oldest first, without a hole:
    /// fewer, when a row is still on its way. Each comes with its place in the log. Behind the
    /// head there may be some that were lost with a region.
    async fn placed_changes(
        &self,
        id: ConversationId,
        after_ver: u64,
        limit: usize,
    ) -> Result<Vec<(Position, Recorded)>, StoreError>;

    /// As [`Projections::placed_changes`], without the places.
    async fn changes(
        &self,
        id: ConversationId,
        after_ver: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        let placed = self.placed_changes(id, after_ver, limit).await?;
        Ok(placed.into_iter().map(|(_, change)| change).collect())
    }

    /// What a `client_msg_id` of this sender became. The caller checks [`Seen::at`] against the
    /// `starts` of the lease: a row may belong to a frame that was voided.
    async fn dedupe(
        &self,
        id: ConversationId,
        sender: &UserId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<Seen>, StoreError>;

    /// The lines of a user's own stream, in the order of conversation ids. Left conversations are
    /// included and say so.
    async fn inbox(&self, user_stream: ConversationId) -> Result<Vec<InboxRow>, StoreError>;

    /// The heads of these conversations, in their order, of any shards and zones. After a region
    /// was lost, a head may be ahead until the next change of its conversation.
    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<Option<Heads>>, StoreError>;

    /// One page of a scan over the conversations that have, or may have, changes in the log of this
    /// shard: those born in it, and all of its zone and class that have moved. Continues after
    /// `after`, which the page before named. The scan reads everything the zone holds, so it is
    /// for the rare case that nothing else will do. It may miss conversations that are created
    /// meanwhile.
    async fn conversations(
        &self,
        shard: ShardId,
        after: Option<ConversationId>,
    ) -> Result<ScanPage, StoreError>;

    /// How far a user has read these conversations (own sends count), in their order; 0: nothing.
    async fn read_cursors(
        &self,
        user: &UserId,
        ids: &[ConversationId],
    ) -> Result<Vec<u64>, StoreError>;
}
