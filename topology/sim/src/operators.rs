//! Operators move conversations under load, whatever else fails. An order goes to any live core of
//! the zone; the verdict judges the result.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use wire::{ConversationId, Durability, RegionId};

use crate::ledger::Ledger;
use crate::scenario::Scenario;
use crate::site::Site;
use crate::workload::Talk;

/// The operator gives up after this; the move continues by itself.
const MOVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Separates their random choices.
const MOVES: u64 = 0x30be_d0fe_d0fe_30be;
/// Separates those for single-region conversations.
const REGION_MOVES: u64 = 0xd0fe_30be_30be_d0fe;

/// Moves the conversations of one durability.
pub struct Operators {
    rng: SmallRng,
    /// The conversations, each with the regions of its zone.
    talks: Vec<(ConversationId, Vec<RegionId>)>,
    moves_per_s: f64,
    next: Duration,
}

impl Operators {
    /// They begin at `origin`.
    #[must_use]
    pub fn new(
        class: Durability,
        scenario: &Scenario,
        talks: &[Talk],
        seed: u64,
        origin: Duration,
    ) -> Self {
        let (rng, moves_per_s) = match class {
            Durability::MultiRegion => (MOVES, scenario.load.moves_per_s),
            Durability::Region => (REGION_MOVES, scenario.load.region_moves_per_s),
        };
        let movable = talks.iter().filter(|talk| talk.id.shard.durability == class);
        let regions =
            |talk: &Talk| scenario.world.zone(talk.id.shard.zone).map(|zone| zone.regions.clone());
        let mut operators = Self {
            rng: SmallRng::seed_from_u64(seed ^ rng),
            talks: movable.filter_map(|talk| Some((talk.id, regions(talk)?))).collect(),
            moves_per_s,
            next: origin,
        };
        operators.rest();
        operators
    }

    /// Gives due orders.
    pub fn advance(&mut self, site: &mut Site, ledger: &Ledger) {
        while self.moves_per_s > 0.0 && !self.talks.is_empty() && self.next <= site.now() {
            self.order(site, ledger);
            self.rest();
        }
    }

    /// Schedules the next order, at random around the mean.
    fn rest(&mut self) {
        if self.moves_per_s > 0.0 {
            let seconds = self.rng.random_range(0.2..1.8) / self.moves_per_s;
            self.next += Duration::from_secs_f64(seconds);
        }
    }

    fn order(&mut self, site: &mut Site, ledger: &Ledger) {
        let talk = self.index(self.talks.len());
        let (id, regions) = self.talks[talk].clone();
        let to = regions[self.index(regions.len())];
        let drawn = self.rng.random_range(0..u32::MAX);
        let cores: Vec<_> =
            site.cores().filter(|(node, ..)| regions.contains(&node.region)).collect();
        let Some(at) = usize::try_from(drawn).ok().and_then(|drawn| drawn.checked_rem(cores.len()))
        else {
            return;
        };
        let (node, core) = (cores[at].0.clone(), cores[at].2.clone());
        drop(cores);
        site.fabric
            .note(format!("{} {id} to {} by {node}", site.now().as_micros(), to.0).as_bytes());
        ledger.timeline.add("an operator", format!("moves {id} to region {} by {node}", to.0));
        let Some(there) = site.machine(&node).and_then(|machine| machine.handle()) else { return };
        there.spawn(async move {
            match tokio::time::timeout(MOVE_TIMEOUT, core.move_conversation(id, to)).await {
                Ok(Ok(_)) => {}
                Ok(Err(refusal)) => tracing::warn!(conversation = %id, %refusal, "move refused"),
                Err(_) => tracing::info!(conversation = %id, "move still in progress"),
            }
        });
    }

    fn index(&mut self, count: usize) -> usize {
        let count = u32::try_from(count).expect("a scenario has few conversations and regions");
        self.rng.random_range(0..count) as usize
    }
}
