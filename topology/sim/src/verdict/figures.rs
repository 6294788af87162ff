//! From the evidence of a run to the figures of its [`Outcome`].

use std::time::Duration;

use hdrhistogram::Histogram;
use topology::World;
use wire::{Durability, RegionId};

use super::Evidence;
use crate::fault::Fault;
use crate::hooks;
use crate::ledger::Sent;
use crate::observe::{Absence, Promise, millis};
use crate::outcome::{
    Broken, ClassIncident, Counts, FaultSpan, Incident, Latency, LinkFacts, Outcome, RegionClients,
    RegionFacts, Second,
};

/// Longest distinguished wait, milliseconds.
const WAIT_MAX_MS: u64 = 3_600_000;

/// Everything an operator asks.
pub(super) fn outcome(evidence: &Evidence<'_>, broken: Vec<Broken>, mut counts: Counts) -> Outcome {
    let scenario = evidence.scenario;
    let sends = evidence.ledger.sends();
    counts.packets = evidence.site.fabric.sent();
    counts.takeovers = evidence.observer.takeovers;
    Outcome {
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        world: scenario.world.name.clone(),
        seed: evidence.seed,
        hash: format!("{:016x}", evidence.site.fabric.digest()),
        virtual_ms: millis(evidence.site.now()),
        cpu_ms: millis(hooks::thread_cpu_time()),
        held: broken.is_empty(),
        broken,
        regions: regions(evidence),
        links: links(evidence),
        faults: evidence
            .spans
            .iter()
            .map(|(fault, from, to)| span(evidence, fault, *from, *to))
            .collect(),
        incidents: evidence
            .observer
            .absences
            .iter()
            .map(|absence| incident(evidence, absence, &sends))
            .collect(),
        clients: clients(evidence, &sends),
        seconds: seconds(evidence, &sends),
        counts,
        timeline: evidence.ledger.timeline.entries(),
    }
}

fn regions(evidence: &Evidence<'_>) -> Vec<RegionFacts> {
    let world = &evidence.scenario.world;
    let facts = world.regions.iter().map(|region| RegionFacts {
        name: region.name.clone(),
        lat: region.lat,
        lon: region.lon,
        zones: world.zones_of(region.id).map(|zone| zone.name.clone()).collect(),
        cores: region.cores,
        edges: region.edges,
    });
    facts.collect()
}

fn links(evidence: &Evidence<'_>) -> Vec<LinkFacts> {
    let world = &evidence.scenario.world;
    let mut links = Vec::new();
    for (n, a) in world.regions.iter().enumerate() {
        for b in &world.regions[n + 1..] {
            let delay_ms = world.delay(a.id, b.id).as_secs_f64() * 1_000.0;
            links.push(LinkFacts { a: a.name.clone(), b: b.name.clone(), delay_ms });
        }
    }
    links
}

fn span(evidence: &Evidence<'_>, fault: &Fault, from: Duration, to: Duration) -> FaultSpan {
    let world = &evidence.scenario.world;
    FaultSpan {
        what: fault.describe(world),
        regions: fault.regions().iter().map(|region| world.region_name(*region)).collect(),
        is_link: matches!(fault, Fault::Cut { .. } | Fault::Loss { .. } | Fault::Delay { .. }),
        from_ms: millis(from).saturating_sub(evidence.origin_ms),
        to_ms: millis(to).saturating_sub(evidence.origin_ms),
    }
}

fn incident(evidence: &Evidence<'_>, absence: &Absence, sends: &[Sent]) -> Incident {
    let world = &evidence.scenario.world;
    let since = |at: u64| at.saturating_sub(absence.from_ms);
    let homed = world.shards_homed_in(absence.region);
    let mut promises: Vec<Promise> =
        homed.iter().map(|shard| (shard.durability, shard.zone)).collect();
    promises.sort_by_key(|(class, zone)| (*class == Durability::Region, *zone));
    promises.dedup();
    Incident {
        region: world.region_name(absence.region),
        kind: if absence.is_drain { "drained" } else { "lost" }.into(),
        from_ms: absence.from_ms.saturating_sub(evidence.origin_ms),
        to_ms: absence.to_ms.map(|at| at.saturating_sub(evidence.origin_ms)),
        detection_ms: absence.noticed_ms.map(since),
        takeover_ms: absence
            .served_ms
            .map(|at| at.saturating_sub(absence.noticed_ms.unwrap_or(absence.from_ms))),
        classes: promises
            .into_iter()
            .map(|promise| class_incident(world, absence, promise, sends))
            .collect(),
    }
}

fn class_incident(
    world: &World,
    absence: &Absence,
    promise: Promise,
    sends: &[Sent],
) -> ClassIncident {
    let home = |sent: &&Sent| {
        let shard = sent.conversation.shard;
        shard.home == absence.region && (shard.durability, shard.zone) == promise
    };
    let ours: Vec<&Sent> = sends.iter().filter(home).collect();
    let from = absence.from_ms;
    // Sends on which the incident fell: under way when it began, or begun while it lasted.
    let to = absence.to_ms.unwrap_or(u64::MAX);
    let felt = ours
        .iter()
        .filter(|sent| sent.sent_ms <= to && sent.acked_ms.is_none_or(|acked| acked >= from));
    let waits = felt.clone().filter_map(|sent| Some(sent.acked_ms?.saturating_sub(sent.sent_ms)));
    let after = ours.iter().filter(|sent| sent.sent_ms >= from).filter_map(|sent| sent.acked_ms);
    let (at_risk, rpo_ms) = absence.at_risk.get(&promise).copied().unwrap_or_default();
    ClassIncident {
        durability: match world.zone(promise.1).filter(|_| world.zones.len() > 1) {
            Some(zone) => format!("{}, zone {}", promise.0, zone.name),
            None => promise.0.to_string(),
        },
        pause_ms: waits.max(),
        backlog: most_at_once(felt.copied()),
        at_risk,
        rpo_ms,
        rto_ms: after.min().map(|acked| acked.saturating_sub(from)),
    }
}

/// The most of these sends that waited at one moment.
fn most_at_once<'a>(sends: impl Iterator<Item = &'a Sent>) -> u64 {
    let mut turns: Vec<(u64, i64)> = Vec::new();
    for sent in sends {
        turns.push((sent.sent_ms, 1));
        turns.extend(sent.acked_ms.map(|acked| (acked, -1)));
    }
    turns.sort_unstable();
    let (mut now, mut most) = (0_i64, 0);
    for (_, turn) in turns {
        now += turn;
        most = most.max(now);
    }
    most.unsigned_abs()
}

fn clients(evidence: &Evidence<'_>, sends: &[Sent]) -> Vec<RegionClients> {
    let first = evidence.spans.iter().map(|(_, from, _)| millis(*from)).min().unwrap_or(u64::MAX);
    let last = evidence.spans.iter().map(|(_, _, to)| millis(*to)).max().unwrap_or(u64::MAX);
    let reconnects = evidence.ledger.reconnects();
    let of_region = |region: RegionId| {
        let ours: Vec<&Sent> = sends.iter().filter(|sent| sent.region == region).collect();
        let phase = |name: &str, is_in: &dyn Fn(u64) -> bool| {
            latency(name, ours.iter().filter(|sent| is_in(sent.sent_ms)).copied())
        };
        RegionClients {
            region: evidence.scenario.world.region_name(region),
            latency: vec![
                phase("before", &|at| at < first),
                phase("during", &|at| at >= first && at <= last),
                phase("after", &|at| at > last),
            ],
            longest_pause_ms: ours.iter().filter_map(|sent| wait_ms(sent)).max().unwrap_or(0),
            reconnects: reconnects.get(&region).copied().unwrap_or(0),
        }
    };
    evidence.scenario.world.regions.iter().map(|region| of_region(region.id)).collect()
}

fn wait_ms(sent: &Sent) -> Option<u64> {
    Some(sent.acked_ms?.saturating_sub(sent.sent_ms))
}

fn latency<'a>(phase: &str, sends: impl Iterator<Item = &'a Sent>) -> Latency {
    let mut waits = histogram();
    sends.filter_map(wait_ms).for_each(|wait| waits.saturating_record(wait));
    Latency {
        phase: phase.into(),
        count: waits.len(),
        p50_ms: waits.value_at_quantile(0.5) as f64,
        p99_ms: waits.value_at_quantile(0.99) as f64,
        max_ms: waits.max() as f64,
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, WAIT_MAX_MS, 3).expect("three digits are a precision")
}

fn seconds(evidence: &Evidence<'_>, sends: &[Sent]) -> Vec<Second> {
    let seconds = evidence.observer.waiting.iter().enumerate().map(|(n, waiting)| {
        let at_ms = n as u64 * 1_000;
        let within =
            |at: u64| (at_ms..at_ms + 1_000).contains(&at.saturating_sub(evidence.origin_ms));
        let acked = sends.iter().filter(|sent| sent.acked_ms.is_some_and(within));
        let waits = latency("", acked);
        Second {
            at_ms,
            sent: sends.iter().filter(|sent| within(sent.sent_ms)).count() as u64,
            acked: waits.count,
            p50_ms: waits.p50_ms,
            max_ms: waits.max_ms,
            waiting: *waiting,
        }
    });
    seconds.collect()
}
