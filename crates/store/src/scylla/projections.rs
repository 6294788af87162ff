//! Rows as statements.
//!
//! Each row is one cell, whose write time is its stamp. The rows of a frame that lie in one partition go as
//! one unlogged batch: one mutation for its replicas. Across partitions nothing is atomic, nor need it be: a frame is
//! projected again until all of it is there.

use std::collections::BTreeMap;

use conversation::projection::Row;
use futures_util::stream::{StreamExt, TryStreamExt};
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
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
    i8::try_from(xxh3_64(client_msg_id.as_str().as_bytes()) % DEDUPE_PARTS).expect("a small remainder")
}

/// Rows of one partition of one table.
struct Group<'a> {
    statement: &'a PreparedStatement,
    rows: Vec<Vec<CqlValue>>,
    bytes: usize,
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
        let writes: Vec<_> = groups.into_iter().map(|group| self.write_group(reach, group)).collect();
        let written = futures_util::stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<()>().await;
        written.map_err(|error| match error {
            // Others may have been written.
            StoreError::Unavailable { .. } if several => StoreError::Unknown,
            error => error,
        })
    }

    async fn write_group(&self, reach: &Reach, group: Group<'_>) -> Result<(), StoreError> {
        if let [row] = &group.rows[..] {
            return self.scylla.write(reach, self.bound(group.statement, row)?).await;
        }
        let statements = vec![BatchStatement::PreparedStatement(group.statement.clone()); group.rows.len()];
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
        let mut open: BTreeMap<(u8, Vec<u8>), Group<'a>> = BTreeMap::new();
        let mut full = Vec::new();
        for row in rows {
            let placed = self.place(statements, row)?;
            let value = rows::value(row);
            let bytes = value.len() + 64;
            let mut values = vec![CqlValue::BigInt(write_time), CqlValue::Blob(value.into())];
            values.extend(placed.key);
            let new = || Group { statement: placed.statement, rows: Vec::new(), bytes: 0 };
            let group = open.entry((placed.table, placed.partition)).or_insert_with(new);
            if group.rows.len() == BATCH_ROWS || (group.bytes + bytes > BATCH_BYTES && !group.rows.is_empty()) {
                full.push(std::mem::replace(group, new()));
            }
            group.rows.push(values);
            group.bytes += bytes;
        }
        full.extend(open.into_values());
        Ok(full)
    }

    fn place<'a>(&self, statements: &'a Statements, row: &Row) -> Result<Placed<'a>, StoreError> {
        let conv = |id: ConversationId| CqlValue::Blob(id.to_bytes().to_vec());
        let text = |text: &str| CqlValue::Text(text.to_owned());
        let placed = |statement, table, id: ConversationId, part: &[u8], rest: Vec<CqlValue>| Placed {
            statement,
            table,
            partition: [&id.to_bytes()[..], part].concat(),
            key: [vec![conv(id)], rest].concat(),
        };
        let numbered = |statement, table, id: ConversationId, n: u64| {
            let bucket = self.bucket_value(n)?;
            let rest = vec![CqlValue::Int(bucket), CqlValue::BigInt(self.signed(n)?)];
            Ok(placed(statement, table, id, &bucket.to_be_bytes(), rest))
        };
        let s = statements;
        Ok(match row {
            Row::Facts(row) => placed(&s.write_facts, 0, row.conversation, &[], vec![]),
            Row::Head(row) => placed(&s.write_head, 1, row.conversation, &[], vec![]),
            Row::LastMessage(row) => placed(&s.write_last_message, 2, row.conversation, &[], vec![]),
            Row::Member(row) => placed(&s.write_member, 3, row.conversation, &[], vec![text(row.user.as_str())]),
            Row::Role(row) => placed(&s.write_role, 4, row.conversation, &[], vec![text(row.user.as_str())]),
            Row::Message(row) => numbered(&s.write_message, 5, row.conversation, row.seq)?,
            Row::Change(row) => numbered(&s.write_change, 6, row.conversation, row.ver)?,
            Row::Dedupe(row) => {
                let part = dedupe_part(&row.client_msg_id);
                let rest = vec![text(row.sender.as_str()), CqlValue::TinyInt(part), text(row.client_msg_id.as_str())];
                let partition = [row.sender.as_str().as_bytes(), &part.to_be_bytes()].concat();
                placed(&s.write_dedupe, 7, row.conversation, &partition, rest)
            }
            Row::Inbox(row) => placed(&s.write_inbox, 8, row.stream, &[], vec![conv(row.conversation)]),
            Row::Placement(row) => placed(&s.write_placement, 10, row.conversation, &[], vec![]),
            Row::ReadCursor(row) => {
                placed(&s.write_read_cursor, 9, row.conversation, &[], vec![text(row.user.as_str())])
            }
        })
    }
}

/// Where a row goes.
struct Placed<'a> {
    statement: &'a PreparedStatement,
    table: u8,
    partition: Vec<u8>,
    key: Vec<CqlValue>,
}
