//! HTTP/1.1 over the sockets of `net`, connections kept for the next request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::endpoint::authority;

/// Largest answer that is read, bytes: a page of 200 messages of 16 KiB with room for escapes.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// What one call came to.
pub(crate) enum Answer {
    /// The edge answered.
    Said {
        /// Any status.
        status: StatusCode,
        /// All of it.
        body: Bytes,
    },
    /// Nobody did; why, for people.
    Nobody(String),
}

#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<Connector, Full<Bytes>>,
}

impl Transport {
    pub(crate) fn new(net: Arc<dyn net::Net>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(10))
            .build(Connector { net });
        Self { client }
    }

    pub(crate) async fn call(
        &self,
        url: &str,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Bytes>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", url.trim_end_matches('/')))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = match request.body(Full::new(body.unwrap_or_default())) {
            Ok(request) => request,
            Err(error) => return Answer::Nobody(format!("not a request: {error}")),
        };
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return Answer::Nobody(innermost(&error)),
        };
        let (head, body) = response.into_parts();
        match Limited::new(body, ANSWER_BYTES).collect().await {
            Ok(body) => Answer::Said { status: head.status, body: body.to_bytes() },
            Err(error) => Answer::Nobody(format!("the answer broke off: {error}")),
        }
    }
}

/// hyper's own words say little; the cause at the bottom says it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[derive(Clone)]
struct Connector {
    net: Arc<dyn net::Net>,
}

impl tower::Service<Uri> for Connector {
    type Response = Socket;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let net = self.net.clone();
        Box::pin(async move {
            connect(&*net, &uri.to_string()).await.map(|stream| Socket(TokioIo::new(stream)))
        })
    }
}

/// A TCP connection to an edge's URL: the first of its addresses that answers.
pub(crate) async fn connect(net: &dyn net::Net, url: &str) -> io::Result<net::Stream> {
    let edge = authority(url)
        .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, format!("{url} {why}")))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in net.lookup(&edge.host, edge.port).await? {
        match net.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What hyper wants a connection to be.
struct Socket(TokioIo<net::Stream>);

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
