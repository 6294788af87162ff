//! Tokens: who gets in, and as whom.

use hearth_stories::http;
use hearth_stories::mesh::Mesh;
use hearth_stories::socket::{Got, Socket};
use serde_json::json;

use crate::group;

/// A token with its header or its claims replaced and its signature kept.
fn forge(token: &str, header: Option<&str>, claims: Option<&str>) -> String {
    let parts: Vec<_> = token.split('.').collect();
    let encode = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    let header = header.map_or_else(|| parts[0].to_owned(), encode);
    let claims = claims.map_or_else(|| parts[1].to_owned(), encode);
    format!("{header}.{claims}.{}", parts[2])
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_good_token_gets_in_and_it_is_checked_before_the_upgrade() {
    let mesh = Mesh::up_with(&["--world", "one-region"]);
    let edge = mesh.edge(&mesh.regions()[0]);
    let good = mesh.token("ann");
    let claims =
        data_encoding::BASE64URL_NOPAD.decode(good.split('.').nth(1).unwrap().as_bytes()).unwrap();
    let claims = String::from_utf8(claims).unwrap();
    let other = Mesh::up_with(&["--world", "one-region"]).token("ann");
    let bad = [
        ("nothing", String::new()),
        ("not a token", "abc".into()),
        (
            "alg none",
            format!(
                "{}.",
                forge(&good, Some(r#"{"alg":"none","typ":"JWT"}"#), None)
                    .rsplit_once('.')
                    .unwrap()
                    .0
            ),
        ),
        ("alg none, signed", forge(&good, Some(r#"{"alg":"none","typ":"JWT"}"#), None)),
        ("alg HS256", forge(&good, Some(r#"{"alg":"HS256","typ":"JWT"}"#), None)),
        ("another user", forge(&good, None, Some(&claims.replace("ann", "eve")))),
        ("another key", other),
    ];
    for (what, token) in bad {
        let refused =
            Socket::open(&edge, &token).await.err().unwrap_or_else(|| panic!("{what} got in"));
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (401, &json!("unauthenticated")),
            "{what}"
        );
        let refused = http::get(&edge, "/v1/inbox", &token).await;
        assert_eq!((refused.status, refused.code()), (401, "unauthenticated"), "{what}");
        assert!(
            refused.content_type.starts_with("application/problem+json"),
            "{}",
            refused.content_type
        );
    }
    let no_token = http::request("GET", &edge, "/v1/inbox", None, "").await.unwrap();
    assert_eq!((no_token.status, no_token.code()), (401, "unauthenticated"));
    let in_the_url =
        http::request("GET", &edge, &format!("/v1/inbox?token={good}"), None, "").await.unwrap();
    assert_eq!(in_the_url.status, 401);
    Socket::session(&edge, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_says_so_and_ends_a_running_session() {
    let mesh = Mesh::up_with(&["--world", "one-region"]);
    let edge = mesh.edge(&mesh.regions()[0]);
    let short = mesh.must(&["token", "--user", "ann", "--ttl", "3"]).trim().to_owned();
    let mut socket = Socket::session(&edge, &short).await;
    assert_eq!(socket.until_closed().await, Some(4001));
    let refused = hearth_stories::eventually("its expiry, with its leeway", || async {
        let refused = http::get(&edge, "/v1/inbox", &short).await;
        (refused.status != 200).then_some(refused)
    })
    .await;
    assert_eq!((refused.status, refused.code()), (401, "token_expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_offers_its_token_as_a_subprotocol() {
    let mesh = Mesh::up_with(&["--world", "one-region"]);
    let edge = mesh.edge(&mesh.regions()[0]);
    let identity = mesh.token("ann");
    let asked = http::post(&edge, "/v1/ws/token", &identity, json!({"device_id": "phone-1"})).await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    let stream_token = asked.body["token"].as_str().unwrap().to_owned();
    assert!(asked.body["url"].as_str().unwrap().starts_with("ws"), "{}", asked.body);
    let offer = format!("hearth.v1, hearth.token.{stream_token}");
    let mut socket = Socket::open_with(&edge, &[("sec-websocket-protocol", &offer)]).await.unwrap();
    assert_eq!(socket.protocol.as_deref(), Some("hearth.v1"));
    let Got::Frame(hello) = socket.next().await else { panic!("no hello") };
    assert_eq!(
        (&hello["type"], &hello["payload"]["device_id"]),
        (&json!("hello"), &json!("phone-1"))
    );
    assert_eq!(
        (&hello["payload"]["user_id"], &hello["payload"]["tenant"]),
        (&json!("ann"), &json!("demo"))
    );
    assert_eq!(hello["payload"]["limits"], json!({"frame_bytes": 65536, "body_bytes": 16384}));
    // A stream token opens streams, nothing else.
    let refused = http::get(&edge, "/v1/inbox", &stream_token).await;
    assert!(refused.status == 401 || refused.status == 403, "{}", refused.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_never_see_each_other() {
    let mesh = Mesh::up();
    let regions = mesh.regions();
    let edge = mesh.edge(&regions[0]);
    let tenant = mesh.ready["tenants"][1]["name"].as_str().unwrap().to_owned();
    let (ann, stranger) = (mesh.token("ann"), mesh.token_of(&tenant, "ann"));
    let conversation = group(&edge, &ann, "tea", &["bob"]).await;
    // The same user id in another tenant is another person, even with the id of the conversation in
    // hand.
    for path in
        [format!("/v1/groups/{conversation}"), format!("/v1/conversations/{conversation}/messages")]
    {
        let refused = http::get(&edge, &path, &stranger).await;
        assert_eq!((refused.status, refused.code()), (404, "not_found"), "{path}");
    }
    let body = json!({"conversation_id": conversation, "client_msg_id": "1", "body": "hello?"});
    let refused = http::post(&edge, "/v1/messages", &stranger, body).await;
    assert_eq!((refused.status, refused.code()), (404, "not_found"));
    let push = json!({"add": ["eve"]});
    let refused =
        http::post(&edge, &format!("/v1/groups/{conversation}/members"), &stranger, push).await;
    assert_eq!((refused.status, refused.code()), (404, "not_found"));
    let mut socket = Socket::session(&edge, &stranger).await;
    socket.send_message(&conversation, "1", "hello?").await.unwrap();
    assert_eq!(socket.next_of("error").await["payload"]["code"], "not_found");
    socket
        .send(json!({"id": "s", "type": "sync", "payload": {"after": {&*conversation: 0}}}))
        .await
        .unwrap();
    assert_eq!(socket.next_of("error").await["payload"]["code"], "not_found");
    let direct = http::post(
        &edge,
        "/v1/conversations",
        &stranger,
        json!({"kind": "direct", "user_id": "bob"}),
    )
    .await;
    assert_eq!(direct.status / 100, 2, "{}", direct.body);
    let inbox = http::get(&edge, "/v1/inbox", &mesh.token("bob")).await;
    assert!(!inbox.body.to_string().contains(direct.body["conversation_id"].as_str().unwrap()));
}
