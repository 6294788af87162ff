//! Projection rows as cells.
//!
//! A key is zone 2, kind 1, conversation 23, for the sends of a user the length of their id 1 and
//! the id, then the clustering key. A bucket adds nothing to the order, so it is left out.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::projection::{ClusteringKey, Kind, Partition, RowId, StampedRow};
use futures_util::future::try_join_all;
use wire::{ConversationId, RegionId, ShardId, ZoneId};

use super::{Coordinator, Replicas, Scan, Sync, Write};
use crate::cell::{Cell, Table, after_prefix};
use crate::contract::StoreError;
use crate::rows::{ROWS_MAX, Rows};

/// Rows of one write at most: a replica does not divide a write, and a log row may wait for it.
const WRITE_ROWS_MAX: usize = 128;

/// The start of all keys of a kind.
fn kind_prefix(zone: ZoneId, kind: Kind) -> [u8; 3] {
    let [high, low] = zone.0.to_be_bytes();
    [high, low, kind.code()]
}

/// The start of the keys of a kind in a partition.
fn prefix(kind: Kind, partition: &Partition) -> Vec<u8> {
    let conversation = partition.conversation();
    let mut key = Vec::with_capacity(40);
    key.extend_from_slice(&kind_prefix(conversation.shard.zone, kind));
    key.extend_from_slice(&conversation.to_bytes());
    match partition {
        Partition::Conversation(_) | Partition::Bucket(..) => {}
        Partition::Sender(_, sender) => {
            let sender = sender.as_str().as_bytes();
            key.push(u8::try_from(sender.len()).expect("user ids are at most 128 bytes"));
            key.extend_from_slice(sender);
        }
    }
    key
}

fn key(kind: Kind, partition: &Partition, rest: &ClusteringKey) -> Vec<u8> {
    let mut key = prefix(kind, partition);
    key.extend_from_slice(&rest.to_bytes());
    key
}

impl<R: Replicas> Coordinator<R> {
    /// All rows of a kind of a conversation.
    async fn all(&self, id: ConversationId, kind: Kind) -> Result<Vec<Bytes>, StoreError> {
        let quorum = self.quorum(id.shard)?;
        let mut from = prefix(kind, &Partition::Conversation(id));
        let to = after_prefix(&from);
        let mut out = Vec::new();
        loop {
            let scan = Scan { table: Table::Projection, from, to: to.clone(), limit: ROWS_MAX };
            let page = self.read_cells(&quorum, &scan).await?;
            let last = page.last().map(|(last, _)| [last, &[0][..]].concat());
            let is_full = page.len() == ROWS_MAX;
            out.extend(page.into_iter().map(|(_, stored)| stored.bytes));
            match last {
                Some(next) if is_full => from = next,
                _ => return Ok(out),
            }
        }
    }
}

#[async_trait]
impl<R: Replicas> Rows for Coordinator<R> {
    fn region(&self) -> RegionId {
        self.region
    }

    async fn write_rows(&self, shard: ShardId, rows: Vec<StampedRow>) -> Result<(), StoreError> {
        let quorum = self.quorum(shard)?;
        let cell = |row: &StampedRow| {
            let key = key(row.id.kind, &row.id.partition, &row.id.key);
            Cell::new(Table::Projection, key, row.stamp, &row.value)
        };
        let writes = rows.chunks(WRITE_ROWS_MAX).map(|rows| {
            let cells = rows.iter().map(cell).collect();
            self.write(&quorum, Write { zone: shard.zone, cells, sync: Sync::Memory })
        });
        try_join_all(writes).await.map(|_| ())
    }

    async fn row(&self, id: &RowId) -> Result<Option<Bytes>, StoreError> {
        let quorum = self.quorum(id.partition.conversation().shard)?;
        let key = key(id.kind, &id.partition, &id.key);
        let found = self.read_cell(&quorum, Table::Projection, &key).await?;
        Ok(found.map(|stored| stored.bytes))
    }

    async fn rows_of(
        &self,
        id: ConversationId,
        kinds: &[Kind],
    ) -> Result<Vec<(Kind, Bytes)>, StoreError> {
        let of_kind = async |kind: Kind| {
            let values = if kind.is_single() {
                let partition = Partition::Conversation(id);
                let one = self.row(&RowId { partition, kind, key: ClusteringKey::Only }).await?;
                one.into_iter().collect()
            } else {
                self.all(id, kind).await?
            };
            Ok::<_, StoreError>(values.into_iter().map(move |value| (kind, value)))
        };
        let reads: Vec<_> = kinds.iter().map(|&kind| of_kind(kind)).collect();
        Ok(try_join_all(reads).await?.into_iter().flatten().collect())
    }

    async fn numbered(
        &self,
        kind: Kind,
        bucket: &Partition,
        numbers: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let quorum = self.quorum(bucket.conversation().shard)?;
        let bound = |n: u64| key(kind, bucket, &ClusteringKey::Number(n));
        let (from, to) = (bound(*numbers.start()), bound(numbers.end().saturating_add(1)));
        let scan = Scan { table: Table::Projection, from, to, limit };
        let found = self.read_cells(&quorum, &scan).await?;
        let number = |key: &[u8]| {
            key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(|| {
                StoreError::Corrupt {
                    region: self.region,
                    what: format!("a {kind:?} row under a key that is none"),
                }
            })
        };
        found.into_iter().map(|(key, stored)| Ok((number(&key)?, stored.bytes))).collect()
    }

    async fn scan(
        &self,
        shard: ShardId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let quorum = self.quorum(shard)?;
        let all = kind_prefix(shard.zone, Kind::Head);
        let from = match after {
            Some(after) => after_prefix(&prefix(Kind::Head, &Partition::Conversation(after))),
            None => all.to_vec(),
        };
        let scan = Scan { table: Table::Projection, from, to: after_prefix(&all), limit };
        let found = self.read_cells(&quorum, &scan).await?;
        let id = |key: &[u8]| {
            let bytes = key.get(all.len()..key.len().saturating_sub(1)).unwrap_or_default();
            ConversationId::from_bytes(bytes).map_err(|error| StoreError::Corrupt {
                region: self.region,
                what: format!("a head under a key that is none: {error}"),
            })
        };
        found.iter().map(|(key, _)| id(key)).collect()
    }
}
