//! How many sends a second one core acknowledges, embedded store and real QUIC, in one process with
//! the edge that asks.
//!
//! ```console
//! cargo run --release -p hearth-core-region --example commit -- [SECONDS] [CONVERSATIONS] [IN
//! FLIGHT EACH] [BODY BYTES]
//! ```
//!

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_core_region::{Consumers, Core, CoreOptions, InboxNotifier};
use mesh::{Mesh, MeshCa, MeshOptions};
use store::embedded::{Embedded, EmbeddedOptions};
use topology::World;
use wire::command::{Actor, Draft, UserCommand};
use wire::stream::{FromOwner, Purpose, ToOwner};
use wire::{ClientMsgId, ConversationId, ConversationKind, NodeId, ShardId, TenantId, UserId};

const WORLD: &str = r#"
name = "bench"
[[region]]
id = 1
name = "here"
lat = 1.0
lon = 1.0
cores = 1
[[zone]]
id = 1
name = "all"
regions = ["here"]
shards = 4
[[tenant]]
name = "demo"
zone = "all"
durability = "region"
"#;

struct Asked {
    seconds: u64,
    conversations: usize,
    in_flight: usize,
    body: usize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let mut next = |default| args.next().unwrap_or(Ok(default));
    let asked = Asked {
        seconds: next(5)? as u64,
        conversations: next(64)?,
        in_flight: next(16)?,
        body: next(120)?,
    };
    let dir = tempfile::tempdir()?;
    let world = Arc::new(World::parse(WORLD)?);
    let regions = world.regions.iter().map(|region| (region.id, region.name.clone())).collect();
    let zones = world.zones.iter().map(|zone| (zone.id, zone.regions.clone())).collect();
    let (embedded, _) = Embedded::open(EmbeddedOptions::new(dir.path(), regions, zones))?;
    let ca = MeshCa::create()?;
    let (node, edge): (NodeId, NodeId) = ("r1/core/1".parse()?, "r1/edge/1".parse()?);
    let join = |node: &NodeId| -> Result<Mesh, Box<dyn std::error::Error>> {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Mesh::start(MeshOptions::new(
            node.clone(),
            ca.issue(node)?,
            bind,
            Arc::new(net::OsNet),
        ))?)
    };
    let (core_mesh, edge_mesh) = (join(&node)?, join(&edge)?);
    edge_mesh.add_peer(&node, core_mesh.local_addr());
    let core = Core::start(CoreOptions::new(
        node.clone(),
        world.clone(),
        core_mesh,
        embedded.store(node.region),
        Consumers::new().with(InboxNotifier::default),
    ));
    while core.status().serving().count() < world.all_shards().len() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let cpu = cpu_seconds();
    let began = Instant::now();
    let mut senders = Vec::new();
    for shard in world.all_shards() {
        let asked = Asked {
            conversations: asked.conversations.div_ceil(world.all_shards().len()),
            ..asked
        };
        let channel = edge_mesh.open(&node, Purpose::Shard(shard)).await?;
        senders.push(tokio::spawn(drive(shard, channel, asked)));
    }
    let (mut acked, mut latencies) = (0, Vec::new());
    for sender in senders {
        let (of_shard, latencies_of_shard) = sender.await?;
        acked += of_shard;
        latencies.extend(latencies_of_shard);
    }
    let took = began.elapsed().as_secs_f64();
    let cpu_us = (cpu_seconds() - cpu) * 1e6 / acked as f64;
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{:.0} acks/s, {cpu_us:.1} us of CPU a message (edge's side included), ack p50 {:?}, p99 {:?}",
        acked as f64 / took,
        at(0.5),
        at(0.99)
    );
    core.stop(Duration::from_secs(5)).await;
    Ok(())
}

/// Keeps so many sends in flight in each of its conversations; returns how many were acknowledged,
/// and how fast.
async fn drive(shard: ShardId, channel: mesh::Channel, asked: Asked) -> (u64, Vec<Duration>) {
    let (mut sender, mut receiver) = channel.split();
    let ids: Vec<ConversationId> = (0..asked.conversations)
        .map(|n| {
            let mut unique = [0; 16];
            unique[..8].copy_from_slice(&(n as u64 + 1).to_be_bytes());
            ConversationId { kind: ConversationKind::Group, shard, unique }
        })
        .collect();
    let tenant = TenantId::new("demo").expect("a name");
    let actor = Actor { tenant, user: UserId::new("ann").expect("a name"), device: None };
    let body = "x".repeat(asked.body);
    let mut rid = 0;
    let mut open: HashMap<u64, (ConversationId, Instant)> = HashMap::new();
    let mut frame = |id: ConversationId, command: UserCommand, open: &mut HashMap<_, _>| {
        rid += 1;
        open.insert(rid, (id, Instant::now()));
        ToOwner::Command { rid, actor: actor.clone(), conversation: id, command: command.into() }
            .to_bytes()
    };
    let draft = |n: u64| {
        UserCommand::Send(Draft::text(
            ClientMsgId::new(format!("m-{n}")).expect("a name"),
            body.clone(),
        ))
    };
    let mut n = 0;
    for id in &ids {
        let create = UserCommand::CreateGroup { name: "bench".into(), members: vec![] };
        sender.feed(frame(*id, create, &mut open)).await.expect("the core lives");
        for _ in 0..asked.in_flight {
            n += 1;
            sender.feed(frame(*id, draft(n), &mut open)).await.expect("the core lives");
        }
    }
    sender.flush().await.expect("the core lives");
    let until = Instant::now() + Duration::from_secs(asked.seconds);
    let (mut acked, mut latencies) = (0, Vec::new());
    while !open.is_empty() {
        let mut bytes = receiver.recv().await.expect("the core lives").expect("the core lives");
        loop {
            let Ok(FromOwner::Reply { rid, result }) = FromOwner::from_bytes(&bytes) else {
                panic!("not an answer")
            };
            result.expect("a send is acknowledged");
            let (id, sent) = open.remove(&rid).expect("asked");
            acked += 1;
            latencies.push(sent.elapsed());
            if Instant::now() < until {
                n += 1;
                sender.feed(frame(id, draft(n), &mut open)).await.expect("the core lives");
            }
            match receiver.try_recv() {
                Some(more) => bytes = more,
                None => break,
            }
        }
        sender.flush().await.expect("the core lives");
    }
    (acked, latencies)
}

/// Of the whole process, user and system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = |n: usize| {
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(n)?.parse::<f64>().ok())
    };
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}
