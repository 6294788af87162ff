//! What a takeover asks of its driver, and what it is told. An operation is done once the store
//! confirms it at the quorum that stands here; nothing else may be assumed.
//!
//! | operation | multi-region | single-region |
//! |---|---|---|
//! | `ReadLease` | SERIAL read of the shard's row in `ctl` | same |
//! | `Claim`, `Seal` | conditional write of that row, SERIAL, committed at QUORUM | same |
//! | `ReadCores` | SERIAL read of the region's partition of core leases in `ctl` | same |
//! | `BreakCores` | a conditional write for each incarnation, SERIAL, committed at QUORUM | same |
//! | `WriteFence`, `ReadMarks`, `ReadTail`, `Rewrite` | QUORUM over the zone | LOCAL_QUORUM in the **claimant's own** region, home or not |
//!
//! SERIAL needs a majority of the zone's `ctl` replicas. A zone of two regions needs a third voter
//! to survive the loss of one (R9).

use wire::{Epoch, NodeId, Position, RegionId, Slot};

use crate::log::LogRow;
use crate::shard::core_lease::{Beat, CoreLease, Uptime};
use crate::shard::lease::{Cas, FenceMode, Lease, Nonce};

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Serial read of the lease row.
    ReadLease,
    /// Serial read of all core leases of a region: every incarnation registered before this read.
    ReadCores { region: RegionId },
    /// Waits until the driver's own clock shows this.
    WaitUntil {
        /// On the clock that gave [`OpResult::Cores`] its time.
        until: Uptime,
    },
    /// Conditional writes, each independent, in any order: [`CoreLease::broken_at`].
    BreakCores {
        region: RegionId,
        /// Each incarnation with the beat that must still be there.
        lives: Vec<(Nonce, Beat)>,
    },
    /// Conditional write of epoch `observed + 1`: [`Lease::claimed`].
    Claim {
        /// The epoch that must still be there.
        observed: Epoch,
        nonce: Nonce,
        /// The fence mode of the term that is claimed.
        fence_mode: FenceMode,
    },
    /// Quorum write of the fence, a max-register.
    WriteFence { epoch: Epoch },
    /// Quorum read of the checkpoint and the committed mark.
    ReadMarks {
        /// Whether the shard comes from another region. The shard's own checkpoint may arrive here
        /// before the rows and projections it speaks of. So the checkpoint is then that of this
        /// region's follower, which read and projected the log itself, or none.
        across: bool,
    },
    /// Quorum read of the log, all epochs, ordered by (slot, epoch). Asked again for the same slot
    /// while rows are known to be on their way (R8); pause in between.
    ReadTail {
        from: Slot,
        /// At most this many rows. Fewer mean that there are no more.
        limit: usize,
    },
    /// Quorum write of each of these rows, unchanged, under its own key.
    Rewrite {
        /// The kept tail, in slot order.
        rows: Vec<LogRow>,
    },
    /// Conditional write of the start slot: [`Lease::sealed_at`], which also says whether the log
    /// forks.
    Seal {
        epoch: Epoch,
        /// Epoch and nonce must both still be there.
        nonce: Nonce,
        /// The end of the tail.
        start: Slot,
    },
}

/// The result of an [`Op`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OpResult {
    /// Of [`Op::ReadLease`].
    Lease(Lease),
    /// Of [`Op::ReadCores`].
    Cores {
        leases: Vec<CoreLease>,
        /// The driver's own clock, read **after** the reply arrived (L4).
        replied_at: Uptime,
    },
    /// Of [`Op::WaitUntil`]: the driver's own clock.
    Clock(Uptime),
    /// Of [`Op::Claim`] or [`Op::Seal`]. Of [`Op::BreakCores`]: applied only if every write was.
    Cas(Cas),
    /// Of [`Op::WriteFence`]: written at quorum.
    Fenced,
    /// Of [`Op::ReadMarks`].
    Marks {
        /// Everything before it is projected.
        checkpoint: Option<Position>,
        /// Everything before it was acknowledged.
        committed: Option<Position>,
    },
    /// Of [`Op::ReadTail`].
    Tail(Vec<LogRow>),
    /// Of [`Op::Rewrite`]: all rows written at quorum.
    Rewritten,
    /// Of any operation: it failed or timed out, and may or may not have happened. The machine says
    /// what to do about it; the driver chooses how long to wait.
    Unknown,
}

/// The claim failed. It touched nothing that was acknowledged, and the shard is as another owner
/// left it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TakeoverError {
    /// Another claim was made after or instead of ours.
    #[error("another claimed the shard: epoch {} is newer", epoch.0)]
    Superseded { epoch: Epoch, owner: Option<NodeId> },
    /// The log ends before a slot that it is known to have reached: acknowledged rows were
    /// destroyed. Serving would hide that.
    #[error("the log ends at slot {} but was committed up to slot {}", end.0, committed.0)]
    LogTruncated {
        /// First slot without a row.
        end: Slot,
        /// First slot that may be without a row.
        committed: Slot,
    },
    /// The last owner acknowledges by its timed lease, and this process keeps none, so it cannot
    /// tell when that lease ends. A core with timed leases must take the shard.
    #[error(
        "the shard is acknowledged by timed leases, which this node does not keep: configure them for its zone"
    )]
    NoTimedLease,
    /// The region left behind acknowledges without a timed lease, so nothing can prove that it has
    /// stopped.
    #[error("region {} acknowledges without a timed lease: bring it back, and let it release the shard", region.0)]
    Untimed { region: RegionId },
    /// The lease row is older than one already seen. It was restored from a backup, or its quorums
    /// do not meet.
    #[error("the lease went back from epoch {} to {}", seen.0, found.0)]
    LeaseWentBack { seen: Epoch, found: Epoch },
    /// The driver answered a question that was not asked: a defect.
    #[error("the answer does not belong to the question")]
    Misled,
}
