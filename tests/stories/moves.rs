//! A conversation moves from region to region and back while people in all of them write in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conversation::invariants::{Checker, Observed};
use hearth_stories::http;
use hearth_stories::mesh::Mesh;
use hearth_stories::socket::Socket;
use serde_json::{Value, json};
use wire::client::event::MessagePayload;
use wire::command::Ack;
use wire::{ClientMsgId, ConversationId, Epoch, UserId};

use crate::{group, make_group};

const PEOPLE: [&str; 3] = ["ann", "bob", "cem"];
/// Said by each at least.
const LINES: usize = 8;

/// A user who talks through one edge. The body of each message is its id.
struct Person {
    user: &'static str,
    socket: Socket,
    sent: Vec<String>,
    acks: Vec<(String, Ack)>,
    /// Live events, in order.
    shown: Vec<MessagePayload>,
}

impl Person {
    async fn say(&mut self, conversation: &str) {
        let id = format!("{}-{}", self.user, self.sent.len() + 1);
        self.sent.push(id.clone());
        self.socket.send_message(conversation, &id, &id).await.unwrap();
        loop {
            let frame = self.hear().await;
            assert_ne!(
                frame["type"], "error",
                "a pause, but no error that a client must handle: {frame}"
            );
            if frame["type"] == "message.ack" && frame["re"] == *id {
                let payload = &frame["payload"];
                let number = |field: &str| payload[field].as_u64().unwrap();
                let duplicate = payload["duplicate"] == true;
                let ack = Ack {
                    seq: number("seq"),
                    epoch: Epoch(number("epoch")),
                    ts_ms: number("ts_ms"),
                    duplicate,
                };
                return self.acks.push((id, ack));
            }
        }
    }

    async fn hear(&mut self) -> Value {
        let frame = self.socket.next_where("anything", |_| true).await;
        if frame["type"] == "message.new" {
            self.shown.push(serde_json::from_value(frame["payload"].clone()).unwrap());
        }
        frame
    }

    async fn hear_all(&mut self, head: u64) {
        while self.shown.last().is_none_or(|last| last.seq < head) {
            self.hear().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multi_region_conversation_moves_while_people_write() {
    moves_back_and_forth("multi-region").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_region_conversation_moves_while_people_write() {
    moves_back_and_forth("region").await;
}

async fn moves_back_and_forth(durability: &str) {
    let mesh = Mesh::for_load("three-regions");
    let regions = mesh.regions();
    let tokens: Vec<_> = PEOPLE.iter().map(|user| mesh.token(user)).collect();
    let tea = json!({"name": "tea", "members": PEOPLE[1..], "durability": durability});
    let conversation = make_group(&mesh.edge(&regions[0]), &tokens[0], tea).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut people = Vec::new();
    for ((user, token), region) in PEOPLE.into_iter().zip(&tokens).zip(&regions) {
        let socket = Socket::session(&mesh.edge(region), token).await;
        people.push(Person { user, socket, sent: vec![], acks: vec![], shown: vec![] });
    }
    // Everyone joins before anyone speaks.
    let talks = people.into_iter().map(|mut person| {
        let (conversation, stop) = (conversation.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) || person.sent.len() < LINES {
                person.say(&conversation).await;
            }
            person
        })
    });
    let talks: Vec<_> = talks.collect();
    let view = async || {
        let path = format!("/v1/groups/{conversation}");
        http::get(&mesh.edge(&regions[1]), &path, &tokens[1]).await.body
    };
    let mut epoch = view().await["epoch"].as_u64().unwrap();
    for (moves, to) in [1, 2, 0, 2, 1, 0].into_iter().enumerate() {
        let told =
            mesh.must(&["conversation", "move", &conversation, "--to", &regions[to], "--json"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&told["region"], &told["moves"]),
            (&json!(regions[to]), &json!(moves + 1)),
            "{told}"
        );
        let seen = view().await;
        assert_eq!(
            (&seen["home_region"], &seen["acting_region"]),
            (&json!(regions[to]), &json!(regions[to]))
        );
        let now = seen["epoch"].as_u64().unwrap();
        assert!(now > epoch, "clients see a higher epoch: {epoch} -> {now}");
        epoch = now;
    }
    let again = mesh.must(&["conversation", "move", &conversation, "--to", &regions[0], "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["moves"], 6, "it is there already");
    stop.store(true, Ordering::Relaxed);
    let mut people = Vec::new();
    for talk in talks {
        people.push(talk.await.unwrap());
    }
    let head = people.iter().flat_map(|person| &person.acks).map(|(_, ack)| ack.seq).max().unwrap();
    for person in &mut people {
        person.hear_all(head).await;
    }
    let mut checker = Checker::new();
    let id: ConversationId = conversation.parse().unwrap();
    for (lane, person) in people.iter().enumerate() {
        let user = UserId::new(person.user).unwrap();
        for said in &person.sent {
            checker.sent(lane as u64, id, &user, &ClientMsgId::new(said).unwrap(), said);
        }
        for (said, ack) in &person.acks {
            checker.acked(id, &user, &ClientMsgId::new(said).unwrap(), ack);
        }
    }
    let mut observe = |observer: &str, message: &MessagePayload| {
        let called = ClientMsgId::new(&message.content.body).unwrap();
        checker.observed(observer, id, &Observed::of_payload(message, called).unwrap());
    };
    for person in &people {
        person.shown.iter().for_each(|message| observe(person.user, message));
    }
    for (region, token) in regions.iter().zip(&tokens) {
        for message in http::history(&mesh.edge(region), &conversation, token).await {
            observe(region, &serde_json::from_value(message).unwrap());
        }
    }
    for observer in PEOPLE.into_iter().chain(regions.iter().map(String::as_str)) {
        checker.complete(observer, id, 1);
    }
    let report = checker.report();
    println!("{report}");
    assert!(report.is_clean() && report.sent == report.acked, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_move_is_refused_with_the_reason() {
    let mesh = Mesh::for_load("three-regions");
    let regions = mesh.regions();
    let ann = mesh.token("ann");
    let conversation = group(&mesh.edge(&regions[0]), &ann, "tea", &[]).await;
    let refused = |args: &[&str]| {
        let output = mesh.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let nowhere = refused(&["conversation", "move", &conversation, "--to", "atlantis"]);
    assert!(nowhere.contains("atlantis") && nowhere.contains(&regions[0]), "{nowhere}");
    let id: ConversationId = conversation.parse().unwrap();
    let unknown = ConversationId { unique: [9; 16], ..id }.to_string();
    let unknown = refused(&["conversation", "move", &unknown, "--to", &regions[1]]);
    assert!(unknown.contains("no such conversation"), "{unknown}");
}
