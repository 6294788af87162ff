//! Projections over rows: every read of the contract, written once for all stores.
//!
//! A store keeps [`StampedRow`]s and knows no type of row. It says how it writes and finds them
//! ([`Rows`]); what they mean stands here and in [`conversation::projection`].

use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::dedupe::Seen;
pub(crate) use conversation::projection::Kind;
use conversation::projection::{
    ChangeEntry, ChangeRow, ClusteringKey, DedupeRow, InboxRow, MessageRow, Partition, Projection,
    ReadCursorRow, RowId, StampedRow, with_messages,
};
use conversation::sequencer::LoadedConversation;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use wire::change::Recorded;
use wire::{ClientMsgId, ConversationId, ConversationKind, Position, RegionId, ShardId, UserId};

use crate::contract::{ConversationRef, Heads, Projections, ScanPage, StoreError};

/// Rows of one answer at most.
pub(crate) const ROWS_MAX: usize = 16_384;
/// Conversations of one page of a scan.
const SCAN_PAGE: usize = 1_000;
/// Reads of one question that run at once.
const READS_AT_ONCE: usize = 32;

/// How a store keeps rows.
#[async_trait]
pub(crate) trait Rows: Send + Sync + 'static {
    /// For errors.
    fn region(&self) -> RegionId;

    /// Writes them at the quorum of the shard's class. Not fsynced.
    async fn write_rows(&self, shard: ShardId, rows: Vec<StampedRow>) -> Result<(), StoreError>;

    async fn row(&self, id: &RowId) -> Result<Option<Bytes>, StoreError>;

    /// All rows of these kinds of [`Partition::Conversation`], those of one kind in the order of
    /// their keys.
    async fn rows_of(
        &self,
        id: ConversationId,
        kinds: &[Kind],
    ) -> Result<Vec<(Kind, Bytes)>, StoreError>;

    /// The rows of a bucket whose numbers lie in the range, ascending, at most `limit`.
    async fn numbered(
        &self,
        kind: Kind,
        bucket: &Partition,
        numbers: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError>;

    /// At most `limit` conversations of the shard's zone, in an order of the store's own.
    async fn scan(
        &self,
        shard: ShardId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<ConversationId>, StoreError>;
}

/// The checksum of the row was right, so a version wrote it that this one cannot read.
fn unreadable(rows: &impl Rows, kind: Kind) -> StoreError {
    StoreError::Corrupt {
        region: rows.region(),
        what: format!("a {kind:?} row that this version cannot read"),
    }
}

fn read<T: Projection>(rows: &impl Rows, value: &[u8]) -> Result<T::Read, StoreError> {
    T::read(value).ok_or_else(|| unreadable(rows, T::KIND))
}

async fn one<T: Projection>(
    rows: &impl Rows,
    partition: Partition,
    key: ClusteringKey,
) -> Result<Option<T::Read>, StoreError> {
    let found = rows.row(&RowId { partition, kind: T::KIND, key }).await?;
    found.map(|value| read::<T>(rows, &value)).transpose()
}

async fn load(
    rows: &impl Rows,
    id: ConversationId,
    kinds: &[Kind],
) -> Result<LoadedConversation, StoreError> {
    let mut loaded = LoadedConversation::default();
    for (kind, value) in rows.rows_of(id, kinds).await? {
        loaded.add(kind, &value).ok_or_else(|| unreadable(rows, kind))?;
    }
    Ok(loaded)
}

/// Changes after a ver, up to the first that is missing.
async fn change_entries(
    rows: &impl Rows,
    id: ConversationId,
    after_ver: u64,
    limit: usize,
) -> Result<Vec<ChangeEntry>, StoreError> {
    let mut entries = Vec::new();
    let mut next = after_ver.saturating_add(1);
    while entries.len() < limit {
        let end = Partition::last_of_bucket(next);
        let bucket = Partition::bucket(id, next);
        let left = limit - entries.len();
        for (ver, value) in rows.numbered(Kind::Change, &bucket, next..=end, left).await? {
            if ver != next {
                return Ok(entries);
            }
            entries.push(read::<ChangeRow>(rows, &value)?);
            next = next.saturating_add(1);
        }
        if next <= end {
            break;
        }
    }
    Ok(entries)
}

#[allow(private_bounds, reason = "only the stores of this crate are made of rows")]
#[async_trait]
impl<S: Rows> Projections for S {
    async fn project(&self, shard: ShardId, rows: Vec<StampedRow>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write_rows(shard, rows).await
    }

    async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<LoadedConversation>, StoreError> {
        let mut kinds =
            vec![Kind::Facts, Kind::Head, Kind::LastMessage, Kind::Member, Kind::Role, Kind::Home];
        if id.kind == ConversationKind::User {
            kinds.push(Kind::Inbox);
        }
        let loaded = load(self, id, &kinds).await?;
        Ok(loaded.head.is_some().then_some(loaded))
    }

    async fn messages(
        &self,
        id: ConversationId,
        from_seq: u64,
        to_seq: u64,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut out = Vec::new();
        let mut from = from_seq.max(1);
        while from <= to_seq && out.len() < ROWS_MAX {
            let end = Partition::last_of_bucket(from);
            let (bucket, left) = (Partition::bucket(id, from), ROWS_MAX - out.len());
            let seqs = from..=end.min(to_seq);
            let found = self.numbered(Kind::Message, &bucket, seqs, left).await?;
            // Seqs are dense: behind an empty bucket there is nothing.
            if found.is_empty() {
                break;
            }
            for (_, value) in &found {
                out.push(read::<MessageRow>(self, value)?);
            }
            from = end.saturating_add(1);
        }
        Ok(out)
    }

    async fn placed_changes(
        &self,
        id: ConversationId,
        after_ver: u64,
        limit: usize,
    ) -> Result<Vec<(Position, Recorded)>, StoreError> {
        let entries = change_entries(self, id, after_ver, limit.min(ROWS_MAX)).await?;
        let seqs = || entries.iter().filter_map(ChangeEntry::seq);
        let messages = match (seqs().min(), seqs().max()) {
            (Some(first), Some(last)) => self.messages(id, first, last).await?,
            _ => Vec::new(),
        };
        Ok(with_messages(entries, messages))
    }

    async fn dedupe(
        &self,
        id: ConversationId,
        sender: &UserId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<Seen>, StoreError> {
        let partition = Partition::Sender(id, sender.clone());
        one::<DedupeRow>(self, partition, ClusteringKey::Send(client_msg_id.clone())).await
    }

    async fn inbox(&self, user_stream: ConversationId) -> Result<Vec<InboxRow>, StoreError> {
        Ok(load(self, user_stream, &[Kind::Inbox]).await?.inbox)
    }

    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<Option<Heads>>, StoreError> {
        let one = async |id: ConversationId| {
            let loaded = load(self, id, &[Kind::Head, Kind::LastMessage]).await?;
            let last_message = loaded.last_message;
            Ok(loaded.head.map(|head| Heads { head, last_message }))
        };
        let reads: Vec<_> = ids.iter().map(|&id| one(id)).collect();
        stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await
    }

    async fn conversations(
        &self,
        shard: ShardId,
        after: Option<ConversationId>,
    ) -> Result<ScanPage, StoreError> {
        let ids = self.scan(shard, after, SCAN_PAGE).await?;
        let next = ids.last().copied().filter(|_| ids.len() == SCAN_PAGE);
        let one = async |id: ConversationId| {
            let loaded = load(self, id, &[Kind::Head, Kind::Home]).await?;
            let moved = loaded.placement.is_some();
            let counts = id.shard == shard || moved;
            let met = loaded.head.filter(|_| counts).map(|head| ConversationRef { head, moved });
            Ok::<_, StoreError>(met)
        };
        let of_class = ids.into_iter().filter(|id| id.shard.durability == shard.durability);
        let reads: Vec<_> = of_class.map(one).collect();
        let met: Vec<Option<ConversationRef>> =
            stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        Ok(ScanPage { met: met.into_iter().flatten().collect(), next })
    }

    async fn read_cursors(
        &self,
        user: &UserId,
        ids: &[ConversationId],
    ) -> Result<Vec<u64>, StoreError> {
        let one = async |id: ConversationId| {
            let key = ClusteringKey::User(user.clone());
            let row = one::<ReadCursorRow>(self, Partition::Conversation(id), key).await?;
            Ok(row.map_or(0, |row| row.read_seq))
        };
        let reads: Vec<_> = ids.iter().map(|&id| one(id)).collect();
        stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await
    }
}
