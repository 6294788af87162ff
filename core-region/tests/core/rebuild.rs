//! Consumers that were away, or held up, for longer than the log keeps its rows.

use std::time::Duration;

use hearth_core_region::Limits;
use store::Mark;
use store::simulated::Crash;
use wire::{Durability, Position, RegionId, ShardId};

use super::edge::{Edge, ack, actor, send, user};
use super::harness::{DEADLINE, Harness, THREE, eventually, node};
use super::moves::asked;
use super::notes::until_in;
use super::store_shim::StoreShim;

const HOME: RegionId = RegionId(1);

fn limits() -> Limits {
    Limits { checkpoint_every: Duration::from_millis(50), ..Limits::default() }
}

fn of_class_region(site: &Harness) -> ShardId {
    let shards = site.world.shards_homed_in(HOME);
    *shards.iter().find(|shard| shard.durability == Durability::Region).unwrap()
}

/// Waits until everything that the owner has acknowledged is projected, and takes the log from
/// under it.
async fn forget_log(site: &Harness, shard: ShardId) -> Position {
    let committed = site.status(&node("r1/core/1"), &shard).committed;
    let store = site.store(HOME);
    let checkpoint = async {
        loop {
            match store.mark(shard, &Mark::Checkpoint).await.unwrap() {
                Some(checkpoint) if checkpoint.slot.0 >= committed => return checkpoint,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let checkpoint = tokio::time::timeout(DEADLINE, checkpoint).await.unwrap();
    site.simulated().forget_log(shard, checkpoint.slot);
    checkpoint
}

async fn cursor(site: &Harness, shard: ShardId, name: &str) -> Position {
    site.store(HOME).mark(shard, &Mark::Consumer(name.into())).await.unwrap().unwrap_or_default()
}

/// Waits until a consumer has written down that it is so far.
async fn until_taken(site: &Harness, shard: ShardId, name: &str, end: Position) {
    let taken = async {
        while cursor(site, shard, name).await.slot < end.slot {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, taken).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_that_wait_for_a_region_outlive_the_log() {
    let mut site = Harness::empty(THREE);
    let (one, two, three) = (node("r1/core/1"), node("r2/core/1"), node("r3/core/1"));
    let store = site.store(HOME);
    site.add_with(&one, store.clone(), limits());
    let edge = site.edge(&node("r1/edge/1"));
    let stream =
        |name: &str| site.world.user_stream_id(&actor("local", name).tenant, &user(name)).unwrap();
    // Their own stream is at home in region 2, which is down.
    let far = (0..)
        .map(|n| format!("user-{n}"))
        .find(|name| stream(name).shard.home == RegionId(2))
        .unwrap();
    let shard = of_class_region(&site);
    let ann = actor("local", "ann");
    // The first one is in the log alone; what comes later fills more than a page of it, and of its
    // own changes.
    let first = edge.group_in(shard);
    edge.create(&ann, first, &[&far]).await;
    let long = edge.group_in(shard);
    edge.create(&ann, long, &["bob"]).await;
    for n in 0..600 {
        edge.send(&ann, long, &format!("m-{n}"), "x").await;
    }
    let last = edge.group_in(shard);
    edge.create(&ann, last, &[&far]).await;
    let end = forget_log(&site, shard).await;
    let cursor = cursor(&site, shard, "notes").await;
    assert!(
        cursor.slot < end.slot,
        "a note that is not done holds the cursor: {cursor:?} of {end:?}"
    );

    site.kill(&one);
    let log = store.read_log(shard, cursor.slot, 1_000).await.unwrap();
    assert!(log.iter().all(|row| row.at.slot >= end.slot), "the log has nothing of it: {log:?}");
    site.add_with(&one, store, limits());
    site.add(&two);
    site.add(&three);
    let edge = site.edge(&node("r2/edge/1"));
    for id in [first, last] {
        until_in(&edge, "local", &far, id, true).await;
    }
    until_taken(&site, shard, "notes", end).await;
    // From there on the log is read again.
    let new = edge.group_in(shard);
    edge.create(&ann, new, &[&far]).await;
    until_in(&edge, "local", &far, new, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_are_known_though_the_log_has_forgotten_them() {
    let mut site = Harness::empty(THREE);
    for core in ["r1/core/1", "r2/core/1", "r3/core/1"] {
        let core = node(core);
        let store = site.store(core.region);
        site.add_with(&core, store, limits());
    }
    site.settled().await;
    let edge = site.edge(&node("r2/edge/1"));
    let ann = actor("demo", "ann");
    let shard = site.shard(1, 0);
    let mover = site.cores[&node("r2/core/1")].core.clone();
    let send_to = async |edge: &Edge, id, to, name: &str| {
        let mut there = edge.open(to).await;
        ack(there.command(&ann, id, send(name, "x")).await.unwrap()).seq
    };
    // One that has left, one that came back, one that never moved.
    let [left, back, stayed] = [(); 3].map(|()| edge.group_in(shard));
    for id in [left, back, stayed] {
        edge.create(&ann, id, &[]).await;
        edge.send(&ann, id, "m-1", "x").await;
    }
    let to = mover.move_conversation(left, RegionId(3)).await.unwrap();
    let meanwhile = mover.move_conversation(back, RegionId(2)).await.unwrap();
    assert_eq!(send_to(&edge, back, meanwhile.shard, "m-2").await, 2);
    let home = mover.move_conversation(back, HOME).await.unwrap();
    assert_eq!((home.generation, home.shard), (2, shard));
    assert_eq!(send_to(&edge, back, shard, "m-3").await, 3);
    let end = forget_log(&site, shard).await;

    // The next owner finds no cursor, and so begins with a log that is not there.
    site.kill(&node("r1/core/1"));
    let store = StoreShim::without_cursors(site.store(HOME));
    site.add_with(&node("r1/core/1"), store, limits());
    eventually("its shard to come back", || {
        (site.owners(&shard) == [node("r1/core/1")]).then_some(())
    })
    .await;
    assert_eq!(
        asked(&edge, shard, left).await,
        to,
        "told as soon as every move is known to be finished"
    );
    assert_eq!(send_to(&edge, left, to.shard, "m-2").await, 2);
    assert_eq!(send_to(&edge, back, shard, "m-4").await, 4);
    assert_eq!(send_to(&edge, stayed, shard, "m-2").await, 2);
    until_taken(&site, shard, "moves", end).await;
    let next = mover.move_conversation(stayed, RegionId(2)).await.unwrap();
    assert_eq!(send_to(&edge, stayed, next.shard, "m-3").await, 3, "and moves go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_was_away_for_longer_than_the_log_lasts_has_everything_when_it_is_followed() {
    let mut site = Harness::empty(THREE);
    let (one, two, three) = (node("r1/core/1"), node("r2/core/1"), node("r3/core/1"));
    for core in [&one, &two] {
        let store = site.store(core.region);
        site.add_with(core, store, limits());
    }
    let edge = site.edge(&node("r1/edge/1"));
    let shard = of_class_region(&site);
    let ann = actor("local", "ann");
    let id = edge.group_in(shard);
    site.simulated().crash(three.region, Crash::Process);
    edge.create(&ann, id, &["bob"]).await;
    for n in 1..=300 {
        edge.send(&ann, id, &format!("m-{n}"), "x").await;
    }
    let end = forget_log(&site, shard).await;
    site.simulated().restart(three.region);
    assert_eq!(
        site.store(three.region).conversation(id).await.unwrap(),
        None,
        "nothing has come over"
    );
    edge.send(&ann, id, "m-301", "x").await;

    let there = site.store(three.region);
    site.add_with(&three, there.clone(), limits());
    let followed = || {
        let followers = site.cores[&three].core.status().followers;
        followers.into_iter().find(|follower| follower.shard == shard && follower.next > end.slot.0)
    };
    eventually("the follower to have everything", followed).await;
    assert_eq!(there.messages(id, 1, 1_000).await.unwrap().len(), 301);
    assert_eq!(there.changes(id, 0, 1_000).await.unwrap().len(), 302);
    assert_eq!(there.conversation(id).await, site.store(HOME).conversation(id).await);
}
