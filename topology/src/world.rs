//! The checked world and lookups in it.

mod births;
mod geography;
mod limits;
mod naming;

use std::time::Duration;

use wire::ids::NodeName;
use wire::{Durability, NodeId, NodeRole, RegionId, ShardId, TenantId, ZoneId};

use crate::file;
use crate::mistakes::Mistakes;
pub use limits::TenantLimits;
pub use naming::NodeNameError;

/// A checked world: every reference in it resolves.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// What people call it.
    pub name: String,
    /// In file order.
    pub regions: Vec<Region>,
    /// In file order.
    pub zones: Vec<Zone>,
    /// In file order; the first is the one that tools use when none is named.
    pub tenants: Vec<Tenant>,
    /// The links whose delay or loss the file gives; the delay of the others follows from the
    /// coordinates.
    pub links: Vec<Link>,
}

/// One datacenter.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The number, in ids and certificates; never reused.
    pub id: RegionId,
    /// The name, which is also that of its folder.
    pub name: String,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// How many edges it starts with.
    pub edges: u16,
    /// How many cores it starts with.
    pub cores: u16,
    /// The successors of its multi-region conversations when it is lost, best first. Regions left
    /// out come after, nearest first.
    pub successors: Vec<RegionId>,
}

/// The regions in which the data of some tenants may rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// Its number, in ids; never reused.
    pub id: ZoneId,
    /// What people call it.
    pub name: String,
    /// Where its data may rest, in file order.
    pub regions: Vec<RegionId>,
    /// Whether edges of other regions may carry its frames.
    pub transit: Transit,
    /// Shards per (home region, durability class) for conversations that are born from now on.
    pub shards: u16,
    /// How owners confirm their term.
    pub fence: Fence,
    /// When one of its regions is lost and this bounds what is missing of single-region shards, the
    /// region is failed over without an operator.
    pub max_rpo: Option<Duration>,
    /// The regions over which derived ids (direct conversations, user streams) are spread. Fixed
    /// when the zone first holds data: the same two users must find the same conversation for ever.
    pub founding_regions: Vec<RegionId>,
    /// The number of shards over which derived ids are spread. Fixed as above.
    pub founding_shards: u16,
}

impl Zone {
    /// Whether this durability can be kept here. Multi-region needs three regions, or the loss of
    /// one leaves no quorum.
    #[must_use]
    pub fn offers(&self, durability: Durability) -> bool {
        durability == Durability::Region || self.regions.len() >= 3
    }

    /// How many regions are a majority of this zone's.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.regions.len() / 2 + 1
    }
}

/// Whether edges outside a zone may carry its frames in transit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transit {
    /// They may, and keep nothing.
    Allow,
    /// They may not: clients are sent to an edge inside.
    Deny,
}

/// How an owner confirms, at every commit, that it still is the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fence {
    /// It reads the fence at quorum after every append. Trusts no clock.
    Read,
    /// It checks the timed lease of its process: one round trip less for each commit. Trusts that
    /// no clock runs faster or slower than stated.
    Lease,
}

/// The owner of conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub id: TenantId,
    /// Where its data may rest.
    pub zone: ZoneId,
    /// The durability of its conversations unless one asks for another.
    pub durability: Durability,
    /// Where its groups are born; none: in the region of their creator.
    pub home: Option<RegionId>,
    /// The issuer of its users' tokens; none: only the development key of a local mesh.
    pub identity: Option<IdentityProvider>,
    /// What its users may ask of an edge.
    pub limits: TenantLimits,
}

/// Who signs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Its public keys.
    pub jwks: Jwks,
}

/// A set of public keys (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    /// In a file, relative to the world file.
    File(std::path::PathBuf),
    /// Its JSON, in the world file itself.
    Inline(String),
}

/// What the file says of the link between two regions, both directions alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// One end.
    pub a: RegionId,
    /// The other.
    pub b: RegionId,
    /// One way, milliseconds.
    pub delay_ms: f64,
    /// Share of datagrams lost, 0 to below 1.
    pub loss: f64,
}

/// Whether an edge may serve a tenant's users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serve {
    /// It may.
    Yes,
    /// It may not; edges in these regions may, nearest first.
    Refuse {
        /// Never empty.
        alternatives: Vec<RegionId>,
    },
}

/// The worlds that come with the program: name and text.
pub const SHIPPED: [(&str, &str); 3] = [
    ("three-regions", include_str!("../worlds/three-regions.toml")),
    ("six-regions", include_str!("../worlds/six-regions.toml")),
    ("one-region", include_str!("../worlds/one-region.toml")),
];

impl World {
    /// Reads and checks a world file.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line and the cure.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        file::parse(text)
    }

    /// Three regions, the world of `hearth up`.
    #[must_use]
    pub fn default_world() -> Self {
        Self::shipped(SHIPPED[0].0).expect("the first shipped world is shipped")
    }

    /// A world that comes with the program, by name.
    #[must_use]
    pub fn shipped(name: &str) -> Option<Self> {
        let (_, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)?;
        Some(Self::parse(text).expect("a test reads every shipped world"))
    }

    /// The region with this number.
    #[must_use]
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.regions.iter().find(|region| region.id == id)
    }

    /// The region with this name.
    #[must_use]
    pub fn region_by_name(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// The name of a region; its number when the world does not know it.
    #[must_use]
    pub fn region_name(&self, id: RegionId) -> String {
        self.region(id).map_or_else(|| format!("r{}", id.0), |region| region.name.clone())
    }

    /// The zone with this number.
    #[must_use]
    pub fn zone(&self, id: ZoneId) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.id == id)
    }

    /// The zone with this name.
    #[must_use]
    pub fn zone_by_name(&self, name: &str) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.name == name)
    }

    /// The zones whose data may rest in a region, in file order.
    pub fn zones_of(&self, region: RegionId) -> impl Iterator<Item = &Zone> {
        self.zones.iter().filter(move |zone| zone.regions.contains(&region))
    }

    /// The tenant with this name.
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.id == *id)
    }

    /// The zone of a tenant.
    #[must_use]
    pub fn zone_of(&self, tenant: &TenantId) -> Option<&Zone> {
        self.zone(self.tenant(tenant)?.zone)
    }

    /// Every node that the world starts with: the cores, then the edges, of each region in file
    /// order.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.regions.iter().flat_map(Region::nodes).collect()
    }

    /// Every shard there is: for each zone, each of its regions as home, each class that the zone
    /// offers.
    #[must_use]
    pub fn all_shards(&self) -> Vec<ShardId> {
        self.zones
            .iter()
            .flat_map(|zone| zone.regions.iter().flat_map(|home| zone.shards_homed_in(*home)))
            .collect()
    }

    /// The shards whose home is this region.
    #[must_use]
    pub fn shards_homed_in(&self, home: RegionId) -> Vec<ShardId> {
        self.zones_of(home).flat_map(|zone| zone.shards_homed_in(home)).collect()
    }

    /// Whether a shard exists in this world: its zone, home, durability and number. Ids from
    /// clients must be checked with this.
    #[must_use]
    pub fn has_shard(&self, shard: &ShardId) -> bool {
        self.zone(shard.zone).is_some_and(|zone| {
            zone.regions.contains(&shard.home)
                && zone.offers(shard.durability)
                && shard.n < zone.shards_ever()
        })
    }

    /// Whether the edges of a region may serve users whose tenant lives in a zone. A region or zone
    /// that the world does not know is refused with every region as an alternative.
    #[must_use]
    pub fn edge_serves(&self, region: RegionId, zone: ZoneId) -> Serve {
        match self.zone(zone) {
            Some(zone) if zone.transit == Transit::Allow || zone.regions.contains(&region) => {
                Serve::Yes
            }
            Some(zone) => Serve::Refuse { alternatives: self.nearest_first(region, &zone.regions) },
            None => Serve::Refuse {
                alternatives: self.regions.iter().map(|region| region.id).collect(),
            },
        }
    }
}

impl Region {
    /// The nodes it starts with: cores `1..`, then edges `1..`.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        let named = |region: RegionId, role: NodeRole, count: u16| {
            (1..=count).map(move |n| NodeId {
                region,
                role,
                name: NodeName::new(n.to_string()).expect("a number is a node name"),
            })
        };
        named(self.id, NodeRole::Core, self.cores).chain(named(self.id, NodeRole::Edge, self.edges))
    }
}

impl Zone {
    /// Shards that ids may name: those of today, and those of the founding.
    fn shards_ever(&self) -> u16 {
        self.shards.max(self.founding_shards)
    }

    fn shards_homed_in(&self, home: RegionId) -> impl Iterator<Item = ShardId> + use<> {
        let (zone, shards) = (self.id, self.shards_ever());
        [Durability::Region, Durability::MultiRegion]
            .into_iter()
            .filter(|durability| self.offers(*durability))
            .collect::<Vec<_>>()
            .into_iter()
            .flat_map(move |durability| {
                (0..shards).map(move |n| ShardId { zone, home, durability, n })
            })
    }
}

#[cfg(test)]
mod tests;
