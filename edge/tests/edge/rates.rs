//! How much a user may ask.

use serde_json::{Value, json};

use crate::harness::Bench;
use crate::socket::{Client, http};

/// The answers to so many frames of one session.
async fn answers(client: &mut Client, kind: &str, count: usize) -> Vec<Value> {
    let mut answers = Vec::new();
    while answers.len() < count {
        let frame = client.next().await.unwrap();
        if frame["type"] == kind || frame["type"] == "error" {
            answers.push(frame);
        }
    }
    answers
}

#[tokio::test]
async fn messages_over_the_rate_are_refused_with_a_time_and_none_passes_an_earlier_one() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    let (mut ann, mut bob) = (bench.session("ann").await, bench.session("bob").await);
    for n in 1..=100 {
        ann.say(tea, &format!("m{n}"), "hi").await;
    }
    let answers = answers(&mut ann, "message.ack", 100).await;
    let refused = |frame: &&Value| frame["type"] == "error";
    let first = answers.iter().find(refused).expect("a burst is 60 messages");
    assert_eq!(first["payload"]["code"], "rate_limited");
    assert!(first["payload"]["retry_after_ms"].as_u64().is_some_and(|ms| ms >= 500), "{first}");
    let acked: Vec<&str> = answers
        .iter()
        .filter(|frame| frame["type"] == "message.ack")
        .map(|frame| frame["client_msg_id"].as_str().unwrap())
        .collect();
    let in_order: Vec<String> = (1..=acked.len()).map(|n| format!("m{n}")).collect();
    assert_eq!(acked, in_order, "the first ones, and no later one before its time");
    // Others, and whoever has waited, are served.
    bob.say(tea, "b1", "hi").await;
    assert_eq!(bob.next_of("message.ack").await["client_msg_id"], "b1");
    let mut attempt = 0;
    loop {
        attempt += 1;
        ann.say(tea, &format!("later-{attempt}"), "hi").await;
        let answer = self::answers(&mut ann, "message.ack", 1).await.remove(0);
        match answer["payload"]["retry_after_ms"].as_u64() {
            Some(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
            None => break,
        }
        assert!(attempt < 20, "{answer}");
    }
}

#[tokio::test]
async fn frames_requests_and_new_groups_have_rates_of_their_own() {
    let bench = Bench::start().await;
    let mut ann = bench.session("ann").await;
    for _ in 0..400 {
        ann.send(json!({"type": "ping"})).await;
    }
    let pings = answers(&mut ann, "pong", 400).await;
    let codes: Vec<&Value> = pings.iter().map(|frame| &frame["payload"]["code"]).collect();
    assert!(codes.contains(&&json!("rate_limited")) && codes.contains(&&Value::Null));

    let (edge, token) = (bench.edge.local_addr(), bench.token("ann"));
    let limits = http(edge, "GET", "/v1/limits", Some(&token), "").await;
    assert_eq!((limits.status, &limits.body["sends_per_second"]), (200, &json!(20)));
    assert_eq!(limits.body["conversations_burst"], 50);
    let mut refused = None;
    for n in 0..60 {
        let body = json!({"name": format!("g{n}"), "members": []}).to_string();
        let made = http(edge, "POST", "/v1/groups", Some(&token), &body).await;
        if made.status != 201 {
            refused = Some((n, made));
            break;
        }
    }
    let (made, refused) = refused.expect("no more than 50 at once");
    assert!(made >= 50, "{made}");
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("rate_limited")));
    assert!(refused.head.to_lowercase().contains("retry-after"), "{}", refused.head);
}

#[tokio::test]
async fn a_user_has_ten_sessions_a_type_of_device_and_hears_so_before_the_upgrade() {
    let bench = Bench::start().await;
    let (edge, token) = (bench.edge.local_addr(), bench.token("ann"));
    let mut sessions = Vec::new();
    for _ in 0..10 {
        sessions.push(bench.session("ann").await);
    }
    let refused = Client::open(edge, &token).await.err().expect("a refusal");
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("rate_limited")));
    // A browser sees no reason of an upgrade, so the token says it first.
    let refused = http(edge, "POST", "/v1/ws/token", Some(&token), "").await;
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("rate_limited")));
    let phone =
        http(edge, "POST", "/v1/ws/token", Some(&token), r#"{"device_id":"phone-1"}"#).await;
    assert_eq!(phone.status, 200, "another type of device has its own ten");
    drop(sessions.pop());
    crate::harness::until("the session has ended", || bench.edge.status().sessions < 10).await;
    bench.session("ann").await;
}
