//! Owners that die, pause, disagree or hand over: what was acknowledged stays, once, in one order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hearth_core_region::{Core, Limits, Stage};
use tokio::sync::watch;
use wire::command::UserCommand;
use wire::stream::StreamEnd;
use wire::{ConversationId, NodeId};

use super::edge::{Edge, Stream, ack, actor, send};
use super::harness::{Harness, ONE, THREE, TWO_AT_HOME, eventually, node};
use super::store_shim::StoreShim;

/// Sends `m-<from>..`, one after the other, through whoever serves; returns the acks' seq and
/// epoch.
async fn send_all(edge: &Edge, id: ConversationId, from: usize, count: usize) -> Vec<(u64, u64)> {
    let ann = actor("demo", "ann");
    let mut acks = Vec::new();
    let mut stream = edge.open(id.shard).await;
    for n in from..from + count {
        let answer = loop {
            match stream.command(&ann, id, send(&format!("m-{n}"), "x")).await {
                Some(answer) => break answer,
                None => stream = edge.open(id.shard).await,
            }
        };
        let ack = ack(answer);
        acks.push((ack.seq, ack.epoch.0));
    }
    acks
}

fn all_ids(count: usize) -> Vec<(u64, String)> {
    (0..count).map(|n| (n as u64 + 1, format!("m-{n}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_owner_dies_another_core_goes_on_and_a_retry_keeps_its_seq() {
    let mut site = Harness::start(ONE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &[]).await;
    let before = send_all(&edge, id, 0, 20).await;
    // In flight when it dies: the outcome is unknown, so all of it is sent again.
    let mut stream = edge.open(id.shard).await;
    for n in 20..60 {
        stream.start(&ann, id, send(&format!("m-{n}"), "x")).await;
    }
    stream.flush().await;
    let owner = site.owner(&id.shard).await;
    site.kill(&owner);
    let after = send_all(&edge, id, 20, 60).await;
    assert_ne!(site.owner(&id.shard).await, owner);
    let seqs: Vec<u64> = before.iter().chain(&after).map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=80).collect::<Vec<_>>());
    assert!(after.last().unwrap().1 > before[0].1, "the epoch is higher");
    for n in [0, 19, 20, 59] {
        let again = edge.send(&ann, id, &format!("m-{n}"), "x").await;
        assert_eq!((again.seq, again.duplicate), (n + 1, true));
    }
    assert_eq!(edge.history(&ann, id).await, all_ids(80));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_handed_over_without_an_error_and_back() {
    let mut site = Harness::empty(ONE);
    let (first, second) = (node("r1/core/1"), node("r1/core/2"));
    site.add(&first);
    site.settled().await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let shards = [site.shard(1, 0), site.shard(1, 1)];
    let ids = shards.map(|shard| edge.group_in(shard));
    for id in ids {
        edge.create(&ann, id, &[]).await;
    }
    let sending: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let edge = Edge::new(edge.world.clone(), edge.mesh.clone());
            tokio::spawn(async move { send_all(&edge, id, 0, 400).await })
        })
        .collect();
    site.add(&second);
    // The newcomer gets its share; then the first gives the rest away; then takes its share back.
    let shares = |site: &Harness, node: &NodeId| site.cores[node].core.status().serving().count();
    eventually("the newcomer's share", || {
        (shares(&site, &second) == expected(&site, &second)).then_some(())
    })
    .await;
    let draining = site.cores[&first].core.clone();
    draining.drain().await;
    site.settled().await;
    assert_eq!((shares(&site, &first), shares(&site, &second)), (0, 2));
    draining.undrain();
    eventually("its share again", || {
        (shares(&site, &first) == expected(&site, &first)).then_some(())
    })
    .await;
    for (id, sending) in ids.into_iter().zip(sending) {
        let acks = sending.await.unwrap();
        assert_eq!(
            acks.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
            (1..=400).collect::<Vec<_>>()
        );
        assert!(acks.is_sorted_by_key(|(_, epoch)| *epoch), "the epoch never falls");
        assert_eq!(edge.history(&ann, id).await.len(), 200);
    }
    assert!(site.cores.values().all(|running| running.core.status().panicked.is_empty()));
}

/// How many of the world's shards should be a core's while all cores live.
fn expected(site: &Harness, node: &NodeId) -> usize {
    let live = topology::placement::Live::new(site.cores.keys().cloned());
    let shards = site.world.all_shards();
    shards
        .iter()
        .filter(|shard| {
            topology::placement::owner(&site.world, shard, &live).as_ref() == Some(node)
        })
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_stops_answers_what_it_took_in_and_ends_its_streams() {
    let mut site = Harness::empty(ONE);
    let first = node("r1/core/1");
    let core = site.add(&first);
    site.settled().await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &[]).await;
    let mut stream = edge.open(id.shard).await;
    let first_send = stream.start(&ann, id, send("m-0", "x")).await;
    stream.flush().await;
    stream.answer(first_send).await.unwrap().unwrap();
    let began = std::time::Instant::now();
    core.stop(Duration::from_secs(20)).await;
    assert!(began.elapsed() < Duration::from_secs(15), "every task ends by itself");
    assert!(stream.next().await.is_none());
    assert_eq!(stream.ended, Some(StreamEnd::Stopping));
    let status = site.status(&first, &id.shard);
    assert_eq!((status.stage, status.committed), (Stage::Elsewhere, status.projected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_acknowledges_nothing_and_ends_its_streams() {
    let mut site = Harness::empty(ONE);
    let (first, second) = (node("r1/core/1"), node("r1/core/2"));
    let (open_gate, open) = watch::channel(true);
    let waiting = Arc::new(AtomicUsize::new(0));
    let store = site.store(first.region);
    site.add_with(&first, StoreShim::gated(store, open, waiting.clone()), Limits::default());
    site.settled().await;
    let edge = site.edge_to(&node("r1/edge/1"), &[&first]);
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &[]).await;
    send_all(&edge, id, 0, 3).await;
    let committed = site.status(&first, &id.shard).committed;

    // The zombie appends, and pauses before it looks at the fence.
    let mut stream = edge.open(id.shard).await;
    open_gate.send_replace(false);
    let waited = waiting.load(Ordering::SeqCst);
    let unanswered = stream.start(&ann, id, send("m-3", "x")).await;
    stream.flush().await;
    eventually("its append", || (waiting.load(Ordering::SeqCst) > waited + 1).then_some(())).await;

    // Another, who knows nothing of the first, takes the shard and finds the append in the tail.
    site.add_alone(&second);
    let other = site.edge_to(&node("r1/edge/2"), &[&second]);
    let retried = other.send(&ann, id, "m-3", "x").await;
    assert_eq!((retried.seq, retried.duplicate), (4, true));
    assert_eq!(other.send(&ann, id, "m-4", "x").await.seq, 5);

    open_gate.send_replace(true);
    assert_eq!(stream.answer(unanswered).await, None, "never acknowledged by the zombie");
    assert!(matches!(stream.ended, Some(StreamEnd::NotOwner { .. })), "{:?}", stream.ended);
    assert_eq!(site.status(&first, &id.shard).committed, committed);
    assert_eq!(other.history(&ann, id).await, all_ids(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_both_believe_to_be_the_owner_lose_and_double_nothing() {
    let mut site = Harness::empty(ONE);
    let (first, second) = (node("r1/core/1"), node("r1/core/2"));
    // Neither knows of the other, so each takes the shard whenever it may.
    site.add_alone(&first);
    site.add_alone(&second);
    let edges =
        [site.edge_to(&node("r1/edge/1"), &[&first]), site.edge_to(&node("r1/edge/2"), &[&second])];
    let ann = actor("demo", "ann");
    let id = edges[0].group_in(site.shard(1, 0));
    edges[0].create(&ann, id, &[]).await;
    let sending = edges.map(|edge| {
        tokio::spawn(async move {
            let mut acks = Vec::new();
            for n in 0..15 {
                let name = format!("{}-{n}", edge.mesh.node().name);
                acks.push((edge.send(&actor("demo", "ann"), id, &name, "x").await.seq, name));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (edge, acks)
        })
    });
    let mut acked = Vec::new();
    let mut edge = None;
    for sending in sending {
        let (of, acks) = sending.await.unwrap();
        assert!(acks.is_sorted(), "in the order in which they were sent");
        acked.extend(acks);
        edge = Some(of);
    }
    // An owner that was superseded while it was idle shows what it knew. One that writes looks at
    // the fence first.
    let edge = edge.unwrap();
    acked.push((edge.send(&ann, id, "last", "x").await.seq, "last".into()));
    acked.sort();
    assert_eq!(edge.history(&ann, id).await, acked);
    assert_eq!(acked.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=31).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_home_region_is_lost_its_successor_goes_on_and_gives_back() {
    let mut site = Harness::start(THREE).await;
    let edge = site.edge(&node("r2/edge/1"));
    let ann = actor("demo", "ann");
    let shard = *site
        .world
        .shards_homed_in(wire::RegionId(1))
        .iter()
        .find(|shard| shard.durability == wire::Durability::MultiRegion)
        .unwrap();
    let id = edge.group_in(shard);
    edge.create(&ann, id, &["bob"]).await;
    let home = node("r1/core/1");
    assert_eq!(site.owner(&shard).await, home);
    let before = send_all(&edge, id, 0, 10).await;
    site.simulated().crash(home.region, store::simulated::Crash::Machine);
    site.kill(&home);
    let after = send_all(&edge, id, 10, 10).await;
    assert_eq!(site.owner(&shard).await, node("r2/core/1"), "the first in its order of succession");
    site.simulated().restart(home.region);
    site.simulated().repair(home.region);
    site.add(&home);
    eventually("home again", || (site.owners(&shard) == [home.clone()]).then_some(())).await;
    let back = send_all(&edge, id, 20, 10).await;
    let all: Vec<_> = [before, after, back].concat();
    assert_eq!(all.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=30).collect::<Vec<_>>());
    assert!(
        all[0].1 < all[10].1 && all[10].1 < all[20].1,
        "each owner has a higher epoch: {all:?}"
    );
    assert_eq!(edge.history(&ann, id).await, all_ids(30));
    let kick = UserCommand::ChangeMembers {
        add: vec![],
        remove: vec![super::edge::user("bob")],
        roles: vec![],
    };
    edge.ask(&ann, id, kick).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_drains_gives_to_its_successor_in_one_step_and_takes_back() {
    let mut site = Harness::start(TWO_AT_HOME).await;
    let edge = site.edge(&node("r3/edge/1"));
    let ann = actor("demo", "ann");
    let shard = site.shard(1, 0);
    let id = edge.group_in(shard);
    let epoch = edge.create(&ann, id, &[]).await.epoch;
    let sending = {
        let edge = Edge::new(edge.world.clone(), edge.mesh.clone());
        tokio::spawn(async move { send_all(&edge, id, 0, 300).await })
    };
    let home = ["r1/core/1", "r1/core/2"].map(|name| site.cores[&node(name)].core.clone());
    tokio::join!(home[0].drain(), home[1].drain());
    eventually("the successor", || (site.owners(&shard) == [node("r2/core/1")]).then_some(()))
        .await;
    let away = edge.send(&ann, id, "away", "x").await;
    assert_eq!(away.epoch.0, epoch.0 + 1, "not by way of the neighbour that drains too");
    home.iter().for_each(Core::undrain);
    eventually("home again", || {
        site.owners(&shard).iter().any(|owner| owner.region == shard.home).then_some(())
    })
    .await;
    let acks = sending.await.unwrap();
    assert!(acks.is_sorted());
    assert_eq!(edge.history(&ann, id).await.last().map(|(seq, _)| *seq), Some(301));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_does_not_serve_a_shard_says_who_does() {
    let mut site = Harness::start(ONE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let shard = site.shard(1, 0);
    edge.open(shard).await;
    let owner = site.owner(&shard).await;
    let other = site.cores.keys().find(|node| **node != owner).unwrap();
    let end = Stream::open(&edge.mesh, shard, other).await.unwrap().err();
    assert_eq!(end, Some(StreamEnd::NotOwner { owner: Some(owner) }));
}
