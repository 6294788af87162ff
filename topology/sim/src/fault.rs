//! What can go wrong, by name. A scenario file says when, or a seed draws it; [`crate::run`] carries it out.

use std::fmt;

use topology::World;
use wire::{NodeId, RegionId};

/// A fault and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// When it begins, virtual milliseconds after the load began.
    pub at_ms: u64,
    /// How long it lasts; none: until the faults end together, before the end of the run.
    pub for_ms: Option<u64>,
    /// What.
    pub fault: Fault,
}

/// One thing that goes wrong. What it does when it ends stands with each.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A process dies (SIGKILL). Its kernel lives: TCP peers get a reset, QUIC peers hear nothing. Ends: it starts again.
    Kill {
        /// Which.
        node: NodeId,
    },
    /// A machine goes dark: nothing leaves it any more, no reset either. Ends: it starts again.
    PowerLoss {
        /// Which.
        node: NodeId,
    },
    /// A process stands still (SIGSTOP) while its kernel goes on receiving. Ends: it wakes where it stood.
    Pause {
        /// Which.
        node: NodeId,
    },
    /// A node's clocks, wall and monotonic, run at another rate and its wall clock is set off. Ends: the rate is 1 again, and
    /// what has been gained stays.
    Clock {
        /// Which.
        node: NodeId,
        /// Its seconds in one true second: above 1 it is fast.
        rate: f64,
        /// Its wall clock jumps by so many milliseconds.
        jump_ms: i64,
    },
    /// A node hands over what it has and sends its clients away. Ends: it takes part again.
    Drain {
        /// Which.
        node: NodeId,
    },
    /// Every node of a region and its replica die at once. Ends: the replica comes back with what it had, and the nodes start.
    LoseRegion {
        /// Which.
        region: RegionId,
    },
    /// An operator fails a region over and accepts what is missing; it may live or be lost. He orders it again until it is done. Ends: he
    /// fails it back, as soon as it can be.
    FailOver {
        /// Which.
        region: RegionId,
    },
    /// Every node of a region drains. Ends: they take part again.
    DrainRegion {
        /// Which.
        region: RegionId,
    },
    /// Nothing passes between two regions. Ends: it passes again.
    Cut {
        /// One end.
        a: RegionId,
        /// The other.
        b: RegionId,
        /// Which directions.
        ways: Ways,
        /// Which traffic.
        what: What,
    },
    /// A share of the datagrams between two regions is lost. Ends: as the world says.
    Loss {
        /// One end.
        a: RegionId,
        /// The other.
        b: RegionId,
        /// 0 to 1, each datagram on its own.
        share: f64,
    },
    /// Everything between two regions takes longer. Ends: as the world says.
    Delay {
        /// One end.
        a: RegionId,
        /// The other.
        b: RegionId,
        /// One way, added.
        extra_ms: u64,
    },
    /// A region's store replica is down; its nodes live. Ends: it comes back with what it had.
    ReplicaDown {
        /// Whose.
        region: RegionId,
        /// The machine fails, not the process: of what was not synced only a beginning remains.
        power_loss: bool,
    },
    /// Each sync of a region's replica takes so long. Ends: as before.
    SlowDisk {
        /// Whose.
        region: RegionId,
        /// Milliseconds.
        sync_ms: u64,
    },
    /// A share of the writes to a region's replica arrives late, long after their sender has given up. Ends: no more of them.
    LateWrites {
        /// Whose.
        region: RegionId,
        /// 0 to 1.
        share: f64,
        /// So late, milliseconds.
        by_ms: u64,
    },
    /// A share of the writes never reaches a region's replica, so that replicas differ. Ends: no more of them are lost.
    Diverge {
        /// Whose.
        region: RegionId,
        /// 0 to 1.
        share: f64,
    },
    /// The clients of a region come and go: each leaves and connects again this often, at another edge. Ends: they stay.
    Flap {
        /// Where they live.
        region: RegionId,
        /// Milliseconds.
        every_ms: u64,
    },
    /// All nodes are stopped in order and started again, one after the other, as an upgrade does it. It ends by itself.
    RollingRestart {
        /// Until they are restarted, all nodes speak the previous minor version of the mesh's protocol.
        older: bool,
    },
}

/// Which directions are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// Neither passes.
    Both,
    /// What `a` sends does not reach `b`; the other way passes.
    AToB,
}

/// Which traffic a cut stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nodes, clients and replicas alike.
    All,
    /// The mesh and the clients; the store's replicas reach each other.
    Mesh,
    /// The store's replicas; the mesh passes.
    Store,
}

impl Fault {
    /// In words, for people.
    #[must_use]
    pub fn describe(&self, world: &World) -> String {
        let name = |region: &RegionId| world.region_name(*region);
        match self {
            Self::Kill { node } => format!("{node} is killed"),
            Self::PowerLoss { node } => format!("{node} loses power"),
            Self::Pause { node } => format!("{node} stands still"),
            Self::Clock { node, rate, jump_ms } => {
                format!("the clock of {node} runs at {rate}, jumps by {jump_ms} ms")
            }
            Self::Drain { node } => format!("{node} drains"),
            Self::LoseRegion { region } => format!("region {} is lost", name(region)),
            Self::FailOver { region } => format!("region {} is failed over", name(region)),
            Self::DrainRegion { region } => format!("region {} drains", name(region)),
            Self::Cut { a, b, ways, what } => {
                let arrow = if *ways == Ways::Both { "-" } else { "->" };
                format!("{what}{} {arrow} {} is cut", name(a), name(b))
            }
            Self::Loss { a, b, share } => {
                format!("{} - {} loses {:.0} %", name(a), name(b), share * 100.0)
            }
            Self::Delay { a, b, extra_ms } => {
                format!("{} - {} takes {extra_ms} ms more", name(a), name(b))
            }
            Self::ReplicaDown { region, power_loss: false } => {
                format!("the replica of {} is down", name(region))
            }
            Self::ReplicaDown { region, power_loss: true } => {
                format!("the replica of {} loses power", name(region))
            }
            Self::SlowDisk { region, sync_ms } => {
                format!("the disk of {} syncs in {sync_ms} ms", name(region))
            }
            Self::LateWrites { region, share, by_ms } => {
                format!(
                    "{:.0} % of the writes to {} come {by_ms} ms late",
                    share * 100.0,
                    name(region)
                )
            }
            Self::Diverge { region, share } => {
                format!(
                    "{:.0} % of the writes never reach the replica of {}",
                    share * 100.0,
                    name(region)
                )
            }
            Self::Flap { region, every_ms } => {
                format!("clients of {} reconnect every {every_ms} ms", name(region))
            }
            Self::RollingRestart { older: false } => "all nodes are restarted, one by one".into(),
            Self::RollingRestart { older: true } => {
                "all nodes, of an older version until now, are restarted as this one, one by one"
                    .into()
            }
        }
    }

    /// The regions that it concerns; all of them when none is named.
    #[must_use]
    pub fn regions(&self) -> Vec<RegionId> {
        match self {
            Self::Kill { node }
            | Self::PowerLoss { node }
            | Self::Pause { node }
            | Self::Clock { node, .. }
            | Self::Drain { node } => vec![node.region],
            Self::LoseRegion { region }
            | Self::FailOver { region }
            | Self::DrainRegion { region }
            | Self::ReplicaDown { region, .. }
            | Self::SlowDisk { region, .. }
            | Self::LateWrites { region, .. }
            | Self::Diverge { region, .. }
            | Self::Flap { region, .. } => vec![*region],
            Self::Cut { a, b, .. } | Self::Loss { a, b, .. } | Self::Delay { a, b, .. } => {
                vec![*a, *b]
            }
            Self::RollingRestart { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "",
            Self::Mesh => "the mesh ",
            Self::Store => "the store ",
        })
    }
}
