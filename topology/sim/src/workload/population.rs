//! The population: users spread over the regions of their tenant's zone, groups with homes in all
//! of them, direct conversations across regions.

use rand::Rng;
use rand::seq::IndexedRandom as _;
use topology::World;
use wire::{Durability, RegionId, TenantId, UserId};

use super::user;
use crate::scenario::Load;

#[derive(Clone, Debug)]
pub struct Resident {
    /// Their name.
    pub user: UserId,
    /// Their tenant.
    pub tenant: TenantId,
    /// Their region.
    pub region: RegionId,
}

/// A conversation to be made.
#[derive(Clone, Debug)]
pub enum Plan {
    /// A group of all residents of a tenant.
    Group {
        tenant: TenantId,
        name: String,
        /// Its home region.
        home: RegionId,
        durability: Durability,
    },
    /// A direct conversation of two users.
    Direct { tenant: TenantId, a: UserId, b: UserId },
}

/// All users and planned conversations.
#[derive(Clone, Debug)]
pub struct Population {
    /// Users that send.
    pub residents: Vec<Resident>,
    /// Users that watch with an independent client, one per tenant and region.
    pub watchers: Vec<Resident>,
    /// Users that join and leave groups, one per tenant.
    pub guests: Vec<Resident>,
    /// The conversations to create.
    pub plans: Vec<Plan>,
}

impl Population {
    /// For this load in this world.
    #[must_use]
    pub fn draw(world: &World, load: &Load, rng: &mut impl Rng) -> Self {
        let residents = residents(world, load.clients);
        let mut watchers: Vec<Resident> = Vec::new();
        let mut guests: Vec<Resident> = Vec::new();
        for Resident { tenant, region, .. } in &residents {
            let named = |kind: &str| Resident {
                user: user(&format!("{kind}-{tenant}-{}", region.0)),
                tenant: tenant.clone(),
                region: *region,
            };
            if !watchers
                .iter()
                .any(|watcher| (&watcher.tenant, watcher.region) == (tenant, *region))
            {
                watchers.push(named("watch"));
            }
            if !guests.iter().any(|guest| guest.tenant == *tenant) {
                guests.push(named("guest"));
            }
        }
        let plans = plans(world, load, &residents, rng);
        Self { residents, watchers, guests, plans }
    }
}

/// This many in each region, of the tenants whose zone includes it, in turn.
fn residents(world: &World, clients: u16) -> Vec<Resident> {
    let mut residents = Vec::new();
    for region in &world.regions {
        let local = world.tenants.iter().filter(|tenant| {
            world.zone(tenant.zone).is_some_and(|zone| zone.regions.contains(&region.id))
        });
        let local: Vec<&TenantId> = local.map(|tenant| &tenant.id).collect();
        // Every tenant has at least one writer.
        let count = usize::from(clients).max(local.len());
        for (n, tenant) in local.iter().cycle().take(count.min(count * local.len())).enumerate() {
            let user = user(&format!("{}-{}", region.name, n + 1));
            residents.push(Resident { user, tenant: (*tenant).clone(), region: region.id });
        }
    }
    residents
}

fn plans(world: &World, load: &Load, residents: &[Resident], rng: &mut impl Rng) -> Vec<Plan> {
    let mut plans = Vec::new();
    for n in 0..usize::from(load.groups) {
        let tenant = &world.tenants[n % world.tenants.len()];
        let Some(zone) = world.zone(tenant.zone) else { continue };
        let round = n / world.tenants.len();
        let home = zone.regions[round % zone.regions.len()];
        // Every other group has the durability that is not the tenant's default, where the zone
        // offers it.
        let other = match tenant.durability {
            Durability::Region => Durability::MultiRegion,
            Durability::MultiRegion => Durability::Region,
        };
        let durability =
            if round % 2 == 1 && zone.offers(other) { other } else { tenant.durability };
        plans.push(Plan::Group {
            tenant: tenant.id.clone(),
            name: format!("group {n}"),
            home,
            durability,
        });
    }
    for n in 0..usize::from(load.directs) {
        let tenant = &world.tenants[n % world.tenants.len()].id;
        let of_tenant: Vec<&Resident> =
            residents.iter().filter(|resident| resident.tenant == *tenant).collect();
        let Some(a) = of_tenant.choose(rng) else { continue };
        let far: Vec<&&Resident> = of_tenant.iter().filter(|b| b.region != a.region).collect();
        let near: Vec<&&Resident> = of_tenant.iter().filter(|b| b.user != a.user).collect();
        let Some(b) = far.choose(rng).or_else(|| near.choose(rng)) else { continue };
        plans.push(Plan::Direct { tenant: tenant.clone(), a: a.user.clone(), b: b.user.clone() });
    }
    plans
}
