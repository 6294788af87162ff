//! The contract, in statements.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::dedupe::Seen;
use conversation::log::LogRow;
use conversation::projection::{HeadRow, InboxRow, LastMessageRow, ReadCursorRow, Row};
use conversation::sequencer::LoadedConversation;
use conversation::shard::{Beat, Cas, CoreLease, FenceMode, Lease, Nonce};
use futures_util::stream::{StreamExt, TryStreamExt};
use scylla::serialize::row::SerializeRow;
use scylla::statement::bound::BoundStatement;
use scylla::statement::prepared::PreparedStatement;
use serde::de::DeserializeOwned;
use tokio::try_join;
use wire::change::Change;
use wire::limits::{SEQS_PER_BUCKET, SLOTS_PER_CHUNK};
use wire::{
    ClientMsgId, ConversationId, ConversationKind, Durability, Epoch, NodeId, Position, RegionId,
    ShardId, Slot, UserId, ZoneId,
};

use super::Scylla;
use super::projections::{bucket, dedupe_part};
use super::reach::{self, Reach};
use super::stamp::write_time;
use super::statements::Statements;
use crate::contract::{
    ConversationRef, CoreKey, Heads, Leases, Log, Mark, Marks, Projections, ScanPage, Store,
    StoreError,
};
use crate::rows;

/// Rows of one answer at most.
const ROWS_MAX: usize = 16_384;
/// Conversations of one stretch of a walk.
const STRETCH: usize = 1_000;
/// Reads of one question on their way at once.
const AT_ONCE: usize = 32;
/// Shards whose fences lie in one partition, so that they can be read together.
const SHARDS_PER_GROUP: u16 = 64;

/// One region's view. See [`Scylla::store`].
pub(super) struct Handle {
    pub(super) scylla: Scylla,
    /// Where class `region` is kept: the region's own datacenter, unless it was asked for another.
    pub(super) at: RegionId,
    /// Of the zones that the region belongs to.
    pub(super) zones: Arc<HashMap<ZoneId, Statements>>,
}

/// The columns by which every table of the log and the lease starts.
pub(super) fn shard_key(shard: ShardId) -> (i32, i8, i32) {
    let class = match shard.durability {
        Durability::Region => 0,
        Durability::MultiRegion => 1,
    };
    (shard.home.0.into(), class, shard.n.into())
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// For a limit in a statement.
fn limit_value(limit: usize) -> i32 {
    i32::try_from(limit.min(ROWS_MAX)).unwrap_or(i32::MAX)
}

type WalkColumns = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);
type ConversationColumns = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);

impl Handle {
    pub(super) fn statements(&self, zone: ZoneId) -> Result<&Statements, StoreError> {
        self.zones
            .get(&zone)
            .ok_or(StoreError::NotInZone { region: self.scylla.options.region, zone })
    }

    fn reach(&self, shard: ShardId) -> Result<(Reach, &Statements), StoreError> {
        let reach = reach::of_class(&self.scylla.options, &self.scylla.profiles, shard, self.at)?;
        Ok((reach, self.statements(shard.zone)?))
    }

    /// The statement with its values. They fit: both stand in this crate.
    pub(super) fn bound(
        &self,
        statement: &PreparedStatement,
        values: &impl SerializeRow,
    ) -> Result<BoundStatement, StoreError> {
        let unfit =
            |error| self.corrupt(format!("a table of another form than this version's: {error}"));
        statement.clone().bind(values).map_err(unfit)
    }

    /// CQL has no unsigned numbers.
    pub(super) fn signed(&self, n: u64) -> Result<i64, StoreError> {
        i64::try_from(n).map_err(|_| self.past_bounds(n))
    }

    /// The partition in which a seq or a ver lies.
    pub(super) fn bucket_value(&self, n: u64) -> Result<i32, StoreError> {
        i32::try_from(bucket(n)).map_err(|_| self.past_bounds(n))
    }

    pub(super) fn write_time(&self, at: Position) -> Result<i64, StoreError> {
        write_time(at).ok_or_else(|| self.past_bounds(at.slot.0.max(at.epoch.0)))
    }

    /// Nobody counts that far: whoever says so has read bytes that are none of ours. Nothing was written.
    fn past_bounds(&self, n: u64) -> StoreError {
        self.corrupt(format!("number {n} is past all bounds"))
    }

    fn corrupt(&self, what: String) -> StoreError {
        StoreError::Corrupt { region: self.scylla.options.region, what }
    }

    fn decode<T: DeserializeOwned>(&self, table: &str, bytes: &[u8]) -> Result<T, StoreError> {
        rows::decode(bytes).ok_or_else(|| {
            self.corrupt(format!("a row of table {table} that this version cannot read"))
        })
    }

    /// All rows of a partition of rows that are one blob each.
    async fn all<T: DeserializeOwned>(
        &self,
        id: ConversationId,
        table: &str,
        of: impl Fn(&Statements) -> &PreparedStatement,
    ) -> Result<Vec<T>, StoreError> {
        let (reach, statements) = self.reach(id.shard)?;
        let statement = self.bound(of(statements), &(id.to_bytes(),))?;
        let found: Vec<(Vec<u8>,)> = self.scylla.rows(&reach, statement, usize::MAX).await?;
        found.iter().map(|(row,)| self.decode(table, row)).collect()
    }

    async fn columns(&self, id: ConversationId) -> Result<ConversationColumns, StoreError> {
        let (reach, statements) = self.reach(id.shard)?;
        let found = self
            .scylla
            .row(&reach, self.bound(&statements.conversation, &(id.to_bytes(),))?)
            .await?;
        Ok(found.unwrap_or_default())
    }

    fn optional<T: DeserializeOwned>(
        &self,
        bytes: Option<&Vec<u8>>,
    ) -> Result<Option<T>, StoreError> {
        bytes.map(|bytes| self.decode("conversation", bytes)).transpose()
    }

    /// Rows of one chunk of the log from a slot on.
    async fn read_chunk(
        &self,
        shard: ShardId,
        chunk: u64,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let values =
            (home, class, n, self.signed(chunk)?, self.signed(from.0)?, limit_value(limit));
        let found: Vec<(i64, i64, Bytes)> =
            self.scylla.rows(&reach, self.bound(&statements.read_log, &values)?, limit).await?;
        let row = |(slot, epoch, frame): (i64, i64, Bytes)| LogRow {
            at: Position { epoch: Epoch(unsigned(epoch)), slot: Slot(unsigned(slot)) },
            // Not a view of the whole page, which would keep that in memory.
            frame: Bytes::copy_from_slice(&frame),
        };
        Ok(found.into_iter().map(row).collect())
    }

    /// Messages of one bucket.
    async fn read_bucket(
        &self,
        id: ConversationId,
        from_seq: u64,
        to_seq: u64,
        limit: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let (reach, statements) = self.reach(id.shard)?;
        let (bucket, from, to) =
            (self.bucket_value(from_seq)?, self.signed(from_seq)?, self.signed(to_seq)?);
        let values = (id.to_bytes(), bucket, from, to, limit_value(limit));
        let found: Vec<(Vec<u8>,)> =
            self.scylla.rows(&reach, self.bound(&statements.messages, &values)?, limit).await?;
        let change = |(bytes,): &(Vec<u8>,)| {
            Change::from_bytes(bytes).map_err(|_| {
                self.corrupt("a row of table message that this version cannot read".into())
            })
        };
        found.iter().map(change).collect()
    }

    /// Changes after a ver, dense.
    async fn change_entries(
        &self,
        id: ConversationId,
        after_ver: u64,
        limit: usize,
    ) -> Result<Vec<rows::ChangeEntry>, StoreError> {
        let (reach, statements) = self.reach(id.shard)?;
        let mut entries = Vec::new();
        let mut next = after_ver.saturating_add(1);
        while entries.len() < limit {
            let left = limit - entries.len();
            let values = (
                id.to_bytes(),
                self.bucket_value(next)?,
                self.signed(next - 1)?,
                limit_value(left),
            );
            let found: Vec<(i64, Vec<u8>)> =
                self.scylla.rows(&reach, self.bound(&statements.changes, &values)?, left).await?;
            let end = (bucket(next) + 1) * SEQS_PER_BUCKET;
            for (ver, row) in &found {
                if unsigned(*ver) != next {
                    return Ok(entries);
                }
                let entry = rows::change_entry(row);
                let unreadable =
                    || self.corrupt("a row of table change that this version cannot read".into());
                entries.push(entry.ok_or_else(unreadable)?);
                next += 1;
            }
            if next <= end {
                break;
            }
        }
        Ok(entries)
    }
}

#[async_trait]
impl Leases for Handle {
    async fn lease(&self, shard: ShardId) -> Result<Lease, StoreError> {
        self.serial_lease(shard).await
    }

    async fn claim(
        &self,
        shard: ShardId,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Result<Cas, StoreError> {
        self.claim_lease(shard, observed, owner, nonce, fence_mode).await
    }

    async fn seal(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Result<Cas, StoreError> {
        self.seal_lease(shard, epoch, nonce, start).await
    }

    async fn release(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        end: Slot,
    ) -> Result<Cas, StoreError> {
        self.release_lease(shard, epoch, nonce, end).await
    }

    async fn close_fork(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        fork: Epoch,
    ) -> Result<Cas, StoreError> {
        self.close_lease(shard, epoch, nonce, fork).await
    }

    async fn core_leases(
        &self,
        zone: ZoneId,
        region: RegionId,
    ) -> Result<Vec<CoreLease>, StoreError> {
        self.serial_cores(zone, region).await
    }

    async fn core_lease(&self, of: CoreKey) -> Result<Option<CoreLease>, StoreError> {
        self.serial_core(of).await
    }

    async fn register_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
    ) -> Result<Cas, StoreError> {
        self.register(zone, node, incarnation).await
    }

    async fn renew_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
        beat: Beat,
    ) -> Result<Cas, StoreError> {
        self.renew(zone, node, incarnation, beat).await
    }

    async fn break_core(&self, of: CoreKey, beat: Beat) -> Result<Cas, StoreError> {
        self.break_life(of, beat).await
    }

    async fn failed_over(&self, zone: ZoneId) -> Result<BTreeSet<RegionId>, StoreError> {
        self.serial_failed_over(zone).await
    }

    async fn set_failed_over(
        &self,
        zone: ZoneId,
        region: RegionId,
        failed_over: bool,
    ) -> Result<Cas, StoreError> {
        self.write_failed_over(zone, region, failed_over).await
    }
}

impl Store for Handle {
    fn at(&self, region: RegionId) -> Arc<dyn Store> {
        Arc::new(Self { scylla: self.scylla.clone(), at: region, zones: Arc::clone(&self.zones) })
    }
}

#[async_trait]
impl Log for Handle {
    async fn write_fence(&self, shard: ShardId, epoch: Epoch) -> Result<(), StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let group = i32::from(shard.n / SHARDS_PER_GROUP);
        // The write time is the epoch itself: the highest stays, in whatever order they arrive.
        let epoch = self.signed(epoch.0)?;
        self.scylla
            .write(
                &reach,
                self.bound(&statements.write_fence, &(epoch, epoch, home, class, group, n))?,
            )
            .await
    }

    async fn fence(&self, shard: ShardId) -> Result<Epoch, StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let group = i32::from(shard.n / SHARDS_PER_GROUP);
        let found = self
            .scylla
            .row(&reach, self.bound(&statements.fence, &(home, class, group, n))?)
            .await?;
        Ok(found.map_or(Epoch(0), |(epoch,): (i64,)| Epoch(unsigned(epoch))))
    }

    async fn append(&self, shard: ShardId, at: Position, frame: Bytes) -> Result<(), StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let chunk = self.signed(at.slot.0 / SLOTS_PER_CHUNK)?;
        let values =
            (frame, home, class, n, chunk, self.signed(at.slot.0)?, self.signed(at.epoch.0)?);
        self.scylla.write(&reach, self.bound(&statements.append, &values)?).await
    }

    async fn read_log(
        &self,
        shard: ShardId,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        self.reach(shard)?;
        let mut out = Vec::new();
        let mut chunk = from.0 / SLOTS_PER_CHUNK;
        // Two at a time: appends overtake each other by less than a chunk, so that behind an empty one there may be rows,
        // but not behind two.
        while out.len() < limit {
            let left = limit - out.len();
            let (first, second) = try_join!(
                self.read_chunk(shard, chunk, from, left),
                self.read_chunk(shard, chunk + 1, from, left),
            )?;
            let end = second.is_empty();
            out.extend(first);
            out.extend(second);
            if end {
                break;
            }
            chunk += 2;
        }
        out.truncate(limit);
        Ok(out)
    }
}

#[async_trait]
impl Marks for Handle {
    async fn write_mark(
        &self,
        shard: ShardId,
        mark: &Mark,
        at: Position,
    ) -> Result<(), StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let (kind, id) = mark_key(mark);
        let time = self.write_time(at)?;
        let values =
            (time, self.signed(at.epoch.0)?, self.signed(at.slot.0)?, home, class, n, kind, id);
        self.scylla.write(&reach, self.bound(&statements.write_mark, &values)?).await
    }

    async fn mark(&self, shard: ShardId, mark: &Mark) -> Result<Option<Position>, StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let (kind, id) = mark_key(mark);
        let found = self
            .scylla
            .row(&reach, self.bound(&statements.mark, &(home, class, n, kind, id))?)
            .await?;
        let position = |(epoch, slot): (i64, i64)| Position {
            epoch: Epoch(unsigned(epoch)),
            slot: Slot(unsigned(slot)),
        };
        Ok(found.map(position))
    }

    async fn write_fresh_as_of(
        &self,
        shard: ShardId,
        region: RegionId,
        as_of_ms: u64,
    ) -> Result<(), StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        // The write time is the time itself: the latest stays, in whatever order they arrive.
        let as_of_ms = self.signed(as_of_ms)?;
        let values = (as_of_ms, as_of_ms, home, class, n, i32::from(region.0));
        self.scylla.write(&reach, self.bound(&statements.write_fresh_as_of, &values)?).await
    }

    async fn fresh_as_of(
        &self,
        shard: ShardId,
        region: RegionId,
    ) -> Result<Option<u64>, StoreError> {
        let (reach, statements) = self.reach(shard)?;
        let (home, class, n) = shard_key(shard);
        let values = (home, class, n, i32::from(region.0));
        let found = self.scylla.row(&reach, self.bound(&statements.fresh_as_of, &values)?).await?;
        Ok(found.map(|(as_of_ms,): (i64,)| unsigned(as_of_ms)))
    }
}

#[async_trait]
impl Projections for Handle {
    async fn project(
        &self,
        shard: ShardId,
        stamp: Position,
        rows: Vec<Row>,
    ) -> Result<(), StoreError> {
        let (reach, _) = self.reach(shard)?;
        self.write_rows(&reach, shard, stamp, &rows).await
    }

    async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<LoadedConversation>, StoreError> {
        let (facts, head, last_message, placement) = self.columns(id).await?;
        let Some(head) = self.optional(head.as_ref())? else { return Ok(None) };
        let inbox = async {
            if id.kind == ConversationKind::User { self.inbox(id).await } else { Ok(Vec::new()) }
        };
        let (members, roles, inbox) = try_join!(
            self.all(id, "member", |statements| &statements.members),
            self.all(id, "role", |statements| &statements.roles),
            inbox,
        )?;
        let (facts, last_message) =
            (self.optional(facts.as_ref())?, self.optional(last_message.as_ref())?);
        let placement = self.optional(placement.as_ref())?;
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
        let to_seq = to_seq.min(i64::MAX.unsigned_abs());
        let mut out = Vec::new();
        let mut from = from_seq.max(1);
        while from <= to_seq && out.len() < ROWS_MAX {
            let end = (bucket(from) + 1) * SEQS_PER_BUCKET;
            let found = self.read_bucket(id, from, to_seq.min(end), ROWS_MAX - out.len()).await?;
            // Seqs are dense: behind an empty bucket there is nothing.
            if found.is_empty() {
                break;
            }
            out.extend(found);
            from = end + 1;
        }
        Ok(out)
    }

    async fn placed_changes(
        &self,
        id: ConversationId,
        after_ver: u64,
        limit: usize,
    ) -> Result<Vec<(Position, Change)>, StoreError> {
        let entries = self.change_entries(id, after_ver, limit.min(ROWS_MAX)).await?;
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
        let (reach, statements) = self.reach(id.shard)?;
        let values =
            (id.to_bytes(), sender.as_str(), dedupe_part(client_msg_id), client_msg_id.as_str());
        let found: Option<(Vec<u8>,)> =
            self.scylla.row(&reach, self.bound(&statements.dedupe, &values)?).await?;
        found.map(|(row,)| self.decode("dedupe", &row)).transpose()
    }

    async fn inbox(&self, user_stream: ConversationId) -> Result<Vec<InboxRow>, StoreError> {
        self.all(user_stream, "inbox", |statements| &statements.inbox).await
    }

    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<Option<Heads>>, StoreError> {
        let one = async |id: ConversationId| {
            let (_, head, last_message, _) = self.columns(id).await?;
            let head: Option<HeadRow> = self.optional(head.as_ref())?;
            let last_message: Option<LastMessageRow> = self.optional(last_message.as_ref())?;
            Ok(head.map(|head| Heads { head, last_message }))
        };
        let reads: Vec<_> = ids.iter().map(|&id| one(id)).collect();
        futures_util::stream::iter(reads).buffered(AT_ONCE).try_collect().await
    }

    async fn conversations(
        &self,
        shard: ShardId,
        after: Option<ConversationId>,
    ) -> Result<ScanPage, StoreError> {
        let (reach, statements) = self.reach(shard)?;
        // In the order of tokens, which is that of no key. (Of two with one token, once in 2^64, one may be passed over.)
        let statement = match after {
            Some(after) => {
                self.bound(&statements.walk_on, &(after.to_bytes(), limit_value(STRETCH)))?
            }
            None => self.bound(&statements.walk, &(limit_value(STRETCH),))?,
        };
        let found: Vec<WalkColumns> = self.scylla.rows(&reach, statement, STRETCH).await?;
        let id = |bytes: &[u8]| {
            ConversationId::from_bytes(bytes)
                .map_err(|error| self.corrupt(format!("a key of table conversation: {error}")))
        };
        let last = found.last().map(|(key, _, _)| id(key)).transpose()?;
        let mut met = Vec::new();
        for (key, head, placement) in &found {
            let born = id(key)?.shard;
            let wanted =
                born == shard || (placement.is_some() && born.durability == shard.durability);
            if wanted && let Some(head) = self.optional(head.as_ref())? {
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
        let one = async |id: ConversationId| {
            let (reach, statements) = self.reach(id.shard)?;
            let statement = self.bound(&statements.read_cursor, &(id.to_bytes(), user.as_str()))?;
            let found: Option<(Vec<u8>,)> = self.scylla.row(&reach, statement).await?;
            let row: Option<ReadCursorRow> =
                found.map(|(row,)| self.decode("read_cursor", &row)).transpose()?;
            Ok(row.map_or(0, |row| row.read_seq))
        };
        let reads: Vec<_> = ids.iter().map(|&id| one(id)).collect();
        futures_util::stream::iter(reads).buffered(AT_ONCE).try_collect().await
    }
}

fn mark_key(mark: &Mark) -> (i8, String) {
    match mark {
        Mark::Checkpoint => (0, String::new()),
        Mark::Committed => (1, String::new()),
        Mark::Consumer(name) => (2, name.to_string()),
        Mark::Follower(region) => (3, region.0.to_string()),
    }
}
