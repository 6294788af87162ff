//! Whom an operation concerns: at which consistency it is asked, and by which coordinators.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::statement::{Consistency, SerialConsistency};
use wire::{Durability, RegionId, ShardId, ZoneId};

use super::ScyllaOptions;
use crate::contract::StoreError;

/// A coordinator that is silent for so long is asked no more alone: another one gets the same
/// request.
pub(super) const SPECULATION_AFTER: Duration = Duration::from_millis(150);
/// What one request may take; the servers give up after 2 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Changes of the schema wait for every server.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Where requests go and how much they must meet.
pub(super) struct Profiles {
    /// For the schema: the default of the session.
    pub(super) admin: ExecutionProfileHandle,
    quorum: ExecutionProfileHandle,
    /// By the region in which a single-region shard is kept.
    local: HashMap<RegionId, ExecutionProfileHandle>,
    /// Conditional writes.
    pub(super) conditional: ExecutionProfileHandle,
    /// Reads that settle them.
    pub(super) serial: ExecutionProfileHandle,
}

impl Profiles {
    pub(super) fn new(options: &ScyllaOptions) -> Self {
        let own = options.datacenter(options.region).expect("the options were checked");
        let near = |datacenter: &str, failover: bool, consistency: Consistency| {
            ExecutionProfile::builder()
                .load_balancing_policy(
                    DefaultPolicy::builder()
                        .prefer_datacenter(datacenter.to_owned())
                        .permit_dc_failover(failover)
                        .build(),
                )
                .consistency(consistency)
                // The driver's own default is LOCAL_SERIAL, under which two datacenters may both
                // decide.
                .serial_consistency(Some(SerialConsistency::Serial))
                .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
                .request_timeout(Some(REQUEST_TIMEOUT))
        };
        let speculation = Arc::new(SimpleSpeculativeExecutionPolicy {
            max_retry_count: 1,
            retry_interval: SPECULATION_AFTER,
        });
        let named = |label: &str, profile: ExecutionProfile| {
            profile.into_handle_with_label(label.to_owned())
        };
        let quorum = near(own, true, Consistency::Quorum)
            .speculative_execution_policy(Some(speculation.clone()));
        let local = options.datacenters.iter().map(|(region, datacenter)| {
            let local = near(datacenter, false, Consistency::LocalQuorum)
                .speculative_execution_policy(Some(speculation.clone()));
            (*region, named("local", local.build()))
        });
        Self {
            admin: named(
                "admin",
                near(own, true, Consistency::Quorum).request_timeout(Some(ADMIN_TIMEOUT)).build(),
            ),
            quorum: named("quorum", quorum.build()),
            local: local.collect(),
            conditional: named("conditional", near(own, true, Consistency::Quorum).build()),
            serial: named("serial", near(own, true, Consistency::Serial).build()),
        }
    }
}

/// For one request.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) profile: ExecutionProfileHandle,
    pub(super) zone: ZoneId,
    /// Copies that must answer.
    pub(super) needed: usize,
}

/// For the shard's durability; a single-region shard is kept in the region `at`.
///
/// # Errors
/// [`StoreError::NotInZone`]: this and [`conditional`] are the only places that decide it, and
/// everything that is asked passes one of them.
pub(super) fn of_class(
    options: &ScyllaOptions,
    profiles: &Profiles,
    shard: ShardId,
    at: RegionId,
) -> Result<Reach, StoreError> {
    let zone = shard.zone;
    let regions = regions_of_zone(options, zone, shard.home)?;
    let (profile, copies) = match shard.durability {
        Durability::MultiRegion => (&profiles.quorum, regions.len() * options.copies),
        Durability::Region if regions.contains(&at) => {
            (profiles.local.get(&at).expect("the options were checked"), options.copies)
        }
        Durability::Region => return Err(StoreError::NotInZone { region: at, zone }),
    };
    Ok(Reach { profile: profile.clone(), zone, needed: copies / 2 + 1 })
}

/// For a conditional write about a region, whatever the durability.
///
/// # Errors
/// As [`of_class`].
pub(super) fn conditional(
    options: &ScyllaOptions,
    profiles: &Profiles,
    zone: ZoneId,
    about: RegionId,
) -> Result<Reach, StoreError> {
    let copies = regions_of_zone(options, zone, about)?.len() * options.copies;
    Ok(Reach { profile: profiles.conditional.clone(), zone, needed: copies / 2 + 1 })
}

/// The regions of the zone, if both the handle's region and the one the row is about are among
/// them.
fn regions_of_zone(
    options: &ScyllaOptions,
    zone: ZoneId,
    about: RegionId,
) -> Result<&[RegionId], StoreError> {
    let regions = options.zone(zone).filter(|regions| regions.contains(&options.region));
    match regions {
        Some(regions) if regions.contains(&about) => Ok(regions),
        _ => Err(StoreError::NotInZone { region: options.region, zone }),
    }
}
