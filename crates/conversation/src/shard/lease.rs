//! The lease row of a shard: who may write its log, and what a claimant must know of earlier
//! owners.
//!
//! Only conditional writes change it. The functions here say what each write leaves behind, for
//! stores that can run code (embedded and simulated); the others say the same in a conditional
//! statement.

use serde::{Deserialize, Serialize};
use wire::{Durability, Epoch, NodeId, RegionId, Slot};

use super::starts::Starts;

/// A number drawn anew for every claim. A claimant recognises its own claim by it after an unknown
/// outcome.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Nonce(pub u128);

/// The result of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cas {
    /// The condition held and the row was written.
    Applied,
    /// The condition did not hold; nothing was written.
    Refused,
}

/// How an owner confirms that its term still holds before it acknowledges.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FenceMode {
    /// A quorum read of the fence after every append. Trusts no clock.
    #[default]
    Read,
    /// The timed lease of its process ([`CoreLease`](super::CoreLease)). Trusts that no clock runs
    /// more than a stated rate off. A single-region shard reads the fence of its region as well
    /// (R1).
    Lease,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The last term that was claimed; 0 before the first.
    pub epoch: Epoch,
    /// The claimant.
    pub owner: Option<NodeId>,
    /// The claim's nonce.
    pub nonce: Nonce,
    /// Whether `epoch` has sealed its start. Until then it has written nothing.
    pub sealed: bool,
    /// Where every sealed epoch starts.
    pub starts: Starts,
    /// The mode of the term `epoch`. Claimants obey the row, not their configuration; only a claim
    /// changes it (L7).
    pub fence_mode: FenceMode,
    /// Region and mode of the last *sealed* term, the last that can have acknowledged anything. A
    /// claim that was never sealed has moved nothing (R2). None before the first seal.
    pub acting: Option<Acting>,
    /// The owner released the shard (L6, R8): everything ever acknowledged stands before this slot,
    /// and nothing more will be. It binds every claimant until one seals.
    pub released: Option<Slot>,
    /// Takeovers that left a region behind, and perhaps acknowledged rows, until these are
    /// salvaged. Oldest first.
    pub forks: Vec<Fork>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Acting {
    pub region: RegionId,
    /// For single-region durability: with [`FenceMode::Lease`], another region can make sure that
    /// the term has ended.
    pub fence_mode: FenceMode,
}

/// A takeover of a single-region shard that went on in another region, perhaps with less than was
/// acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fork {
    /// The term that began with it.
    pub epoch: Epoch,
    /// Its first slot. Older rows from here on are void, and may be stranded.
    pub start: Slot,
    /// The region left behind, which still holds them.
    pub from: RegionId,
    /// Which epoch owned which slot from `start` on, before the fork. The seal removes this from
    /// the shard's own [`Starts`].
    pub old: Starts,
}

impl Lease {
    /// The row after a claim that observed this row. None when another claim came first.
    #[must_use]
    pub fn claimed(
        &self,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Option<Self> {
        (self.epoch == observed).then(|| Self {
            epoch: observed.next(),
            owner: Some(owner.clone()),
            nonce,
            sealed: false,
            fence_mode,
            ..self.clone()
        })
    }

    /// The row after a seal. None when the claim is no longer the last one, or is sealed already.
    #[must_use]
    pub fn sealed_at(
        &self,
        durability: Durability,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Option<Self> {
        (self.is(epoch, nonce) && !self.sealed).then(|| {
            let mut sealed = Self { sealed: true, released: None, ..self.clone() };
            sealed.forks.extend(self.fork_at(durability, start));
            sealed.starts.insert(epoch, start);
            sealed.acting = self
                .owner
                .as_ref()
                .map(|owner| Acting { region: owner.region, fence_mode: self.fence_mode });
            sealed
        })
    }

    /// The fork that the last claim makes by sealing at `start`. There is one when it continues in
    /// another region than the last sealed term, which had not released the shard (R2).
    #[must_use]
    pub fn fork_at(&self, durability: Durability, start: Slot) -> Option<Fork> {
        let from = self.left_by(durability, self.owner.as_ref()?.region)?.region;
        let old = self.starts.from_slot(start);
        self.released.is_none().then_some(Fork { epoch: self.epoch, start, from, old })
    }

    /// The last sealed term, if a claimant in `region` leaves it behind: if the quorum by which
    /// that term acknowledges need not meet the claimant's own. With multi-region durability all
    /// quorums meet.
    #[must_use]
    pub fn left_by(&self, durability: Durability, region: RegionId) -> Option<Acting> {
        self.acting.filter(|acting| durability == Durability::Region && acting.region != region)
    }

    /// The row after a release. None when the term is no longer that claim's, or was never served.
    #[must_use]
    pub fn released_at(&self, epoch: Epoch, nonce: Nonce, end: Slot) -> Option<Self> {
        (self.is(epoch, nonce) && self.sealed).then(|| Self { released: Some(end), ..self.clone() })
    }

    /// The row after a salvage has ended: the fork at which `fork` began is closed. None when the
    /// term that salvaged is no longer the last one (R7).
    #[must_use]
    pub fn closed(&self, epoch: Epoch, nonce: Nonce, fork: Epoch) -> Option<Self> {
        let mut closed = self.clone();
        closed.forks.retain(|open| open.epoch != fork);
        (self.is(epoch, nonce) && self.sealed && closed.forks.len() < self.forks.len())
            .then_some(closed)
    }

    fn is(&self, epoch: Epoch, nonce: Nonce) -> bool {
        self.epoch == epoch && self.nonce == nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "r1/core/1";
    const AWAY: &str = "r2/core/1";

    fn claim(lease: &Lease, by: &str, nonce: u128) -> Lease {
        lease.claimed(lease.epoch, &by.parse().unwrap(), Nonce(nonce), FenceMode::Lease).unwrap()
    }

    fn seal(lease: &Lease, start: u64) -> Lease {
        lease.sealed_at(Durability::Region, lease.epoch, lease.nonce, Slot(start)).unwrap()
    }

    #[test]
    fn a_claim_and_a_seal_are_conditional() {
        let seal = |lease: &Lease, epoch, nonce, start| {
            lease.sealed_at(Durability::MultiRegion, Epoch(epoch), Nonce(nonce), Slot(start))
        };
        let node: NodeId = HOME.parse().unwrap();
        let claimed = claim(&Lease::default(), HOME, 7);
        assert_eq!((claimed.epoch, claimed.nonce, claimed.sealed), (Epoch(1), Nonce(7), false));
        assert_eq!(
            claimed.claimed(Epoch(0), &node, Nonce(8), FenceMode::Read),
            None,
            "another came first"
        );
        assert_eq!(seal(&claimed, 1, 8, 0), None, "not that claim");
        let sealed = seal(&claimed, 1, 7, 0).unwrap();
        assert_eq!(sealed.starts.get(Epoch(1)), Some(Slot(0)));
        assert_eq!(seal(&sealed, 1, 7, 5), None, "a term starts once");
        let next = claim(&sealed, HOME, 9);
        assert_eq!(seal(&next, 1, 7, 0), None, "a newer claim is there");
        assert!(!next.sealed && next.starts == sealed.starts);
    }

    #[test]
    fn a_takeover_forks_when_it_leaves_the_region_of_the_last_sealed_term() {
        let home = seal(&claim(&Lease::default(), HOME, 1), 0);
        assert_eq!(
            (home.acting.map(|acting| acting.region), home.forks.len()),
            (Some(RegionId(1)), 0)
        );
        let home = seal(&claim(&home, HOME, 2), 4);
        assert!(home.forks.is_empty(), "inside the region");
        // A claimant in the other region dies after its claim; the next one there still leaves the
        // first region.
        let died = claim(&home, AWAY, 3);
        let away = seal(&claim(&died, AWAY, 4), 3);
        let old = Starts::from_iter([(Epoch(1), Slot(0)), (Epoch(2), Slot(4))]);
        assert_eq!(away.forks, [Fork { epoch: Epoch(4), start: Slot(3), from: RegionId(1), old }]);
        assert_eq!(away.starts.get(Epoch(2)), None, "which is why the fork keeps the old starts");
        // A claim that was never sealed has moved nothing.
        let back = seal(&claim(&claim(&home, AWAY, 5), HOME, 6), 6);
        assert!(back.forks.is_empty());
        let wide = claim(&home, AWAY, 7);
        let wide =
            wide.sealed_at(Durability::MultiRegion, wide.epoch, wide.nonce, Slot(4)).unwrap();
        assert!(wide.forks.is_empty(), "the quorums of multi-region shards meet");
    }

    #[test]
    fn a_release_binds_until_a_seal_and_makes_no_fork() {
        let home = seal(&claim(&Lease::default(), HOME, 1), 0);
        assert_eq!(home.released_at(Epoch(1), Nonce(2), Slot(5)), None, "not that term");
        let unsealed = claim(&home, HOME, 2);
        assert_eq!(
            unsealed.released_at(Epoch(2), Nonce(2), Slot(5)),
            None,
            "the term before it may still acknowledge"
        );
        let released = home.released_at(Epoch(1), Nonce(1), Slot(5)).unwrap();
        let claimed = claim(&claim(&released, AWAY, 3), AWAY, 4);
        assert_eq!(claimed.released, Some(Slot(5)), "however many claim");
        let away = seal(&claimed, 5);
        assert_eq!((away.released, away.forks.len()), (None, 0));
    }

    #[test]
    fn only_the_present_owner_closes_a_fork() {
        let home = seal(&claim(&Lease::default(), HOME, 1), 0);
        let away = seal(&claim(&home, AWAY, 2), 3);
        assert_eq!(away.closed(Epoch(1), Nonce(1), Epoch(2)), None);
        assert_eq!(away.closed(Epoch(2), Nonce(2), Epoch(1)), None, "no such fork");
        let unsealed = claim(&away, AWAY, 3);
        assert_eq!(
            unsealed.closed(Epoch(3), Nonce(3), Epoch(2)),
            None,
            "that term is not sealed yet"
        );
        let closed = seal(&unsealed, 6).closed(Epoch(3), Nonce(3), Epoch(2)).unwrap();
        assert!(closed.forks.is_empty());
        assert_eq!(closed.closed(Epoch(3), Nonce(3), Epoch(2)), None, "it is closed once");
    }
}
