//! The rules for tenants.

use wire::{Durability, TenantId};

use super::super::read;
use super::{Names, choice, count, unknown_name};
use crate::mistakes::{At, Found};
use crate::world::{IdentityProvider, Jwks, Tenant, TenantLimits, Zone};

/// Issuers reserved for the keys of the mesh itself.
const RESERVED_ISSUERS: [&str; 2] = ["hearth-dev", "hearth-mesh"];

pub(super) fn tenant(
    raw: read::Tenant,
    names: &Names,
    zones: &[Zone],
    found: &mut Found,
) -> Option<Tenant> {
    let classes = [("region", Durability::Region), ("multi-region", Durability::MultiRegion)];
    let class_line = raw.durability.as_ref().map_or(raw.line, |at| at.line);
    let durability = choice("durability", raw.durability, &classes, found);
    let zone_name = raw.zone;
    let known = zone_name.as_ref().and_then(|name| {
        let known = names.zones.get(&name.value);
        if known.is_none() {
            unknown_name("zone", name, names.zones.keys(), found);
        }
        zones.iter().find(|zone| zone.name == name.value)
    });
    if let (Some(zone), Some(durability)) = (known, durability)
        && !zone.offers(durability)
        && names.whole_zones.contains(&zone.name)
    {
        too_few_regions(zone, class_line, found);
    }
    let home = raw.home.as_ref().and_then(|name| names.region(name, found));
    if let (Some(home), Some(zone), Some(name)) = (home, known, &raw.home)
        && !zone.regions.contains(&home)
    {
        let problem = format!("the home \"{}\" is not in the zone \"{}\"", name.value, zone.name);
        found.add(name.line, problem, "choose one of the zone's regions, or leave the line out");
    }
    let identity = identity(raw.issuer, raw.jwks_file, raw.jwks, found);
    let limits = limits(raw.limits, found);
    let name = raw.name?;
    let id = TenantId::new(&name.value).map_err(|error| {
        found.add(name.line, error.to_string(), "choose a name of 1 to 128 bytes")
    });
    Some(Tenant { id: id.ok()?, zone: known?.id, durability: durability?, home, identity, limits })
}

fn too_few_regions(zone: &Zone, line: usize, found: &mut Found) {
    let (problem, cure) = match zone.regions.len() {
        1 => (
            "a zone of one region cannot offer multi-region: losing it leaves nothing",
            "add two more regions to the zone, or use durability = \"region\"",
        ),
        _ => (
            "a zone of two regions cannot offer multi-region: losing one leaves no quorum",
            "add a third region in the zone, or use durability = \"region\"",
        ),
    };
    found.add(line, format!("{problem} (zone \"{}\")", zone.name), cure);
}

fn identity(
    issuer: Option<At<String>>,
    jwks_file: Option<At<String>>,
    jwks: Option<At<String>>,
    found: &mut Found,
) -> Option<IdentityProvider> {
    let keys = match (jwks_file, jwks) {
        (Some(_), Some(jwks)) => {
            found.add(
                jwks.line,
                "both jwks_file and jwks",
                "keep the one that holds the issuer's keys",
            );
            return None;
        }
        (Some(file), None) => Some((file.line, Jwks::File(file.value.into()))),
        (None, Some(inline)) => Some((inline.line, Jwks::Inline(inline.value))),
        (None, None) => None,
    };
    match (issuer, keys) {
        (Some(issuer), Some((_, jwks))) => {
            if issuer.value.is_empty() || RESERVED_ISSUERS.contains(&issuer.value.as_str()) {
                let problem = format!("\"{}\" cannot be an issuer of a tenant", issuer.value);
                found.add(issuer.line, problem, "write the `iss` of its identity provider");
            }
            Some(IdentityProvider { issuer: issuer.value, jwks })
        }
        (Some(issuer), None) => {
            found.add(
                issuer.line,
                "an issuer without keys",
                "add jwks_file = \"...\" or jwks = '...'",
            );
            None
        }
        (None, Some((line, _))) => {
            found.add(
                line,
                "keys without an issuer",
                "add issuer = \"...\", the `iss` of the tokens they sign",
            );
            None
        }
        (None, None) => None,
    }
}

fn limits(given: read::TenantLimits, found: &mut Found) -> TenantLimits {
    let default = TenantLimits::default();
    let mut at = |key, given, default| count(key, given, default, u16::MAX, found);
    TenantLimits {
        sends_per_second: at("sends_per_second", given.sends_per_second, default.sends_per_second),
        sends_burst: at("sends_burst", given.sends_burst, default.sends_burst),
        tenant_sends_per_second: given
            .tenant_sends_per_second
            .map(|given| at("tenant_sends_per_second", Some(given), 1)),
        conversations_per_minute: at(
            "conversations_per_minute",
            given.conversations_per_minute,
            default.conversations_per_minute,
        ),
        conversations_burst: at(
            "conversations_burst",
            given.conversations_burst,
            default.conversations_burst,
        ),
        members_added_per_hour: at(
            "members_added_per_hour",
            given.members_added_per_hour,
            default.members_added_per_hour,
        ),
        requests_per_minute: at(
            "requests_per_minute",
            given.requests_per_minute,
            default.requests_per_minute,
        ),
        frames_per_second: at(
            "frames_per_second",
            given.frames_per_second,
            default.frames_per_second,
        ),
        sessions_per_device_type: at(
            "sessions_per_device_type",
            given.sessions_per_device_type,
            default.sessions_per_device_type,
        ),
    }
}
