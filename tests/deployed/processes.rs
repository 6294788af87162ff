//! A real deployment: nine processes and three Cassandra datacenters, of which some die, stand
//! still, or cannot reach each other, while people talk. In every story nothing that was
//! acknowledged may be lost, doubled or reordered, as seen live in every region and in every
//! region's history.

use std::time::{Duration, Instant};

use hearth_stories::deployment::{Deployment, Node, NodeRole, REGIONS, Whole, world};
use hearth_stories::load::{Load, Pace};
use hearth_stories::soak::{self, Until};
use hearth_stories::{eventually, eventually_within};
use serde_json::Value;
use test_cluster::Network;
use wire::Durability;
use wire::version::Feature;

/// A fault lasts until each group has so many more messages, sent and acknowledged under it.
const ACKED_UNDER_A_FAULT: usize = 150;

fn ids<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<String> {
    nodes.into_iter().map(Node::id).collect()
}

/// The pause that writers saw in each group, and how each group's shard came to its next owner, if
/// it did.
fn tell(
    what: &str,
    deployment: &Deployment,
    load: &Load,
    since: Instant,
    trace: &hearth_stories::deployment::Trace,
    dead: &[String],
) {
    for room in &load.rooms {
        let pause = load.pause(room.home, since);
        let home = REGIONS[room.home - 1];
        match deployment.takeover(trace, &room.shard(), dead) {
            Some(takeover) => println!(
                "{what}: the group of {home} paused for {pause:.2?}; its shard: {takeover}"
            ),
            None => {
                println!("{what}: the group of {home} paused for {pause:.2?}; its shard stayed")
            }
        }
    }
}

/// A deployment over servers of the store that may be killed and paused. None, said why, over those
/// of somebody else.
async fn with_servers_of_ours() -> Option<Whole> {
    let deployment = Deployment::whole().await?;
    if !deployment.cluster.nodes[0].is_ours() {
        test_cluster::skip("the servers of HEARTH_CQL are not ours to kill or pause");
        return None;
    }
    Some(deployment)
}

async fn until_all_acked(load: &Load, since: Instant) {
    for room in &load.rooms {
        load.until_acked(room.home, since).await;
    }
}

/// Until the fault has lasted for [`ACKED_UNDER_A_FAULT`] messages in every group.
async fn until_acked_under_it(load: &Load, since: Instant) {
    for room in &load.rooms {
        eventually("messages acknowledged under the fault", || async {
            (load.acked_since(room.home, since) >= ACKED_UNDER_A_FAULT).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_shard_is_killed() {
    let Some(deployment) = Deployment::whole().await else { return };
    let load = Load::start(&deployment, Pace::default()).await;
    let owner = deployment.owner(&load.rooms[0].shard()).await;
    let trace = deployment.trace();
    owner.kill();
    let killed = Instant::now();
    until_all_acked(&load, killed).await;
    tell("an owner was killed", &deployment, &load, killed, &trace, &[owner.id()]);
    let next = deployment.owner(&load.rooms[0].shard()).await;
    assert_eq!(next.region, owner.region, "the region lives, so the shard stays in it");
    owner.start();
    deployment.until_whole().await;
    load.end().await.must_be_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_cores_of_a_region_are_killed() {
    let Some(deployment) = Deployment::whole().await else { return };
    let load = Load::start(&deployment, Pace::default()).await;
    let cores: Vec<&Node> =
        deployment.nodes_of(1).filter(|node| node.role == NodeRole::Core).collect();
    let trace = deployment.trace();
    cores.iter().for_each(|core| core.kill());
    let killed = Instant::now();
    until_all_acked(&load, killed).await;
    tell(
        "a region's cores were killed",
        &deployment,
        &load,
        killed,
        &trace,
        &ids(cores.iter().copied()),
    );
    assert_eq!(deployment.owner(&load.rooms[0].shard()).await.region, 2, "its first successor");
    cores.iter().for_each(|core| core.start());
    deployment.until_whole().await;
    load.end().await.must_be_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_killed_with_its_datacenter() {
    let Some(deployment) = with_servers_of_ours().await else { return };
    let load = Load::start(&deployment, Pace::default()).await;
    let dead = ids(deployment.nodes_of(1));
    let trace = deployment.trace();
    deployment.nodes_of(1).for_each(Node::kill);
    deployment.cluster.nodes[0].kill();
    let killed = Instant::now();
    until_all_acked(&load, killed).await;
    tell("a region was killed", &deployment, &load, killed, &trace, &dead);
    deployment.mend().await;
    load.end().await.must_be_clean();
}

/// Single-region durability: only what the lost home alone had is missing. It comes back, marked.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_region_is_failed_over_by_an_operator_and_what_it_alone_had_comes_back() {
    let Some(deployment) = with_servers_of_ours().await else { return };
    let load =
        Load::start(&deployment, Pace { durability: Durability::Region, ..Pace::default() }).await;
    let shard = load.rooms[0].shard();
    let apart = deployment.hosts.are_apart();
    if apart {
        // From here on nothing leaves the region, not even from the kernel after its process died.
        [2, 3].iter().for_each(|other| deployment.hosts.cut(1, *other, Network::Store));
        let cut = Instant::now();
        let alone = || async { (load.acked_since(1, cut) >= 10).then_some(()) };
        eventually("acknowledgements of what the region alone has", alone).await;
    }
    let trace = deployment.trace();
    deployment.nodes_of(1).for_each(Node::kill);
    deployment.cluster.nodes[0].kill();
    let killed = Instant::now();
    let core = deployment.node("us-east/core/1");
    let outlook = |told: &Value| {
        let shards = told["shards"].as_array().cloned().unwrap_or_default();
        shards
            .into_iter()
            .find(|outlook| outlook["shard"] == shard)
            .unwrap_or_else(|| panic!("{told}"))
    };
    // Ordered before anybody knows that the region is lost, and refused when they do.
    let (told, done) = deployment.order(core, &["region", "failover", REGIONS[0]]).await;
    assert!(!done && told["decided"] == false, "{told}");
    let reported = outlook(&told);
    assert_eq!(deployment.owners(&shard).await.len(), 0, "nothing is decided");
    println!(
        "a region with a single-region shard was killed; {:.2?} later its operator is told: {reported}",
        killed.elapsed()
    );
    let decides = Instant::now();
    let (told, done) =
        deployment.order(core, &["region", "failover", REGIONS[0], "--accept-loss"]).await;
    assert!(done && told["planned"] == false, "{told}");
    println!("failed over in {:.2?}", decides.elapsed());
    until_all_acked(&load, killed).await;
    println!(
        "its writers paused for {:.2?}, of which the operator took {:.2?}",
        load.pause(1, killed),
        decides - killed
    );
    tell(
        "a region was failed over",
        &deployment,
        &load,
        killed,
        &trace,
        &ids(deployment.nodes_of(1)),
    );
    deployment.revive();
    let revived = Instant::now();
    deployment.until_salvaged().await;
    println!("salvaged {:.2?} after the region came back", revived.elapsed());
    let back = Instant::now();
    let (told, done) = deployment.order(core, &["region", "failback", REGIONS[0]]).await;
    assert!(done, "{told}");
    println!("failed back in {:.2?}", back.elapsed());
    until_all_acked(&load, back).await;
    println!("its writers paused for {:.2?}", load.pause(1, back));
    deployment.until_whole().await;
    let outcome = load.end().await;
    outcome.must_be_clean();
    let number = |field: &str| reported[field].as_u64();
    let frames_min = usize::try_from(number("missing_frames_min").unwrap()).unwrap();
    assert!(
        outcome.recovered >= frames_min,
        "{} of at least {frames_min} came back",
        outcome.recovered
    );
    if apart {
        let first = outcome.missing_since_ms.expect("something was missing");
        let since = number("since_ms").expect("something had come over");
        assert!(
            first >= since,
            "what was ordered at {first} is missing, and not only since {since}"
        );
    }
}

/// Single-region durability: a move waits until every region has it, so none begins while one is
/// lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_region_conversation_moves_and_stays_where_it_is_while_a_region_is_lost() {
    let Some(deployment) = with_servers_of_ours().await else { return };
    let load =
        Load::start(&deployment, Pace { durability: Durability::Region, ..Pace::default() }).await;
    let moving = load.rooms[0].conversation.to_string();
    let core = deployment.node("us-east/core/1");
    let order = async |to: &str| {
        deployment.order(core, &["conversation", "move", &moving, "--to", to]).await
    };
    let moves = async |to: &str| {
        let since = Instant::now();
        let (told, is_done) = order(to).await;
        assert!(is_done && told["region"] == to, "{told}");
        let took = since.elapsed();
        until_all_acked(&load, Instant::now()).await;
        println!(
            "moved to {to} in {took:.2?}: its writers paused for {:.2?}",
            load.pause(1, since)
        );
    };
    moves(REGIONS[1]).await;
    moves(REGIONS[2]).await;
    deployment.nodes_of(1).for_each(Node::kill);
    deployment.cluster.nodes[0].kill();
    let killed = Instant::now();
    let (told, is_done) = order(REGIONS[1]).await;
    let why = told.as_str().unwrap_or_default();
    assert!(!is_done && why.contains("not every region"), "{told}");
    println!("refused after {:.2?}: {why}", killed.elapsed());
    // People write on at its home, although the region of its birth is lost.
    load.until_acked(1, Instant::now()).await;
    deployment.mend().await;
    let mended = Instant::now();
    let accepted = || async { order(REGIONS[0]).await.1.then_some(()) };
    eventually_within(Duration::from_secs(180), "the region follows again", accepted).await;
    println!("moved back {:.2?} after all was whole, mostly catching up", mended.elapsed());
    until_all_acked(&load, Instant::now()).await;
    load.end().await.must_be_clean();
}

/// `fence = "lease"`: owners of multi-region shards acknowledge without a read of the fence.
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_acknowledge_by_timed_leases_are_killed_and_paused() {
    let Some(deployment) = Deployment::whole().await else { return };
    let load = Load::start(&deployment, Pace::default()).await;
    let restart_all = async || {
        for node in &deployment.nodes {
            node.end();
            node.start();
            deployment.until_whole().await;
        }
    };
    deployment.set_world(&world().replacen("# fence = \"read\"", "fence = \"lease\"", 1));
    restart_all().await;
    until_all_acked(&load, Instant::now()).await;
    let shard = load.rooms[0].shard();
    let killed = deployment.owner(&shard).await;
    let trace = deployment.trace();
    killed.kill();
    let since = Instant::now();
    until_all_acked(&load, since).await;
    tell("an owner by a timed lease was killed", &deployment, &load, since, &trace, &[killed.id()]);
    killed.start();
    deployment.until_whole().await;
    let paused = deployment.owner(&shard).await;
    let trace = deployment.trace();
    paused.pause();
    let since = Instant::now();
    until_all_acked(&load, since).await;
    tell("an owner by a timed lease was paused", &deployment, &load, since, &trace, &[paused.id()]);
    paused.wake();
    eventually("the zombie says what it is", || async {
        deployment.knew_itself_a_zombie(&trace, paused, &shard).then_some(())
    })
    .await;
    deployment.set_world(&world());
    restart_all().await;
    load.end().await.must_be_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_was_paused_wakes_as_a_zombie_and_acknowledges_nothing() {
    let Some(deployment) = Deployment::whole().await else { return };
    let load = Load::start(&deployment, Pace::default()).await;
    let shard = load.rooms[0].shard();
    let owner = deployment.owner(&shard).await;
    let trace = deployment.trace();
    owner.pause();
    let paused = Instant::now();
    until_all_acked(&load, paused).await;
    tell("an owner was paused", &deployment, &load, paused, &trace, &[owner.id()]);
    owner.wake();
    eventually("the zombie says what it is", || async {
        deployment.knew_itself_a_zombie(&trace, owner, &shard).then_some(())
    })
    .await;
    deployment.until_whole().await;
    load.end().await.must_be_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_store_stands_still() {
    let Some(deployment) = with_servers_of_ours().await else { return };
    let load = Load::start(&deployment, Pace::default()).await;
    // One that is the own of a home, and one that is not.
    for server in [&deployment.cluster.nodes[0], &deployment.cluster.nodes[1]] {
        let trace = deployment.trace();
        server.pause();
        let paused = Instant::now();
        until_all_acked(&load, paused).await;
        until_acked_under_it(&load, paused).await;
        tell(
            &format!("the server {} was paused", server.datacenter),
            &deployment,
            &load,
            paused,
            &trace,
            &[],
        );
        server.wake();
        deployment.until_whole().await;
    }
    load.end().await.must_be_clean();
}

/// Cut between two of the three regions: the third sees both.
async fn cut_between_two_regions(network: Network) {
    let Some(deployment) = Deployment::whole().await else { return };
    if !deployment.hosts.are_apart() {
        return;
    }
    let load = Load::start(&deployment, Pace::default()).await;
    let trace = deployment.trace();
    deployment.hosts.cut(1, 2, network);
    let cut = Instant::now();
    until_acked_under_it(&load, cut).await;
    tell(&format!("{network:?} cut between two regions"), &deployment, &load, cut, &trace, &[]);
    deployment.hosts.heal(1, 2, network);
    deployment.until_whole().await;
    load.end().await.must_be_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_is_cut_between_two_regions_and_the_store_is_not() {
    cut_between_two_regions(Network::Mesh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_cut_between_two_regions_and_the_mesh_is_not() {
    cut_between_two_regions(Network::Store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_cut_off_and_comes_back() {
    let Some(deployment) = Deployment::whole().await else { return };
    if !deployment.hosts.are_apart() {
        return;
    }
    let load = Load::start(&deployment, Pace::default()).await;
    let trace = deployment.trace();
    for other in [2, 3] {
        deployment.hosts.cut(1, other, Network::Mesh);
        deployment.hosts.cut(1, other, Network::Store);
    }
    let cut = Instant::now();
    until_all_acked(&load, cut).await;
    tell("a region was cut off", &deployment, &load, cut, &trace, &ids(deployment.nodes_of(1)));
    deployment.mend().await;
    load.end().await.must_be_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_killed_at_once_and_starts_again() {
    let Some(deployment) = Deployment::whole().await else { return };
    let load = Load::start(&deployment, Pace::default()).await;
    let trace = deployment.trace();
    deployment.nodes.iter().for_each(Node::kill);
    deployment
        .cluster
        .nodes
        .iter()
        .filter(|server| server.is_ours())
        .for_each(|server| server.kill());
    let killed = Instant::now();
    let before = load.acked();
    deployment.mend().await;
    until_all_acked(&load, Instant::now()).await;
    tell("everything was killed", &deployment, &load, killed, &trace, &ids(&deployment.nodes));
    assert!(before > 0, "something was acknowledged before");
    load.end().await.must_be_clean();
}

/// The nodes of before lack every feature; each restart upgrades one.
#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_upgraded_in_order_one_by_one() {
    let Some(deployment) = Deployment::whole().await else { return };
    for node in &deployment.nodes {
        node.end();
        node.withhold(&Feature::ALL);
    }
    deployment.mend().await;
    let load = Load::start(&deployment, Pace::default()).await;
    let core = deployment.owner(&load.rooms[0].shard()).await;
    let moving = load.rooms[0].conversation.to_string();
    let to = REGIONS[core.region % REGIONS.len()];
    let mut longest = Duration::ZERO;
    for node in &deployment.nodes {
        let (told, is_done) =
            deployment.order(core, &["conversation", "move", &moving, "--to", to]).await;
        let why = told.as_str().unwrap_or_default();
        assert!(
            !is_done && why.contains("lacks the feature \"moves\""),
            "it moves while a node knows no moves: {told}"
        );
        let since = Instant::now();
        node.end();
        node.withhold(&[]);
        node.start();
        deployment.until_whole().await;
        until_all_acked(&load, Instant::now()).await;
        let pause =
            load.rooms.iter().map(|room| load.pause(room.home, since)).max().unwrap_or_default();
        println!("{} was upgraded: the longest pause of a writer was {pause:.2?}", node.name);
        longest = longest.max(pause);
    }
    println!("all nodes were upgraded: the longest pause of a writer was {longest:.2?}");
    let (told, is_done) =
        deployment.order(core, &["conversation", "move", &moving, "--to", to]).await;
    assert!(is_done && told["region"] == to, "nobody is left who knows no moves: {told}");
    until_all_acked(&load, Instant::now()).await;
    load.end().await.must_be_clean();
}

/// A taste of `cargo run -p hearth-stories --bin soak`: a fresh seed every time.
#[tokio::test(flavor = "multi_thread")]
async fn faults_drawn_from_a_seed_lose_nothing() {
    let Some(deployment) = Deployment::whole().await else { return };
    let seed: u64 = rand::random();
    println!("seed {seed}: cargo run -p hearth-stories --bin soak -- --seed {seed}");
    let (done, outcome) = soak::run(&deployment, seed, Until::Faults(8)).await;
    println!("{done}");
    outcome.must_be_clean();
}
