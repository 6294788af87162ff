//! The outcome of a takeover: the right to write a shard's log, and what each acknowledgement
//! needs.

use wire::{Durability, Epoch, RegionId, Slot};

use super::lease::{FenceMode, Fork, Nonce};
use super::starts::Starts;
use crate::log::LogRow;

/// The right to write the log of a shard from `start` on, until a newer epoch fences it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    pub epoch: Epoch,
    /// The nonce of the claim.
    pub nonce: Nonce,
    pub start: Slot,
    /// Starts of all sealed epochs, this one included.
    pub starts: Starts,
    /// Everything before this slot is projected.
    pub checkpoint: Slot,
    /// The committed rows from the checkpoint to `start`, in slot order. The driver projects them
    /// before it serves.
    pub tail: Vec<LogRow>,
    pub ack_by: AckBy,
    /// The timed lease under which the term was claimed. No other lease counts for it.
    pub incarnation: Option<Nonce>,
    /// What this takeover may have left behind in another region.
    pub loss: Option<Loss>,
    /// Forks to salvage while the shard is served, oldest first, this takeover's own included.
    pub forks: Vec<Fork>,
}

/// What may be missing after a takeover that left a region behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// The region that still holds it.
    pub from: RegionId,
    /// A lower bound on the acknowledged frames that are missing (R3). The age of the mark behind
    /// this number limits how many more there may be.
    pub frames_min: u64,
}

/// What must confirm that the term still holds before anything is acknowledged in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckBy {
    /// A read of the fence at the quorum of the durability class.
    Fence,
    /// The clock and the timed lease (L3). The fence is read as well, for an owner that is idle or
    /// whose clock is wrong.
    Lease,
    /// The fence at the region's own quorum, against claimants inside the region; then the lease,
    /// against claimants of other regions, whose fence is invisible here (R1).
    FenceAndLease,
}

impl AckBy {
    #[must_use]
    pub fn of(durability: Durability, fence_mode: FenceMode) -> Self {
        match (durability, fence_mode) {
            (_, FenceMode::Read) => Self::Fence,
            (Durability::MultiRegion, FenceMode::Lease) => Self::Lease,
            (Durability::Region, FenceMode::Lease) => Self::FenceAndLease,
        }
    }
}
