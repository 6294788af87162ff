//! The contract, in terms of cells.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::dedupe::Seen;
use conversation::log::LogRow;
use conversation::projection::{HeadRow, InboxRow, PlacementRow, ReadCursorRow, Row};
use conversation::sequencer::LoadedConversation;
use conversation::shard::{Beat, Cas, CoreLease, FenceMode, Lease, Nonce};
use futures_util::future::try_join_all;
use tokio::try_join;
use wire::change::Change;
use wire::{
    ClientMsgId, ConversationId, ConversationKind, Epoch, NodeId, Position, RegionId, ShardId,
    Slot, UserId, ZoneId,
};

use super::conditional::{FailedOver, RowKey};
use super::{Coordinator, Replicas, Scan, Sync, Write};
use crate::cell::{
    Cell, Stored, Table, after_prefix, fresh_as_of_key, log_key, log_position, mark_key, shard_key,
};
use crate::contract::{
    ConversationRef, CoreKey, Heads, Leases, Log, Mark, Marks, Projections, ScanPage, Store,
    StoreError,
};
use crate::rows::{self, Kind};

/// Rows asked of a replica at once when a scan has no other limit.
const SCAN_ROWS: usize = 16_384;
/// Conversations of one stretch of a walk.
const STRETCH: usize = 1_000;

impl<R: Replicas> Coordinator<R> {
    async fn put(&self, shard: ShardId, cells: Vec<Cell>, sync: Sync) -> Result<(), StoreError> {
        let quorum = self.quorum(shard)?;
        self.write(&quorum, Write { zone: shard.zone, cells, sync }).await
    }

    async fn rows(
        &self,
        id: ConversationId,
        from: Vec<u8>,
        to: Vec<u8>,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let quorum = self.quorum(id.shard)?;
        let scan = Scan { table: Table::Projection, from, to, limit };
        self.read_cells(&quorum, &scan).await
    }

    /// All rows of a kind of a conversation.
    async fn all<T>(
        &self,
        id: ConversationId,
        kind: Kind,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let prefix = rows::key(id, kind, &[]);
        let end = after_prefix(&prefix);
        let mut from = prefix;
        let mut out = Vec::new();
        loop {
            let page = self.rows(id, from, end.clone(), SCAN_ROWS).await?;
            for (_, stored) in &page {
                out.push(decode(&stored.bytes).ok_or_else(|| self.not_a_row(kind))?);
            }
            match page.last() {
                Some((last, _)) if page.len() == SCAN_ROWS => from = [last, &[0][..]].concat(),
                _ => return Ok(out),
            }
        }
    }

    async fn one<T>(
        &self,
        id: ConversationId,
        kind: Kind,
        rest: &[u8],
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let quorum = self.quorum(id.shard)?;
        let found = self.read_cell(&quorum, Table::Projection, &rows::key(id, kind, rest)).await?;
        found.map(|stored| decode(&stored.bytes).ok_or_else(|| self.not_a_row(kind))).transpose()
    }

    /// Its checksum was right, so it was written like that: by a version that this one cannot read.
    fn not_a_row(&self, kind: Kind) -> StoreError {
        StoreError::Corrupt {
            region: self.region,
            what: format!("a {kind:?} row that this version cannot read"),
        }
    }
}

type Found = Vec<(Bytes, Stored)>;

#[async_trait]
impl<R: Replicas> Leases for Coordinator<R> {
    async fn lease(&self, shard: ShardId) -> Result<Lease, StoreError> {
        Ok(self.serial_read(RowKey::Shard(shard)).await?.unwrap_or_default())
    }

    async fn claim(
        &self,
        shard: ShardId,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Result<Cas, StoreError> {
        self.write_if(shard, |lease| lease.claimed(observed, owner, nonce, fence_mode)).await
    }

    async fn seal(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Result<Cas, StoreError> {
        self.write_if(shard, |lease| lease.sealed_at(shard.durability, epoch, nonce, start)).await
    }

    async fn release(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        end: Slot,
    ) -> Result<Cas, StoreError> {
        self.write_if(shard, |lease| lease.released_at(epoch, nonce, end)).await
    }

    async fn close_fork(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        fork: Epoch,
    ) -> Result<Cas, StoreError> {
        self.write_if(shard, |lease| lease.closed(epoch, nonce, fork)).await
    }

    async fn core_leases(
        &self,
        zone: ZoneId,
        region: RegionId,
    ) -> Result<Vec<CoreLease>, StoreError> {
        self.serial_cores(zone, region).await
    }

    async fn core_lease(&self, of: CoreKey) -> Result<Option<CoreLease>, StoreError> {
        self.serial_read(RowKey::Core(of)).await
    }

    async fn register_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
    ) -> Result<Cas, StoreError> {
        let key = RowKey::Core(CoreKey { zone, region: node.region, incarnation });
        self.write_row_if(key, |row| {
            row.is_none().then(|| CoreLease::registered(node.clone(), incarnation))
        })
        .await
    }

    async fn renew_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
        beat: Beat,
    ) -> Result<Cas, StoreError> {
        let key = RowKey::Core(CoreKey { zone, region: node.region, incarnation });
        self.write_row_if(key, |row: Option<CoreLease>| row?.renewed(beat)).await
    }

    async fn break_core(&self, of: CoreKey, beat: Beat) -> Result<Cas, StoreError> {
        self.write_row_if(RowKey::Core(of), |row: Option<CoreLease>| row?.broken_at(beat)).await
    }

    async fn failed_over(&self, zone: ZoneId) -> Result<BTreeSet<RegionId>, StoreError> {
        let regions = self.regions(zone, self.region)?;
        let reads = regions.iter().map(|&region| async move {
            let FailedOver(failed_over) =
                self.serial_read(RowKey::FailedOver(zone, region)).await?.unwrap_or_default();
            Ok::<_, StoreError>(failed_over.then_some(region))
        });
        Ok(try_join_all(reads).await?.into_iter().flatten().collect())
    }

    async fn set_failed_over(
        &self,
        zone: ZoneId,
        region: RegionId,
        failed_over: bool,
    ) -> Result<Cas, StoreError> {
        let key = RowKey::FailedOver(zone, region);
        let news = |row: Option<FailedOver>| {
            (row.unwrap_or_default().0 != failed_over).then_some(FailedOver(failed_over))
        };
        self.write_row_if(key, news).await
    }
}

impl<R: Replicas> Store for Coordinator<R> {
    fn at(&self, region: RegionId) -> Arc<dyn Store> {
        let (replicas, conditional) = (self.replicas.clone(), Arc::clone(&self.conditional));
        Arc::new(Self { replicas, region: self.region, at: region, conditional })
    }
}

#[async_trait]
impl<R: Replicas> Log for Coordinator<R> {
    async fn write_fence(&self, shard: ShardId, epoch: Epoch) -> Result<(), StoreError> {
        let cell =
            Cell::new(Table::Fence, shard_key(shard), Position { epoch, slot: Slot(0) }, &[]);
        self.put(shard, vec![cell], Sync::Disk(shard.durability)).await
    }

    async fn fence(&self, shard: ShardId) -> Result<Epoch, StoreError> {
        let quorum = self.quorum(shard)?;
        let found = self.read_cell(&quorum, Table::Fence, &shard_key(shard)).await?;
        Ok(found.map_or(Epoch(0), |stored| stored.stamp.epoch))
    }

    async fn append(&self, shard: ShardId, at: Position, frame: Bytes) -> Result<(), StoreError> {
        let cell = Cell::new(Table::Log, log_key(shard, at), at, &frame);
        self.put(shard, vec![cell], Sync::Disk(shard.durability)).await
    }

    async fn read_log(
        &self,
        shard: ShardId,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        let quorum = self.quorum(shard)?;
        let from = log_key(shard, Position { epoch: Epoch(0), slot: from });
        let scan = Scan { table: Table::Log, from, to: after_prefix(&shard_key(shard)), limit };
        let found = self.read_cells(&quorum, &scan).await?;
        found
            .into_iter()
            .map(|(key, stored)| {
                let at = log_position(&key).ok_or_else(|| StoreError::Corrupt {
                    region: self.region,
                    what: format!("a log row of {shard} under a key that is none"),
                })?;
                Ok(LogRow { at, frame: stored.bytes })
            })
            .collect()
    }
}

#[async_trait]
impl<R: Replicas> Marks for Coordinator<R> {
    async fn write_mark(
        &self,
        shard: ShardId,
        mark: &Mark,
        at: Position,
    ) -> Result<(), StoreError> {
        let cell = Cell::new(Table::Mark, mark_key(shard, mark), at, &[]);
        let sync = match mark {
            Mark::Checkpoint | Mark::Follower(_) => Sync::Disk(shard.durability),
            Mark::Committed | Mark::Consumer(_) => Sync::Memory,
        };
        self.put(shard, vec![cell], sync).await
    }

    async fn mark(&self, shard: ShardId, mark: &Mark) -> Result<Option<Position>, StoreError> {
        let quorum = self.quorum(shard)?;
        let found = self.read_cell(&quorum, Table::Mark, &mark_key(shard, mark)).await?;
        Ok(found.map(|stored| stored.stamp))
    }

    async fn write_fresh_as_of(
        &self,
        shard: ShardId,
        region: RegionId,
        as_of_ms: u64,
    ) -> Result<(), StoreError> {
        // The stamp ranks by time, so the latest write wins.
        let stamp = Position { epoch: Epoch(0), slot: Slot(as_of_ms) };
        let cell =
            Cell::new(Table::Mark, fresh_as_of_key(shard, region), stamp, &as_of_ms.to_be_bytes());
        self.put(shard, vec![cell], Sync::Memory).await
    }

    async fn fresh_as_of(
        &self,
        shard: ShardId,
        region: RegionId,
    ) -> Result<Option<u64>, StoreError> {
        let quorum = self.quorum(shard)?;
        let key = fresh_as_of_key(shard, region);
        let Some(stored) = self.read_cell(&quorum, Table::Mark, &key).await? else {
            return Ok(None);
        };
        let as_of_ms = stored.bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        as_of_ms.map(Some).ok_or_else(|| StoreError::Corrupt {
            region: self.region,
            what: format!("the time up to which {shard} is followed is none"),
        })
    }
}

#[async_trait]
impl<R: Replicas> Projections for Coordinator<R> {
    async fn project(
        &self,
        shard: ShardId,
        stamp: Position,
        rows: Vec<Row>,
    ) -> Result<(), StoreError> {
        let cells: Vec<Cell> = rows.iter().map(|row| rows::cell(row, stamp)).collect();
        if cells.is_empty() {
            return Ok(());
        }
        self.put(shard, cells, Sync::Memory).await
    }

    async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<LoadedConversation>, StoreError> {
        let Some(head) = self.one(id, Kind::Head, &[], rows::decode).await? else {
            return Ok(None);
        };
        let inbox = async {
            if id.kind == ConversationKind::User { self.inbox(id).await } else { Ok(Vec::new()) }
        };
        let (facts, last_message, placement, members, roles, inbox) = try_join!(
            self.one(id, Kind::Facts, &[], rows::decode),
            self.one(id, Kind::LastMessage, &[], rows::decode),
            self.one(id, Kind::Home, &[], rows::decode),
            self.all(id, Kind::Member, rows::decode),
            self.all(id, Kind::Role, rows::decode),
            inbox,
        )?;
        Ok(Some(LoadedConversation {
            facts,
            head: Some(head),
            last_message,
            members,
            roles,
            inbox,
            placement,
        }))
    }

    async fn messages(
        &self,
        id: ConversationId,
        from_seq: u64,
        to_seq: u64,
    ) -> Result<Vec<Change>, StoreError> {
        let limit = usize::try_from(to_seq.saturating_sub(from_seq).saturating_add(1))
            .unwrap_or(usize::MAX);
        let from = rows::key(id, Kind::Message, &from_seq.to_be_bytes());
        let to = rows::key(id, Kind::Message, &to_seq.saturating_add(1).to_be_bytes());
        if from >= to {
            return Ok(Vec::new());
        }
        let found = self.rows(id, from, to, limit.min(SCAN_ROWS)).await?;
        found
            .iter()
            .map(|(_, stored)| {
                Change::from_bytes(&stored.bytes).map_err(|_| self.not_a_row(Kind::Message))
            })
            .collect()
    }

    async fn placed_changes(
        &self,
        id: ConversationId,
        after_ver: u64,
        limit: usize,
    ) -> Result<Vec<(Position, Change)>, StoreError> {
        let from = rows::key(id, Kind::Change, &after_ver.saturating_add(1).to_be_bytes());
        let to = after_prefix(&rows::key(id, Kind::Change, &[]));
        let found = self.rows(id, from, to, limit.min(SCAN_ROWS)).await?;
        let mut entries = Vec::with_capacity(found.len());
        for (_, stored) in &found {
            entries.push(
                rows::change_entry(&stored.bytes).ok_or_else(|| self.not_a_row(Kind::Change))?,
            );
        }
        let seqs = || entries.iter().filter_map(rows::ChangeEntry::seq);
        let messages = match (seqs().min(), seqs().max()) {
            (Some(first), Some(last)) => self.messages(id, first, last).await?,
            _ => Vec::new(),
        };
        Ok(rows::whole(entries, messages))
    }

    async fn dedupe(
        &self,
        id: ConversationId,
        sender: &UserId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<Seen>, StoreError> {
        self.one(id, Kind::Dedupe, &rows::dedupe_rest(sender, client_msg_id), rows::decode_seen)
            .await
    }

    async fn inbox(&self, user_stream: ConversationId) -> Result<Vec<InboxRow>, StoreError> {
        self.all(user_stream, Kind::Inbox, rows::decode).await
    }

    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<Option<Heads>>, StoreError> {
        let one = async |&id| {
            let (head, last_message) = try_join!(
                self.one(id, Kind::Head, &[], rows::decode),
                self.one(id, Kind::LastMessage, &[], rows::decode),
            )?;
            Ok(head.map(|head| Heads { head, last_message }))
        };
        try_join_all(ids.iter().map(one)).await
    }

    async fn conversations(
        &self,
        shard: ShardId,
        after: Option<ConversationId>,
    ) -> Result<ScanPage, StoreError> {
        let quorum = self.quorum(shard)?;
        let all = rows::kind_prefix(shard.zone, Kind::Head);
        let from = match after {
            Some(after) => after_prefix(&rows::key(after, Kind::Head, &[])),
            None => all.to_vec(),
        };
        let scan = Scan { table: Table::Projection, from, to: after_prefix(&all), limit: STRETCH };
        let found = self.read_cells(&quorum, &scan).await?;
        let mut last = None;
        let mut met = Vec::new();
        for (_, stored) in &found {
            let head: HeadRow =
                rows::decode(&stored.bytes).ok_or_else(|| self.not_a_row(Kind::Head))?;
            let id = head.conversation;
            last = Some(id);
            if id.shard.durability != shard.durability {
                continue;
            }
            let placement: Option<PlacementRow> =
                self.one(id, Kind::Home, &[], rows::decode).await?;
            if id.shard == shard || placement.is_some() {
                met.push(ConversationRef { head, moved: placement.is_some() });
            }
        }
        Ok(ScanPage { met, next: last.filter(|_| found.len() == STRETCH) })
    }

    async fn read_cursors(
        &self,
        user: &UserId,
        ids: &[ConversationId],
    ) -> Result<Vec<u64>, StoreError> {
        let one = async |&id| {
            let row: Option<ReadCursorRow> =
                self.one(id, Kind::ReadCursor, user.as_str().as_bytes(), rows::decode).await?;
            Ok(row.map_or(0, |row| row.read_seq))
        };
        try_join_all(ids.iter().map(one)).await
    }
}
