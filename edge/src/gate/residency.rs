//! May this edge serve this tenant? One place for streams and for HTTP. The rule is the world's;
//! here a refusal leaves its evidence and gets its alternatives.

use wire::{ErrorCode, RegionId, TenantId};

use super::Endpoint;
use crate::api::problem::Refused;
use crate::shared::Shared;

/// # Errors
/// `wrong_zone`, with the edges that may.
pub(super) fn check(shared: &Shared, endpoint: Endpoint, tenant: &TenantId) -> Result<(), Refused> {
    let Some(zone) = shared.world.zone_of(tenant) else {
        return Err(Refused::new(ErrorCode::Forbidden, "tenant not served here"));
    };
    let topology::Serve::Refuse { alternatives } =
        shared.world.edge_serves(shared.node.region, zone.id)
    else {
        return Ok(());
    };
    metrics::counter!("hearth_residency_refusals_total", "zone" => zone.name.clone(), "region" => shared.region_name.clone())
        .increment(1);
    tracing::warn!(
        target: "hearth::residency",
        evidence = "refused",
        %tenant,
        zone = %zone.name,
        region = %shared.region_name,
        edge = %shared.node,
        endpoint = ?endpoint,
        "an edge outside the zone was asked to serve it"
    );
    let refused = Refused::new(ErrorCode::WrongZone, "this edge may not serve the tenant's zone");
    Err(refused.alternatives(urls(shared, &alternatives)))
}

/// Other edges that may serve the tenant, nearest first.
pub(crate) fn alternatives(shared: &Shared, tenant: &TenantId) -> Vec<String> {
    let Some(zone) = shared.world.zone_of(tenant) else { return Vec::new() };
    let regions: Vec<RegionId> = shared.world.regions.iter().map(|region| region.id).collect();
    let mut nearest = shared.world.nearest_first(shared.node.region, &regions);
    nearest.retain(|region| shared.world.edge_serves(*region, zone.id) == topology::Serve::Yes);
    urls(shared, &nearest)
}

fn urls(shared: &Shared, regions: &[RegionId]) -> Vec<String> {
    let edges = (shared.edges)();
    let of = |region: &RegionId| {
        let region = *region;
        edges
            .iter()
            .filter(move |(at, url)| *at == region && *url != shared.public_url)
            .map(|(_, url)| url.clone())
    };
    regions.iter().flat_map(of).collect()
}
