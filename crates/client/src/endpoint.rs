//! Where the edges are and who the user is. Both are asked anew before every connection, because
//! both may change: a local mesh that was started again listens on other ports, and a token's time
//! runs out.

use std::sync::Arc;

use async_trait::async_trait;

/// The edges that a client may use.
#[async_trait]
pub trait Endpoints: Send + Sync + 'static {
    /// URLs such as `http://127.0.0.1:4000`, preferred first. Asked at the start of every round of
    /// connection attempts; none at all is a round that failed.
    async fn edges(&self) -> Vec<String>;
}

/// Why there is no token now. The client tries again later.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no token: {0}")]
pub struct TokenError(pub String);

/// The source of identity tokens.
#[async_trait]
pub trait Tokens: Send + Sync + 'static {
    /// A token that is good for at least the next minute.
    async fn token(&self) -> Result<String, TokenError>;
}

#[async_trait]
impl<F, Fut> Endpoints for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<String>> + Send,
{
    async fn edges(&self) -> Vec<String> {
        self().await
    }
}

#[async_trait]
impl<F, Fut> Tokens for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String, TokenError>> + Send,
{
    async fn token(&self) -> Result<String, TokenError> {
        self().await
    }
}

/// Edges that never change, preferred first.
#[must_use]
pub fn fixed(edges: Vec<String>) -> Arc<dyn Endpoints> {
    Arc::new(move || std::future::ready(edges.clone()))
}

/// A token that never changes: for tests and short runs.
#[must_use]
pub fn fixed_token(token: String) -> Arc<dyn Tokens> {
    Arc::new(move || std::future::ready(Ok(token.clone())))
}

/// An edge's URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// Name or address, without brackets.
    pub(crate) host: String,
    /// Given, or 80.
    pub(crate) port: u16,
    /// As it goes into the `Host` header.
    pub(crate) text: String,
}

/// Takes `http://host:port` apart. There is no TLS here yet: it ends in front of the edge.
pub(crate) fn authority(url: &str) -> Result<Authority, &'static str> {
    let uri: ::http::Uri = url.parse().map_err(|_| "is not a URL")?;
    if uri.scheme_str() != Some("http") {
        return Err("does not start with http://");
    }
    let authority = uri.authority().ok_or("has no host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err("has no host");
    }
    Ok(Authority {
        host,
        port: authority.port_u16().unwrap_or(80),
        text: authority.as_str().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_edges_are_taken_apart() {
        let edge = authority("http://127.0.0.1:4000").unwrap();
        assert_eq!(
            (edge.host.as_str(), edge.port, edge.text.as_str()),
            ("127.0.0.1", 4000, "127.0.0.1:4000")
        );
        assert_eq!(authority("http://[::1]:4000/").unwrap().host, "::1");
        assert_eq!(authority("http://edge.example").unwrap().port, 80);
        for bad in ["", "edge:1", "ftp://x", "https://x", "http://", "http:///x"] {
            assert!(authority(bad).is_err(), "{bad}");
        }
    }
}
