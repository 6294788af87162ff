//! What every store promises. `core-region` knows a store only through this trait.
//!
//! A handle is one region's view: its operations start in that region and meet the quorum of the shard's durability class:
//! a majority of the zone's regions, or, in class `region`, the handle's own region, whichever is the home
//! ([`Store::at`]: another). Every row carries a stamp, a [`Position`], and of two writes of one row the one with the
//! higher stamp stays, in whatever order they arrive. So every write may be repeated, and a write that arrives late, from an
//! owner long replaced, changes nothing.
//!
//! What returns [`Cas`] is conditional, decided by a majority of the zone in every class, and touches the tables of leases
//! alone: nothing else is ever written conditionally.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::dedupe::Seen;
use conversation::log::LogRow;
use conversation::projection::{HeadRow, InboxRow, LastMessageRow, Row};
use conversation::sequencer::LoadedConversation;
use conversation::shard::{Beat, Cas, CoreLease, FenceMode, Lease, Nonce};
use smol_str::SmolStr;
use wire::change::Change;
use wire::{
    ClientMsgId, ConversationId, Epoch, NodeId, Position, RegionId, ShardId, Slot, UserId, ZoneId,
};

/// A mark of a shard. Marks are exclusive (everything before the slot) and only ever grow, by (epoch, slot).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mark {
    /// Everything before it is projected: a takeover reads the log from here. Durable when written, and with it every
    /// projection that was written before it.
    Checkpoint,
    /// Everything before it is acknowledged.
    Committed,
    /// Everything before it has been taken by the consumer of this name (1..64 bytes).
    Consumer(SmolStr),
    /// Of class `region`, in this region, which is not the one that owns the shard: everything before it has come over and is
    /// projected there. A takeover by this region reads the log from here. As durable as a checkpoint.
    Follower(RegionId),
    /// Of class `region`, in this region: the slot counts seconds since 1970, and everything that was acknowledged before has come over
    /// and is projected there, as its follower made sure of by asking where the shard is served.
    Whole(RegionId),
}

/// Where the timed lease of one life of a core's process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreKey {
    /// Each zone to which a region belongs has its own: what happens to one says nothing of the others.
    pub zone: ZoneId,
    /// The core's.
    pub region: RegionId,
    /// Its life.
    pub incarnation: Nonce,
}

/// How far a conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Its last change.
    pub head: HeadRow,
    /// Its last message; none when nothing was ever sent.
    pub last_message: Option<LastMessageRow>,
}

/// A conversation met on a walk over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationRef {
    /// Its last change.
    pub head: HeadRow,
    /// Whether it was ever in another shard than the one that it was born in.
    pub moved: bool,
}

/// A stretch of such a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPage {
    /// In an order of the store's own.
    pub met: Vec<ConversationRef>,
    /// What the walk goes on after; none: that was all.
    pub next: Option<ConversationId>,
}

/// Why a store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too few replicas could be asked. Nothing was written.
    #[error("{answering} of {needed} replicas of zone {} can be reached", zone.0)]
    Unavailable {
        /// Whose replicas.
        zone: ZoneId,
        /// How many the class asks for.
        needed: usize,
        /// How many there were.
        answering: usize,
    },
    /// The write was begun, but too few replicas confirmed it: it may be there, may come to be, or may never be. The same
    /// write may be repeated unchanged.
    #[error("too few replicas confirmed the write: its outcome is unknown")]
    Unknown,
    /// A replica holds bytes that are not what was written, and the others could not make up for it. Nothing was written.
    #[error("the replica in {} is damaged: {what}", region.0)]
    Corrupt {
        /// Where.
        region: RegionId,
        /// What was found.
        what: String,
    },
    /// This handle's region was killed, or its store closed. A write may have happened.
    #[error("the store is closed")]
    Closed,
    /// The region, the handle's or the one that is asked, may not hold data of this zone, so it may not be asked for it
    /// either. Nothing was written.
    #[error("region {} is not in zone {}", region.0, zone.0)]
    NotInZone {
        /// Which.
        region: RegionId,
        /// The shard's.
        zone: ZoneId,
    },
}

impl StoreError {
    /// Whether the state may have changed although the operation failed.
    #[must_use]
    pub fn may_have_written(&self) -> bool {
        matches!(self, Self::Unknown | Self::Closed)
    }
}

/// The contract. All methods are cancel safe in this sense: a dropped future leaves a write that may or may not happen, as
/// after [`StoreError::Unknown`]; a dropped read leaves nothing.
///
/// # Errors
/// Every method: [`StoreError`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The lease row, read serially: it sees every conditional write that was answered before. The default row when
    /// nobody ever claimed the shard.
    async fn lease(&self, shard: ShardId) -> Result<Lease, StoreError>;

    /// Takes the term after `observed`, if `observed` is still the last one: [`Lease::claimed`]. On [`StoreError::Unknown`]
    /// read the lease again, and go on only if the nonce is yours.
    async fn claim(
        &self,
        shard: ShardId,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Result<Cas, StoreError>;

    /// Records that `epoch` starts at `start`, and the fork that this may be, if the term is still that claim's and is not
    /// sealed yet: [`Lease::sealed_at`]. On [`StoreError::Unknown`] the lease says whether it came to pass.
    async fn seal(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Result<Cas, StoreError>;

    /// Records that the owner has let go, and that everything it acknowledged stands before `end`: [`Lease::released_at`].
    async fn release(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        end: Slot,
    ) -> Result<Cas, StoreError>;

    /// Records that what the fork that began with the term `fork` left behind is salvaged, if the term `epoch` still is the
    /// last one: [`Lease::closed`].
    async fn close_fork(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        fork: Epoch,
    ) -> Result<Cas, StoreError>;

    /// The timed leases of all lives of a region's cores that were registered before this was asked, each read serially.
    /// Those of processes that are known to have ended may be left out.
    async fn core_leases(
        &self,
        zone: ZoneId,
        region: RegionId,
    ) -> Result<Vec<CoreLease>, StoreError>;

    /// One of them, read serially.
    async fn core_lease(&self, of: CoreKey) -> Result<Option<CoreLease>, StoreError>;

    /// Writes it for the first time, if it is not there: [`CoreLease::registered`].
    async fn register_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
    ) -> Result<Cas, StoreError>;

    /// Writes the beat after `beat`, if that one is there and unbroken: [`CoreLease::renewed`].
    async fn renew_core(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
        beat: Beat,
    ) -> Result<Cas, StoreError>;

    /// Breaks it for ever, if `beat` is there: [`CoreLease::broken_at`].
    async fn break_core(&self, of: CoreKey, beat: Beat) -> Result<Cas, StoreError>;

    /// The regions of a zone that are failed over: other regions serve, or shall serve, what lives there in class `region`. Read
    /// serially.
    async fn failed_over(&self, zone: ZoneId) -> Result<BTreeSet<RegionId>, StoreError>;

    /// Writes whether a region is failed over, if that is news.
    async fn set_failed_over(
        &self,
        zone: ZoneId,
        region: RegionId,
        failed_over: bool,
    ) -> Result<Cas, StoreError>;

    /// The same view, with class `region` at the quorum of that region: what a salvage reads in the region that was left.
    /// A region outside the shard's zone answers [`StoreError::NotInZone`].
    fn at(&self, region: RegionId) -> Arc<dyn Store>;

    /// Raises the fence to `epoch` at the class' quorum; a lower epoch changes nothing.
    async fn write_fence(&self, shard: ShardId, epoch: Epoch) -> Result<(), StoreError>;

    /// The highest fence that the class' quorum knows; 0 when there is none.
    async fn fence(&self, shard: ShardId) -> Result<Epoch, StoreError>;

    /// Writes a log row. `Ok` when it is on disk (fsync) at the class' quorum. The same frame may be written to the same
    /// place again.
    async fn append(&self, shard: ShardId, at: Position, frame: Bytes) -> Result<(), StoreError>;

    /// Log rows from slot `from` on, at most `limit`, in the order of (slot, epoch), merged from the class' quorum. All
    /// epochs are shown; which of them owns a slot the lease's `starts` say.
    async fn read_log(
        &self,
        shard: ShardId,
        from: Slot,
        limit: usize,
    ) -> Result<Vec<LogRow>, StoreError>;

    /// Raises a mark; a lower position changes nothing. Not fsynced of itself, but for
    /// [`Mark::Checkpoint`] and [`Mark::Follower`].
    async fn write_mark(&self, shard: ShardId, mark: &Mark, at: Position)
    -> Result<(), StoreError>;

    /// The highest position that the class' quorum knows for the mark.
    async fn mark(&self, shard: ShardId, mark: &Mark) -> Result<Option<Position>, StoreError>;

    /// Writes projections of a committed frame of this shard, all under one stamp. Not fsynced: they can be made again
    /// from the log, and a checkpoint makes durable what stands before it.
    async fn project(
        &self,
        shard: ShardId,
        stamp: Position,
        rows: Vec<Row>,
    ) -> Result<(), StoreError>;

    /// Everything the sequencer needs to know of a conversation, or nothing when it was never created. Of class `region` a row may
    /// be of what was lost with a region; its place says so.
    async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<LoadedConversation>, StoreError>;

    /// The messages from `from_seq` to `to_seq`, both inclusive, oldest first, at most 16,384 of them.
    async fn messages(
        &self,
        id: ConversationId,
        from_seq: u64,
        to_seq: u64,
    ) -> Result<Vec<Change>, StoreError>;

    /// At most `limit` changes with a higher `ver` than `after_ver`, oldest first, without a hole: fewer, when a row is still
    /// on its way. Each with its place in the log, which is 0 if an older version wrote it. Behind the head there may be
    /// some that were lost with a region.
    async fn placed_changes(
        &self,
        id: ConversationId,
        after_ver: u64,
        limit: usize,
    ) -> Result<Vec<(Position, Change)>, StoreError>;

    /// As [`Store::placed_changes`], without the places.
    async fn changes(
        &self,
        id: ConversationId,
        after_ver: u64,
        limit: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let placed = self.placed_changes(id, after_ver, limit).await?;
        Ok(placed.into_iter().map(|(_, change)| change).collect())
    }

    /// What a `client_msg_id` of this sender became. The caller checks [`Seen::at`] against the lease's `starts`: a row
    /// may stem from a frame that was voided.
    async fn dedupe(
        &self,
        id: ConversationId,
        sender: &UserId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<Seen>, StoreError>;

    /// The lines of a user's own stream, left conversations included (they say so), in the order of conversation ids.
    async fn inbox(&self, user_stream: ConversationId) -> Result<Vec<InboxRow>, StoreError>;

    /// The heads of these conversations, in their order. They may be of different shards and zones. After a region was lost, one
    /// may be ahead until its conversation's next change.
    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<Option<Heads>>, StoreError>;

    /// A stretch of a walk over the conversations that have changes in the log of this shard, or may have: those that were born in it,
    /// and all of its zone and class that have moved. Goes on after `after`, which the stretch before named. It looks at everything that
    /// the zone holds, so it is for the rare case that nothing else will do. What comes to be meanwhile may be met or not.
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
