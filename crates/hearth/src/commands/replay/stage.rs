//! One group a file, its authors members of it, before anyone speaks.

use std::time::Duration;

use anyhow::Context as _;
use client::Http;
use wire::client::http::{ChangeMembers, CreateGroup};
use wire::limits::MEMBERS_PER_CHANGE;

use super::plan::Plan;
use crate::local_mesh::access::Access;

/// Creates the groups, each at home in another region in turn, and lets the authors in.
///
/// # Errors
/// When the mesh refuses it, or does not answer within `quiet_timeout`.
pub(super) async fn set(
    access: &Access,
    mut plan: Plan,
    quiet_timeout: Duration,
) -> anyhow::Result<Plan> {
    let regions = access.regions();
    let first = regions.first().context("the zone of the tenant has no region")?;
    let options = client::Options {
        http_timeout: quiet_timeout,
        ..access.options(&plan.observer, None, first)
    };
    let http = Http::new(&options);
    for (n, file) in plan.files.iter_mut().enumerate() {
        let authors: Vec<String> = file.authors.iter().map(ToString::to_string).collect();
        let mut batches = authors.chunks(MEMBERS_PER_CHANGE);
        let request = CreateGroup {
            name: file.name.clone(),
            members: batches.next().unwrap_or_default().to_vec(),
            home_region: Some(regions[n % regions.len()].clone()),
            durability: None,
        };
        let made = http.create_group(&request).await;
        let group = made.with_context(|| format!("{}: its group could not be made", file.file))?;
        for batch in batches {
            let change = ChangeMembers { add: batch.to_vec(), ..ChangeMembers::default() };
            let changed = http.change_members(group.conversation_id, &change).await;
            changed.with_context(|| format!("{}: its authors could not be let in", file.file))?;
        }
        file.conversation = Some(group.conversation_id);
    }
    plan.name_messages();
    Ok(plan)
}
