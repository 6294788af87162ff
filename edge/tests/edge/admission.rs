//! Admission: which sessions get in and stay, and how an edge drains.

use std::sync::Arc;
use std::time::Duration;

use auth::{DevIssuer, StreamKey, Verifier, VerifierOptions};
use hearth_edge::Limits;
use serde_json::json;

use crate::harness::{Bench, now_ms, tenant, until, user};
use crate::socket::{Client, http, raw};

#[tokio::test]
async fn a_token_comes_as_bearer_or_as_a_subprotocol_and_never_in_the_url() {
    let bench = Bench::start().await;
    let (edge, token) = (bench.edge.local_addr(), bench.token("ann"));
    assert_eq!(Client::open(edge, &token).await.unwrap().protocol, None);
    let offer = format!("hearth.v1, hearth.token.{token}");
    let client = Client::open_with(edge, &[("sec-websocket-protocol", &offer)]).await.unwrap();
    assert_eq!(client.protocol.as_deref(), Some("hearth.v1"));
    let answer = http(edge, "GET", &format!("/v1/stream?token={token}"), None, "").await;
    assert_eq!((answer.status, &answer.body["code"]), (401, &json!("unauthenticated")));
    let answer = http(edge, "GET", &format!("/v1/inbox?access_token={token}"), None, "").await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_bad_token_is_refused_before_the_upgrade_with_its_code() {
    let bench = Bench::start().await;
    let edge = bench.edge.local_addr();
    let good = bench.token("ann");
    let (head, _) = good.rsplit_once('.').unwrap();
    for (token, status, code) in [
        ("", 401, "unauthenticated"),
        ("nonsense", 401, "unauthenticated"),
        (&format!("{head}.AAAA"), 401, "unauthenticated"),
        (&bench.token_of("demo", "ann", 0), 401, "token_expired"),
        (&bench.token_of("nobody", "ann", 60), 403, "forbidden"),
    ] {
        let refused = Client::open(edge, token).await.err().expect("a refusal");
        assert_eq!(
            (refused.status, refused.body["code"].as_str()),
            (status, Some(code)),
            "{token}"
        );
        assert!(refused.head.contains("application/problem+json"));
    }
}

#[tokio::test]
async fn a_stream_token_opens_a_stream_and_nothing_else() {
    let bench = Bench::start().await;
    let edge = bench.edge.local_addr();
    let token = bench.token("ann");
    let answer =
        http(edge, "POST", "/v1/ws/token", Some(&token), r#"{"device_id":"phone-1"}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["url"], format!("ws://{edge}/v1/stream"));
    let stream_token = answer.body["token"].as_str().unwrap();
    let mut client = Client::open(edge, stream_token).await.unwrap();
    assert_eq!(client.next_of("hello").await["payload"]["device_id"], "phone-1");
    let again = Client::open(edge, stream_token).await.err().expect("a refusal");
    assert_eq!((again.status, &again.body["code"]), (401, &json!("unauthenticated")), "good once");
    let refused = http(edge, "GET", "/v1/inbox", Some(stream_token), "").await;
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("forbidden")));
    let empty = http(edge, "POST", "/v1/ws/token", Some(&token), "").await;
    assert_eq!(empty.status, 200);
    let unknown = http(edge, "POST", "/v1/ws/token", Some(&token), r#"{"color":"red"}"#).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (400, &json!("bad_request")));
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let bench = Bench::start().await;
    let mut client =
        Client::open(bench.edge.local_addr(), &bench.token_of("demo", "ann", 5)).await.unwrap();
    client.next_of("hello").await;
    assert_eq!(client.closed().await, Some(4001));
}

#[tokio::test]
async fn a_session_from_a_stream_token_outlives_that_token_and_ends_with_the_identity() {
    let stream_token = Duration::from_secs(4);
    let bench = Bench::with(Limits { stream_token, ..Limits::default() }).await;
    let edge = bench.edge.local_addr();
    let identity = bench.token_of("demo", "ann", 9);
    let answer = http(edge, "POST", "/v1/ws/token", Some(&identity), "").await;
    let token = answer.body["token"].as_str().unwrap();
    let mut client = Client::open(edge, token).await.unwrap();
    client.next_of("hello").await;
    loop {
        let refused = Client::open(edge, token).await.err();
        if refused.is_some_and(|refused| refused.body["code"] == "token_expired") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.send(json!({"type": "ping"})).await;
    client.next_of("pong").await;
    assert_eq!(client.closed().await, Some(4001));
}

#[tokio::test]
async fn an_edge_outside_the_zone_names_those_inside() {
    let bench = Bench::start().await;
    let edge = bench.edge.local_addr();
    let token = bench.token_of("pinned", "ann", 60);
    let refused = Client::open(edge, &token).await.err().expect("a refusal");
    assert_eq!((refused.status, &refused.body["code"]), (421, &json!("wrong_zone")));
    assert_eq!(refused.body["alternatives"], json!(["http://there"]));
    let refused = http(edge, "POST", "/v1/groups", Some(&token), r#"{"name":"x"}"#).await;
    assert_eq!((refused.status, &refused.body["code"]), (421, &json!("wrong_zone")));
}

#[tokio::test]
async fn a_full_edge_says_when_to_come_back() {
    let bench = Bench::with(Limits { sessions: 1, ..Limits::default() }).await;
    let _ann = bench.session("ann").await;
    let refused =
        Client::open(bench.edge.local_addr(), &bench.token("bob")).await.err().expect("a refusal");
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("overloaded")));
    assert!(refused.head.contains("retry-after"), "{}", refused.head);
}

#[tokio::test]
async fn a_plain_request_is_told_to_upgrade() {
    let bench = Bench::start().await;
    let answer =
        http(bench.edge.local_addr(), "GET", "/v1/stream", Some(&bench.token("ann")), "").await;
    assert_eq!((answer.status, &answer.body["code"]), (426, &json!("bad_request")));
}

#[tokio::test]
async fn a_draining_edge_sends_everyone_elsewhere() {
    let bench = Bench::start().await;
    let edge = bench.edge.local_addr();
    let token = bench.token("ann");
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(bench.session("ann").await);
    }
    let (handle, window) = (bench.edge.clone(), Duration::from_secs(1));
    let drain = tokio::spawn(async move { handle.drain(window).await });
    let mut slots = Vec::new();
    for client in &mut clients {
        let goaway = client.next_of("goaway").await;
        assert_eq!(goaway["payload"]["alternatives"], json!(["http://here-2", "http://there"]));
        slots.push(goaway["payload"]["reconnect_after_ms"].as_u64().unwrap());
    }
    slots.sort_unstable();
    assert_eq!(slots, [0, 250, 500, 750]);
    let refused = Client::open(edge, &token).await.err().expect("a refusal");
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("draining")));
    assert!(refused.head.contains("retry-after"));
    assert_eq!(http(edge, "GET", "/v1/inbox", Some(&token), "").await.status, 503);
    for client in &mut clients {
        assert_eq!(client.closed().await, Some(1001));
    }
    drain.await.unwrap();
    assert_eq!(bench.edge.status().sessions, 0);
    bench.edge.undrain();
    bench.session("ann").await;
}

/// When exactly, `session::state` tests on a clock of its own.
#[tokio::test]
async fn a_client_without_a_sign_of_life_is_closed() {
    let bench =
        Bench::with(Limits { heartbeat: Duration::from_secs(2), ..Limits::default() }).await;
    let mut lively = bench.session("ann").await;
    let mut dead = bench.session("bob").await;
    let answering = tokio::spawn(async move { lively.closed().await });
    until("the silent one is gone", || bench.edge.status().sessions == 1).await;
    assert_eq!(dead.closed().await, Some(4008));
    assert!(!answering.is_finished(), "a client that answers pings stays");
}

#[tokio::test]
async fn silent_and_broken_connections_hold_no_place() {
    let limits = Limits {
        http_head: Duration::from_millis(300),
        http_read: Duration::from_millis(300),
        http_connections: 2,
        ..Limits::default()
    };
    let bench = Bench::with(limits).await;
    let edge = bench.edge.local_addr();
    let silent: Vec<_> =
        futures_util::future::join_all((0..4).map(|_| net::Net::connect(&net::OsNet, edge))).await;
    let answer = http(edge, "GET", "/nowhere", None, "").await;
    assert_eq!(answer.status, 404);
    drop(silent);
    let body = "POST /v1/groups HTTP/1.1\r\nhost: x\r\nauthorization: Bearer T\r\ncontent-length: 10\r\n\r\n{";
    let answer = raw(edge, body.replace('T', &bench.token("ann")).as_bytes()).await;
    assert_eq!(answer.status, 400);
    assert_eq!(raw(edge, b"\x16\x03\x01 this is no HTTP\r\n\r\n").await.status, 400);
    let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(raw(edge, head.as_bytes()).await.status, 431);
}

#[tokio::test]
async fn an_edge_that_stops_leaves_nothing_running() {
    let bench = Bench::start().await;
    let mut ann = bench.session("ann").await;
    bench.edge.stop(Duration::from_secs(5)).await;
    ann.next_of("goaway").await;
    assert_eq!(ann.closed().await, Some(1001));
    until("nobody listens", || bench.edge.status().sessions == 0).await;
}

#[tokio::test]
async fn an_edge_that_is_told_other_keys_lets_their_users_in_and_ends_the_sessions_of_the_old() {
    let bench = Bench::start().await;
    let (edge, old) = (bench.edge.local_addr(), bench.token("ann"));
    let mut before = bench.session("ann").await;
    let early = http(edge, "POST", "/v1/ws/token", Some(&old), "").await;
    let early = early.body["token"].as_str().unwrap().to_owned();
    let issuer = DevIssuer::from_seed([9; 32]);
    let tenants = bench.world.tenants.iter().map(|tenant| tenant.id.clone()).collect();
    let (dev, stream) = (Some(issuer.public_key()), StreamKey::from_seed([8; 32]));
    let verifier =
        Verifier::new(VerifierOptions { tenants, issuers: Vec::new(), dev, stream }).unwrap();
    bench.edge.believe(Arc::new(verifier));
    let refused =
        Client::open(bench.edge.local_addr(), &bench.token("bob")).await.err().expect("a refusal");
    assert_eq!(refused.status, 401);
    let token = issuer.issue(&tenant("demo"), &user("bob"), None, 60, now_ms());
    let mut after = Client::open(edge, &token).await.unwrap();
    after.next_of("hello").await;
    assert_eq!(before.closed().await, Some(4001));
    let refused = Client::open(edge, &early).await.err().expect("a refusal");
    assert_eq!(refused.status, 401, "its stream tokens end with a key");
    after.send(json!({"id": "p", "type": "ping"})).await;
    assert_eq!(after.next_of("pong").await["re"], "p");
}

#[tokio::test]
async fn a_session_has_a_longest_life_and_an_operator_may_end_it_before() {
    let bench = Bench::with(Limits { session: Duration::from_secs(2), ..Limits::default() }).await;
    assert_eq!(bench.session("ann").await.closed().await, Some(4001), "its token is good for long");

    let bench = Bench::start().await;
    let (mut ann, mut bob) = (bench.session("ann").await, bench.session("bob").await);
    assert_eq!(bench.edge.end_sessions(&tenant("other"), None), 0);
    assert_eq!(bench.edge.end_sessions(&tenant("demo"), Some(&user("ann"))), 1);
    assert_eq!(ann.closed().await, Some(4001));
    bob.send(json!({"id": "p", "type": "ping"})).await;
    assert_eq!(bob.next_of("pong").await["re"], "p");
    assert_eq!(bench.edge.end_sessions(&tenant("demo"), None), 1);
    assert_eq!(bob.closed().await, Some(4001));
}
