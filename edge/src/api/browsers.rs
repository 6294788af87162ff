//! What every request must be, whatever it asks: one host, as RFC 9112 wants it, and, from a
//! browser, an origin that may read the answer (CORS).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderValue, Method, Version};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::problem::Refused;
use crate::options::Origins;
use crate::shared::Shared;

/// A browser remembers so long what it may send.
const PREFLIGHT_AGE: Duration = Duration::from_secs(3_600);

/// Answers preflights on every path, and puts the headers on every answer.
pub(super) fn cors(shared: &Arc<Shared>) -> CorsLayer {
    let origins = shared.origins.clone();
    let methods =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| allows(&origins, origin)))
        .allow_methods(methods)
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([RETRY_AFTER, WWW_AUTHENTICATE])
        .max_age(PREFLIGHT_AGE)
}

/// Whether pages of this origin may use the edge.
pub(crate) fn allows(origins: &Origins, origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| origins(origin))
}

/// Refuses a request of HTTP/1.1 without exactly one host, and any with two.
pub(super) async fn one_host(request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(HOST).iter();
    let is_good = match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host),
        (None, _) => request.version() != Version::HTTP_11,
        (Some(_), Some(_)) => false,
    };
    if is_good {
        return next.run(request).await;
    }
    Refused::bad_request("a request names its host once (RFC 9112, section 3.2)").into_response()
}

fn is_host(host: &HeaderValue) -> bool {
    let host = host.as_bytes();
    host.is_empty() || (!host.contains(&b'@') && Authority::try_from(host).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_a_number_perhaps_with_a_port() {
        for (host, is_good) in [
            ("", true),
            ("edge.example.org", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("user@edge", false),
            ("two hosts", false),
            ("edge/path", false),
        ] {
            assert_eq!(is_host(&HeaderValue::from_static(host)), is_good, "{host:?}");
        }
    }
}
