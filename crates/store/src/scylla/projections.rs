//! Rows as statements.
//!
//! Each row is one cell, whose write time is its stamp. The rows of a frame that lie under one partition key go as one unlogged
//! batch, of whichever tables they are: Cassandra makes one mutation of them, and any server one request. So a message costs three
//! requests: the message and its change; head, last message and read cursor; the name it was sent under. Across partition
//! keys nothing is atomic, nor need it be: a frame is projected again until all of it is there.

use std::collections::BTreeMap;

use conversation::projection::Row;
use futures_util::stream::{StreamExt, TryStreamExt};
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use smol_str::SmolStr;
use wire::limits::SEQS_PER_BUCKET;
use wire::{ClientMsgId, ConversationId, Position, ShardId};
use xxhash_rust::xxh3::xxh3_64;

use super::handle::Handle;
use super::reach::Reach;
use super::statements::Statements;
use crate::contract::StoreError;
use crate::rows;

/// Statements of one frame on their way at once.
const AT_ONCE: usize = 16;
/// Bounds of a batch: far below what servers warn of.
const BATCH_ROWS: usize = 64;
const BATCH_BYTES: usize = 32 * 1024;
/// Partitions over which the sends of one sender to one conversation are spread.
const DEDUPE_PARTS: u64 = 16;

/// The partition in which a seq or a ver lies; they start at 1.
pub(super) fn bucket(n: u64) -> u64 {
    n.saturating_sub(1) / SEQS_PER_BUCKET
}

pub(super) fn dedupe_part(client_msg_id: &ClientMsgId) -> i8 {
    i8::try_from(xxh3_64(client_msg_id.as_str().as_bytes()) % DEDUPE_PARTS)
        .expect("a small remainder")
}

/// Rows under one partition key.
#[derive(Default)]
struct Group<'a> {
    /// One a row.
    statements: Vec<&'a PreparedStatement>,
    rows: Vec<Vec<CqlValue>>,
    bytes: usize,
}

/// A partition key. Keys of several columns can only be the same as others of the same columns.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Partition {
    /// The id of a conversation, or of a user's stream.
    Of(ConversationId),
    /// Of a conversation.
    Bucket(ConversationId, i32),
    /// Of a conversation, a sender.
    Dedupe(ConversationId, SmolStr, i8),
}

impl Handle {
    pub(super) async fn write_rows(
        &self,
        reach: &Reach,
        shard: ShardId,
        stamp: Position,
        rows: &[Row],
    ) -> Result<(), StoreError> {
        let statements = self.statements(shard.zone)?;
        let write_time = self.write_time(stamp)?;
        let groups = self.group(statements, write_time, rows)?;
        let several = groups.len() > 1;
        // A closure over borrowed groups would not be general enough for a future that is sent between threads.
        let writes: Vec<_> =
            groups.into_iter().map(|group| self.write_group(reach, group)).collect();
        let written =
            futures_util::stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<()>().await;
        written.map_err(|error| match error {
            // Others may have been written.
            StoreError::Unavailable { .. } if several => StoreError::Unknown,
            error => error,
        })
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

    fn group<'a>(
        &self,
        statements: &'a Statements,
        write_time: i64,
        rows: &[Row],
    ) -> Result<Vec<Group<'a>>, StoreError> {
        let mut open: BTreeMap<Partition, Group<'a>> = BTreeMap::new();
        let mut full = Vec::new();
        for row in rows {
            let placed = self.place(statements, row)?;
            let value = rows::value(row);
            let bytes = value.len() + 64;
            let mut values = vec![CqlValue::BigInt(write_time), CqlValue::Blob(value.into())];
            values.extend(placed.key);
            let group = open.entry(placed.partition).or_default();
            if group.rows.len() == BATCH_ROWS
                || (group.bytes + bytes > BATCH_BYTES && !group.rows.is_empty())
            {
                full.push(std::mem::take(group));
            }
            group.statements.push(placed.statement);
            group.rows.push(values);
            group.bytes += bytes;
        }
        full.extend(open.into_values());
        Ok(full)
    }

    fn place<'a>(&self, statements: &'a Statements, row: &Row) -> Result<Placed<'a>, StoreError> {
        let conv = |id: ConversationId| CqlValue::Blob(id.to_bytes().to_vec());
        let text = |text: &str| CqlValue::Text(text.to_owned());
        let of = |statement, id: ConversationId, rest: Vec<CqlValue>| Placed {
            statement,
            partition: Partition::Of(id),
            key: [vec![conv(id)], rest].concat(),
        };
        let numbered = |statement, id: ConversationId, n: u64| {
            let bucket = self.bucket_value(n)?;
            let key = vec![conv(id), CqlValue::Int(bucket), CqlValue::BigInt(self.signed(n)?)];
            Ok(Placed { statement, partition: Partition::Bucket(id, bucket), key })
        };
        let s = statements;
        Ok(match row {
            Row::Facts(row) => of(&s.write_facts, row.conversation, vec![]),
            Row::Head(row) => of(&s.write_head, row.conversation, vec![]),
            Row::LastMessage(row) => of(&s.write_last_message, row.conversation, vec![]),
            Row::Home(row) => of(&s.write_placement, row.conversation, vec![]),
            Row::Member(row) => {
                of(&s.write_member, row.conversation, vec![text(row.user.as_str())])
            }
            Row::Role(row) => of(&s.write_role, row.conversation, vec![text(row.user.as_str())]),
            Row::ReadCursor(row) => {
                of(&s.write_read_cursor, row.conversation, vec![text(row.user.as_str())])
            }
            Row::Inbox(row) => of(&s.write_inbox, row.stream, vec![conv(row.conversation)]),
            Row::Message(row) => numbered(&s.write_message, row.conversation, row.seq)?,
            Row::Change(row) => numbered(&s.write_change, row.conversation, row.ver)?,
            Row::Dedupe(row) => {
                let (id, sender, name) = (row.conversation, &row.sender, &row.client_msg_id);
                let part = dedupe_part(name);
                let key = vec![
                    conv(id),
                    text(sender.as_str()),
                    CqlValue::TinyInt(part),
                    text(name.as_str()),
                ];
                let partition = Partition::Dedupe(id, sender.as_str().into(), part);
                Placed { statement: &s.write_dedupe, partition, key }
            }
        })
    }
}

/// Where a row goes.
struct Placed<'a> {
    statement: &'a PreparedStatement,
    partition: Partition,
    key: Vec<CqlValue>,
}
