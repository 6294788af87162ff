//! A scenario: a world, a load, and what goes wrong when. Read from a TOML file ([`crate::scenario::file`]) or drawn from a seed
//! ([`crate::draw`]).

pub mod file;
pub mod shipped;

use std::sync::Arc;
use std::time::Duration;

use topology::World;
use topology::world::{Fence, Zone};

use crate::fault::{Fault, Planned};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What people call it.
    pub name: String,
    /// One or two sentences on what it shows; may be empty.
    pub about: String,
    /// Where.
    pub world: Arc<World>,
    /// How long the load runs, virtual milliseconds. All faults are over `quiet_ms` before.
    pub load_ms: u64,
    /// All faults end so long before the load does, so that there is an "after".
    pub quiet_ms: u64,
    /// When the load has ended, everything converges within this, or the run fails.
    pub converge_ms: u64,
    /// Steps of virtual time. Part of the schedule: another tick is another run.
    pub tick_ms: u64,
    /// What the clients do.
    pub load: Load,
    /// What goes wrong, in any order.
    pub faults: Vec<Planned>,
}

/// The same world, with owners of every zone that make sure of themselves in this way.
#[must_use]
pub fn with_fence(world: &World, fence: Fence) -> World {
    let zones = world.zones.iter().map(|zone| Zone { fence, ..zone.clone() });
    World { zones: zones.collect(), ..world.clone() }
}

/// The same world, with zones that bound what may be missing of class `region`; none: only operators fail a region over.
#[must_use]
pub fn with_max_rpo(world: &World, max_rpo: Option<Duration>) -> World {
    let zones = world.zones.iter().map(|zone| Zone { max_rpo, ..zone.clone() });
    World { zones: zones.collect(), ..world.clone() }
}

/// What the clients do.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// People in each region, each with one client.
    pub clients: u16,
    /// Messages sent by all of them together.
    pub messages_per_s: f64,
    /// Groups, their homes spread over the regions of each tenant's zone.
    pub groups: u16,
    /// Direct conversations, of two people in different regions where there are two.
    pub directs: u16,
    /// Members taken out of and into groups, by all together.
    pub edits_per_s: f64,
    /// Pages of history read, by all together.
    pub reads_per_s: f64,
    /// Conversations of class `multi-region` given another home, by all operators together.
    pub moves_per_s: f64,
    /// And those of class `region`.
    pub region_moves_per_s: f64,
    /// Share of messages that are sent again, unchanged, some time after their ack.
    pub resend: f64,
    /// Bytes of a message's body, about.
    pub body_bytes: u16,
}

impl Scenario {
    /// Whether nodes of an older version are upgraded in it.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.faults
            .iter()
            .any(|planned| matches!(planned.fault, Fault::RollingRestart { older: true }))
    }

    /// Whether a region may be failed over in it, by an operator or by itself.
    #[must_use]
    pub fn fails_over(&self) -> bool {
        let by_itself = self.world.zones.iter().any(|zone| zone.max_rpo.is_some());
        by_itself
            || self.faults.iter().any(|planned| matches!(planned.fault, Fault::FailOver { .. }))
    }
}

impl Default for Load {
    fn default() -> Self {
        Self {
            clients: 3,
            messages_per_s: 12.0,
            groups: 6,
            directs: 3,
            edits_per_s: 0.5,
            reads_per_s: 0.5,
            moves_per_s: 0.0,
            region_moves_per_s: 0.0,
            resend: 0.1,
            body_bytes: 80,
        }
    }
}
