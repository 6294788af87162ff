//! What came of a run: what the checker says, and what an operator asks. Plain data; [`crate::report`] shows it.

use serde::Serialize;

/// Everything that is known when a run is over. All times are virtual milliseconds after the load began.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// What it shows.
    pub about: String,
    /// The world's name.
    pub world: String,
    /// Decides everything, together with the scenario and the build.
    pub seed: u64,
    /// Over every byte on every link, every client's view and every fault; 16 hexadecimal digits.
    pub hash: String,
    /// How long was simulated, settling and converging included.
    pub virtual_ms: u64,
    /// What it cost, CPU milliseconds of this machine. Not part of the hash.
    pub cpu_ms: u64,
    /// Whether all invariants held.
    pub held: bool,
    /// What did not, the first first.
    pub broken: Vec<Broken>,
    /// Of the world.
    pub regions: Vec<RegionFacts>,
    /// Of the world: the ways between its regions.
    pub links: Vec<LinkFacts>,
    /// What went wrong when.
    pub faults: Vec<FaultSpan>,
    /// What each loss, drain or isolation of a region meant.
    pub incidents: Vec<Incident>,
    /// What the people of each region felt.
    pub people: Vec<RegionPeople>,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Totals.
    pub counts: Counts,
    /// What happened to whom, oldest first; bounded, the end is kept.
    pub timeline: Vec<Entry>,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Broken {
    /// Its name, such as `lost` or `not-converged`.
    pub invariant: String,
    /// When it was noticed.
    pub at_ms: u64,
    /// What was found.
    pub what: String,
}

/// A region of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RegionFacts {
    /// Its name.
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
    /// The other.
    pub b: String,
    /// One way.
    pub delay_ms: f64,
}

/// One fault as it happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FaultSpan {
    /// In words.
    pub what: String,
    /// The names of the regions that it concerned; empty: all.
    pub regions: Vec<String>,
    /// It cut, slowed or damaged the link between the two regions named, rather than the regions.
    pub is_link: bool,
    /// Began.
    pub from_ms: u64,
    /// Ended.
    pub to_ms: u64,
}

/// What the loss (or drain) of a region meant.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Incident {
    /// The region.
    pub region: String,
    /// In words: `lost`, `drained`.
    pub kind: String,
    /// When.
    pub from_ms: u64,
    /// When it came back; none: it did not.
    pub to_ms: Option<u64>,
    /// Until every living core of the others knew; none: they never did.
    pub detection_ms: Option<u64>,
    /// From detection until all its `multi-region` shards were served elsewhere; none: they never were.
    pub takeover_ms: Option<u64>,
    /// By durability class.
    pub classes: Vec<ClassIncident>,
}

/// What the loss of a region meant for conversations of one class at home there.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClassIncident {
    /// `region` or `multi-region`, and in which zone, where there are several.
    pub durability: String,
    /// Longest wait of a client for an acknowledgement that the incident fell into; none: nobody sent anything.
    pub pause_ms: Option<u64>,
    /// Most messages that waited for their ack at one moment.
    pub backlog: u64,
    /// Acknowledged messages that stood on no replica outside the region when it was lost. They are back when it is.
    pub at_risk: u64,
    /// Recovery point as found: age of the oldest message at risk at the moment of the loss; 0: nothing was at risk.
    pub rpo_ms: u64,
    /// Recovery time as found: from the loss until the first send was acknowledged that was made after it; none: never.
    pub rto_ms: Option<u64>,
}

/// What the people of one region felt.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RegionPeople {
    /// Where they are.
    pub region: String,
    /// Send to ack, for messages sent before the first fault, while faults lasted, and after the last.
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
    /// How many were measured.
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
    /// Its start.
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
    /// Acknowledged and not shown to someone who should have seen it.
    pub lost: u64,
    /// Sends that became two messages, messages shown twice.
    pub duplicated: u64,
    /// Order or content that differs.
    pub reordered: u64,
    /// Seqs that someone should have seen and did not.
    pub gaps: u64,
}

/// One line of what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When.
    pub at_ms: u64,
    /// To whom, such as `r1/core/1`, `ann`, `the world`.
    pub who: String,
    /// What.
    pub what: String,
}
