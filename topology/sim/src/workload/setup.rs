//! Creates the conversations before the load: over HTTP, at each user's own edge.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use client::Http;
use wire::client::http::CreateGroup;
use wire::{RegionId, TenantId, UserId};

use super::population::{Plan, Population};
use super::{Talk, Workload};

/// The created conversations, and the errors.
#[derive(Clone, Default)]
pub struct Created {
    inner: Arc<Mutex<(Vec<Talk>, Vec<String>)>>,
}

impl Created {
    fn add(&self, made: anyhow::Result<Talk>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match made {
            Ok(talk) => inner.0.push(talk),
            Err(error) => inner.1.push(format!("{error:#}")),
        }
    }

    /// So far. In an order of their own: by id.
    #[must_use]
    pub fn so_far(&self) -> (Vec<Talk>, Vec<String>) {
        let (mut talks, errors) = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        talks.sort_by_key(|talk| talk.id);
        talks.dedup_by_key(|talk| talk.id);
        (talks, errors)
    }

    /// Number of finished plans.
    #[must_use]
    pub fn count(&self) -> usize {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0.len() + inner.1.len()
    }
}

/// The plans that somebody of this region makes.
#[must_use]
pub fn planned_in(population: &Population, region: RegionId) -> Vec<(UserId, Plan)> {
    let maker = |plan: &Plan| match plan {
        Plan::Group { tenant, home, .. } => {
            let of_tenant =
                || population.residents.iter().filter(|resident| resident.tenant == *tenant);
            of_tenant()
                .find(|resident| resident.region == *home)
                .or_else(|| of_tenant().next())
                .cloned()
        }
        Plan::Direct { a, .. } => {
            population.residents.iter().find(|resident| resident.user == *a).cloned()
        }
    };
    let local = population.plans.iter().filter_map(|plan| {
        let maker = maker(plan)?;
        (maker.region == region).then(|| (maker.user, plan.clone()))
    });
    local.collect()
}

/// Makes one.
pub async fn make(
    workload: Workload,
    population: Arc<Population>,
    maker: UserId,
    plan: Plan,
    seed: u64,
    made: Created,
) {
    made.add(one(&workload, &population, &maker, plan, seed).await);
}

async fn one(
    workload: &Workload,
    population: &Population,
    maker: &UserId,
    plan: Plan,
    seed: u64,
) -> anyhow::Result<Talk> {
    let http = |tenant: &TenantId| {
        Http::new(&workload.options(tenant, maker, &Arc::new(AtomicUsize::new(0)), seed))
    };
    match plan {
        Plan::Group { tenant, name, home, durability } => {
            let everyone = population
                .residents
                .iter()
                .chain(&population.watchers)
                .filter(|one| one.tenant == tenant);
            let members: Vec<UserId> = everyone.map(|one| one.user.clone()).collect();
            let request = CreateGroup {
                name: name.clone(),
                members: members
                    .iter()
                    .filter(|member| *member != maker)
                    .map(ToString::to_string)
                    .collect(),
                home_region: Some(workload.world.region_name(home)),
                durability: Some(durability),
            };
            let group = http(&tenant)
                .create_group(&request)
                .await
                .with_context(|| format!("{name} of {tenant}"))?;
            Ok(Talk {
                id: group.conversation_id,
                tenant,
                members,
                owner: maker.clone(),
                is_group: true,
            })
        }
        Plan::Direct { tenant, a, b } => {
            let opened = http(&tenant).open_direct(b.as_str()).await;
            let direct = opened.with_context(|| format!("a conversation of {a} and {b}"))?;
            Ok(Talk {
                id: direct.conversation_id,
                tenant,
                members: vec![a, b],
                owner: maker.clone(),
                is_group: false,
            })
        }
    }
}
