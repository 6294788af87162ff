//! Which way to a node: over the direct link, or through a node of a third region. Pure; all times
//! are measured.

use std::time::Duration;

use wire::{NodeId, RegionId};

/// A node that could carry a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    /// Which.
    pub(crate) via: NodeId,
    /// Round trip from here to it, over a healthy link.
    pub(crate) mine: Duration,
    /// Round trip from it to the target, as it reported lately.
    pub(crate) theirs: Duration,
    /// It goes away soon.
    pub(crate) draining: bool,
}

/// A way through another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Detour {
    /// Which.
    pub(crate) via: NodeId,
    /// The whole round trip.
    pub(crate) rtt: Duration,
    draining: bool,
}

/// The detour must be shorter by this much and by a fifth: a relay costs work, and measurements
/// waver.
const DETOUR_GAIN: Duration = Duration::from_millis(10);

/// The detours from `here` to `target`, best first: those that stay before those that drain, then
/// the shortest. A relay stands in a third region, whose link is cut for its own reasons only.
pub(crate) fn detours(
    here: RegionId,
    target: &NodeId,
    legs: impl IntoIterator<Item = Leg>,
) -> Vec<Detour> {
    let mut detours: Vec<Detour> = legs
        .into_iter()
        .filter(|leg| leg.via.region != here && leg.via.region != target.region)
        .map(|leg| Detour { via: leg.via, rtt: leg.mine + leg.theirs, draining: leg.draining })
        .collect();
    detours.sort_by(|a, b| (a.draining, a.rtt, &a.via).cmp(&(b.draining, b.rtt, &b.via)));
    detours
}

/// Is the detour so much shorter than a healthy direct link that it is worth it?
pub(crate) fn is_worth_it(direct: Duration, detour: Duration) -> bool {
    detour + DETOUR_GAIN < direct && detour * 5 < direct * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(via: &str, mine: u64, theirs: u64, draining: bool) -> Leg {
        let ms = Duration::from_millis;
        Leg { via: via.parse().unwrap(), mine: ms(mine), theirs: ms(theirs), draining }
    }

    fn ways(legs: Vec<Leg>) -> Vec<String> {
        let target = "r3/core/1".parse().unwrap();
        detours(RegionId(1), &target, legs).into_iter().map(|way| way.via.to_string()).collect()
    }

    #[test]
    fn the_shortest_whole_way_comes_first_and_a_draining_relay_last() {
        let legs = vec![
            leg("r2/core/1", 10, 90, false),
            leg("r4/core/1", 40, 20, false),
            leg("r5/edge/1", 1, 1, true),
        ];
        assert_eq!(ways(legs), ["r4/core/1", "r2/core/1", "r5/edge/1"]);
    }

    #[test]
    fn only_a_third_region_relays() {
        assert!(
            ways(vec![leg("r1/core/2", 1, 1, false), leg("r3/core/2", 1, 1, false)]).is_empty()
        );
    }

    #[test]
    fn a_detour_must_be_clearly_shorter() {
        let ms = Duration::from_millis;
        assert!(is_worth_it(ms(200), ms(100)));
        assert!(!is_worth_it(ms(200), ms(170)), "a fifth");
        assert!(!is_worth_it(ms(12), ms(4)), "ten milliseconds");
    }
}
