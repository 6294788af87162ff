//! One HTTP request on a connection of its own.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    /// The body, when it is JSON; its text otherwise.
    pub body: Value,
}

impl Answer {
    /// The stable code of a problem.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// Sends a request to `base` (such as `http://127.0.0.1:4000`) and reads the whole answer.
///
/// # Errors
/// When nobody answers: the connection was refused or broke off.
pub async fn request(
    method: &str,
    base: &str,
    path: &str,
    token: Option<&str>,
    body: impl Into<Bytes>,
) -> Result<Answer, String> {
    let host = base.trim_start_matches("http://");
    let stream =
        net::Net::connect(&net::OsNet, host.parse().unwrap()).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let mut request =
        Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
    request = request.header("host", host).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = sender.send_request(request.body(Full::new(body.into())).unwrap()).await;
    let (head, body) = response.map_err(|e| e.to_string())?.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    driver.abort();
    let body = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into()));
    let content_type = head
        .headers
        .get("content-type")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    Ok(Answer { status: head.status.as_u16(), content_type, body })
}

/// `GET`, which must be answered.
pub async fn get(base: &str, path: &str, token: &str) -> Answer {
    request("GET", base, path, Some(token), "").await.expect("an answer")
}

/// `POST` of JSON, which must be answered.
#[allow(clippy::needless_pass_by_value, reason = "reads better with a json! in place")]
pub async fn post(base: &str, path: &str, token: &str, body: Value) -> Answer {
    request("POST", base, path, Some(token), body.to_string()).await.expect("an answer")
}

/// The whole history of a conversation, paged.
pub async fn history(base: &str, conversation: &str, token: &str) -> Vec<Value> {
    let mut messages: Vec<Value> = Vec::new();
    loop {
        let after = messages.last().map_or(0, |message| message["seq"].as_u64().unwrap());
        let path = format!("/v1/conversations/{conversation}/messages?after={after}&limit=200");
        let page = get(base, &path, token).await;
        assert_eq!(page.status, 200, "{}", page.body);
        messages.extend(page.body["messages"].as_array().unwrap().iter().cloned());
        if page.body["has_more"] == false {
            return messages;
        }
    }
}
