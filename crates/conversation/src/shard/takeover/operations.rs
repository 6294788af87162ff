//! What a takeover asks of its driver, and what it is told. Each operation is done once the store says so at the quorum that
//! stands here; nothing else may be assumed.
//!
//! | operation | class `multi-region` | class `region` |
//! |---|---|---|
//! | `ReadLease` | SERIAL read of the shard's row in `ctl` | same |
//! | `Claim`, `Seal` | conditional write of that row, SERIAL, committed at QUORUM | same |
//! | `ReadCores` | SERIAL read of the region's partition of core leases in `ctl` | same |
//! | `BreakCores` | a conditional write for each life, SERIAL, committed at QUORUM | same |
//! | `WriteFence`, `ReadMarks`, `ReadTail`, `Rewrite` | QUORUM over the zone | LOCAL_QUORUM in the **claimant's own** region, whichever is the home |
//!
//! SERIAL needs a majority of the zone's `ctl` replicas: a zone of two regions needs a third voter to survive one (R9).

use wire::{Epoch, NodeId, Position, RegionId, Slot};

use crate::log::LogRow;
use crate::shard::core_lease::{Beat, CoreLease, Uptime};
use crate::shard::lease::{Cas, FenceMode, Lease, Nonce};

/// What the driver is to do next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Serial read of the lease row.
    ReadLease,
    /// Serial read of all core leases of a region: of every life that was registered before this was asked.
    ReadCores {
        /// Which.
        region: RegionId,
    },
    /// Nothing, until the own clock shows this.
    WaitUntil {
        /// Of the clock that gave [`OpResult::Cores`] its time.
        until: Uptime,
    },
    /// Conditional writes, each by itself, in any order: [`CoreLease::broken_at`].
    BreakCores {
        /// Where the lives are.
        region: RegionId,
        /// Each with the beat that must still be there.
        lives: Vec<(Nonce, Beat)>,
    },
    /// Conditional write of epoch `observed + 1`: [`Lease::claimed`].
    Claim {
        /// The epoch that must still be there.
        observed: Epoch,
        /// Ours.
        nonce: Nonce,
        /// Of the term that is claimed.
        fence_mode: FenceMode,
    },
    /// Quorum write of the fence, a max-register.
    WriteFence {
        /// Our epoch.
        epoch: Epoch,
    },
    /// Quorum read of the checkpoint and the committed mark.
    ReadMarks {
        /// From another region: the shard's own checkpoint may have come here before the rows and projections that it
        /// speaks of, so it is that of this region's follower, which read and projected the log itself, or none.
        across: bool,
    },
    /// Quorum read of the log, all epochs, ordered by (slot, epoch). Asked again for the same slot when rows are known to be
    /// on their way here (R8): then pause between.
    ReadTail {
        /// First slot.
        from: Slot,
        /// At most so many rows; fewer are taken to be all there are.
        limit: usize,
    },
    /// Quorum write of each of these rows, unchanged, under its own key.
    Rewrite {
        /// The kept tail, in slot order.
        rows: Vec<LogRow>,
    },
    /// Conditional write of the start slot: [`Lease::sealed_at`], which also says whether the log forks.
    Seal {
        /// Our epoch.
        epoch: Epoch,
        /// Our nonce: both must still be there.
        nonce: Nonce,
        /// The end of the tail.
        start: Slot,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OpResult {
    /// Of [`Op::ReadLease`].
    Lease(Lease),
    /// Of [`Op::ReadCores`].
    Cores {
        /// What was found.
        leases: Vec<CoreLease>,
        /// The own clock, read **after** the reply came (L4).
        replied_at: Uptime,
    },
    /// Of [`Op::WaitUntil`]: the own clock.
    Clock(Uptime),
    /// Of [`Op::Claim`] or [`Op::Seal`]; of [`Op::BreakCores`], applied only if every one of them was.
    Cas(Cas),
    /// Of [`Op::WriteFence`]: at quorum.
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
    /// Of [`Op::Rewrite`]: all of them at quorum.
    Rewritten,
    /// Of any of them: it failed, or timed out, and may or may not have happened. The machine says what to do about it;
    /// how long to wait before doing that is the driver's choice.
    Unknown,
}

/// The claim came to nothing. The shard is as another left it; nothing that was acknowledged was touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TakeoverError {
    /// Another claimed after or instead of us.
    #[error("another claimed the shard: epoch {} is newer", epoch.0)]
    Superseded {
        /// Its epoch.
        epoch: Epoch,
        /// Who.
        owner: Option<NodeId>,
    },
    /// The log ends before what is known to be in it: acknowledged rows were destroyed. Serving would hide it.
    #[error("the log ends at slot {} but was committed up to slot {}", end.0, committed.0)]
    LogTruncated {
        /// First slot without a row.
        end: Slot,
        /// First slot that may be without one.
        committed: Slot,
    },
    /// The last owner acknowledges by its timed lease, and this process keeps none, so it can tell no time by which that
    /// one has ended. Let a core of the zone take the shard that has timed leases configured.
    #[error(
        "the shard is acknowledged by timed leases, which this node does not keep: configure them for its zone"
    )]
    NoTimedLease,
    /// The region that is left acknowledges without a timed lease, so nothing can prove that it has stopped.
    #[error("region {} acknowledges without a timed lease: bring it back, and let it release the shard", region.0)]
    Untimed {
        /// Which.
        region: RegionId,
    },
    /// The lease row is older than one already seen: it was restored from a copy, or its quorums do not meet.
    #[error("the lease went back from epoch {} to {}", seen.0, found.0)]
    LeaseWentBack {
        /// Seen before.
        seen: Epoch,
        /// Found now.
        found: Epoch,
    },
    /// The driver answered something else than was asked: a defect.
    #[error("the answer does not belong to the question")]
    Misled,
}
