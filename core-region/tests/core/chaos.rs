//! Owners die again and again under load, over a store that loses, delays and reorders: the checker
//! that the replay and the simulator use finds nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conversation::invariants::{Checker, Observed};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::simulated::Weather;
use wire::command::{Actor, UserCommand};
use wire::stream::FromOwner;
use wire::{ClientMsgId, ConversationId, Durability, NodeId, RegionId};

use super::edge::{Edge, ack, actor, send};
use super::harness::{DEADLINE, Harness, TWO_AT_HOME, node};

const SENDERS: usize = 3;
const SENDS: usize = 400;
/// StoreShim two answers, so that the load lasts as long as the dying.
const PAUSE: Duration = Duration::from_millis(15);
const WINDOW: usize = 16;
const KILLS: usize = 4;

type Shared = Arc<Mutex<Checker>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_doubled_or_reordered_when_owners_die_in_bad_weather() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut site = Harness::empty(TWO_AT_HOME);
    site.add_all();
    site.settled().await;
    let ms = Duration::from_millis;
    site.simulated().set_weather(Weather {
        delay: ms(1)..ms(30),
        lost: 0.03,
        late: 0.05,
        late_by: ms(500)..ms(5_000),
        statement_timeout: ms(400),
        ..Weather::calm()
    });
    let shards = site.world.shards_homed_in(RegionId(1));
    let shard = *shards.iter().find(|shard| shard.durability == Durability::MultiRegion).unwrap();
    let checker: Shared = Arc::default();
    let edges: Vec<Edge> = (1..=3).map(|n| site.edge(&node(&format!("r{n}/edge/9")))).collect();
    let id = edges[0].group_in(shard);
    let names: Vec<String> = (0..SENDERS).map(|n| format!("user-{n}")).collect();
    edges[0]
        .create(&actor("demo", "ann"), id, &names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;

    let mut tasks = Vec::new();
    for (lane, (edge, name)) in (0..).zip(edges.into_iter().zip(names)) {
        let watching = Edge::new(edge.world.clone(), edge.mesh.clone());
        tasks.push(tokio::spawn(observe(watching, id, name.clone(), checker.clone())));
        tasks.push(tokio::spawn(write(edge, id, actor("demo", &name), lane, checker.clone())));
    }
    for _ in 0..KILLS {
        tokio::time::sleep(ms(random.random_range(200..1_500))).await;
        let victims: Vec<NodeId> = site.owners(&shard);
        for victim in victims {
            site.kill(&victim);
            tokio::time::sleep(ms(random.random_range(0..3_000))).await;
            site.add(&victim);
        }
    }
    for task in tasks {
        tokio::time::timeout(DEADLINE * 2, task)
            .await
            .expect("everything is sent and seen in time")
            .unwrap();
    }
    let report = checker.lock().unwrap().report();
    assert!(report.is_clean(), "seed {seed}: {report:?}");
    assert_eq!(report.acked, (SENDERS * SENDS) as u64);
}

/// Sends in order, some at once; what was not answered again, in order.
async fn write(edge: Edge, id: ConversationId, actor: Actor, lane: u64, checker: Shared) {
    let mut open: VecDeque<(String, UserCommand)> = VecDeque::new();
    let mut next = 0;
    while next < SENDS || !open.is_empty() {
        let mut stream = edge.open(id.shard).await;
        let mut rids = VecDeque::new();
        for (_, command) in &open {
            rids.push_back(stream.start(&actor, id, command.clone()).await);
        }
        loop {
            while open.len() < WINDOW && next < SENDS {
                let name = format!("m-{next}");
                next += 1;
                let command = send(&name, "hello");
                let cmid = ClientMsgId::new(&name).unwrap();
                checker.lock().unwrap().sent(lane, id, &actor.user, &cmid, "hello");
                rids.push_back(stream.start(&actor, id, command.clone()).await);
                open.push_back((name, command));
            }
            stream.flush().await;
            let Some(rid) = rids.pop_front() else { return };
            let Some(answer) = stream.answer(rid).await else { break };
            tokio::time::sleep(PAUSE).await;
            let (name, _) = open.pop_front().unwrap();
            let cmid = ClientMsgId::new(&name).unwrap();
            checker.lock().unwrap().acked(id, &actor.user, &cmid, &ack(answer));
        }
    }
}

/// Watches until everything was seen; after a break from the last `ver` on.
async fn observe(edge: Edge, id: ConversationId, name: String, checker: Shared) {
    let (mut last_ver, mut seen) = (0, 0);
    while seen < SENDERS * SENDS {
        let mut stream = edge.open(id.shard).await;
        stream.watch_again(id, last_ver).await;
        while seen < SENDERS * SENDS
            && let Some(frame) = stream.next().await
        {
            let deliveries = match frame {
                FromOwner::Feed { deliveries } => deliveries,
                FromOwner::Lagged { .. } => {
                    stream.watch_again(id, last_ver).await;
                    continue;
                }
                _ => continue,
            };
            for delivery in deliveries {
                assert_eq!(
                    delivery.change.ver,
                    last_ver + 1,
                    "{name}: neither a hole nor a double"
                );
                last_ver += 1;
                if let Some(message) = Observed::of(&delivery.change) {
                    seen += 1;
                    checker.lock().unwrap().observed(&name, id, &message);
                }
            }
        }
    }
    checker.lock().unwrap().complete(&name, id, 1);
}
