//! Projection rows as statements.
//!
//! There is a table for each shape of partition, not for each type of row. Each row is one cell,
//! whose write time is its stamp. The rows of a frame under one partition key go as one unlogged
//! batch: Cassandra makes one mutation of them, and any server one request. So a message costs
//! three requests: the message and its change; head, last message and read cursor; the name it was
//! sent under. Nothing is atomic across partition keys, nor need it be: a frame is projected again
//! until all of it is there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::projection::{ClusteringKey, Kind, Partition, RowId, StampedRow};
use futures_util::stream::{StreamExt, TryStreamExt};
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use wire::{ConversationId, RegionId, ShardId};
use xxhash_rust::xxh3::xxh3_64;

use super::handle::{Handle, limit_value};
use super::reach::Reach;
use super::statements::{Shape, Statements};
use crate::contract::StoreError;
use crate::rows::Rows;

/// Requests of one frame that run at once.
const WRITES_AT_ONCE: usize = 16;
/// Bounds of a batch: far below what servers warn of.
const BATCH_ROWS_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 32 * 1024;
/// Partitions over which the sends of one user to one conversation are spread: a bot may send for
/// years.
const SENDER_PARTS: u64 = 16;

/// Which of its parts a row of [`Partition::Sender`] lies in; 0 in the other shapes.
fn part(partition: &Partition, key: &[u8]) -> i8 {
    match partition {
        Partition::Conversation(_) | Partition::Bucket(..) => 0,
        Partition::Sender(..) => {
            i8::try_from(xxh3_64(key) % SENDER_PARTS).expect("a small remainder")
        }
    }
}

fn blob(id: ConversationId) -> CqlValue {
    CqlValue::Blob(id.to_bytes().to_vec())
}

fn kind_value(kind: Kind) -> CqlValue {
    // The numbers of kinds stay far below the sign.
    CqlValue::TinyInt(i8::from_be_bytes([kind.code()]))
}

/// Rows under one partition key.
#[derive(Default)]
struct Group<'a> {
    /// One a row.
    statements: Vec<&'a PreparedStatement>,
    rows: Vec<Vec<CqlValue>>,
    bytes: usize,
}

impl Statements {
    fn shape(&self, partition: &Partition) -> &Shape {
        match partition {
            Partition::Conversation(_) => &self.by_conversation,
            Partition::Bucket(..) => &self.by_bucket,
            Partition::Sender(..) => &self.by_sender,
        }
    }
}

impl Handle {
    /// The columns of a partition key.
    fn partition_values(
        &self,
        partition: &Partition,
        part: i8,
    ) -> Result<Vec<CqlValue>, StoreError> {
        Ok(match partition {
            Partition::Conversation(id) => vec![blob(*id)],
            Partition::Bucket(id, n) => {
                let n = i32::try_from(*n).map_err(|_| self.past_bounds(*n))?;
                vec![blob(*id), CqlValue::Int(n)]
            }
            Partition::Sender(id, sender) => {
                vec![blob(*id), CqlValue::Text(sender.to_string()), CqlValue::TinyInt(part)]
            }
        })
    }

    fn group<'a>(
        &self,
        statements: &'a Statements,
        rows: Vec<StampedRow>,
    ) -> Result<Vec<Group<'a>>, StoreError> {
        let mut open: BTreeMap<(Partition, i8), Group<'a>> = BTreeMap::new();
        let mut full = Vec::new();
        for StampedRow { id: RowId { partition, kind, key }, stamp, value } in rows {
            let key = key.to_bytes();
            let part = part(&partition, &key);
            let bytes = value.len() + 64;
            let time = self.write_time(stamp)?;
            let mut values = vec![CqlValue::BigInt(time), CqlValue::Blob(value.into())];
            values.extend(self.partition_values(&partition, part)?);
            values.extend([kind_value(kind), CqlValue::Blob(key)]);
            let statement = &statements.shape(&partition).write;
            let group = open.entry((partition, part)).or_default();
            if group.rows.len() == BATCH_ROWS_MAX
                || (group.bytes + bytes > BATCH_BYTES_MAX && !group.rows.is_empty())
            {
                full.push(std::mem::take(group));
            }
            group.statements.push(statement);
            group.rows.push(values);
            group.bytes += bytes;
        }
        full.extend(open.into_values());
        Ok(full)
    }

    async fn write_group(&self, reach: &Reach, group: Group<'_>) -> Result<(), StoreError> {
        if let ([statement], [row]) = (&group.statements[..], &group.rows[..]) {
            return self.scylla.write(reach, self.bound(statement, row)?).await;
        }
        let statements =
            group.statements.into_iter().cloned().map(BatchStatement::PreparedStatement).collect();
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_execution_profile_handle(Some(reach.profile.clone()));
        batch.set_is_idempotent(true);
        self.scylla.repeat(reach, || Box::pin(self.scylla.session.batch(&batch, &group.rows))).await
    }
}

#[async_trait]
impl Rows for Handle {
    fn region(&self) -> RegionId {
        self.scylla.options.region
    }

    async fn write_rows(&self, shard: ShardId, rows: Vec<StampedRow>) -> Result<(), StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let groups = self.group(statements, rows)?;
        let several = groups.len() > 1;
        // A closure over borrowed groups would not be general enough for a future that is sent
        // between threads.
        let writes: Vec<_> =
            groups.into_iter().map(|group| self.write_group(&reach, group)).collect();
        let written = futures_util::stream::iter(writes)
            .buffer_unordered(WRITES_AT_ONCE)
            .try_collect::<()>()
            .await;
        written.map_err(|error| match error {
            // Others may have been written.
            StoreError::Unavailable { .. } if several => StoreError::Unknown,
            error => error,
        })
    }

    async fn row(&self, id: &RowId) -> Result<Option<Bytes>, StoreError> {
        let (reach, statements) = self.reach(id.partition.conversation().shard)?;
        let key = id.key.to_bytes();
        let mut values = self.partition_values(&id.partition, part(&id.partition, &key))?;
        values.extend([kind_value(id.kind), CqlValue::Blob(key)]);
        let statement = self.bound(&statements.shape(&id.partition).row, &values)?;
        let found: Option<(Vec<u8>,)> = self.scylla.row(&reach, statement).await?;
        Ok(found.map(|(value,)| value.into()))
    }

    async fn rows_of(
        &self,
        id: ConversationId,
        kinds: &[Kind],
    ) -> Result<Vec<(Kind, Bytes)>, StoreError> {
        let (reach, statements) = self.reach(id.shard)?;
        let kinds = CqlValue::List(kinds.iter().copied().map(kind_value).collect());
        let statement = self.bound(&statements.of_kinds, &vec![blob(id), kinds])?;
        let found: Vec<(i8, Vec<u8>)> = self.scylla.rows(&reach, statement, usize::MAX).await?;
        let kind = |code: i8| {
            Kind::from_code(code.to_be_bytes()[0])
                .ok_or_else(|| self.corrupt(format!("a row of kind {code}, which is not known")))
        };
        found.into_iter().map(|(code, value)| Ok((kind(code)?, value.into()))).collect()
    }

    async fn numbered(
        &self,
        kind: Kind,
        bucket: &Partition,
        numbers: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let (reach, statements) = self.reach(bucket.conversation().shard)?;
        let bound = |n: &u64| CqlValue::Blob(ClusteringKey::Number(*n).to_bytes());
        let mut values = self.partition_values(bucket, 0)?;
        values.extend([kind_value(kind), bound(numbers.start()), bound(numbers.end())]);
        values.push(CqlValue::Int(limit_value(limit)));
        let statement = self.bound(&statements.numbered, &values)?;
        let found: Vec<(Vec<u8>, Vec<u8>)> = self.scylla.rows(&reach, statement, limit).await?;
        let number = |key: &[u8]| {
            let bytes = key
                .try_into()
                .map_err(|_| self.corrupt(format!("a {kind:?} row under a key that is none")))?;
            Ok(u64::from_be_bytes(bytes))
        };
        found.into_iter().map(|(key, value)| Ok((number(&key)?, value.into()))).collect()
    }

    /// In the order of tokens, which is that of no key. (Of two with one token, once in 2^64, one
    /// may be passed over.)
    async fn scan(
        &self,
        shard: ShardId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let statement = match after {
            Some(after) => {
                self.bound(&statements.scan_on, &(after.to_bytes(), limit_value(limit)))?
            }
            None => self.bound(&statements.scan, &(limit_value(limit),))?,
        };
        let found: Vec<(Vec<u8>,)> = self.scylla.rows(&reach, statement, limit).await?;
        let id = |bytes: &[u8]| {
            ConversationId::from_bytes(bytes)
                .map_err(|error| self.corrupt(format!("the key of a conversation: {error}")))
        };
        found.iter().map(|(key,)| id(key)).collect()
    }
}
