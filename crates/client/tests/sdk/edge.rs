//! An edge that does what the test says, over a real socket.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hearth_client::{self as client, Client, Event, Events, Options};
use net::Net as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};
use wire::ConversationId;

pub const TIMEOUT: Duration = Duration::from_secs(10);

pub struct Edge {
    listener: net::Listener,
    pub url: String,
}

pub struct Conn(WebSocketStream<net::Stream>);

impl Edge {
    pub async fn start() -> Self {
        let listener = net::OsNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    async fn stream(&mut self) -> net::Stream {
        tokio::time::timeout(TIMEOUT, self.listener.accept())
            .await
            .expect("a client comes")
            .unwrap()
            .0
    }

    /// Lets the next client in and says hello.
    pub async fn admit(&mut self) -> Conn {
        #[allow(clippy::result_large_err, reason = "the library's own signature")]
        fn select(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/v1/stream");
            assert_eq!(request.headers()["authorization"], "Bearer token");
            response.headers_mut().insert("sec-websocket-protocol", "hearth.v1".parse().unwrap());
            Ok(response)
        }
        let stream = self.stream().await;
        let mut conn = Conn(accept_hdr_async(stream, select).await.unwrap());
        conn.say(json!({"type": "hello", "payload": {
            "session_id": "1", "user_id": "me", "tenant": "demo", "device_id": "d", "region": "here", "edge": "1",
            "server_time_ms": 0, "heartbeat_ms": 30_000, "resume": "", "limits": {"frame_bytes": 65536, "body_bytes": 16384},
        }}))
        .await;
        conn
    }

    /// Answers the next request with plain HTTP; gives its head and body.
    pub async fn answer(&mut self, status: &str, body: &Value) -> String {
        let mut stream = self.stream().await;
        let mut heard = Vec::new();
        while !is_whole(&heard) {
            let mut chunk = [0; 4096];
            let n = stream.read(&mut chunk).await.unwrap();
            assert_ne!(n, 0, "the request breaks off");
            heard.extend_from_slice(&chunk[..n]);
        }
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8(heard).unwrap()
    }
}

fn is_whole(heard: &[u8]) -> bool {
    let text = String::from_utf8_lossy(heard);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |n| n.parse().unwrap());
    body.len() >= length
}

impl Conn {
    pub async fn say(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    pub async fn message(&mut self, seq: u64) {
        self.say(message(seq)).await;
    }

    pub async fn ack(&mut self, request: &Value, seq: u64) {
        let payload = json!({"message_id": "m", "seq": seq, "epoch": 1, "ts_ms": 0, "durability": "region", "duplicate": false});
        let cmid = &request["client_msg_id"];
        self.say(json!({"type": "message.ack", "re": request["id"], "client_msg_id": cmid, "payload": payload})).await;
    }

    pub async fn refuse(&mut self, request: &Value, code: &str) {
        let payload = json!({"code": code, "message": "because", "retry_after_ms": 10});
        self.say(json!({"type": "error", "re": request["id"], "payload": payload})).await;
    }

    /// Ends a `sync`.
    pub async fn synced(&mut self, request: &Value, head: u64) {
        let heads = json!({conversation().to_string(): head});
        self.say(json!({"type": "sync.done", "re": request["id"], "payload": {"heads": heads}}))
            .await;
    }

    /// The next frame of the client; pings are skipped.
    pub async fn hear(&mut self) -> Value {
        loop {
            let frame =
                tokio::time::timeout(TIMEOUT, self.0.next()).await.expect("the client speaks");
            let Message::Text(text) = frame.expect("the client is there").unwrap() else {
                continue;
            };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] != "ping" {
                return frame;
            }
        }
    }

    /// The seq after which the client asks, in the next frame.
    pub async fn hear_sync(&mut self) -> (Value, u64) {
        let frame = self.hear().await;
        assert_eq!(frame["type"], "sync", "{frame}");
        let after =
            frame["payload"]["after"][conversation().to_string()].as_u64().expect("asks about it");
        (frame, after)
    }
}

pub fn conversation() -> ConversationId {
    ConversationId::from_bytes(&[0x11; 23]).unwrap()
}

pub fn message(seq: u64) -> Value {
    json!({"id": "x", "type": "message.new", "conversation_id": conversation(), "payload": {
        "message_id": "m", "seq": seq, "ver": seq + 1, "epoch": 1, "sender": "you", "device_id": "", "ts_ms": 0,
        "body": format!("text {seq}"),
    }})
}

pub fn options(edges: &[&Edge]) -> Options {
    let urls = edges.iter().map(|edge| edge.url.clone()).collect();
    Options {
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        seed: Some(7),
        ..Options::new(
            Arc::new(net::OsNet),
            client::fixed(urls),
            client::fixed_token("token".into()),
        )
    }
}

pub fn connect(edges: &[&Edge]) -> (Client, Events) {
    Client::connect(options(edges))
}

/// The next event that `pick` takes.
pub async fn event<T>(events: &mut Events, pick: impl Fn(Event) -> Option<T>) -> T {
    loop {
        let event = tokio::time::timeout(TIMEOUT, events.next()).await.expect("an event comes");
        if let Some(picked) = pick(event.expect("the client lives")) {
            return picked;
        }
    }
}

/// The next `n` messages' seqs.
pub async fn seqs(events: &mut Events, n: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < n {
        seqs.push(
            event(events, |event| match event {
                Event::Message { message, .. } => Some(message.seq),
                _ => None,
            })
            .await,
        );
    }
    seqs
}
