//! Where a conversation is born, and so under which id. Ids are for ever: their inputs must never
//! change for a zone that holds data, hence the founding regions and shards.

use wire::{ConversationId, ConversationKind, Durability, RegionId, ShardId, TenantId, UserId};

use super::{World, Zone};

impl World {
    /// Where a group is born unless its creator says: the tenant's own choice, or the region of the
    /// edge that was asked, or, if that may not hold the tenant's data, the nearest that may. None
    /// when the tenant is unknown.
    #[must_use]
    pub fn birth_home(&self, tenant: &TenantId, asked_in: RegionId) -> Option<RegionId> {
        let zone = self.zone_of(tenant)?;
        let chosen = self.tenant(tenant)?.home;
        chosen.or_else(|| self.nearest_first(asked_in, &zone.regions).first().copied())
    }

    /// The id of a new group, or none when the tenant is unknown, its zone does not include `home`,
    /// or its zone does not offer the durability. `random` is 16 unguessable bytes.
    #[must_use]
    pub fn new_group_id(
        &self,
        tenant: &TenantId,
        home: RegionId,
        durability: Durability,
        random: [u8; 16],
    ) -> Option<ConversationId> {
        let zone = self.zone_of(tenant)?;
        if !zone.regions.contains(&home) || !zone.offers(durability) {
            return None;
        }
        let shard =
            ShardId { zone: zone.id, home, durability, n: remainder(&random[8..], zone.shards) };
        Some(ConversationId { kind: ConversationKind::Group, shard, unique: random })
    }

    /// The id of the direct conversation of two users, whoever asks first and wherever. None when
    /// the tenant is unknown.
    #[must_use]
    pub fn direct_id(&self, tenant: &TenantId, a: &UserId, b: &UserId) -> Option<ConversationId> {
        self.derived(ConversationKind::Direct, tenant, ConversationId::direct_key(tenant, a, b))
    }

    /// The id of a user's own stream. None when the tenant is unknown.
    #[must_use]
    pub fn user_stream_id(&self, tenant: &TenantId, user: &UserId) -> Option<ConversationId> {
        self.derived(ConversationKind::User, tenant, ConversationId::user_key(tenant, user))
    }

    fn derived(
        &self,
        kind: ConversationKind,
        tenant: &TenantId,
        unique: [u8; 16],
    ) -> Option<ConversationId> {
        let durability = self.tenant(tenant)?.durability;
        let zone = self.zone_of(tenant)?;
        let shard = ShardId { zone: zone.id, home: birth_region(zone, &unique), durability, n: 0 };
        let n = remainder(&unique[8..], zone.founding_shards);
        Some(ConversationId { kind, shard: ShardId { n, ..shard }, unique })
    }
}

fn birth_region(zone: &Zone, unique: &[u8; 16]) -> RegionId {
    let regions =
        u16::try_from(zone.founding_regions.len()).expect("a world has at most 64 regions");
    zone.founding_regions[usize::from(remainder(&unique[..8], regions))]
}

/// Spreads 8 bytes that are already random over `0..count`.
fn remainder(bytes: &[u8], count: u16) -> u16 {
    let word = u64::from_be_bytes(bytes.try_into().expect("8 bytes"));
    u16::try_from(word % u64::from(count.max(1))).expect("less than a u16")
}
