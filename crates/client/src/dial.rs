//! One attempt at one edge: token, lookup, TCP, upgrade, `hello`. The caller bounds its time.

use std::time::Duration;

use ::http::{HeaderValue, Request, header};
use futures_util::StreamExt as _;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use wire::ErrorCode;
use wire::client::SUBPROTOCOL;
use wire::client::event::{self, Event, Hello};
use wire::client::http::Problem;

use crate::endpoint::authority;
use crate::http::{Answer, Http};
use crate::{Options, TokenError};

/// Largest frame that is read, bytes: a group's page of 1,000 members, with room.
const FRAME_BYTES: usize = 4 * 1024 * 1024;
/// Per session, bytes. A client has few sessions, but a test has thousands of clients.
const BUFFER_BYTES: usize = 16 * 1024;

/// A session that has said hello.
pub(crate) struct Session {
    pub(crate) url: String,
    pub(crate) socket: WebSocketStream<net::Stream>,
    pub(crate) hello: Hello,
}

/// Why this edge did not let us in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("{0}")]
    Unreachable(String),
    #[error("{code}: {detail}")]
    Refused {
        code: ErrorCode,
        detail: String,
        alternatives: Vec<String>,
        retry_after: Option<Duration>,
    },
}

pub(crate) async fn dial(options: &Options, http: &Http, url: &str) -> Result<Session, DialError> {
    let identity = options.tokens.token().await?;
    let token = match &options.device {
        None => identity,
        Some(device) => match http.stream_token(url, &identity, device.as_str()).await {
            Ok(token) => token,
            Err(Answer::Nobody(why)) => return Err(DialError::Unreachable(why)),
            Err(Answer::Said { status, body }) => {
                return Err(refused(status.as_u16(), &body, None));
            }
        },
    };
    let request = upgrade(url, &token)?;
    let unreachable = |error: std::io::Error| DialError::Unreachable(error.to_string());
    let stream = crate::http::connect(&*options.net, url).await.map_err(unreachable)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(FRAME_BYTES))
        .max_frame_size(Some(FRAME_BYTES));
    let (mut socket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(
        |error| match error {
            tungstenite::Error::Http(response) => {
                let after = response
                    .headers()
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok());
                let after = after.and_then(|text| text.parse().ok()).map(Duration::from_secs);
                refused(
                    response.status().as_u16(),
                    response.body().as_deref().unwrap_or_default(),
                    after,
                )
            }
            error => DialError::Unreachable(error.to_string()),
        },
    )?;
    match socket.next().await {
        Some(Ok(Message::Text(text))) => match event::parse(&text) {
            Ok((_, Event::Hello(hello))) => Ok(Session { url: url.to_owned(), socket, hello }),
            _ => Err(DialError::Unreachable("did not say hello first".into())),
        },
        _ => Err(DialError::Unreachable("hung up before hello".into())),
    }
}

fn upgrade(url: &str, token: &str) -> Result<Request<()>, DialError> {
    let edge = authority(url).map_err(|why| DialError::Unreachable(format!("{url} {why}")))?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| TokenError("has characters that no token has".into()))?;
    bearer.set_sensitive(true);
    Request::get(format!("ws://{}/v1/stream", edge.text))
        .header(header::HOST, &edge.text)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .header(header::AUTHORIZATION, bearer)
        .body(())
        .map_err(|error| DialError::Unreachable(error.to_string()))
}

fn refused(status: u16, body: &[u8], retry_after: Option<Duration>) -> DialError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => DialError::Refused {
            code: problem.code,
            detail: problem.detail,
            alternatives: problem.alternatives,
            retry_after: problem.retry_after_ms.map(Duration::from_millis).or(retry_after),
        },
        // The body may be cut off by the upgrade's reader: the status says enough.
        Err(_) => DialError::Refused {
            code: match status {
                401 => ErrorCode::Unauthenticated,
                403 => ErrorCode::Forbidden,
                421 => ErrorCode::WrongZone,
                429 => ErrorCode::RateLimited,
                503 => ErrorCode::Overloaded,
                _ => ErrorCode::Internal,
            },
            detail: format!("status {status}"),
            alternatives: Vec::new(),
            retry_after,
        },
    }
}
