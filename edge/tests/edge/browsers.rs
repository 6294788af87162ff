//! HTTP as browsers and proxies expect it.

use serde_json::json;

use crate::harness::Bench;
use crate::socket::{Answered, Client, http, raw};

const PAGE: &str = "https://chat.example.org";

fn header<'a>(answer: &'a Answered, name: &str) -> Option<&'a str> {
    let mut lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

async fn request(bench: &Bench, method: &str, path: &str, headers: &str) -> Answered {
    let head = format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    raw(bench.edge.local_addr(), head.as_bytes()).await
}

#[tokio::test]
async fn preflights_are_answered_on_every_path_before_any_token() {
    let bench = Bench::start().await;
    let asks = "host: x\r\naccess-control-request-method: PATCH\r\n\
                access-control-request-headers: authorization,content-type\r\n";
    for path in ["/v1/inbox", "/v1/groups/any", "/v1/stream", "/v1/later"] {
        let headers = format!("{asks}origin: {PAGE}\r\n");
        let answer = request(&bench, "OPTIONS", path, &headers).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(PAGE));
        assert!(header(&answer, "access-control-allow-methods").unwrap().contains("PATCH"));
        let allowed = header(&answer, "access-control-allow-headers").unwrap();
        assert_eq!(allowed, "authorization,content-type");
        let headers = format!("{asks}origin: https://evil.example\r\n");
        let answer = request(&bench, "OPTIONS", path, &headers).await;
        assert_eq!(header(&answer, "access-control-allow-origin"), None, "{path}");
    }
}

#[tokio::test]
async fn a_page_may_read_every_status_if_its_origin_may() {
    let bench = Bench::start().await;
    let token = bench.token("ann");
    for (path, authorization, status) in [
        ("/v1/inbox", format!("authorization: Bearer {token}\r\n"), 200),
        ("/v1/inbox?limit=0", format!("authorization: Bearer {token}\r\n"), 400),
        ("/v1/inbox", String::new(), 401),
        ("/v1/nowhere", String::new(), 404),
        ("/v1/groups", String::new(), 405),
    ] {
        let own = format!("host: x\r\norigin: {PAGE}\r\n{authorization}");
        let answer = request(&bench, "GET", path, &own).await;
        assert_eq!(
            (answer.status, header(&answer, "access-control-allow-origin")),
            (status, Some(PAGE))
        );
        assert!(header(&answer, "access-control-expose-headers").unwrap().contains("retry-after"));
        let other = format!("host: x\r\norigin: https://evil.example\r\n{authorization}");
        let answer = request(&bench, "GET", path, &other).await;
        assert_eq!((answer.status, header(&answer, "access-control-allow-origin")), (status, None));
    }
    let answer = request(&bench, "GET", "/v1/inbox", &format!("origin: {PAGE}\r\n")).await;
    assert_eq!((answer.status, header(&answer, "access-control-allow-origin")), (400, Some(PAGE)));
}

#[tokio::test]
async fn a_stream_is_opened_by_pages_of_the_same_origins_only() {
    let bench = Bench::start().await;
    let edge = bench.edge.local_addr();
    let offer = format!("hearth.v1, hearth.token.{}", bench.token("ann"));
    let offer = ("sec-websocket-protocol", offer.as_str());
    Client::open_with(edge, &[offer, ("origin", PAGE)]).await.unwrap();
    let evil = [offer, ("origin", "https://evil.example")];
    let refused = Client::open_with(edge, &evil).await.err().expect("a refusal");
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("forbidden")));
}

#[tokio::test]
async fn a_request_names_one_host() {
    let bench = Bench::start().await;
    for (headers, status) in [
        ("host: x\r\n", 404),
        ("host:\r\n", 404),
        ("", 400),
        ("host: x\r\nhost: x\r\n", 400),
        ("host: a b\r\n", 400),
    ] {
        let answer = request(&bench, "GET", "/nowhere", headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
    let old = raw(bench.edge.local_addr(), b"GET /nowhere HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.status, 404, "HTTP/1.0 needs none");
}

#[tokio::test]
async fn a_head_is_a_get_without_its_body_and_a_wrong_method_names_the_right_ones() {
    let bench = Bench::start().await;
    let edge = bench.edge.local_addr();
    let token = bench.token("ann");
    let shown = http(edge, "GET", "/v1/inbox", Some(&token), "").await;
    let head = http(edge, "HEAD", "/v1/inbox", Some(&token), "").await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(header(&head, "content-length"), header(&shown, "content-length"));
    let wrong = http(edge, "DELETE", "/v1/inbox", Some(&token), "").await;
    assert_eq!((wrong.status, header(&wrong, "allow")), (405, Some("GET,HEAD")));
    let wrong = http(edge, "GET", "/v1/groups", Some(&token), "").await;
    assert_eq!((wrong.status, header(&wrong, "allow")), (405, Some("POST")));
}

#[tokio::test]
async fn a_parameter_that_a_path_does_not_know_is_refused() {
    let bench = Bench::start().await;
    let edge = bench.edge.local_addr();
    let token = bench.token("ann");
    let tea = bench.group("ann", &[]);
    for (method, path) in [
        ("GET", "/v1/inbox?limt=5".to_owned()),
        ("GET", "/v1/inbox?limit=5&limit=5".to_owned()),
        ("GET", "/v1/inbox?limit=".to_owned()),
        ("GET", format!("/v1/groups/{tea}?after=ann")),
        ("GET", format!("/v1/conversations/{tea}/messages?befor=1")),
        ("GET", "/v1/limits?x".to_owned()),
        ("GET", "/v1/stream?x=1".to_owned()),
        ("POST", "/v1/groups?name=tea".to_owned()),
        ("POST", "/v1/messages?x=1".to_owned()),
        ("POST", "/v1/ws/token?device_id=x".to_owned()),
    ] {
        let answer = http(edge, method, &path, Some(&token), "").await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("bad_request")), "{path}");
    }
    let asked = bench.owner.homes().queries.len();
    assert_eq!(asked, 0, "no home was asked");
}

#[tokio::test]
async fn a_stream_wants_a_handshake_of_its_version_and_a_key() {
    let bench = Bench::start().await;
    let token = bench.token("ann");
    let asks = |version: &str, key: &str| {
        format!(
            "host: x\r\nauthorization: Bearer {token}\r\nupgrade: websocket\r\n\
             connection: upgrade, close\r\nsec-websocket-version: {version}\r\nsec-websocket-key: {key}\r\n"
        )
    };
    let edge = bench.edge.local_addr();
    let ask = |headers: String| async move {
        raw(edge, format!("GET /v1/stream HTTP/1.1\r\n{headers}\r\n").as_bytes()).await
    };
    let old = ask(asks("8", "dGhlIHNhbXBsZSBub25jZQ==")).await;
    assert_eq!((old.status, header(&old, "sec-websocket-version")), (426, Some("13")));
    assert_eq!(header(&old, "upgrade"), Some("websocket"));
    let short = ask(asks("13", "c2hvcnQ=")).await;
    assert_eq!((short.status, &short.body["code"]), (400, &json!("bad_request")));
}
