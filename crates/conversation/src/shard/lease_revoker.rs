//! Makes sure that owners who acknowledge by a timed lease have stopped (L4). It lists the
//! incarnations, waits until every lease it saw must be over by its owner's own clock, and revokes
//! each on condition that it was not renewed in between. A renewal shows that the owner is alive,
//! and everything starts over.

use std::mem;

use wire::{NodeId, RegionId};

use super::core_lease::{Beat, CoreLease, Timing, Uptime};
use super::lease::{Cas, Nonce};
use super::takeover::{Op, OpResult, TakeoverError};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    /// All incarnations of all cores. Nobody can tell from outside which of them still acknowledges
    /// by an older term (R1).
    Region(RegionId),
    /// All incarnations of a node; the one that owns the shard is among them.
    Node(NodeId),
}

/// Revokes leases, for one takeover.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeaseRevoker {
    whose: Whose,
    /// Our own incarnation, which knows by itself that it has stopped.
    except: Nonce,
    timing: Timing,
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Read,
    Wait { until: Uptime, lives: Vec<(Nonce, Beat)> },
    Break { lives: Vec<(Nonce, Beat)> },
    Over,
}

impl LeaseRevoker {
    pub(super) fn of_region(region: RegionId, except: Nonce, timing: Timing) -> Self {
        Self { whose: Whose::Region(region), except, timing, step: Step::Read }
    }

    pub(super) fn of_node(node: NodeId, except: Nonce, timing: Timing) -> Self {
        Self { whose: Whose::Node(node), except, timing, step: Step::Read }
    }

    /// What to do next. None when every lease in question is revoked.
    pub(super) fn next(&self) -> Option<Op> {
        let region = self.region();
        Some(match &self.step {
            Step::Read => Op::ReadCores { region },
            Step::Wait { until, .. } => Op::WaitUntil { until: *until },
            Step::Break { lives } => Op::BreakCores { region, lives: lives.clone() },
            Step::Over => return None,
        })
    }

    pub(super) fn on(&mut self, done: OpResult) -> Result<(), TakeoverError> {
        let step = mem::replace(&mut self.step, Step::Read);
        self.step = match (step, done) {
            (Step::Read, OpResult::Cores { leases, replied_at }) => self.watch(leases, replied_at),
            (Step::Wait { until, lives }, OpResult::Clock(now)) if now >= until => {
                Step::Break { lives }
            }
            (Step::Break { .. }, OpResult::Cas(Cas::Applied)) => Step::Over,
            // Renewed in between, or unknown: what was read no longer counts, and neither does the
            // wait.
            (Step::Break { .. }, OpResult::Cas(Cas::Refused) | OpResult::Unknown) => Step::Read,
            (step @ Step::Wait { .. }, OpResult::Clock(_)) | (step, OpResult::Unknown) => step,
            (_, _) => return Err(TakeoverError::Misled),
        };
        Ok(())
    }

    fn watch(&self, leases: Vec<CoreLease>, replied_at: Uptime) -> Step {
        let holds =
            leases.into_iter().filter(|lease| !lease.broken && lease.incarnation != self.except);
        let lives = holds.filter(|lease| match &self.whose {
            Whose::Region(region) => lease.node.region == *region,
            Whose::Node(node) => lease.node == *node,
        });
        let lives: Vec<_> = lives.map(|lease| (lease.incarnation, lease.beat)).collect();
        if lives.is_empty() {
            return Step::Over;
        }
        Step::Wait { until: replied_at.after(self.timing.claim_wait()), lives }
    }

    fn region(&self) -> RegionId {
        match &self.whose {
            Whose::Region(region) => *region,
            Whose::Node(node) => node.region,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shard::core_lease::ClockError;

    const MINE: Nonce = Nonce(9);
    const REGION: RegionId = RegionId(1);

    fn timing() -> Timing {
        let clocks = ClockError { rate_ppm_max: 0, granularity: Duration::ZERO };
        Timing::new(Duration::from_secs(9), Duration::from_secs(1), clocks).unwrap()
    }

    fn at(s: u64) -> Uptime {
        Uptime(Duration::from_secs(s))
    }

    fn core(name: &str, incarnation: u128, beat: u64, broken: bool) -> CoreLease {
        CoreLease {
            node: format!("r1/core/{name}").parse().unwrap(),
            incarnation: Nonce(incarnation),
            beat: Beat(beat),
            broken,
        }
    }

    fn seen(lease_revoker: &mut LeaseRevoker, leases: Vec<CoreLease>, s: u64) {
        assert_eq!(lease_revoker.next(), Some(Op::ReadCores { region: REGION }));
        lease_revoker.on(OpResult::Cores { leases, replied_at: at(s) }).unwrap();
    }

    #[test]
    fn every_life_of_a_region_is_broken_after_the_wait() {
        let mut lease_revoker = LeaseRevoker::of_region(REGION, MINE, timing());
        lease_revoker.on(OpResult::Unknown).unwrap();
        seen(
            &mut lease_revoker,
            vec![core("a", 1, 5, false), core("a", 2, 1, true), core("b", 3, 7, false)],
            100,
        );
        assert_eq!(lease_revoker.next(), Some(Op::WaitUntil { until: at(110) }));
        lease_revoker.on(OpResult::Clock(at(109))).unwrap();
        assert_eq!(lease_revoker.next(), Some(Op::WaitUntil { until: at(110) }), "not yet");
        lease_revoker.on(OpResult::Clock(at(110))).unwrap();
        let lives = vec![(Nonce(1), Beat(5)), (Nonce(3), Beat(7))];
        assert_eq!(lease_revoker.next(), Some(Op::BreakCores { region: REGION, lives }));
        lease_revoker.on(OpResult::Cas(Cas::Applied)).unwrap();
        assert_eq!(lease_revoker.next(), None);
    }

    #[test]
    fn who_was_renewed_in_between_is_watched_anew() {
        for refused in [OpResult::Cas(Cas::Refused), OpResult::Unknown] {
            let mut lease_revoker = LeaseRevoker::of_region(REGION, MINE, timing());
            seen(&mut lease_revoker, vec![core("a", 1, 5, false), core("b", 3, 7, false)], 100);
            lease_revoker.on(OpResult::Clock(at(110))).unwrap();
            lease_revoker.on(refused).unwrap();
            seen(&mut lease_revoker, vec![core("a", 1, 6, false), core("b", 3, 7, true)], 111);
            assert_eq!(lease_revoker.next(), Some(Op::WaitUntil { until: at(121) }));
            lease_revoker.on(OpResult::Clock(at(121))).unwrap();
            let lives = vec![(Nonce(1), Beat(6))];
            assert_eq!(lease_revoker.next(), Some(Op::BreakCores { region: REGION, lives }));
        }
    }

    #[test]
    fn of_a_node_the_other_lives_are_broken_and_not_our_own() {
        let node: NodeId = "r1/core/a".parse().unwrap();
        let mut lease_revoker = LeaseRevoker::of_node(node.clone(), MINE, timing());
        seen(
            &mut lease_revoker,
            vec![core("a", 9, 3, false), core("a", 1, 5, false), core("b", 3, 7, false)],
            0,
        );
        lease_revoker.on(OpResult::Clock(at(10))).unwrap();
        assert_eq!(
            lease_revoker.next(),
            Some(Op::BreakCores { region: REGION, lives: vec![(Nonce(1), Beat(5))] })
        );
        let mut lease_revoker = LeaseRevoker::of_node(node, MINE, timing());
        seen(
            &mut lease_revoker,
            vec![core("a", 9, 3, false), core("a", 1, 5, true), core("b", 3, 7, false)],
            0,
        );
        assert_eq!(lease_revoker.next(), None, "nobody is left to wait for");
    }
}
