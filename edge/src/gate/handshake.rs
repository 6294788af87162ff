//! The opening handshake of a WebSocket (RFC 6455, section 4.2), to the letter.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use wire::ErrorCode;

use crate::api::problem::Refused;

/// The only version that there is.
const VERSION: HeaderValue = HeaderValue::from_static("13");
/// A key is so many bytes, in base64.
const KEY_BYTES: usize = 16;

/// The answer that switches protocols.
///
/// # Errors
/// The answer to a request that is no handshake: 426 with the version that is wanted, or 400 for a
/// key that is none.
pub(super) fn accept<B>(request: &Request<B>) -> Result<Response, Box<Response>> {
    let headers = request.headers();
    let asks = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket")
        && only(headers, &SEC_WEBSOCKET_VERSION) == Some(&VERSION);
    if !asks {
        return Err(Box::new(wanted()));
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| BASE64.decode(key).is_ok_and(|decoded| decoded.len() == KEY_BYTES));
    let Some(key) = key else {
        let refused = Refused::bad_request("Sec-WebSocket-Key is not 16 bytes in base64");
        return Err(Box::new(refused.into_response()));
    };
    let accept = HeaderValue::try_from(derive_accept_key(key)).map_err(|_| Box::new(wanted()))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn wanted() -> Response {
    let refused = Refused::new(
        ErrorCode::BadRequest,
        "this is a WebSocket: GET over HTTP/1.1 with the headers of RFC 6455",
    );
    let mut response = refused.status(StatusCode::UPGRADE_REQUIRED).into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    response
}

/// Whether a list of tokens has this one, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn answer(change: &[(&str, &str)]) -> (u16, HeaderMap) {
        let mut request = Request::get("/v1/stream").version(Version::HTTP_11);
        let kept = GOOD.iter().filter(|(name, _)| !change.iter().any(|(other, _)| other == name));
        for (name, value) in kept.chain(change.iter().filter(|(_, value)| !value.is_empty())) {
            request = request.header(*name, *value);
        }
        let answer = accept(&request.body(()).unwrap()).unwrap_or_else(|refused| *refused);
        (answer.status().as_u16(), answer.headers().clone())
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let (status, headers) = answer(&[]);
        assert_eq!(status, 101);
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_request_that_is_no_handshake_is_told_the_version_that_is_wanted() {
        for change in [
            [("connection", "keep-alive")],
            [("connection", "")],
            [("upgrade", "h2c")],
            [("sec-websocket-version", "8")],
            [("sec-websocket-version", "")],
        ] {
            let (status, headers) = answer(&change);
            assert_eq!((status, &headers["sec-websocket-version"]), (426, &VERSION), "{change:?}");
            assert_eq!(headers["upgrade"], "websocket");
        }
        let twice = [("sec-websocket-version", "13"), ("sec-websocket-version", "13")];
        assert_eq!(answer(&twice).0, 426);
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        for key in
            ["", "x", "dGhlIHNhbXBsZQ==", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZR=="]
        {
            assert_eq!(answer(&[("sec-websocket-key", key)]).0, 400, "{key:?}");
        }
    }
}
