//! A session over a bare WebSocket.

use std::collections::VecDeque;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::HANG_TIMEOUT;

/// A frame, or the close, of a WebSocket.
#[derive(Clone, Debug, PartialEq)]
pub enum Got {
    /// A frame.
    Frame(Value),
    /// The end, with its close code if one was sent.
    Closed(Option<u16>),
}

/// A session, after the upgrade.
pub struct Socket {
    stream: WebSocketStream<net::Stream>,
    /// Frames that were read while another was looked for.
    put_by: VecDeque<Value>,
    /// The subprotocol that the server selected.
    pub protocol: Option<String>,
}

/// The refusal of an upgrade.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    /// The problem.
    pub body: Value,
    /// Its `Retry-After`.
    pub retry_after: Option<String>,
}

impl Socket {
    /// Upgrades with the token in the header.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn open(base: &str, token: &str) -> Result<Self, Refused> {
        Self::open_with(base, &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// Upgrades with these headers.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn open_with(base: &str, headers: &[(&'static str, &str)]) -> Result<Self, Refused> {
        let host = base.trim_start_matches("http://");
        let nobody =
            |error: String| Refused { status: 0, body: Value::String(error), retry_after: None };
        let tcp = net::Net::connect(&net::OsNet, host.parse().unwrap())
            .await
            .map_err(|e| nobody(e.to_string()))?;
        let mut request = format!("ws://{host}/v1/stream").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        match client_async(request, tcp).await {
            Ok((stream, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.and_then(|value| value.to_str().ok()).map(str::to_owned);
                Ok(Self { stream, put_by: VecDeque::new(), protocol })
            }
            Err(tungstenite::Error::Http(response)) => Err(Refused {
                status: response.status().as_u16(),
                retry_after: response
                    .headers()
                    .get("retry-after")
                    .map(|v| v.to_str().unwrap().to_owned()),
                body: response
                    .body()
                    .as_ref()
                    .and_then(|body| serde_json::from_slice(body).ok())
                    .unwrap_or_default(),
            }),
            Err(error) => Err(nobody(error.to_string())),
        }
    }

    /// Upgrades and reads `hello`.
    pub async fn session(base: &str, token: &str) -> Self {
        let mut socket = Self::open(base, token).await.expect("an upgrade");
        let hello = socket.next().await;
        assert!(
            matches!(&hello, Got::Frame(frame) if frame["type"] == "hello"),
            "hello comes first: {hello:?}"
        );
        socket
    }

    /// Sends a frame of JSON.
    ///
    /// # Errors
    /// When the connection is gone.
    #[allow(clippy::needless_pass_by_value, reason = "reads better with a json! in place")]
    pub async fn send(&mut self, frame: Value) -> Result<(), tungstenite::Error> {
        self.send_raw(Message::text(frame.to_string())).await
    }

    /// Sends anything.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_raw(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        self.stream.send(message).await
    }

    /// `message.send`.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_message(
        &mut self,
        conversation: &str,
        id: &str,
        body: &str,
    ) -> Result<(), tungstenite::Error> {
        self.send(json!({"id": id, "type": "message.send", "conversation_id": conversation, "client_msg_id": id,
                         "payload": {"body": body}}))
            .await
    }

    /// The next frame or the end. Pings are answered on the way.
    pub async fn next(&mut self) -> Got {
        if let Some(frame) = self.put_by.pop_front() {
            return Got::Frame(frame);
        }
        self.read().await
    }

    async fn read(&mut self) -> Got {
        loop {
            let message = tokio::time::timeout(HANG_TIMEOUT, self.stream.next())
                .await
                .expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Got::Frame(serde_json::from_str(&text).expect("JSON"));
                }
                Some(Ok(Message::Close(frame))) => {
                    return Got::Closed(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Got::Closed(None),
            }
        }
    }

    /// The next frame of this type; others wait for their turn. Panics at the end of the
    /// connection.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        self.next_where(kind, |frame| frame["type"] == kind).await
    }

    /// The next frame that fits; others wait for their turn. Panics at the end of the connection.
    pub async fn next_where(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.put_by.iter().position(&fits) {
            return self.put_by.remove(at).expect("it is there");
        }
        loop {
            match self.read().await {
                Got::Frame(frame) if fits(&frame) => return frame,
                Got::Frame(frame) => self.put_by.push_back(frame),
                Got::Closed(code) => {
                    panic!("closed ({code:?}) before {what} came; waiting: {:?}", self.put_by)
                }
            }
        }
    }

    /// Reads on to the end; the close code.
    pub async fn until_closed(&mut self) -> Option<u16> {
        loop {
            if let Got::Closed(code) = self.read().await {
                return code;
            }
        }
    }
}
