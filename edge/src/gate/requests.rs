//! The requests of one HTTP connection: each is counted until its answer is complete, and a client
//! that sends many without waiting for answers gets no more of them.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tower::Service as _;

use super::connections::{Connection, OpenRequest};

/// Hands the requests of one connection to the [API](crate::api).
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) router: Router,
    pub(super) connection: Arc<Connection>,
    /// Requests without a pause; then the connection closes.
    pub(super) pipelined_max: u32,
}

/// The body of an answer; the request is open until it is dropped.
pub(super) struct Answer {
    body: Body,
    _open: OpenRequest,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let open = self.connection.request();
        let is_last = self.connection.pipelined() >= self.pipelined_max;
        request.extensions_mut().insert(self.connection.clone());
        let answer = self.router.clone().call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            if is_last {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Answer { body, _open: open }))
        })
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
