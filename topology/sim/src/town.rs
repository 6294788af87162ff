//! The people: who lives where, what they talk in, and what they share. Each region's live on a machine of their own.
//!
//! | module | who |
//! |---|---|
//! | [`cast`] | who there is and which conversations they have, before any exists |
//! | [`stage`] | makes the conversations, over HTTP |
//! | [`person`] | talks, with the SDK: sends, retries, flaps, changes edges |
//! | [`watcher`] | watches with a client that shares nothing with the SDK, and notices what an edge must not do |
//! | [`errands`] | edits members, reads history |

pub mod cast;
pub mod errands;
pub mod person;
pub mod stage;
pub mod watcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use client::{Endpoints, TokenError, Tokens};
use tokio::sync::watch;
use tokio::time::Instant;
use topology::{Serve, World};
use wire::{ConversationId, DeviceId, NodeRole, RegionId, TenantId, UserId};

use crate::ledger::Ledger;
use crate::net::SimNet;
use crate::nodes::Material;
use crate::observe::millis;

/// Tokens are asked for anew before each connection, so they need not last.
const TOKEN_TTL_S: u64 = 15 * 60;

/// What the run wants of the people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Be there.
    Settle,
    /// Talk.
    Load,
    /// Say nothing new; wait for what is owed.
    Hush,
}

/// A conversation that exists.
#[derive(Clone, Debug)]
pub struct Talk {
    /// Which.
    pub id: ConversationId,
    /// Whose.
    pub tenant: TenantId,
    /// Who talks in it.
    pub members: Vec<UserId>,
    /// Who made it; of a group, who may change its members.
    pub owner: UserId,
    /// Members come and go only in groups.
    pub is_group: bool,
}

/// What the people of one region share; cheap to clone.
#[derive(Clone)]
pub struct Town {
    /// Where.
    pub region: RegionId,
    /// The world.
    pub world: Arc<World>,
    /// What everyone writes into.
    pub ledger: Ledger,
    /// What is wanted.
    pub phase: watch::Receiver<Phase>,
    /// How often each comes and goes, milliseconds; none: they stay.
    pub flap: watch::Receiver<Option<u64>>,
    material: Arc<Material>,
    began: Instant,
}

impl Town {
    /// Call it on the people's own machine, at the very beginning.
    #[must_use]
    pub fn new(
        region: RegionId,
        material: &Arc<Material>,
        ledger: Ledger,
        phase: watch::Receiver<Phase>,
        flap: watch::Receiver<Option<u64>>,
    ) -> Self {
        let world = Arc::clone(&material.world);
        Self {
            region,
            world,
            ledger,
            phase,
            flap,
            material: Arc::clone(material),
            began: Instant::now(),
        }
    }

    /// Virtual milliseconds since the beginning.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// The edges that may serve this tenant, nearest first, each region's in their order.
    #[must_use]
    pub fn edges(&self, tenant: &TenantId) -> Vec<String> {
        let Some(zone) = self.world.tenant(tenant).map(|tenant| tenant.zone) else {
            return Vec::new();
        };
        let serving: Vec<RegionId> = self.world.regions.iter().map(|region| region.id).collect();
        let mut near = self.world.nearest_first(self.region, &serving);
        near.retain(|region| self.world.edge_serves(*region, zone) == Serve::Yes);
        // Inside the zone first.
        near.sort_by_key(|region| {
            !self.world.zone(zone).is_some_and(|zone| zone.regions.contains(region))
        });
        let nodes = near
            .iter()
            .filter_map(|region| self.world.region(*region))
            .flat_map(|region| region.nodes());
        nodes
            .filter(|node| node.role == NodeRole::Edge)
            .map(|node| self.material.edge_url(&node))
            .collect()
    }

    /// The same, beginning with another one after each turn.
    #[must_use]
    pub fn turning_edges(&self, tenant: &TenantId, turn: &Arc<AtomicUsize>) -> Arc<dyn Endpoints> {
        let (town, tenant, turn) = (self.clone(), tenant.clone(), Arc::clone(turn));
        Arc::new(move || {
            let mut edges = town.edges(&tenant);
            let by = turn.load(Ordering::Relaxed) % edges.len().max(1);
            edges.rotate_left(by);
            std::future::ready(edges)
        })
    }

    /// A token, as the tenant's identity provider would give.
    #[must_use]
    pub fn token(&self, tenant: &TenantId, user: &UserId, device: &DeviceId) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.material.issuer.issue(tenant, user, Some(device), TOKEN_TTL_S, millis(now))
    }

    /// The same for the SDK, anew for each connection.
    #[must_use]
    pub fn tokens(&self, tenant: &TenantId, user: &UserId, device: &DeviceId) -> Arc<dyn Tokens> {
        let (town, tenant, user, device) =
            (self.clone(), tenant.clone(), user.clone(), device.clone());
        Arc::new(move || {
            std::future::ready(Ok::<_, TokenError>(town.token(&tenant, &user, &device)))
        })
    }

    /// Options of an SDK client of this user, whose choices follow from `seed`.
    #[must_use]
    pub fn options(
        &self,
        tenant: &TenantId,
        user: &UserId,
        turn: &Arc<AtomicUsize>,
        seed: u64,
    ) -> client::Options {
        let tokens = self.tokens(tenant, user, &device());
        let options =
            client::Options::new(Arc::new(SimNet), self.turning_edges(tenant, turn), tokens);
        client::Options { seed: Some(seed), ..options }
    }

    /// Resolves when the run wants this, or something later.
    pub async fn wait_for(&self, wanted: Phase) {
        // The run outlives its people.
        let _ = self.phase.clone().wait_for(|phase| *phase >= wanted).await;
    }
}

/// Everyone has one.
#[must_use]
pub fn device() -> DeviceId {
    DeviceId::new("phone-1").expect("a short plain name")
}

/// A user of this name; names are made from region and tenant names, which are shorter than what a user id may be.
#[must_use]
pub fn user(name: &str) -> UserId {
    UserId::new(name).expect("a short name")
}

/// What stands in every message of a zone and nowhere else.
#[must_use]
pub fn marker(world: &World, tenant: &TenantId) -> String {
    let zone = world.zone_of(tenant).map(|zone| zone.name.clone()).unwrap_or_default();
    format!("only-in-{zone}:")
}
