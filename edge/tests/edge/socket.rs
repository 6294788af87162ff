//! A client: a bare WebSocket, and a bare HTTP request.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use net::{Net, OsNet};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use wire::ConversationId;

use crate::harness::TIMEOUT;

pub(crate) struct Client {
    pub(crate) stream: WebSocketStream<net::Stream>,
    pub(crate) protocol: Option<String>,
    /// Read while something else was looked for.
    passed: VecDeque<Value>,
}

/// An answer of HTTP.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) text: String,
}

impl Client {
    pub(crate) async fn open(edge: SocketAddr, token: &str) -> Result<Self, Answered> {
        Self::open_with(edge, &[("authorization", &format!("Bearer {token}"))]).await
    }

    pub(crate) async fn open_with(
        edge: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Answered> {
        let mut request = format!("ws://{edge}/v1/stream").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let tcp = OsNet.connect(edge).await.unwrap();
        match client_async(request, tcp).await {
            Ok((stream, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.map(|value| value.to_str().unwrap().to_owned());
                Ok(Self { stream, protocol, passed: VecDeque::new() })
            }
            Err(Error::Http(response)) => Err(Answered {
                status: response.status().as_u16(),
                head: format!("{:?}", response.headers()),
                body: serde_json::from_slice(response.body().as_deref().unwrap_or_default())
                    .unwrap_or_default(),
                text: String::new(),
            }),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.stream.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Frames that arrive in one piece.
    pub(crate) async fn send_together<const N: usize>(&mut self, frames: [Value; N]) {
        for frame in frames {
            self.stream.feed(Message::text(frame.to_string())).await.unwrap();
        }
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn say(&mut self, conversation: ConversationId, name: &str, body: &str) {
        self.send(json!({"id": name, "type": "message.send", "conversation_id": conversation, "client_msg_id": name,
                         "payload": {"body": body}}))
            .await;
    }

    pub(crate) async fn sync(&mut self, conversation: ConversationId, after: u64) {
        self.send(json!({"id": "sync", "type": "sync", "payload": {"after": {conversation.to_string(): after}}})).await;
    }

    /// The next frame; the close code at the end.
    pub(crate) async fn next(&mut self) -> Result<Value, Option<u16>> {
        if let Some(frame) = self.passed.pop_front() {
            return Ok(frame);
        }
        self.read().await
    }

    async fn read(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let message =
                tokio::time::timeout(TIMEOUT, self.stream.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(close))) => return Err(close.map(|close| close.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The text of the next frame of a type, as it came. Others are lost.
    pub(crate) async fn text_of(&mut self, kind: &str) -> String {
        let marked = format!("\"type\":\"{kind}\"");
        loop {
            let next = tokio::time::timeout(TIMEOUT, self.stream.next());
            match next.await.expect("a frame in time") {
                Some(Ok(Message::Text(text))) if text.contains(&marked) => return text.to_string(),
                Some(Ok(_)) => {}
                ended => panic!("{ended:?} before {kind}"),
            }
        }
    }

    /// The next frame of a type; others are put by.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        if let Some(at) = self.passed.iter().position(|frame| frame["type"] == kind) {
            return self.passed.remove(at).unwrap();
        }
        loop {
            match self.read().await {
                Ok(frame) if frame["type"] == kind => return frame,
                Ok(frame) => self.passed.push_back(frame),
                Err(code) => panic!("closed with {code:?} before {kind}; had {:?}", self.passed),
            }
        }
    }

    /// The seqs of the messages that come before `sync.done`, and that.
    pub(crate) async fn synced(&mut self) -> (Vec<u64>, Value) {
        let mut seqs = Vec::new();
        loop {
            let frame = self.next().await.unwrap();
            match frame["type"].as_str().unwrap() {
                "message.new" => seqs.push(frame["payload"]["seq"].as_u64().unwrap()),
                "sync.done" => return (seqs, frame),
                _ => {}
            }
        }
    }

    /// The close code, after whatever comes before.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.read().await {
                return code;
            }
        }
    }
}

/// One HTTP request on a connection of its own.
pub(crate) async fn http(
    edge: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> Answered {
    let authorization =
        token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\n{authorization}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    raw(edge, format!("{head}{body}").as_bytes()).await
}

/// Any bytes, and the answer to them.
pub(crate) async fn raw(edge: SocketAddr, bytes: &[u8]) -> Answered {
    let mut tcp = OsNet.connect(edge).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(TIMEOUT, tcp.read_to_end(&mut answer))
        .await
        .expect("an answer in time")
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let (head, text) = (head.to_owned(), body.to_owned());
    Answered { status, head, body: serde_json::from_str(&text).unwrap_or_default(), text }
}
