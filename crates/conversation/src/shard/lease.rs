//! The lease row of a shard: the only thing that is ever written conditionally.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wire::{Epoch, NodeId, Position, Slot};

/// A number drawn anew for every claim, by which a claimant recognises his own after an unknown outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Nonce(pub u128);

/// What came of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cas {
    /// The condition held and the row was written.
    Applied,
    /// The condition did not hold; nothing was written.
    Refused,
}

/// How an owner makes sure that it still is, before it acknowledges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FenceMode {
    /// A quorum read of the fence after every append. Trusts no clock.
    #[default]
    Read,
}

/// The lease row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The last term that was claimed; 0 before the first.
    pub epoch: Epoch,
    /// Who claimed it.
    pub owner: Option<NodeId>,
    /// The claim's nonce.
    pub nonce: Nonce,
    /// Whether `epoch` has sealed its start; until then it has written nothing.
    pub sealed: bool,
    /// Where every sealed epoch starts.
    pub starts: Starts,
    /// Claimants obey the row, not their configuration.
    pub fence_mode: FenceMode,
}

impl Lease {
    /// What a claim that observed this row leaves behind, or nothing when another came first. Stores that can run code
    /// (the embedded and the simulated one) use this; others say the same in their own conditional write.
    #[must_use]
    pub fn claimed(&self, observed: Epoch, owner: &NodeId, nonce: Nonce) -> Option<Self> {
        (self.epoch == observed).then(|| Self {
            epoch: observed.next(),
            owner: Some(owner.clone()),
            nonce,
            sealed: false,
            starts: self.starts.clone(),
            fence_mode: self.fence_mode,
        })
    }

    /// What a seal leaves behind, or nothing when the claim is no longer the last one or is sealed already.
    #[must_use]
    pub fn sealed_at(&self, epoch: Epoch, nonce: Nonce, start: Slot) -> Option<Self> {
        (self.epoch == epoch && self.nonce == nonce && !self.sealed).then(|| {
            let mut sealed = Self { sealed: true, ..self.clone() };
            sealed.starts.insert(epoch, start);
            sealed
        })
    }
}

/// First slot of every sealed epoch. Rows of an older epoch at or past the start of a newer one are void.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Starts(BTreeMap<Epoch, Slot>);

impl Starts {
    /// Records a seal.
    pub fn insert(&mut self, epoch: Epoch, start: Slot) {
        self.0.insert(epoch, start);
    }

    /// Where this epoch starts, if it was sealed.
    #[must_use]
    pub fn get(&self, epoch: Epoch) -> Option<Slot> {
        self.0.get(&epoch).copied()
    }

    /// The last sealed epoch and its start: it owns everything from there on.
    #[must_use]
    pub fn last(&self) -> Option<(Epoch, Slot)> {
        self.0.last_key_value().map(|(&epoch, &start)| (epoch, start))
    }

    /// The epoch whose row counts at this slot: the newest one that had started there. None: no row counts.
    #[must_use]
    pub fn owner_of(&self, slot: Slot) -> Option<Epoch> {
        self.0.iter().rev().find(|&(_, &start)| start <= slot).map(|(&epoch, _)| epoch)
    }

    /// Whether a row at this place counts.
    #[must_use]
    pub fn owns(&self, at: Position) -> bool {
        self.owner_of(at.slot) == Some(at.epoch)
    }

    /// How far what was said in the term of a mark still holds: a later term that started before the mark cut the rest off.
    #[must_use]
    pub fn bound(&self, mark: Position) -> Slot {
        let after = (std::ops::Bound::Excluded(mark.epoch), std::ops::Bound::Unbounded);
        self.0.range(after).map(|(_, &start)| start).fold(mark.slot, Slot::min)
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Epoch, Slot)> + '_ {
        self.0.iter().map(|(&epoch, &start)| (epoch, start))
    }
}

impl FromIterator<(Epoch, Slot)> for Starts {
    fn from_iter<I: IntoIterator<Item = (Epoch, Slot)>>(starts: I) -> Self {
        Self(starts.into_iter().collect())
    }
}
