//! Links that are lost and found again.

use std::collections::BTreeMap;

use crate::support::{DEADLINE, Island, Rig, any_port, echo, echoes, linked, node, open, until};
use hearth_mesh::{Identity, IdentityError, MeshCa};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restarted_on_its_port_is_reached_again_and_its_old_channels_are_broken() {
    restarted(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restarted_on_another_port_is_reached_again() {
    restarted(false).await;
}

async fn restarted(same_port: bool) {
    let rig = Rig::new();
    let stays = rig.start("r1/edge/1", &[]);
    let mut options = rig.options("r2/core/1", &[&stays]);
    let mut goes = Island::start(options.clone()).await;
    goes.echo();
    linked(&stays, &options.node).await;
    let channel = echoes(open(&stays, &options.node).await, "before").await;

    let addr = goes.mesh().local_addr();
    goes.kill();
    options.bind = if same_port { addr } else { any_port() };
    options.incarnation += 1;
    let again = Island::start(options.clone()).await;
    again.echo();
    assert_eq!(again.mesh().local_addr() == addr, same_port);

    let (_sender, mut receiver) = channel.split();
    assert!(
        timeout(DEADLINE, receiver.recv()).await.unwrap().is_err(),
        "the old life's channel must break"
    );
    echoes(open(&stays, &options.node).await, "after").await;
    echo(&stays);
    linked(again.mesh(), stays.node()).await;
    echoes(open(again.mesh(), stays.node()).await, "and back").await;
    let incarnation = options.incarnation;
    crate::support::membership(&stays, "the new life", |now| {
        now.nodes.get(&node("r2/core/1")).is_some_and(|state| state.incarnation == incarnation)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_all_dial_at_once_end_with_one_link_for_each_pair_and_lose_no_channel() {
    let rig = Rig::new();
    let names = ["r1/core/1", "r1/core/2", "r2/core/1", "r2/edge/1", "r3/core/1"];
    let nodes: Vec<_> = names.iter().map(|name| rig.start(name, &[])).collect();
    for a in &nodes {
        echo(a);
        nodes
            .iter()
            .filter(|b| b.node() != a.node())
            .for_each(|b| a.add_peer(b.node(), b.local_addr()));
    }
    // Everybody opens to everybody before any link is up, and keeps the channel.
    let mut channels = Vec::new();
    for a in &nodes {
        for b in nodes.iter().filter(|b| b.node() != a.node()) {
            channels.push(open(a, b.node()).await);
        }
    }
    for node in &nodes {
        crate::support::sees(node, &names).await;
    }
    let ports: BTreeMap<_, _> =
        nodes.iter().map(|mesh| (mesh.node().clone(), mesh.local_addr())).collect();
    until("all links up", || {
        nodes.iter().all(|mesh| mesh.links().iter().filter(|l| l.up).count() == names.len() - 1)
    })
    .await;
    assert_eq!(ports.len(), names.len());
    for channel in channels {
        echoes(channel, "unbroken").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_for_longer_than_it_may_be_silent_comes_back_when_it_heals() {
    let rig = Rig::new();
    let nodes = rig.start_all(&["r1/edge/1", "r2/core/1"]).await;
    echo(&nodes[1]);
    rig.conditions.cut(1, 2);
    until("the link is lost", || nodes[0].links().iter().all(|link| link.rtt.is_none())).await;
    crate::support::sees(&nodes[0], &["r1/edge/1"]).await;
    rig.conditions.heal(1, 2);
    echoes(open(&nodes[0], nodes[1].node()).await, "healed").await;
    for node in &nodes {
        crate::support::sees(node, &["r1/edge/1", "r2/core/1"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delays_of_the_conditions_are_seen_by_the_links() {
    let rig = Rig { delays: true, ..Rig::new() };
    rig.conditions.set_delay(1, 2, std::time::Duration::from_millis(40));
    let nodes = rig.start_all(&["r1/edge/1", "r2/core/1"]).await;
    echo(&nodes[1]);
    echoes(open(&nodes[0], nodes[1].node()).await, "far away").await;
    let rtt = nodes[0].links()[0].rtt.unwrap();
    assert!(rtt.as_millis() >= 80, "{rtt:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_changes_its_authority_without_a_restart_and_without_losing_a_channel() {
    let (old, new) = (Rig::new(), MeshCa::create().unwrap());
    let [a, b] = [old.start("r1/core/1", &[]), old.start("r1/core/2", &[])];
    echo(&b);
    a.add_peer(b.node(), b.local_addr());
    linked(&a, b.node()).await;
    let channel = echoes(open(&a, b.node()).await, "before").await;

    let both = format!("{}{}", old.ca.cert_pem(), new.cert_pem());
    for authority in [&old.ca, &new] {
        for mesh in [&a, &b] {
            let pem = authority.issue_pem(mesh.node()).unwrap();
            mesh.renew(Identity::from_pem(&pem.cert, &pem.key, &both).unwrap()).unwrap();
        }
    }
    let another = new.issue(&node("r1/core/9")).unwrap();
    assert!(matches!(a.renew(another), Err(IdentityError::Other { .. })));

    let mut options = old.options("r2/core/1", &[&a]);
    options.identity = new.issue(&options.node).unwrap();
    let stranger_to_the_old = hearth_mesh::Mesh::start(options).unwrap();
    linked(&a, stranger_to_the_old.node()).await;
    linked(&stranger_to_the_old, b.node()).await;
    echoes(open(&stranger_to_the_old, b.node()).await, "a new handshake").await;
    echoes(channel, "the old link").await;
}
