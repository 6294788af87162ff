//! One link of three is cut: life goes on through the third region.

use std::time::Duration;

use crate::support::{DEADLINE, Rig, echo, echoes, linked, node, open, sees, until};
use bytes::Bytes;
use tokio::time::timeout;

const ALL: [&str; 3] = ["r1/edge/1", "r2/core/1", "r3/core/1"];

/// The pair that is cut: regions 1 and 3.
async fn relayed_via(rig: &Rig, nodes: &[hearth_mesh::Mesh]) {
    let target = nodes[2].node();
    until("node 1 would go through region 2", || {
        let links = nodes[0].links();
        links
            .iter()
            .any(|link| link.peer == *target && link.relayed_via.as_ref() == Some(nodes[1].node()))
    })
    .await;
    assert!(rig.conditions.link(1, 3).cut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_behind_a_cut_goes_through_the_third_region_and_is_direct_when_it_heals() {
    let rig = Rig::new();
    let nodes = rig.start_all(&ALL).await;
    echo(&nodes[2]);
    let target = nodes[2].node().clone();
    let direct = echoes(open(&nodes[0], &target).await, "direct").await;
    assert!(!direct.is_relayed());

    rig.conditions.cut(1, 3);
    relayed_via(&rig, &nodes).await;
    let channel = open(&nodes[0], &target).await;
    assert_eq!((channel.peer(), channel.relay()), (&target, Some(nodes[1].node())));
    let relayed = echoes(channel, "through the third").await;
    // Large and many frames pass, too, and an end is an end.
    let (mut sender, mut receiver) = relayed.split();
    let body = Bytes::from(vec![5; 200_000]);
    for _ in 0..20 {
        sender.send(body.clone()).await.unwrap();
        assert_eq!(timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap(), Some(body.clone()));
    }

    rig.conditions.heal(1, 3);
    linked(&nodes[0], &target).await;
    let channel = echoes(open(&nodes[0], &target).await, "healed").await;
    assert!(!channel.is_relayed());
    sender.send(body.clone()).await.unwrap();
    assert_eq!(
        timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap(),
        Some(body),
        "the relayed one goes on"
    );
    sender.finish().await.unwrap();
    assert_eq!(timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_a_cut_link_is_never_believed_dead_while_the_third_region_reaches_it() {
    let rig = Rig::new();
    let nodes = rig.start_all(&ALL).await;
    let watchers: Vec<_> = [(0, 2), (2, 0), (1, 0), (1, 2)]
        .into_iter()
        .map(|(who, whom)| {
            let (mut watch, whom) = (nodes[who].membership(), nodes[whom].node().clone());
            tokio::spawn(async move {
                while watch.changed().await.is_ok() {
                    assert!(watch.borrow_and_update().is_alive(&whom), "{whom} was declared dead");
                }
            })
        })
        .collect();
    rig.conditions.cut(1, 3);
    until("the direct link is lost", || {
        nodes[0].links().iter().any(|link| link.peer == *nodes[2].node() && link.rtt.is_none())
    })
    .await;
    // Three times as long as a dead node would live on.
    tokio::time::sleep(Duration::from_secs(12)).await;
    watchers.iter().for_each(|watcher| assert!(!watcher.is_finished()));
    for mesh in &nodes {
        sees(mesh, &ALL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detour_that_is_much_shorter_than_a_healthy_direct_link_is_taken() {
    let rig = Rig { delays: true, ..Rig::new() };
    for (a, b, delay) in [(1, 2, 5), (2, 3, 5), (1, 3, 150)] {
        rig.conditions.set_delay(a, b, Duration::from_millis(delay));
    }
    let nodes = rig.start_all(&ALL).await;
    echo(&nodes[2]);
    until("the detour is known", || nodes[0].links().iter().any(|link| link.relayed_via.is_some()))
        .await;
    let channel = echoes(open(&nodes[0], nodes[2].node()).await, "around").await;
    assert_eq!(channel.relay(), Some(nodes[1].node()));
    // When the direct way becomes the shorter one, it is taken again.
    rig.conditions.set_delay(1, 3, Duration::from_millis(1));
    until("direct again", || nodes[0].links().iter().all(|link| link.relayed_via.is_none())).await;
    assert!(!open(&nodes[0], nodes[2].node()).await.is_relayed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_relays_the_shorter_way_is_taken_and_the_other_when_it_fails() {
    let rig = Rig { delays: true, ..Rig::new() };
    for (a, b, delay) in [(1, 2, 5), (2, 3, 5), (1, 4, 30), (4, 3, 30), (1, 3, 40), (2, 4, 20)] {
        rig.conditions.set_delay(a, b, Duration::from_millis(delay));
    }
    let nodes = rig.start_all(&["r1/edge/1", "r2/core/1", "r3/core/1", "r4/core/1"]).await;
    echo(&nodes[2]);
    rig.conditions.cut(1, 3);
    relayed_via(&rig, &nodes).await;
    assert_eq!(open(&nodes[0], nodes[2].node()).await.relay(), Some(nodes[1].node()));
    rig.conditions.cut(2, 3);
    let other = node("r4/core/1");
    until("the other relay", || {
        nodes[0].links().iter().any(|link| link.relayed_via.as_ref() == Some(&other))
    })
    .await;
    let channel = echoes(open(&nodes[0], nodes[2].node()).await, "the long way").await;
    assert_eq!(channel.relay(), Some(&other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_one_hop_at_most() {
    // A chain: 1-2, 2-3, 3-4 are whole, all else is cut. 1 reaches 3 through 2, but not 4.
    let rig = Rig::new();
    let nodes = rig.start_all(&["r1/edge/1", "r2/core/1", "r3/core/1", "r4/core/1"]).await;
    nodes.iter().for_each(echo);
    for (a, b) in [(1, 3), (1, 4), (2, 4)] {
        rig.conditions.cut(a, b);
    }
    relayed_via(&rig, &nodes).await;
    echoes(open(&nodes[0], nodes[2].node()).await, "one hop").await;
    until("no way to 4", || {
        nodes[0].links().iter().any(|link| {
            link.peer == *nodes[3].node() && link.rtt.is_none() && link.relayed_via.is_none()
        })
    })
    .await;
    let error = nodes[0].open(nodes[3].node(), wire::stream::Purpose::Control).await.unwrap_err();
    println!("{error}");
}
