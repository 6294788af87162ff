//! Origins of web pages: which of them may use an edge.

use std::str::FromStr;

use http::Uri;
use node::Addresses;
use serde::{Deserialize, Deserializer};

/// An origin in `edge.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Any page: `*`.
    Any,
    /// As a browser says it: `https://host`, with a port unless it is the scheme's own.
    Page(String),
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let uri = text.parse::<Uri>().ok();
        let is_bare = uri.is_some_and(|uri| uri.path() == "/" && uri.query().is_none());
        origin_of(text)
            .filter(|_| is_bare && !text.ends_with('/'))
            .map(Self::Page)
            .ok_or("not of the form https://host or https://host:port, nor \"*\"")
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Origin {
    fn is(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Page(page) => page == origin,
        }
    }
}

/// Whether pages of an origin may use an edge: those of the config, and those that edges serve.
pub(super) fn allows(more: &[Origin], addresses: &Addresses, origin: &str) -> bool {
    more.iter().any(|allowed| allowed.is(origin))
        || addresses.edges().any(|(_, _, url)| origin_of(url).is_some_and(|own| own == origin))
}

/// The origin of the pages at a URL.
fn origin_of(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (scheme, host) = (uri.scheme_str()?, uri.host()?.to_ascii_lowercase());
    let default = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let port = uri.port_u16().filter(|port| *port != default);
    Some(match port {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_says() {
        for (text, origin) in [
            ("https://Chat.example.org", Some("https://chat.example.org")),
            ("https://chat.example.org:443", Some("https://chat.example.org")),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("http://[::1]:8080", Some("http://[::1]:8080")),
            ("https://chat.example.org/", None),
            ("https://chat.example.org/app", None),
            ("chat.example.org", None),
            ("ftp://chat.example.org", None),
            ("", None),
        ] {
            let read = text.parse::<Origin>().ok();
            assert_eq!(read, origin.map(|origin| Origin::Page(origin.to_owned())), "{text}");
        }
        assert_eq!("*".parse(), Ok(Origin::Any));
        assert_eq!(origin_of("https://a.example:8443/chat").unwrap(), "https://a.example:8443");
    }
}
