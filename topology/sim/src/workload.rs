//! The simulated clients, their conversations, and their shared state. Each region's clients run on
//! a machine of their own.
//!
//! | module | what |
//! |---|---|
//! | [`population`] | draws the users and their planned conversations |
//! | [`setup`] | creates the conversations, over HTTP |
//! | [`writer`] | a writer with the SDK: sends, retries, flaps, changes edges |
//! | [`watcher`] | a watcher without the SDK, which detects an edge's mistakes |
//! | [`operations`] | changes members, reads history |

pub mod operations;
pub mod population;
pub mod setup;
pub mod watcher;
pub mod writer;

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

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connect.
    Settle,
    /// Send.
    Load,
    /// Send nothing new; wait for acks.
    Quiesce,
}

/// An existing conversation.
#[derive(Clone, Debug)]
pub struct Talk {
    pub id: ConversationId,
    pub tenant: TenantId,
    pub members: Vec<UserId>,
    /// Its creator; in a group, the owner.
    pub owner: UserId,
    /// Only groups change members.
    pub is_group: bool,
}

/// Shared state of one region's clients; cheap to clone.
#[derive(Clone)]
pub struct Workload {
    pub region: RegionId,
    pub world: Arc<World>,
    /// The ledger of the run.
    pub ledger: Ledger,
    /// The current phase.
    pub phase: watch::Receiver<Phase>,
    /// Interval at which each client reconnects, milliseconds; none: never.
    pub flap: watch::Receiver<Option<u64>>,
    material: Arc<Material>,
    began: Instant,
}

impl Workload {
    /// Call it on the clients' own machine, at the start.
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

    /// Virtual milliseconds since the start.
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

    /// The same list, rotated by one after each turn.
    #[must_use]
    pub fn turning_edges(&self, tenant: &TenantId, turn: &Arc<AtomicUsize>) -> Arc<dyn Endpoints> {
        let (workload, tenant, turn) = (self.clone(), tenant.clone(), Arc::clone(turn));
        Arc::new(move || {
            let mut edges = workload.edges(&tenant);
            let by = turn.load(Ordering::Relaxed) % edges.len().max(1);
            edges.rotate_left(by);
            std::future::ready(edges)
        })
    }

    /// A token, as from the tenant's identity provider.
    #[must_use]
    pub fn token(&self, tenant: &TenantId, user: &UserId, device: &DeviceId) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.material.issuer.issue(tenant, user, Some(device), TOKEN_TTL_S, millis(now))
    }

    /// Tokens for the SDK, a new one for each connection.
    #[must_use]
    pub fn tokens(&self, tenant: &TenantId, user: &UserId, device: &DeviceId) -> Arc<dyn Tokens> {
        let (workload, tenant, user, device) =
            (self.clone(), tenant.clone(), user.clone(), device.clone());
        Arc::new(move || {
            std::future::ready(Ok::<_, TokenError>(workload.token(&tenant, &user, &device)))
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

    /// Resolves at this phase or a later one.
    pub async fn wait_for(&self, wanted: Phase) {
        // The run outlives its clients.
        let _ = self.phase.clone().wait_for(|phase| *phase >= wanted).await;
    }
}

/// Every user has one device.
#[must_use]
pub fn device() -> DeviceId {
    DeviceId::new("phone-1").expect("a short plain name")
}

/// A user of this name; names are made from region and tenant names, which are shorter than what a
/// user id may be.
#[must_use]
pub fn user(name: &str) -> UserId {
    UserId::new(name).expect("a short name")
}

/// A marker in every message of a zone and nowhere else.
#[must_use]
pub fn marker(world: &World, tenant: &TenantId) -> String {
    let zone = world.zone_of(tenant).map(|zone| zone.name.clone()).unwrap_or_default();
    format!("only-in-{zone}:")
}
