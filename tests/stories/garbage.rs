//! Bad input gets a clear error with a stable code, and nothing is lost.

use hearth_stories::http;
use hearth_stories::mesh::Mesh;
use hearth_stories::socket::Socket;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::group;

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_frame_gets_an_error_and_the_session_lives_on() {
    let mesh = Mesh::up_with(&["--world", "one-region"]);
    let edge = mesh.edge(&mesh.regions()[0]);
    let ann = mesh.token("ann");
    let conversation = group(&edge, &ann, "tea", &[]).await;
    let mut socket = Socket::session(&edge, &ann).await;
    let nested = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let send = |payload: &str| {
        format!(
            r#"{{"type":"message.send","id":"x","conversation_id":"{conversation}","client_msg_id":"c","payload":{payload}}}"#
        )
    };
    let long = send(&json!({"body": "x".repeat(16_385)}).to_string());
    let cases = [
        ("nothing", String::new(), "bad_frame"),
        ("not JSON", "hello".into(), "bad_frame"),
        ("not an object", "[1,2]".into(), "bad_frame"),
        ("no type", "{}".into(), "bad_frame"),
        ("a type of the wrong type", r#"{"type":1}"#.into(), "bad_frame"),
        ("an unknown type", r#"{"type":"make.coffee","id":"x"}"#.into(), "unknown_type"),
        ("deep nesting", nested, "bad_frame"),
        (
            "deep nesting in a payload",
            send(&format!(r#"{{"body":"x","meta":{}1{}}}"#, "[".repeat(500), "]".repeat(500))),
            "bad_frame",
        ),
        ("no body", send("{}"), "bad_frame"),
        ("a body of the wrong type", send(r#"{"body":{}}"#), "bad_frame"),
        ("an empty body", send(r#"{"body":""}"#), "bad_request"),
        ("a body over its limit", long, "too_large"),
        ("a reply to what is not there", send(r#"{"body":"x","reply_to":99}"#), "bad_request"),
        (
            "a conversation that is none",
            r#"{"type":"message.send","id":"x","conversation_id":"cnv_x","client_msg_id":"c","payload":{"body":"x"}}"#
                .into(),
            "bad_frame",
        ),
    ];
    for (n, (what, text, code)) in cases.into_iter().enumerate() {
        if n % 10 == 9 {
            // Enough bad frames are abuse: go on in a fresh session.
            socket = Socket::session(&edge, &ann).await;
        }
        socket.send_raw(Message::text(text)).await.unwrap();
        let error = socket.next_of("error").await;
        assert_eq!(error["payload"]["code"], code, "{what}: {error}");
    }
    socket.send_message(&conversation, "1", "alive").await.unwrap();
    assert_eq!(socket.next_of("message.ack").await["payload"]["seq"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_oversized_and_abusive_sessions_are_closed_with_their_code() {
    let mesh = Mesh::up_with(&["--world", "one-region"]);
    let edge = mesh.edge(&mesh.regions()[0]);
    let ann = mesh.token("ann");
    let mut socket = Socket::session(&edge, &ann).await;
    socket.send_raw(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(socket.until_closed().await, Some(1003));
    let mut socket = Socket::session(&edge, &ann).await;
    socket.send_raw(Message::text("x".repeat(64 * 1024 + 1))).await.unwrap();
    assert_eq!(socket.until_closed().await, Some(1009));
    let mut socket = Socket::session(&edge, &ann).await;
    for _ in 0..1_000 {
        if socket.send_raw(Message::text("nonsense")).await.is_err() {
            break;
        }
    }
    assert_eq!(socket.until_closed().await, Some(1008));
    // The edge is none the worse for it.
    Socket::session(&edge, &ann).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_gets_a_problem_with_a_code() {
    let mesh = Mesh::up_with(&["--world", "one-region"]);
    let edge = mesh.edge(&mesh.regions()[0]);
    let ann = mesh.token("ann");
    let conversation = group(&edge, &ann, "tea", &[]).await;
    let large =
        json!({"conversation_id": conversation, "client_msg_id": "c", "body": "x".repeat(16_385)})
            .to_string();
    let huge = "x".repeat(2 * 1024 * 1024);
    let cases = [
        ("GET", "/nowhere", "", 404, "not_found"),
        ("POST", "/v1/groups", "", 400, "bad_request"),
        ("POST", "/v1/groups", "{", 400, "bad_request"),
        ("POST", "/v1/groups", r#"{"name":"x","members":[],"color":"red"}"#, 400, "bad_request"),
        ("POST", "/v1/groups", r#"{"name":"","members":[]}"#, 400, "bad_request"),
        ("POST", "/v1/groups", r#"{"name":"x","members":[""]}"#, 400, "bad_request"),
        (
            "POST",
            "/v1/groups",
            r#"{"name":"x","members":[],"home_region":"atlantis"}"#,
            400,
            "bad_request",
        ),
        (
            "POST",
            "/v1/groups",
            r#"{"name":"x","members":[],"durability":"eternal"}"#,
            400,
            "bad_request",
        ),
        (
            "POST",
            "/v1/groups",
            r#"{"name":"x","members":[],"durability":"multi-region"}"#,
            400,
            "bad_request",
        ),
        ("POST", "/v1/conversations", r#"{"kind":"user","user_id":"bob"}"#, 400, "bad_request"),
        ("POST", "/v1/messages", &large, 413, "too_large"),
        ("POST", "/v1/messages", &huge, 413, "too_large"),
        ("GET", "/v1/inbox?limit=x", "", 400, "bad_request"),
    ];
    for (method, path, body, status, code) in cases {
        let answer = http::request(method, &edge, path, Some(&ann), body.to_owned()).await;
        // A server may stop reading what is far too large.
        let Ok(answer) = answer else { panic!("{method} {path}: nobody answered") };
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{method} {path}: {}",
            answer.body
        );
        assert!(
            answer.content_type.starts_with("application/problem+json"),
            "{}",
            answer.content_type
        );
    }
    let deleted = http::request("DELETE", &edge, "/v1/inbox", Some(&ann), "").await.unwrap();
    assert_eq!(deleted.status, 405);
}
