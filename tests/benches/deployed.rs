//! A deployment of real processes over three Cassandra datacenters, each figure beside two bare
//! statements of the same driver at the same consistency on the same servers: what writing a log
//! row and reading a fence takes when nobody orders, fences or acknowledges anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hearth_stories::deployment::{Deployment, NodeRole};
use hearth_stories::http;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

use crate::acks::Senders;
use crate::{machine, median};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(6);
const MANY: usize = 64;
/// As large as a frame of one message of the senders.
const FRAME: usize = 400;
const KEYSPACE: &str = "hearth_bench_control";

/// Between two messages of a sender who lets everything behind the last one come to its end.
const REST: Duration = Duration::from_millis(150);

/// One sender, 64 senders, and what takeovers took.
pub(crate) fn run() {
    let Some(deployment) = Deployment::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(deployment.mend());
    println!("deployed: {ROUNDS} rounds of {ROUND:?}; {}", machine());
    let bare = runtime.block_on(Bare::prepare(&deployment));
    one_sender(&deployment, &runtime, &bare, Duration::ZERO);
    one_sender(&deployment, &runtime, &bare, REST);
    many_senders(&deployment, &runtime, &bare);
    takeovers(&deployment, &runtime, &bare);
    runtime.block_on(bare.clear_away());
}

/// A shard's append, fence and acknowledgement inside its core against the two statements, one at a
/// time, with such rests in between.
fn one_sender(
    deployment: &Deployment,
    runtime: &tokio::runtime::Runtime,
    bare: &Arc<Bare>,
    rest: Duration,
) {
    let mut senders = Senders::new(deployment.dir(), &deployment.edges_from(1)[0], 1);
    let (mut control, mut commits, mut acks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        control.push(runtime.block_on(bare.round(1, rest)).mean_ms);
        let before = runtime.block_on(Sum::of(deployment, "hearth_commit_seconds"));
        let acked = senders.round_with_rests(rest, || f64::NAN);
        let after = runtime.block_on(Sum::of(deployment, "hearth_commit_seconds"));
        commits.push((after - before).mean() * 1_000.0);
        acks.push(acked.mean_ms);
    }
    let (control, commit, ack) = (median(control), median(commits), median(acks));
    println!("  one at a time, {rest:?} in between: two bare statements {control:.2} ms");
    println!("    append + fence + ack, in the core   {commit:>8.2} ms ({:.2}x)", commit / control);
    println!("    send + ack, at the client           {ack:>8.2} ms ({:.2}x)", ack / control);
}

/// Acknowledged messages a second, and what they cost our processes.
fn many_senders(deployment: &Deployment, runtime: &tokio::runtime::Runtime, bare: &Arc<Bare>) {
    let mut senders = Senders::new(deployment.dir(), &deployment.edges_from(1)[0], MANY);
    let cpu = || deployment.nodes.iter().map(|node| node.cpu_seconds()).sum::<f64>();
    let (mut control, mut rates, mut costs, mut p99s) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        control.push(runtime.block_on(bare.round(MANY, Duration::ZERO)).per_s);
        let acked = senders.round(cpu);
        rates.push(acked.acks_per_s);
        p99s.push(acked.p99_ms);
        costs.push(acked.cpu_ms_per_1000);
    }
    let (control, rate) = (median(control), median(rates));
    println!("  {MANY} at a time: {control:.0} pairs of bare statements a second");
    println!(
        "    acknowledged messages a second      {rate:>8.0} ({:.2}x)  p99 {:.1} ms  CPU of all nodes {:.0} ms per 1,000",
        rate / control,
        median(p99s),
        median(costs)
    );
}

/// Every core is restarted in order, so that shards go to others and come back; by the cores' own
/// clocks.
fn takeovers(deployment: &Deployment, runtime: &tokio::runtime::Runtime, bare: &Arc<Bare>) {
    let round_trip = runtime.block_on(bare.round(1, Duration::ZERO)).mean_ms / 2.0;
    for core in deployment.nodes_with(NodeRole::Core) {
        core.end();
        core.start();
        runtime.block_on(deployment.until_whole());
    }
    let all = runtime.block_on(Sum::of(deployment, "hearth_takeover_seconds"));
    let mean = all.mean() * 1_000.0;
    println!(
        "  a takeover, {:.0} of them: {mean:.1} ms, {:.1} bare statements",
        all.count,
        mean / round_trip
    );
    for step in ["read_lease", "claim", "fence", "marks", "tail", "rewrite", "seal", "project"] {
        let of = runtime.block_on(Sum::of(
            deployment,
            &format!("hearth_takeover_step_seconds{{step=\"{step}\"}}"),
        ));
        if of.count > 0.0 {
            let mean = of.mean() * 1_000.0;
            println!(
                "    {step:<12} {mean:>8.1} ms  {:>5.1} bare statements  {:>4.0} times",
                mean / round_trip,
                of.count
            );
        }
    }
}

/// Sum and count of a histogram, over all cores that live.
#[derive(Clone, Copy)]
struct Sum {
    sum: f64,
    count: f64,
}

impl Sum {
    /// `name`, or `name{labels}`.
    async fn of(deployment: &Deployment, name: &str) -> Self {
        let (base, labels) = name
            .split_once('{')
            .map_or((name, String::new()), |(base, labels)| (base, format!("{{{labels}")));
        let mut all = Self { sum: 0.0, count: 0.0 };
        for core in deployment.nodes_with(NodeRole::Core) {
            let answer = http::request("GET", &core.admin(), "/metrics", None, "").await.unwrap();
            let text = answer.body.as_str().unwrap_or_default().to_owned();
            let value = |what: &str| {
                let start = format!("{base}_{what}{labels} ");
                text.lines()
                    .find_map(|line| line.strip_prefix(&start))
                    .map_or(0.0, |value| value.parse::<f64>().unwrap())
            };
            all.sum += value("sum");
            all.count += value("count");
        }
        all
    }

    fn mean(self) -> f64 {
        self.sum / self.count
    }
}

impl std::ops::Sub for Sum {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self { sum: self.sum - before.sum, count: self.count - before.count }
    }
}

/// The control: a row is written and a fence is read, both at `QUORUM`, coordinated by the first
/// region's server.
struct Bare {
    session: Session,
    append: PreparedStatement,
    fence: PreparedStatement,
    slot: AtomicI64,
}

struct Pairs {
    mean_ms: f64,
    per_s: f64,
}

impl Bare {
    async fn prepare(deployment: &Deployment) -> Arc<Self> {
        let first = &deployment.cluster.nodes[0];
        let policy = DefaultPolicy::builder()
            .prefer_datacenter(first.datacenter.clone())
            .token_aware(false)
            .build();
        let profile = ExecutionProfile::builder()
            .load_balancing_policy(policy)
            .consistency(Consistency::Quorum)
            .build();
        let session = SessionBuilder::new()
            .known_node_addr(first.address)
            .default_execution_profile_handle(profile.into_handle())
            .build()
            .await
            .unwrap();
        let copies: Vec<String> = deployment
            .cluster
            .nodes
            .iter()
            .map(|node| format!("'{}': 1", node.datacenter))
            .collect();
        for statement in [
            format!("DROP KEYSPACE IF EXISTS {KEYSPACE}"),
            format!(
                "CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'NetworkTopologyStrategy', {}}}",
                copies.join(", ")
            ),
            format!(
                "CREATE TABLE {KEYSPACE}.log (shard int, chunk bigint, slot bigint, frame blob, PRIMARY KEY ((shard, chunk), slot))"
            ),
            format!("CREATE TABLE {KEYSPACE}.fence (shard int PRIMARY KEY, epoch bigint)"),
            format!("INSERT INTO {KEYSPACE}.fence (shard, epoch) VALUES (1, 1)"),
        ] {
            session.query_unpaged(statement, ()).await.unwrap();
        }
        session.await_schema_agreement().await.unwrap();
        let append = session.prepare(format!(
            "UPDATE {KEYSPACE}.log SET frame = ? WHERE shard = 1 AND chunk = ? AND slot = ?"
        ));
        let append = append.await.unwrap();
        let fence = session
            .prepare(format!("SELECT epoch FROM {KEYSPACE}.fence WHERE shard = 1"))
            .await
            .unwrap();
        Arc::new(Self { session, append, fence, slot: AtomicI64::new(0) })
    }

    /// So many pairs at a time, each followed by a rest.
    async fn round(self: &Arc<Self>, at_once: usize, rest: Duration) -> Pairs {
        let begun = Instant::now();
        let loops: Vec<_> = (0..at_once)
            .map(|_| tokio::spawn(Self::pairs(Arc::clone(self), begun, rest)))
            .collect();
        let mut took_us = Histogram::<u64>::new(3).unwrap();
        for pairs in loops {
            took_us.add(pairs.await.unwrap()).unwrap();
        }
        #[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
        let per_s = took_us.len() as f64 / begun.elapsed().as_secs_f64();
        Pairs { mean_ms: took_us.mean() / 1_000.0, per_s }
    }

    async fn pairs(self: Arc<Self>, begun: Instant, rest: Duration) -> Histogram<u64> {
        let frame = vec![1u8; FRAME];
        let mut took_us = Histogram::<u64>::new(3).unwrap();
        while begun.elapsed() < ROUND {
            let slot = self.slot.fetch_add(1, Relaxed);
            let at = Instant::now();
            self.session.execute_unpaged(&self.append, (&frame, slot / 4_096, slot)).await.unwrap();
            self.session.execute_unpaged(&self.fence, ()).await.unwrap();
            took_us.record(u64::try_from(at.elapsed().as_micros()).unwrap()).unwrap();
            tokio::time::sleep(rest).await;
        }
        took_us
    }

    async fn clear_away(&self) {
        self.session.query_unpaged(format!("DROP KEYSPACE {KEYSPACE}"), ()).await.unwrap();
    }
}
