//! Connections of strangers and rude clients: what they hold, and for how long.

use std::net::SocketAddr;
use std::time::Duration;

use hearth_edge::Limits;
use net::{Net, OsNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Bench, TIMEOUT, until};
use crate::socket::{Client, http};

/// A connection that a test writes and reads by hand.
struct Raw(net::Stream);

impl Raw {
    async fn open(edge: SocketAddr) -> Self {
        Self(OsNet.connect(edge).await.unwrap())
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends a GET and reads until its answer has begun; the status.
    async fn get(&mut self, path: &str, token: &str) -> u16 {
        self.send(&get(path, token)).await;
        self.status().await
    }

    async fn status(&mut self) -> u16 {
        let mut answer = vec![0; 16 * 1024];
        let n = tokio::time::timeout(TIMEOUT, self.0.read(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        answer.split(' ').nth(1).unwrap_or("0").parse().unwrap()
    }

    /// What comes until the end.
    async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            match tokio::time::timeout(TIMEOUT, self.0.read(&mut piece)).await.expect("its end") {
                Ok(0) | Err(_) => return String::from_utf8_lossy(&all).into_owned(),
                Ok(n) => all.extend_from_slice(&piece[..n]),
            }
        }
    }
}

fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_cut_off() {
    let limits = Limits {
        http_write: Duration::from_millis(300),
        http_pipelined: u32::MAX,
        ..Limits::default()
    };
    let bench = Bench::with(limits).await;
    let mut rude = Raw::open(bench.edge.local_addr()).await;
    let requests = get("/nowhere", "none").repeat(100_000);
    let sent = tokio::time::timeout(TIMEOUT, rude.0.write_all(requests.as_bytes())).await;
    assert!(sent.expect("the edge closes").is_err(), "it has read all of them");
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_answers_gets_so_many_and_a_close() {
    let bench = Bench::start().await;
    let mut hasty = Raw::open(bench.edge.local_addr()).await;
    hasty.send(&get("/nowhere", "none").repeat(40)).await;
    let answers = hasty.rest().await;
    assert_eq!(answers.matches("HTTP/1.1 404").count(), 32);
    assert_eq!(answers.matches("connection: close").count(), 1);
    let mut calm = Raw::open(bench.edge.local_addr()).await;
    for _ in 0..40 {
        assert_eq!(calm.get("/nowhere", "none").await, 404);
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_sessions() {
    let limits = Limits { connections_per_address: 2, ..Limits::default() };
    let bench = Bench::with(limits).await;
    let edge = bench.edge.local_addr();
    let ann = bench.session("ann").await;
    let mut second = Raw::open(edge).await;
    assert_eq!(second.get("/nowhere", "none").await, 404);
    assert_eq!(Raw::open(edge).await.rest().await, "", "the third is closed");
    drop(ann);
    until("the session has ended", || bench.edge.status().sessions == 0).await;
    // The socket closes a moment after the session.
    loop {
        let mut third = Raw::open(edge).await;
        let _ = third.0.write_all(get("/nowhere", "none").as_bytes()).await;
        let mut answer = [0; 12];
        if third.0.read_exact(&mut answer).await.is_ok() {
            assert_eq!(&answer, b"HTTP/1.1 404");
            return;
        }
    }
}

#[tokio::test]
async fn strangers_push_out_each_other_and_no_user() {
    let limits = Limits { http_connections: 3, ..Limits::default() };
    let bench = Bench::with(limits).await;
    let edge = bench.edge.local_addr();
    let token = bench.token("ann");
    let tea = bench.group("ann", &[]);
    let (mut idle, mut busy) = (Raw::open(edge).await, Raw::open(edge).await);
    assert_eq!(idle.get("/v1/inbox", &token).await, 200);
    bench.owner.homes().deaf = true;
    let body = format!(r#"{{"conversation_id":"{tea}","client_msg_id":"m1","body":"hi"}}"#);
    busy.send(&format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    until("the home is asked", || !bench.owner.homes().commands.is_empty()).await;
    let mut strangers = Vec::new();
    for _ in 0..10 {
        strangers.push(Raw::open(edge).await);
    }
    for stranger in &mut strangers[..9] {
        assert_eq!(stranger.rest().await, "", "the oldest gives way");
    }
    assert_eq!(strangers[9].get("/nowhere", "none").await, 404);
    assert_eq!(idle.get("/v1/inbox", &token).await, 200, "a user's connection stays");
    bench.owner.homes().deaf = false;
    bench.owner.homes().end_streams();
    assert_eq!(busy.status().await, 201);
}

#[tokio::test]
async fn a_slow_body_gets_through_and_a_stalled_one_does_not() {
    let limits = Limits { http_read: Duration::from_secs(1), ..Limits::default() };
    let bench = Bench::with(limits).await;
    let token = bench.token("ann");
    let body = format!(r#"{{"name":"tea"{}}}"#, " ".repeat(10_000));
    let head = format!(
        "POST /v1/groups HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut slow = Raw::open(bench.edge.local_addr()).await;
    slow.send(&head).await;
    for piece in body.as_bytes().chunks(body.len().div_ceil(15)) {
        tokio::time::sleep(Duration::from_millis(150)).await;
        slow.0.write_all(piece).await.unwrap();
    }
    assert_eq!(slow.status().await, 201);
    let mut stalled = Raw::open(bench.edge.local_addr()).await;
    stalled.send(&head).await;
    stalled.send("{").await;
    assert_eq!(stalled.status().await, 400);
}

#[tokio::test]
async fn a_dripping_head_and_an_idle_connection_end() {
    let limits = Limits {
        http_head: Duration::from_millis(400),
        http_bytes_per_second_min: 1_000,
        http_idle: Duration::from_secs(2),
        ..Limits::default()
    };
    let bench = Bench::with(limits).await;
    let edge = bench.edge.local_addr();
    let mut drip = Raw::open(edge).await;
    let mut sent = 0;
    while drip.0.write_all(b"GET / HTTP/1.1\r\nx: "[sent % 18..][..1].as_ref()).await.is_ok() {
        sent += 1;
        assert!(sent < 10_000, "it drips for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut idle = Raw::open(edge).await;
    assert_eq!(idle.get("/nowhere", "none").await, 404);
    // Longer than a head may take.
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(idle.get("/nowhere", "none").await, 404);
    assert_eq!(idle.rest().await, "");
    assert_eq!(http(edge, "GET", "/nowhere", None, "").await.status, 404);
}

#[tokio::test]
async fn a_session_holds_no_place_of_a_connection() {
    let limits = Limits { http_connections: 1, ..Limits::default() };
    let bench = Bench::with(limits).await;
    let mut sessions: Vec<Client> = Vec::new();
    for _ in 0..3 {
        sessions.push(bench.session("ann").await);
    }
    assert_eq!(bench.edge.status().sessions, 3);
}
