//! Errors as `application/problem+json` (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use wire::ErrorCode;
use wire::client::http::Problem;
use wire::command::Refusal;

/// A request that was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    code: ErrorCode,
    detail: String,
    status: StatusCode,
    retry_after_ms: Option<u64>,
    alternatives: Vec<String>,
}

impl Refused {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let status =
            StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { code, detail: detail.into(), status, retry_after_ms: None, alternatives: Vec::new() }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, detail)
    }

    /// With another status than the code's own.
    pub(crate) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn retry_after_ms(self, retry_after_ms: u64) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..self }
    }

    pub(crate) fn alternatives(self, alternatives: Vec<String>) -> Self {
        Self { alternatives, ..self }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, retry_after_ms } = refusal;
        Self { retry_after_ms, ..Self::new(code, message) }
    }
}

fn title(code: ErrorCode) -> String {
    let words = code.as_str().replace('_', " ");
    let (first, rest) = words.split_at(1);
    format!("{}{rest}", first.to_uppercase())
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { code, detail, status, retry_after_ms, alternatives } = self;
        let retry_after_ms = retry_after_ms.or_else(|| code.is_retryable().then_some(1_000));
        let problem = Problem {
            kind: "about:blank".into(),
            title: title(code),
            status: status.as_u16(),
            code,
            detail,
            retry_after_ms,
            alternatives,
        };
        let body = serde_json::to_string(&problem).expect("plain data in memory always serializes");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(ms) = retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
