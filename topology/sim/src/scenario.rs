//! A scenario: a world, a load, and faults. Read from a TOML file ([`crate::scenario::file`]) or
//! drawn from a seed ([`crate::draw`]).

pub mod file;
pub mod shipped;

use std::sync::Arc;
use std::time::Duration;

use topology::World;
use topology::world::{Fence, Zone};

use crate::fault::{Fault, Planned};

/// A simulated world, load and faults.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    /// One or two sentences on what it shows; may be empty.
    pub about: String,
    pub world: Arc<World>,
    /// Length of the load, virtual milliseconds. All faults end `quiet_ms` earlier.
    pub load_ms: u64,
    /// Time between the end of all faults and of the load, so that there is an "after".
    pub quiet_ms: u64,
    /// After the load everything converges within this, or the run fails.
    pub converge_ms: u64,
    /// Step of virtual time. Part of the schedule: another tick is another run.
    pub tick_ms: u64,
    pub load: Load,
    /// The faults, in any order.
    pub faults: Vec<Planned>,
}

/// The same world with this fence mode in every zone.
#[must_use]
pub fn with_fence(world: &World, fence: Fence) -> World {
    let zones = world.zones.iter().map(|zone| Zone { fence, ..zone.clone() });
    World { zones: zones.collect(), ..world.clone() }
}

/// The same world with this `max_rpo` in every zone; none: only operators fail a region over.
#[must_use]
pub fn with_max_rpo(world: &World, max_rpo: Option<Duration>) -> World {
    let zones = world.zones.iter().map(|zone| Zone { max_rpo, ..zone.clone() });
    World { zones: zones.collect(), ..world.clone() }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Users in each region, each with one client.
    pub clients: u16,
    /// Messages sent by all of them together.
    pub messages_per_s: f64,
    /// Groups, their homes spread over the regions of each tenant's zone.
    pub groups: u16,
    /// Direct conversations, of two people in different regions where there are two.
    pub directs: u16,
    /// Members added to groups and removed, by all together.
    pub edits_per_s: f64,
    /// Pages of history read, by all together.
    pub reads_per_s: f64,
    /// Moves of multi-region conversations, by all operators together.
    pub moves_per_s: f64,
    /// Moves of single-region conversations.
    pub region_moves_per_s: f64,
    /// Share of messages that are sent again, unchanged, some time after their ack.
    pub resend: f64,
    /// Approximate bytes of a message's body.
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
