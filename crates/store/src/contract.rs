//! What every store promises. `core-region` knows a store only through these traits.
//!
//! | trait | what | written |
//! |---|---|---|
//! | [`Leases`] | who owns a shard, which processes live, which regions are failed over | conditionally |
//! | [`Log`] | the fence and the frames of a shard | at the class' quorum, on disk |
//! | [`Marks`] | how far a shard is projected, acknowledged, consumed, followed | at the class' quorum |
//! | [`Projections`] | what committed frames mean to readers | at the class' quorum, in memory |
//!
//! [`Store`] is all four, as one region sees them. Its operations start in that region and meet the
//! quorum of the shard's durability: for multi-region shards a majority of the zone's regions, for
//! single-region shards the handle's own region, or another one ([`Store::at`]).
//!
//! Every plain row carries a stamp. Of two writes of one row the higher stamp wins, in whatever
//! order they arrive. So every write may be repeated, and a late write of a replaced owner changes
//! nothing.
//!
//! A method that returns [`Cas`](conversation::shard::Cas) is conditional. A majority of the zone
//! decides it, whatever the durability. Nothing outside [`Leases`] is written conditionally.

mod leases;
mod log;
mod marks;
mod projections;

use std::sync::Arc;

use wire::{RegionId, ShardId, ZoneId};

pub use self::leases::{CoreKey, Leases};
pub use self::log::Log;
pub use self::marks::{Mark, Marks};
pub use self::projections::{ConversationRef, Heads, Projections, ScanPage};

/// One region's view of a store.
///
/// All methods are cancel safe in this sense: a dropped write may or may not happen, as after
/// [`StoreError::Unknown`]; a dropped read leaves nothing.
pub trait Store: Leases + Log + Marks + Projections + 'static {
    /// The same view, with single-region shards at the quorum of `region`: a salvage reads there
    /// what a lost region left. A region outside the shard's zone answers
    /// [`StoreError::NotInZone`].
    fn at(&self, region: RegionId) -> Arc<dyn Store>;

    /// Why nothing new should be written to this shard now, in words for people; none: go on. It
    /// asks nobody. What was begun may still be written, and so may everything that serving needs:
    /// leases, fences, marks and rows.
    ///
    /// A store that cannot tell says none.
    fn refuses(&self, _shard: ShardId) -> Option<String> {
        None
    }
}

/// Why a store refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too few replicas could be asked. Nothing was written.
    #[error("{answering} of {needed} replicas of zone {} can be reached", zone.0)]
    Unavailable {
        /// The zone of the replicas.
        zone: ZoneId,
        /// How many replicas the class asks for.
        needed: usize,
        /// How many answered.
        answering: usize,
    },
    /// The write was begun, but too few replicas confirmed it. It may be there now, later, or
    /// never. The caller may repeat the same write unchanged.
    #[error("too few replicas confirmed the write: its outcome is unknown")]
    Unknown,
    /// A replica holds bytes that nobody wrote, and the others could not make up for it. Nothing
    /// was written.
    #[error("the replica in {} is damaged: {what}", region.0)]
    Corrupt {
        /// The region of the replica.
        region: RegionId,
        /// What was found.
        what: String,
    },
    /// This handle's region was killed, or its store closed. A write may have happened.
    #[error("the store is closed")]
    Closed,
    /// The handle's region, or the one it asks, may not hold data of this zone. Nothing was
    /// written.
    #[error("region {} is not in zone {}", region.0, zone.0)]
    NotInZone {
        /// The region that is outside.
        region: RegionId,
        /// The shard's zone.
        zone: ZoneId,
    },
}

impl StoreError {
    /// Whether the state may have changed although the operation failed.
    #[must_use]
    pub fn may_have_written(&self) -> bool {
        match self {
            Self::Unknown | Self::Closed => true,
            Self::Unavailable { .. } | Self::Corrupt { .. } | Self::NotInZone { .. } => false,
        }
    }
}
