//! Nodes, regions and links that go away while people talk.

use std::process::Stdio;
use std::time::{Duration, Instant};

use hearth_stories::http;
use hearth_stories::mesh::Mesh;
use hearth_stories::replay::Replay;
use hearth_stories::socket::Socket;
use hearth_stories::{eventually, irc_logs};
use serde_json::{Value, json};

use crate::group;

/// A user who talks through one edge, one message after the other, and never gives up.
struct Talker {
    edge: String,
    token: String,
    conversation: String,
    socket: Socket,
    said: u64,
    epochs: Vec<u64>,
    errors: Vec<Value>,
}

impl Talker {
    async fn new(edge: &str, token: &str, conversation: &str) -> Self {
        let socket = Socket::session(edge, token).await;
        let (edge, token, conversation) =
            (edge.to_owned(), token.to_owned(), conversation.to_owned());
        Self { edge, token, conversation, socket, said: 0, epochs: Vec::new(), errors: Vec::new() }
    }

    /// Says the next thing; returns when it is acknowledged.
    async fn say(&mut self) {
        self.said += 1;
        let id = format!("m{}", self.said);
        self.socket
            .send_message(&self.conversation, &id, &format!("line {}", self.said))
            .await
            .unwrap();
        loop {
            let answer = self
                .socket
                .next_where("an answer", |frame| {
                    frame["re"] == *id
                        && (frame["type"] == "message.ack" || frame["type"] == "error")
                })
                .await;
            if answer["type"] == "message.ack" {
                assert_eq!(answer["payload"]["seq"], self.said);
                self.epochs.push(answer["payload"]["epoch"].as_u64().unwrap());
                return;
            }
            self.errors.push(answer);
            self.socket
                .send_message(&self.conversation, &id, &format!("line {}", self.said))
                .await
                .unwrap();
        }
    }

    /// Everything that was acknowledged is in the history, once and in order, and came live in
    /// order.
    async fn check(mut self) -> (u64, u64) {
        for n in 1..=self.said {
            let new = self.socket.next_of("message.new").await;
            assert_eq!(new["payload"]["seq"], n, "live, in order");
        }
        let history = http::history(&self.edge, &self.conversation, &self.token).await;
        let bodies: Vec<_> =
            history.iter().map(|message| message["body"].as_str().unwrap().to_owned()).collect();
        let said: Vec<_> = (1..=self.said).map(|n| format!("line {n}")).collect();
        assert_eq!(bodies, said);
        assert!(history.iter().enumerate().all(|(n, message)| message["seq"] == n as u64 + 1));
        assert!(self.epochs.is_sorted(), "epoch never falls: {:?}", self.epochs);
        assert_eq!(
            self.errors,
            Vec::<Value>::new(),
            "a pause, but no error that a client must handle"
        );
        (self.epochs[0], *self.epochs.last().unwrap())
    }
}

/// A mesh, and somebody in the last region who talks in a group whose home is the first.
async fn a_talk(mesh: &Mesh) -> Talker {
    let regions = mesh.regions();
    let (home, far) = (mesh.edge(&regions[0]), mesh.edge(&regions[2]));
    let ann = mesh.token("ann");
    let conversation = group(&home, &ann, "tea", &[]).await;
    let mut talker = Talker::new(&far, &ann, &conversation).await;
    for _ in 0..20 {
        talker.say().await;
    }
    talker
}

async fn view(mesh: &Mesh, edge: &str, conversation: &str) -> Value {
    http::get(edge, &format!("/v1/groups/{conversation}"), &mesh.token("ann")).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_region_dies_under_load_and_comes_back() {
    let mesh = Mesh::for_load("three-regions");
    let home = mesh.regions()[0].clone();
    let mut talker = a_talk(&mesh).await;
    mesh.must(&["region", "kill", &home]);
    let killed = Instant::now();
    talker.say().await;
    println!("the pause that a client saw: {:.2?}, detection and claim", killed.elapsed());
    for _ in 0..50 {
        talker.say().await;
    }
    let acting = view(&mesh, &talker.edge, &talker.conversation).await;
    assert_eq!(acting["home_region"], json!(home));
    assert_ne!(acting["acting_region"], json!(home));
    mesh.must(&["region", "restore", &home]);
    for _ in 0..50 {
        talker.say().await;
    }
    // Its own cores take it back, and it is served without a break.
    let (edge, conversation) = (talker.edge.clone(), talker.conversation.clone());
    eventually("the home region serves again", || async {
        let view = view(&mesh, &edge, &conversation).await;
        (view["acting_region"] == json!(home)).then_some(())
    })
    .await;
    for _ in 0..20 {
        talker.say().await;
    }
    let (first, last) = talker.check().await;
    assert!(last >= first + 2, "two takeovers, two new epochs at least: {first} -> {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_core_dies_and_its_neighbour_goes_on() {
    let mesh = Mesh::for_load("three-regions");
    let home = mesh.regions()[0].clone();
    let mut talker = a_talk(&mesh).await;
    // Whichever core owns the shard: each of them dies and comes back.
    for core in ["r1/core/1", "r1/core/2"] {
        mesh.must(&["node", "kill", core]);
        for _ in 0..20 {
            talker.say().await;
        }
        let acting = view(&mesh, &talker.edge, &talker.conversation).await;
        assert_eq!(acting["acting_region"], json!(home), "the region lives, so it stays at home");
        mesh.must(&["node", "restore", core]);
        eventually("both cores own shards again", || async {
            let status = mesh.must(&["region", "status", "--json"]);
            let region: Value = serde_json::from_str(status.lines().next().unwrap()).unwrap();
            let owners: std::collections::BTreeSet<_> = region["shards"]
                .as_array()
                .unwrap()
                .iter()
                .map(|shard| shard["node"].to_string())
                .collect();
            (owners.len() == 2).then_some(())
        })
        .await;
        for _ in 0..20 {
            talker.say().await;
        }
    }
    let (first, last) = talker.check().await;
    assert!(last > first, "a takeover, a new epoch: {first} -> {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_region_hands_over_without_a_single_error() {
    let mesh = Mesh::for_load("three-regions");
    let home = mesh.regions()[0].clone();
    let mut talker = a_talk(&mesh).await;
    let at_home = Socket::session(&mesh.edge(&home), &mesh.token("ann")).await;
    let mut drain =
        mesh.command(&["region", "drain", &home]).stdout(Stdio::null()).spawn().unwrap();
    let drained = loop {
        talker.say().await;
        if let Some(status) = drain.try_wait().unwrap() {
            break status;
        }
    };
    assert!(drained.success());
    for _ in 0..20 {
        talker.say().await;
    }
    let acting = view(&mesh, &talker.edge, &talker.conversation).await;
    assert_ne!(acting["acting_region"], json!(home));
    // Open sessions are told where to go, and new ones are refused.
    let mut at_home = at_home;
    let goaway = at_home.next_of("goaway").await;
    assert!(!goaway["payload"]["alternatives"].as_array().unwrap().is_empty(), "{goaway}");
    assert_eq!(at_home.until_closed().await, Some(1001));
    let refused = Socket::open(&mesh.edge(&home), &mesh.token("ann")).await.err().expect("refused");
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("draining")));
    assert!(refused.retry_after.is_some());
    mesh.must(&["region", "restore", &home]);
    for _ in 0..20 {
        talker.say().await;
    }
    talker.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_link_of_three_is_cut_and_everything_goes_round() {
    let mesh = Mesh::for_load("three-regions");
    let regions = mesh.regions();
    let mut talker = a_talk(&mesh).await;
    mesh.must(&["link", "cut", &regions[0], &regions[2]]);
    // They take longer than a dead region would be noticed in.
    for _ in 0..300 {
        talker.say().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let acting = view(&mesh, &talker.edge, &talker.conversation).await;
    assert_eq!(acting["acting_region"], json!(regions[0]), "a cut link is not a dead region");
    mesh.must(&["link", "heal", &regions[0], &regions[2]]);
    for _ in 0..20 {
        talker.say().await;
    }
    let (first, last) = talker.check().await;
    assert_eq!(first, last, "no takeover");
}

/// The promise of the whole: real people's talk, all of it, while a region dies and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn nine_real_logs_survive_the_loss_and_the_return_of_a_region() {
    let Some(logs) = irc_logs() else { return };
    let mesh = Mesh::for_load("three-regions");
    let regions = mesh.regions();
    let mut replay = Replay::start(&mesh, &logs);
    replay.until_acked(10).await;
    mesh.must(&["region", "kill", &regions[0]]);
    replay.assert_running();
    eventually("another region serves the shards of the lost one", || async {
        let status = mesh.must(&["region", "status", "--json"]);
        let survivors = status.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut shards = survivors.flat_map(|region| region["shards"].as_array().unwrap().clone());
        shards.any(|shard| shard["shard"].as_str().unwrap().contains("-r1-")).then_some(())
    })
    .await;
    let lost = replay.progress();
    mesh.must(&["region", "restore", &regions[0]]);
    println!("restored when {lost:?}");
    let output = replay.end();
    crate::crash::check_replay(&mesh, &logs, &output).await;
}
