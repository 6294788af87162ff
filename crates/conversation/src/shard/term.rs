//! The outcome of a takeover: the right to write a shard's log, and what each acknowledgement needs.

use wire::{Durability, Epoch, RegionId, Slot};

use super::lease::{FenceMode, Fork, Nonce};
use super::starts::Starts;
use crate::log::LogRow;

/// The right to write the log of a shard from `start` on, until a newer epoch fences it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// Its number.
    pub epoch: Epoch,
    /// The nonce of its claim.
    pub nonce: Nonce,
    /// Its first slot.
    pub start: Slot,
    /// Of all sealed epochs, this one included.
    pub starts: Starts,
    /// Everything before this slot is projected.
    pub checkpoint: Slot,
    /// The committed rows from the checkpoint to `start`, in slot order: to be projected before serving.
    pub tail: Vec<LogRow>,
    /// What its acknowledgements need.
    pub ack_by: AckBy,
    /// The timed lease under which it was claimed: no other counts for it.
    pub incarnation: Option<Nonce>,
    /// What this takeover left behind; none when it can be nothing.
    pub loss: Option<Loss>,
    /// To be salvaged, oldest first, while the shard is served: what this takeover left behind, and those before it.
    pub forks: Vec<Fork>,
}

/// What may be missing after a takeover that left a region behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// Where it rests.
    pub from: RegionId,
    /// At least so many acknowledged frames (R3). How old the mark is by which that is known bounds how many more.
    pub frames_min: u64,
}

/// What has to say that the term still is, before anything is acknowledged in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckBy {
    /// A read of the fence at the class' quorum.
    Fence,
    /// The clock and the timed lease (L3). The fence is read beside it, for an owner that is idle or whose clock is bad.
    Lease,
    /// The fence, at the own region's quorum, against claimants in the region; then the lease, against those of other
    /// regions, whose fence would not be seen here (R1).
    FenceAndLease,
}

impl AckBy {
    /// By the class and the mode of a term.
    #[must_use]
    pub fn of(durability: Durability, fence_mode: FenceMode) -> Self {
        match (durability, fence_mode) {
            (_, FenceMode::Read) => Self::Fence,
            (Durability::MultiRegion, FenceMode::Lease) => Self::Lease,
            (Durability::Region, FenceMode::Lease) => Self::FenceAndLease,
        }
    }
}
