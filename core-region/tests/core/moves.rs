//! Conversations that move from one shard to another.

use std::time::Duration;

use wire::change::{Event, Home};
use wire::command::Actor;
use wire::stream::FromOwner;
use wire::version::Feature;
use wire::{ConversationId, ErrorCode, RegionId, ShardId};

use super::edge::{Edge, Stream, ack, actor, send, vers};
use super::harness::{Harness, THREE, eventually, node};

pub(crate) async fn moved(stream: &mut Stream) -> (Option<u64>, Home) {
    loop {
        match stream.fed.pop_front() {
            Some(FromOwner::Feed { .. }) => {}
            Some(FromOwner::Moved { rid, placement, .. }) => return (rid, placement),
            Some(other) => panic!("{other:?}"),
            None => {
                let next = stream.next().await.expect("the stream goes on");
                stream.fed.push_back(next);
            }
        }
    }
}

/// What the owner of the shard says to a send of something new.
pub(crate) async fn asked(edge: &Edge, shard: ShardId, id: ConversationId) -> Home {
    asked_by(&actor("demo", "ann"), edge, shard, id).await
}

pub(crate) async fn asked_by(ann: &Actor, edge: &Edge, shard: ShardId, id: ConversationId) -> Home {
    let mut stream = edge.open(shard).await;
    let rid = stream.start(ann, id, send("somewhere", "x")).await;
    stream.flush().await;
    let (answered, placement) = moved(&mut stream).await;
    assert_eq!(answered, Some(rid));
    placement
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_or_asks_hears_where_it_is_and_finds_everything_there() {
    let mut site = Harness::start(THREE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &["bob"]).await;
    let first = edge.send(&ann, id, "m-1", "x").await;
    let mut watching = edge.open(id.shard).await;
    watching.watch(id, Some(0), &[]).await.unwrap().unwrap();
    let to = Home { generation: 1, shard: site.shard(2, 0) };
    let any = site.cores[&node("r3/core/1")].core.clone();
    assert_eq!(any.move_conversation(id, RegionId(2)).await, Ok(to));
    let fed = watching.deliveries(3).await;
    assert_eq!(vers(&fed)[&id], [1, 2, 3]);
    assert!(matches!(&fed[2].change.event, Event::MovedOut(out) if out.to == to));
    assert_eq!(moved(&mut watching).await, (None, to), "the watch ends");
    assert_eq!(asked(&edge, id.shard, id).await, to);
    let mut there = edge.open(to.shard).await;
    let again = ack(there.command(&ann, id, send("m-1", "x")).await.unwrap());
    assert_eq!(
        (again.seq, again.duplicate, again.epoch),
        (1, true, first.epoch),
        "a retry across the move"
    );
    let next = ack(there.command(&ann, id, send("m-2", "x")).await.unwrap());
    assert!(next.seq == 2 && !next.duplicate && next.epoch > first.epoch, "{next:?}");
    there.watch(id, Some(3), &[]).await.unwrap().unwrap();
    let fed = there.deliveries(2).await;
    assert_eq!(vers(&fed)[&id], [4, 5]);
    assert!(matches!(fed[0].change.event, Event::MovedIn(_)) && fed[0].view.is_some());
    assert_eq!(any.move_conversation(id, RegionId(2)).await, Ok(to), "it is there already");
    let home = Home { generation: 2, shard: id.shard };
    assert_eq!(any.move_conversation(id, RegionId(1)).await, Ok(home));
    assert_eq!(ack(edge.ask(&ann, id, send("m-3", "x")).await).seq, 3, "and back");
    assert_eq!(asked(&edge, to.shard, id).await, home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_owners_of_either_side_know_what_has_moved() {
    let mut site = Harness::start(THREE).await;
    let edge = site.edge(&node("r2/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &[]).await;
    edge.send(&ann, id, "m-1", "x").await;
    let core = site.cores[&node("r2/core/1")].core.clone();
    let to = core.move_conversation(id, RegionId(3)).await.unwrap();
    for dead in ["r1/core/1", "r3/core/1"] {
        site.kill(&node(dead));
        assert_eq!(asked(&edge, id.shard, id).await, to, "whoever has the old shard after {dead}");
        let mut there = edge.open(to.shard).await;
        assert_eq!(
            ack(there.command(&ann, id, send("m-1", "x")).await.unwrap()).seq,
            1,
            "and the new one"
        );
        if dead == "r1/core/1" {
            site.add(&node(dead));
            site.settled().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_move_is_refused() {
    let mut site = Harness::start(THREE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let core = site.cores[&node("r2/core/1")].core.clone();
    let refused = async |id, to| core.move_conversation(id, RegionId(to)).await.unwrap_err().code;
    let unknown = edge.group_in(site.shard(1, 0));
    assert_eq!(refused(unknown, 2).await, ErrorCode::NotFound);
    assert_eq!(refused(unknown, 9).await, ErrorCode::ResidencyDenied);
    let own = site
        .world
        .user_stream_id(&actor("demo", "ann").tenant, &actor("demo", "ann").user)
        .unwrap();
    assert_eq!(refused(own, 2).await, ErrorCode::BadRequest);
    let mut stream = edge.open(site.shard(1, 0)).await;
    let by_an_edge = wire::command::MeshCommand::Move { to: site.shard(2, 0) };
    let refusal =
        stream.command(&actor("demo", "ann"), unknown, by_an_edge).await.unwrap().unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Forbidden);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_moves_while_a_node_knows_no_moves_and_everything_else_goes_on() {
    let mut site = Harness::start(THREE).await;
    let edge = site.older_edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &[]).await;
    assert_eq!(edge.send(&ann, id, "m-1", "x").await.seq, 1);
    let mut watching = edge.open(id.shard).await;
    watching.watch_after(id, 1, 1).await;
    assert_eq!(vers(&watching.deliveries(1).await)[&id], [2]);
    let core = site.cores[&node("r1/core/1")].core.clone();
    let refusal = core.move_conversation(id, RegionId(2)).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::BadRequest);
    assert!(
        refusal.message.contains("r1/edge/1 lacks the feature \"moves\""),
        "{}",
        refusal.message
    );
    edge.mesh.shutdown(Duration::from_secs(1)).await;
    let mesh = site.cores[&node("r1/core/1")].mesh.clone();
    eventually("the older node to be gone", || {
        mesh.lacking(Feature::Moves).is_none().then_some(())
    })
    .await;
    assert_eq!(core.move_conversation(id, RegionId(2)).await.unwrap().generation, 1);
}
