//! An operator's measurements: samples the live cores, and records when a lost region was detected,
//! when its shards were served again, what was at risk, what waited.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use conversation::log::LogFrame;
use core_region::Core;
use mesh::Mesh;
use wire::change::Event;
use wire::command::message_id;
use wire::{Durability, NodeId, NodeRole, RegionId, ShardId, ZoneId};

use crate::ledger::Ledger;
use crate::site::Site;

/// Sampling interval.
pub const OBSERVE_INTERVAL: Duration = Duration::from_millis(20);

/// A conversation's promise: its durability and zone.
pub type Promise = (Durability, ZoneId);

/// A lost or drained region, as the others see it.
#[derive(Clone, Debug)]
pub struct Absence {
    pub region: RegionId,
    /// It drains, and was not killed.
    pub is_drain: bool,
    /// Its loss, virtual milliseconds since the start.
    pub from_ms: u64,
    pub to_ms: Option<u64>,
    /// Time at which every live core elsewhere knew.
    pub noticed_ms: Option<u64>,
    /// Time at which all its multi-region shards were served elsewhere.
    pub served_ms: Option<u64>,
    /// Acknowledged messages that stood nowhere else, and the oldest's age, milliseconds.
    pub at_risk: BTreeMap<Promise, (u64, u64)>,
}

#[derive(Default)]
pub struct Observer {
    /// So far.
    pub absences: Vec<Absence>,
    /// Sends that waited at the end of each second since the load began.
    pub waiting: Vec<u64>,
    terms: BTreeMap<ShardId, u64>,
    /// Terms that began after the first of their shard.
    pub takeovers: u64,
    /// Most tasks that lived on one node at once, and on which.
    pub most_tasks: (usize, String),
}

impl Observer {
    /// Records the loss of a region. Call it before the loss.
    pub fn leaves(&mut self, site: &Site, ledger: &Ledger, region: RegionId, is_drain: bool) {
        let at_risk = if is_drain { BTreeMap::new() } else { at_risk(site, ledger, region) };
        for ((class, _), (count, _)) in &at_risk {
            if *class == Durability::MultiRegion && *count > 0 {
                let what =
                    format!("{count} acknowledged multi-region messages stand in one region only");
                ledger.broken("durability", millis(site.now()), what);
            }
        }
        self.absences.push(Absence {
            region,
            is_drain,
            from_ms: millis(site.now()),
            to_ms: None,
            noticed_ms: None,
            served_ms: None,
            at_risk,
        });
    }

    /// And is back.
    pub fn returns(&mut self, now: Duration, region: RegionId) {
        for absence in self
            .absences
            .iter_mut()
            .filter(|absence| absence.region == region && absence.to_ms.is_none())
        {
            absence.to_ms = Some(millis(now));
        }
    }

    /// Looks.
    pub fn look(&mut self, site: &Site) {
        let now_ms = millis(site.now());
        if let Some((tasks, node)) = site.most_tasks()
            && tasks > self.most_tasks.0
        {
            self.most_tasks = (tasks, node.to_string());
        }
        self.count_terms(site);
        for absence in self.absences.iter_mut().filter(|absence| absence.to_ms.is_none()) {
            if absence.noticed_ms.is_none() && is_noticed(site, absence) {
                absence.noticed_ms = Some(now_ms);
            }
            if absence.served_ms.is_none() && is_served_elsewhere(site, absence.region) {
                absence.served_ms = Some(now_ms);
            }
        }
    }

    fn count_terms(&mut self, site: &Site) {
        for (_, _, core) in site.cores() {
            for shard in core.status().serving() {
                let before = self.terms.insert(shard.shard, shard.epoch);
                if before.is_some_and(|before| before < shard.epoch) {
                    self.takeovers += 1;
                }
            }
        }
    }
}

/// The shards without a serving owner.
#[must_use]
pub fn unserved(site: &Site) -> Vec<ShardId> {
    without_owner(site, site.material.world.all_shards(), |_| true)
}

/// The shards with changes still to be salvaged.
#[must_use]
pub fn forked(site: &Site) -> Vec<ShardId> {
    let of = |(_, _, core): (&NodeId, Mesh, Core)| {
        let status = core.status();
        status
            .serving()
            .filter(|shard| shard.forks > 0)
            .map(|shard| shard.shard)
            .collect::<Vec<_>>()
    };
    site.cores().flat_map(of).collect()
}

/// The shards that no core of these regions serves.
fn without_owner(
    site: &Site,
    mut shards: Vec<ShardId>,
    counts: impl Fn(RegionId) -> bool,
) -> Vec<ShardId> {
    for (_, _, core) in site.cores().filter(|(node, _, _)| counts(node.region)) {
        let status = core.status();
        shards.retain(|shard| !status.serving().any(|served| served.shard == *shard));
    }
    shards
}

/// Tasks of cores that have panicked.
#[must_use]
pub fn panicked(site: &Site) -> Vec<String> {
    let of = |(node, _, core): (&NodeId, Mesh, Core)| {
        core.status()
            .panicked
            .into_iter()
            .map(move |task| format!("{task} on {node}"))
            .collect::<Vec<_>>()
    };
    site.cores().flat_map(of).collect()
}

/// Whether live cores exist elsewhere, and all of them know.
fn is_noticed(site: &Site, absence: &Absence) -> bool {
    let gone = site.nodes_of(absence.region);
    let mut others = site.cores().filter(|(node, _, _)| node.region != absence.region).peekable();
    others.peek().is_some()
        && others.all(|(_, mesh, _)| {
            let membership = mesh.membership();
            let membership = membership.borrow();
            !gone.iter().any(|node| node.role == NodeRole::Core && membership.is_serving(node))
        })
}

fn is_served_elsewhere(site: &Site, region: RegionId) -> bool {
    let mut shards = site.material.world.shards_homed_in(region);
    shards.retain(|shard| shard.durability == Durability::MultiRegion);
    without_owner(site, shards, |other| other != region).is_empty()
}

/// Acknowledged messages on this region's replica alone: their number, and the oldest's age. A
/// message may stand in several frames, of which one was voided.
fn at_risk(site: &Site, ledger: &Ledger, region: RegionId) -> BTreeMap<Promise, (u64, u64)> {
    let others = site.material.world.regions.iter().filter(|other| other.id != region);
    let elsewhere: HashSet<String> =
        others.flat_map(|other| messages_at(site, other.id)).map(|(id, ..)| id).collect();
    let mut alone: BTreeMap<String, (Promise, u64)> = BTreeMap::new();
    for (id, promise, ts_ms) in messages_at(site, region) {
        if !elsewhere.contains(&id) && ledger.is_acked(&id) {
            alone.insert(id, (promise, ts_ms));
        }
    }
    let now_ms = millis(crate::machine::EPOCH + site.now());
    let mut at_risk: BTreeMap<Promise, (u64, u64)> = BTreeMap::new();
    for (promise, ts_ms) in alone.into_values() {
        let (count, oldest_ms) = at_risk.entry(promise).or_default();
        *count += 1;
        *oldest_ms = (*oldest_ms).max(now_ms.saturating_sub(ts_ms));
    }
    at_risk
}

fn messages_at(site: &Site, region: RegionId) -> Vec<(String, Promise, u64)> {
    let mut messages = Vec::new();
    for frame in
        site.store.frames_at(region).iter().filter_map(|frame| LogFrame::from_bytes(frame).ok())
    {
        for change in &frame.changes {
            if let Event::Message(message) = &change.event {
                let id = message_id(&change.conversation, message).to_string();
                let shard = change.conversation.shard;
                messages.push((id, (shard.durability, shard.zone), frame.ts_ms));
            }
        }
    }
    messages
}

/// In whole milliseconds.
#[must_use]
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
