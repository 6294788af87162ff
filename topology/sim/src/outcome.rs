//! The outcome of a run: the checker's findings, and an operator's figures. Plain data;
//! [`crate::report`] shows it.

use serde::Serialize;

/// The result of a run. All times are virtual milliseconds after the load began.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    pub about: String,
    /// The world's name.
    pub world: String,
    /// Decides everything, together with the scenario and the build.
    pub seed: u64,
    /// Over every byte on every link, every client's view and every fault; 16 hexadecimal digits.
    pub hash: String,
    /// Simulated time, with settling and converging.
    pub virtual_ms: u64,
    /// CPU milliseconds of this machine. Not part of the hash.
    pub cpu_ms: u64,
    /// Whether all invariants held.
    pub held: bool,
    /// The broken invariants, in order of time.
    pub broken: Vec<Broken>,
    /// The world's regions.
    pub regions: Vec<RegionFacts>,
    /// The links between the world's regions.
    pub links: Vec<LinkFacts>,
    pub faults: Vec<FaultSpan>,
    /// The effect of each loss, drain or isolation of a region.
    pub incidents: Vec<Incident>,
    /// The waits of each region's clients.
    pub clients: Vec<RegionClients>,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Totals.
    pub counts: Counts,
    /// The timeline, oldest first; bounded, its end is kept.
    pub timeline: Vec<Entry>,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Broken {
    /// Its name, such as `lost` or `not-converged`.
    pub invariant: String,
    /// When it was noticed.
    pub at_ms: u64,
    /// The finding.
    pub what: String,
}

/// A region of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RegionFacts {
    pub name: String,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// The zones whose data rests there.
    pub zones: Vec<String>,
    /// Cores.
    pub cores: u16,
    /// Edges.
    pub edges: u16,
}

/// The way between two regions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LinkFacts {
    /// One end, by name.
    pub a: String,
    pub b: String,
    pub delay_ms: f64,
}

/// One fault as it happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FaultSpan {
    /// In words.
    pub what: String,
    /// The regions concerned; empty: all.
    pub regions: Vec<String>,
    /// It cut, slowed or damaged the link between the two regions named, rather than the regions.
    pub is_link: bool,
    /// Began.
    pub from_ms: u64,
    /// Ended.
    pub to_ms: u64,
}

/// The effect of a region's loss or drain.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Incident {
    pub region: String,
    /// In words: `lost`, `drained`.
    pub kind: String,
    pub from_ms: u64,
    /// Its return; none: it did not return.
    pub to_ms: Option<u64>,
    /// Until every living core of the others knew; none: they never did.
    pub detection_ms: Option<u64>,
    /// From detection until all its `multi-region` shards were served elsewhere; none: they never
    /// were.
    pub takeover_ms: Option<u64>,
    /// By durability class.
    pub classes: Vec<ClassIncident>,
}

/// The effect on conversations of one durability with their home there.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClassIncident {
    /// `region` or `multi-region`, and in which zone, where there are several.
    pub durability: String,
    /// Longest wait for an ack during the incident; none: nobody sent anything.
    pub pause_ms: Option<u64>,
    /// Most messages that waited for their ack at one moment.
    pub backlog: u64,
    /// Acknowledged messages that stood on no replica outside the region when it was lost. They are
    /// back when it is.
    pub at_risk: u64,
    /// Recovery point as found: age of the oldest message at risk at the moment of the loss; 0:
    /// nothing was at risk.
    pub rpo_ms: u64,
    /// Recovery time as found: from the loss until the first send was acknowledged that was made
    /// after it; none: never.
    pub rto_ms: Option<u64>,
}

/// The waits of one region's clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RegionClients {
    pub region: String,
    /// Send to ack, for messages sent before the first fault, while faults lasted, and after the
    /// last.
    pub latency: Vec<Latency>,
    /// The longest that a send waited for its ack.
    pub longest_pause_ms: u64,
    /// Sessions that broke.
    pub reconnects: u64,
}

/// Waits, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// `before`, `during` or `after`.
    pub phase: String,
    /// Number of samples.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Longest.
    pub max_ms: f64,
}

/// One second of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    pub at_ms: u64,
    /// Messages sent in it.
    pub sent: u64,
    /// Acks received in it.
    pub acked: u64,
    /// Median wait of these.
    pub p50_ms: f64,
    /// Longest wait of these.
    pub max_ms: f64,
    /// Sends that waited for their ack at its end.
    pub waiting: u64,
}

/// Totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Messages sent, once each.
    pub sent: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Sent again after their ack.
    pub resent: u64,
    /// Changes of members that were answered.
    pub edits: u64,
    /// Pages of history read.
    pub reads: u64,
    /// Messages shown to clients.
    pub delivered: u64,
    /// Sessions that broke.
    pub reconnects: u64,
    /// Terms that began after the first of their shard.
    pub takeovers: u64,
    /// Messages that a lost region alone had, and that came back when it did.
    pub recovered: u64,
    /// Datagrams and segments that left a host.
    pub packets: u64,
    /// Acknowledged, and not shown to an observer who should have seen it.
    pub lost: u64,
    /// Sends that became two messages, messages shown twice.
    pub duplicated: u64,
    /// Order or content that differs.
    pub reordered: u64,
    /// Seqs that an observer should have seen and did not.
    pub gaps: u64,
}

/// One line of what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub at_ms: u64,
    /// To whom, such as `r1/core/1`, `ann`, `the world`.
    pub who: String,
    pub what: String,
}
