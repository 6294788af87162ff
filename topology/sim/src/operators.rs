//! The operators: while people write, they give conversations another home, and think nothing of what else goes wrong. An order goes to
//! any core of the zone that lives; what becomes of it is for those who judge.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use wire::{ConversationId, Durability, RegionId};

use crate::ledger::Ledger;
use crate::scenario::Scenario;
use crate::site::Site;
use crate::town::Talk;

/// An order that is not carried out by then is given up by who gave it, and goes on by itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sets their dice apart.
const MOVES: u64 = 0x30be_d0fe_d0fe_30be;
/// And those of the others.
const REGION_MOVES: u64 = 0xd0fe_30be_30be_d0fe;

/// See the module. These care for the conversations of one class.
pub struct Operators {
    dice: SmallRng,
    /// Those of a class, each with the regions that it may live in.
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
        let (dice, moves_per_s) = match class {
            Durability::MultiRegion => (MOVES, scenario.load.moves_per_s),
            Durability::Region => (REGION_MOVES, scenario.load.region_moves_per_s),
        };
        let movable = talks.iter().filter(|talk| talk.id.shard.durability == class);
        let regions =
            |talk: &Talk| scenario.world.zone(talk.id.shard.zone).map(|zone| zone.regions.clone());
        let mut operators = Self {
            dice: SmallRng::seed_from_u64(seed ^ dice),
            talks: movable.filter_map(|talk| Some((talk.id, regions(talk)?))).collect(),
            moves_per_s,
            next: origin,
        };
        operators.rest();
        operators
    }

    /// Gives the orders that are due.
    pub fn go_on(&mut self, site: &mut Site, ledger: &Ledger) {
        while self.moves_per_s > 0.0 && !self.talks.is_empty() && self.next <= site.now() {
            self.order(site, ledger);
            self.rest();
        }
    }

    /// Until the next order: some time around the mean.
    fn rest(&mut self) {
        if self.moves_per_s > 0.0 {
            let seconds = self.dice.random_range(0.2..1.8) / self.moves_per_s;
            self.next += Duration::from_secs_f64(seconds);
        }
    }

    fn order(&mut self, site: &mut Site, ledger: &Ledger) {
        let talk = self.index(self.talks.len());
        let (id, regions) = self.talks[talk].clone();
        let to = regions[self.index(regions.len())];
        let drawn = self.dice.random_range(0..u32::MAX);
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
            match tokio::time::timeout(PATIENCE, core.move_conversation(id, to)).await {
                Ok(Ok(_)) => {}
                Ok(Err(refusal)) => tracing::warn!(conversation = %id, %refusal, "does not move"),
                Err(_) => tracing::info!(conversation = %id, "has not arrived yet"),
            }
        });
    }

    fn index(&mut self, count: usize) -> usize {
        let count = u32::try_from(count).expect("a scenario has few conversations and regions");
        self.dice.random_range(0..count) as usize
    }
}
