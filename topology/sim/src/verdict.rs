//! The verdict of a run: the invariants, then the figures.
//!
//! The shared checker covers acks, order, density and epochs. This adds: nobody saw a message that
//! they may not see, the logs are whole, at their quorum and projected ([`durable`]), no byte of a
//! zone rests outside it, no task has panicked, nothing grew without bound.

pub mod durable;
pub mod figures;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use topology::World;
use wire::change::{Change, Event, Recorded};
use wire::{ConversationId, ShardId, UserId};

use self::durable::Frames;
use crate::fault::Fault;
use crate::ledger::{GuestSaw, Ledger};
use crate::observe::{OBSERVE_INTERVAL, Observer, millis, panicked};
use crate::outcome::Outcome;
use crate::panics;
use crate::scenario::Scenario;
use crate::site::Site;
use crate::workload::operations::Invitations;
use crate::workload::population::Population;
use crate::workload::{Talk, marker};

/// Tasks of one node. With the few clients of a scenario, more is a leak.
const TASKS_MAX: usize = 4_000;
/// Time to read the logs of all conversations.
const READ_LOGS_TIMEOUT: Duration = Duration::from_secs(30);
/// Changes read of one conversation.
const CHANGES_MAX: usize = 16_000;

/// Every change of every conversation, read from the store.
pub type Logs = BTreeMap<ConversationId, Vec<Change>>;

/// The evidence for a verdict.
pub struct Evidence<'a> {
    pub scenario: &'a Scenario,
    /// With which seed.
    pub seed: u64,
    /// The world at the end.
    pub site: &'a Site,
    /// The clients' side.
    pub ledger: &'a Ledger,
    /// The operators' side.
    pub observer: &'a Observer,
    pub population: &'a Population,
    pub talks: &'a [Talk],
    /// The history of each conversation, from the store.
    pub logs: &'a Logs,
    /// The rows of each shard log.
    pub frames: &'a Frames,
    /// The guests' invitations.
    pub invitations: &'a Invitations,
    /// Each fault with its begin and end, since the start of the run.
    pub spans: &'a [(Fault, Duration, Duration)],
    /// Start of the load, virtual milliseconds since the start of the run.
    pub origin_ms: u64,
}

/// Reads conversations and shard logs from the store, each as its home region sees it, until both
/// agree: a read cursor may still move. Unreadable ones are missing.
///
/// # Errors
/// When the store's machine does not run.
pub fn logs(site: &mut Site, world: &World, talks: &[Talk]) -> anyhow::Result<(Logs, Frames)> {
    let end = site.now() + READ_LOGS_TIMEOUT;
    loop {
        let (logs, frames) = logs_now(site, world, talks)?;
        if site.now() >= end || durable::check(&frames, &logs, &site.store, world).is_empty() {
            return Ok((logs, frames));
        }
        let again = site.now() + OBSERVE_INTERVAL;
        while site.now() < again {
            site.step();
        }
    }
}

/// The shards in which a conversation may have been.
fn may_be_in(world: &World, talk: &Talk) -> Vec<ShardId> {
    let born = talk.id.shard;
    let regions =
        world.zone(born.zone).map_or_else(|| vec![born.home], |zone| zone.regions.clone());
    regions.into_iter().map(|home| ShardId { home, ..born }).collect()
}

fn logs_now(site: &mut Site, world: &World, talks: &[Talk]) -> anyhow::Result<(Logs, Frames)> {
    let there = site.beside_the_store().context("the replicas run")?;
    let shards: BTreeSet<ShardId> = talks.iter().flat_map(|talk| may_be_in(world, talk)).collect();
    let read: Arc<Mutex<(Logs, Frames)>> = Arc::default();
    for talk in talks {
        let (store, read, id) = (site.store.store(talk.id.shard.home), Arc::clone(&read), talk.id);
        there.spawn(async move {
            if let Ok(changes) = store.changes(id, 0, CHANGES_MAX).await {
                let changes = changes.into_iter().map(Recorded::into_change).collect();
                read.lock().unwrap_or_else(PoisonError::into_inner).0.insert(id, changes);
            }
        });
    }
    for shard in shards.iter().copied() {
        let (store, read) = (site.store.store(shard.home), Arc::clone(&read));
        there.spawn(async move {
            if let Ok(frames) = durable::read(store, shard).await {
                read.lock().unwrap_or_else(PoisonError::into_inner).1.insert(shard, frames);
            }
        });
    }
    let end = site.now() + READ_LOGS_TIMEOUT;
    let is_read =
        |(logs, frames): &(Logs, Frames)| logs.len() == talks.len() && frames.len() == shards.len();
    while site.now() < end && !is_read(&read.lock().unwrap_or_else(PoisonError::into_inner)) {
        site.step();
    }
    let read = read.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(read.clone())
}

/// Judges the run. The outcome lists the broken invariants.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Outcome {
    let now_ms = millis(evidence.site.now());
    let broken = |invariant: &str, what: String| evidence.ledger.broken(invariant, now_ms, what);
    for talk in evidence.talks {
        if !evidence.logs.contains_key(&talk.id) {
            broken("unreadable", format!("the log of {} could not be read", talk.id));
        }
    }
    for change in evidence.logs.values() {
        dense(change).into_iter().for_each(|what| broken("dense", what));
    }
    for talk in evidence.talks.iter().filter(|talk| !evidence.frames.contains_key(&talk.id.shard)) {
        broken("unreadable", format!("the log of {} could not be read", talk.id.shard));
    }
    let world = &evidence.scenario.world;
    for (invariant, what) in
        durable::check(evidence.frames, evidence.logs, &evidence.site.store, world)
    {
        broken(invariant, what);
    }
    may_see(evidence).into_iter().for_each(|what| broken("seen-by-a-stranger", what));
    rests_inside(evidence).into_iter().for_each(|what| broken("residency", what));
    for panic in panics::heard().into_iter().chain(panicked(evidence.site)) {
        broken("panic", panic);
    }
    let (tasks, node) = &evidence.observer.most_tasks;
    if *tasks > TASKS_MAX {
        broken("unbounded", format!("{tasks} tasks on {node} at once"));
    }
    let (broken, counts) = evidence.ledger.close(now_ms);
    figures::outcome(evidence, broken, counts)
}

/// `ver` and `seq` go up by one, epochs never fall.
fn dense(changes: &[Change]) -> Option<String> {
    let (mut ver, mut seq, mut epoch) = (0, 0, wire::Epoch(0));
    for change in changes {
        let where_ = || format!("in {} at ver {}", change.conversation, change.ver);
        if change.ver != ver + 1 {
            return Some(format!("ver {ver} is followed by {} {}", change.ver, where_()));
        }
        if change.epoch < epoch {
            return Some(format!(
                "epoch {} is followed by {} {}",
                epoch.0,
                change.epoch.0,
                where_()
            ));
        }
        if let Event::Message(message) = &change.event {
            if message.seq != seq + 1 {
                return Some(format!("seq {seq} is followed by {} {}", message.seq, where_()));
            }
            seq = message.seq;
        }
        (ver, epoch) = (change.ver, change.epoch);
    }
    None
}

/// A guest was shown only messages within one of their memberships, or was invited again before
/// that.
fn may_see(evidence: &Evidence<'_>) -> Vec<String> {
    let mut strangers = Vec::new();
    for GuestSaw { user, conversation, ver, epoch, at_ms } in evidence.ledger.guests_saw() {
        let Some(log) = evidence.logs.get(&conversation) else { continue };
        // The log no longer has the membership of changes that were lost with their region.
        let is_lost = log.iter().any(|change| change.ver <= ver && change.epoch > epoch);
        if is_lost || is_member_at(log, &user, ver) {
            continue;
        }
        // A member may read the history from before they joined.
        if !evidence.invitations.any(&user, conversation, 0..=at_ms)
            || !joins_after(log, &user, ver)
        {
            strangers
                .push(format!("{user} was shown ver {ver} of {conversation} and was no member"));
        }
    }
    strangers
}

fn is_member_at(log: &[Change], user: &UserId, ver: u64) -> bool {
    let mut is_member = false;
    for change in log.iter().take_while(|change| change.ver <= ver) {
        match &change.event {
            Event::Created(created) => {
                is_member = created.members.iter().any(|(member, _)| member == user)
            }
            Event::MembersChanged(changed) => {
                is_member |= changed.added.iter().any(|(member, _)| member == user);
                is_member &= !changed.removed.contains(user);
            }
            _ => {}
        }
    }
    is_member
}

fn joins_after(log: &[Change], user: &UserId, ver: u64) -> bool {
    let later = log.iter().filter(|change| change.ver > ver);
    let joins = |change: &Change| match &change.event {
        Event::MembersChanged(changed) => changed.added.iter().any(|(member, _)| member == user),
        _ => false,
    };
    later.into_iter().any(joins)
}

/// The marker of a zone's messages is in no replica outside the zone.
fn rests_inside(evidence: &Evidence<'_>) -> Vec<String> {
    let world = &evidence.scenario.world;
    let mut outside = Vec::new();
    for tenant in &world.tenants {
        let Some(zone) = world.zone(tenant.zone) else { continue };
        let needle = marker(world, &tenant.id);
        for region in world.regions.iter().filter(|region| !zone.regions.contains(&region.id)) {
            if evidence.site.store.holds(region.id, needle.as_bytes()) {
                outside.push(format!("bytes of zone {} rest in {}", zone.name, region.name));
            }
        }
    }
    outside
}
