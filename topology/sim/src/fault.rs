//! The faults. A scenario file or a seed says when; [`crate::inject`] injects them.

use std::fmt;

use topology::World;
use wire::{NodeId, RegionId};

/// A fault and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Begin, virtual milliseconds after the load began.
    pub at_ms: u64,
    /// Duration; none: until all faults end together, before the end of the run.
    pub for_ms: Option<u64>,
    pub fault: Fault,
}

/// One fault, with its effect at begin and end.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A process dies (SIGKILL). Its kernel lives: TCP peers get a reset, QUIC peers get nothing.
    /// End: it starts again.
    Kill { node: NodeId },
    /// A machine loses power: nothing leaves it, no reset either. End: it starts again.
    PowerLoss { node: NodeId },
    /// A process pauses (SIGSTOP) while its kernel keeps receiving. End: it resumes.
    Pause { node: NodeId },
    /// A node's clocks, wall and monotonic, run at another rate, and its wall clock jumps. End: the
    /// rate is 1 again; the offset stays.
    Clock {
        node: NodeId,
        /// Its seconds in one true second: above 1 it is fast.
        rate: f64,
        /// Jump of its wall clock, milliseconds.
        jump_ms: i64,
    },
    /// A node drains: it hands over its shards or sends its clients away. End: it returns.
    Drain { node: NodeId },
    /// Every node of a region and its replica die at once. End: the replica returns with its data,
    /// and the nodes start.
    LoseRegion { region: RegionId },
    /// An operator fails a live or lost region over with `--accept-loss`, and repeats the order
    /// until it succeeds. End: they fail it back.
    FailOver { region: RegionId },
    /// Every node of a region drains. End: they return.
    DrainRegion { region: RegionId },
    /// Nothing passes between two regions. End: it passes again.
    Cut { a: RegionId, b: RegionId, ways: Ways, what: What },
    /// A share of the datagrams between two regions is lost. End: as the world says.
    Loss {
        a: RegionId,
        b: RegionId,
        /// 0 to 1, each datagram on its own.
        share: f64,
    },
    /// Every packet between two regions takes longer. End: as the world says.
    Delay {
        a: RegionId,
        b: RegionId,
        /// One way, added.
        extra_ms: u64,
    },
    /// A region's store replica is down; its nodes live. End: it returns with its data.
    ReplicaDown {
        region: RegionId,
        /// The machine fails, not the process: only a prefix of the unsynced data remains.
        power_loss: bool,
    },
    /// Each sync of a region's replica takes this long. End: as before.
    SlowDisk {
        region: RegionId,
        /// Milliseconds.
        sync_ms: u64,
    },
    /// A share of the writes to a region's replica arrives long after their sender has given up.
    /// End: none any more.
    LateWrites {
        region: RegionId,
        /// 0 to 1.
        share: f64,
        /// So late, milliseconds.
        by_ms: u64,
    },
    /// A share of the writes never reaches a region's replica, so that replicas differ. End: none
    /// is lost any more.
    Diverge {
        region: RegionId,
        /// 0 to 1.
        share: f64,
    },
    /// The clients of a region flap: each leaves and connects again this often, at another edge.
    /// End: they stay.
    Flap {
        /// Their region.
        region: RegionId,
        /// Milliseconds.
        every_ms: u64,
    },
    /// All nodes stop and start in order, one after the other, as in an upgrade. It ends by itself.
    RollingRestart {
        /// Until they are restarted, all nodes lack every feature, as an older program does.
        older: bool,
    },
}

/// The directions of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// Neither passes.
    Both,
    /// Packets from `a` to `b` are dropped; the other direction passes.
    AToB,
}

/// The traffic of a cut.
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
    /// A description for people.
    #[must_use]
    pub fn describe(&self, world: &World) -> String {
        let name = |region: &RegionId| world.region_name(*region);
        match self {
            Self::Kill { node } => format!("{node} is killed"),
            Self::PowerLoss { node } => format!("{node} loses power"),
            Self::Pause { node } => format!("{node} is paused"),
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
                    "{:.0} % of the writes to {} arrive {by_ms} ms late",
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
                "all nodes are upgraded from an older program without features, one by one".into()
            }
        }
    }

    /// The regions concerned; all when none is named.
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
