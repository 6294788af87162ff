//! Where a conversation is ordered and stored: zones, regions, shards, and places in a shard log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A residency zone, by the number that the world file gives it. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ZoneId(pub u16);

/// A region, by the number that the world file gives it. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RegionId(pub u16);

/// How far an acknowledged message is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// A quorum inside the home datacenter.
    Region,
    /// A quorum across the zone's datacenters.
    MultiRegion,
}

impl Durability {
    /// As it stands in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::MultiRegion => "multi-region",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The term of one owner of one shard; only ever grows. 0 is before the first owner.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A place in a shard log. The first slot is 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Slot(pub u64);

impl Slot {
    /// The slot after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A slot together with the epoch that wrote it. Marks, cursors and projections order by (epoch,
/// slot): after a fork the successor's slots start lower than what was lost, and must still win.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Position {
    /// The term that wrote the slot.
    pub epoch: Epoch,
    /// The slot.
    pub slot: Slot,
}

/// A slice of the conversations of one (zone, home region, durability class).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardId {
    /// The residency zone.
    pub zone: ZoneId,
    /// The home region.
    pub home: RegionId,
    /// The durability class.
    pub durability: Durability,
    /// Which slice.
    pub n: u16,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "z{}-r{}-{}-{}", self.zone.0, self.home.0, self.durability, self.n)
    }
}
