//! A node as the gossip knows it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use wire::NodeId;

/// A node that was believed dead more often than this within an incarnation does not blame the
/// network any more.
const REJOINS_MAX: u32 = 3;

/// The identity of a member. Of two with one name the later incarnation, and within it the later
/// change, is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) node: NodeId,
    pub(crate) addr: SocketAddr,
    pub(crate) incarnation: u64,
    /// Counts what changed within the incarnation: it began to drain, or was believed dead and came
    /// back.
    pub(crate) change: u32,
    pub(crate) draining: bool,
}

impl Member {
    /// Somebody of whom only the name is known: enough to ask to be let in.
    pub(crate) fn unknown(node: NodeId, addr: SocketAddr) -> Self {
        Self { node, addr, incarnation: 0, change: 0, draining: false }
    }

    pub(crate) fn changed(&self) -> Self {
        Self { change: self.change.wrapping_add(1), ..self.clone() }
    }
}

impl foca::Identity for Member {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        let mut renewed = self.changed();
        // Believed dead again and again: an earlier start had a larger incarnation, because the
        // wall clock that gives it was set back since. Leaps that double overtake any such
        // incarnation within moments.
        if let Some(leap) = renewed.change.checked_sub(REJOINS_MAX) {
            renewed.incarnation = renewed.incarnation.saturating_add(1 << leap.min(40));
        }
        Some(renewed)
    }

    fn addr(&self) -> NodeId {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.incarnation, self.change) > (adversary.incarnation, adversary.change)
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity as _;

    use super::*;

    #[test]
    fn a_life_that_began_with_a_clock_set_back_overtakes_the_one_before() {
        let node: NodeId = "r1/core/1".parse().unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let before =
            Member { incarnation: 1_800_000_000_000, change: 7, ..Member::unknown(node, addr) };
        let mut now =
            Member { incarnation: before.incarnation - 3_600_000, change: 0, ..before.clone() };
        let mut renewals = 0;
        while !now.win_addr_conflict(&before) {
            let renewed = now.renew().unwrap();
            assert!(renewed.win_addr_conflict(&now), "foca takes no other");
            now = renewed;
            renewals += 1;
        }
        assert!(renewals < 30, "{renewals}");
    }
}
