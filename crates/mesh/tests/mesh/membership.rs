//! Who lives, as every node sees it.

use std::time::Instant;

use crate::support::{Island, Rig, membership, node, sees};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_three_regions_that_know_one_of_them_find_all() {
    let names =
        ["r1/core/1", "r1/core/2", "r1/edge/1", "r2/core/1", "r2/edge/1", "r3/core/1", "r3/core/2"];
    let nodes = Rig::new().start_all(&names).await;
    for mesh in &nodes {
        let membership = mesh.membership().borrow().clone();
        for other in &nodes {
            let state = &membership.nodes[other.node()];
            assert_eq!((state.addr, state.draining), (other.local_addr(), false));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_down_for_all_and_back_with_its_next_life() {
    let rig = Rig::new();
    let all = ["r1/core/1", "r1/edge/1", "r2/core/1", "r3/core/1"];
    let nodes = rig.start_all(&all[..3]).await;
    let mut options = rig.options(all[3], &[&nodes[0]]);
    let mut doomed = Island::start(options.clone()).await;
    for mesh in &nodes {
        sees(mesh, &all).await;
    }
    let killed = Instant::now();
    doomed.kill();
    for mesh in &nodes {
        sees(mesh, &all[..3]).await;
        println!("{} saw it go after {:?}", mesh.node(), killed.elapsed());
    }
    options.incarnation += 1;
    let again = Island::start(options.clone()).await;
    for mesh in nodes.iter().chain([again.mesh()]) {
        sees(mesh, &all).await;
    }
    let known = nodes[2].membership().borrow().nodes[&node(all[3])].clone();
    assert_eq!((known.incarnation, known.addr), (options.incarnation, again.mesh().local_addr()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_inside_a_region_is_down_there() {
    let rig = Rig::new();
    let all = ["r1/core/1", "r1/core/2", "r1/edge/1"];
    let nodes = rig.start_all(&all[..2]).await;
    let mut doomed = Island::start(rig.options(all[2], &[&nodes[0]])).await;
    for mesh in &nodes {
        sees(mesh, &all).await;
    }
    let killed = Instant::now();
    doomed.kill();
    for mesh in &nodes {
        sees(mesh, &all[..2]).await;
        println!("{} saw it go after {:?}", mesh.node(), killed.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_spreads_without_the_node_ever_being_away_and_can_be_taken_back() {
    let rig = Rig::new();
    let all = ["r1/core/1", "r1/core/2", "r2/core/1"];
    let nodes = rig.start_all(&all).await;
    let drained = nodes[1].node().clone();
    let never_away: Vec<_> = [&nodes[0], &nodes[2]]
        .into_iter()
        .map(|mesh| {
            let (mut watch, drained) = (mesh.membership(), drained.clone());
            tokio::spawn(async move {
                while watch.changed().await.is_ok() {
                    assert!(watch.borrow_and_update().is_alive(&drained), "it went away");
                }
            })
        })
        .collect();
    for draining in [true, false, true] {
        nodes[1].set_draining(draining);
        for mesh in &nodes {
            membership(mesh, "the flag", |now| {
                now.nodes.get(&drained).is_some_and(|state| state.draining == draining)
            })
            .await;
        }
        assert_eq!(nodes[0].membership().borrow().is_serving(&drained), !draining);
    }
    never_away.iter().for_each(|watcher| assert!(!watcher.is_finished()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_takes_leave_is_gone_without_suspicion_and_may_come_back() {
    let rig = Rig::new();
    let all = ["r1/core/1", "r2/core/1", "r2/core/2"];
    let nodes = rig.start_all(&all).await;
    nodes[2].shutdown(crate::support::DEADLINE).await;
    for mesh in &nodes[..2] {
        sees(mesh, &all[..2]).await;
    }
    let mut options = rig.options(all[2], &[&nodes[0]]);
    options.incarnation += 1_000_000;
    let again = hearth_mesh::Mesh::start(options).unwrap();
    for mesh in nodes[..2].iter().chain([&again]) {
        sees(mesh, &all).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_whole_region_dies_the_others_see_all_of_it_go() {
    let rig = Rig::new();
    let all = [
        "r1/core/1",
        "r1/core/2",
        "r1/edge/1",
        "r2/core/1",
        "r2/core/2",
        "r2/edge/1",
        "r3/core/1",
        "r3/core/2",
        "r3/edge/1",
    ];
    let nodes = rig.start_all(&all[..6]).await;
    let mut doomed = Vec::new();
    for name in &all[6..] {
        doomed.push(Island::start(rig.options(name, &[&nodes[0]])).await);
    }
    for mesh in nodes.iter().chain(doomed.iter().map(Island::mesh)) {
        sees(mesh, &all).await;
    }
    let killed = Instant::now();
    doomed.iter_mut().for_each(Island::kill);
    for mesh in &nodes {
        sees(mesh, &all[..6]).await;
        println!("{} saw the region go after {:?}", mesh.node(), killed.elapsed());
    }
}
