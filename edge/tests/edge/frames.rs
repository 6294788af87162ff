//! Frames of a session: what is asked, and what bad ones get.

use futures_util::SinkExt;
use proptest::prelude::*;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::harness::Bench;
use crate::socket::{Client, http};

#[tokio::test]
async fn hello_is_first_and_says_who_and_what() {
    let bench = Bench::start().await;
    let mut client = Client::open(bench.edge.local_addr(), &bench.token("ann")).await.unwrap();
    let hello = client.next().await.unwrap();
    assert_eq!(hello["type"], "hello");
    let payload = &hello["payload"];
    for (field, value) in
        [("user_id", "ann"), ("tenant", "demo"), ("region", "here"), ("edge", "r1/edge/1")]
    {
        assert_eq!(payload[field], value);
    }
    assert_eq!(payload["limits"], json!({"frame_bytes": 65_536, "body_bytes": 16_384}));
    for field in ["session_id", "device_id", "resume"] {
        assert!(payload[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
}

#[tokio::test]
async fn meta_comes_back_as_its_sender_wrote_it() {
    // Keys out of order and twice, 2^70, a number that no float holds, white space.
    let meta = r#"{ "z":1180591620717411303424, "a" : [1.10,-0, 1e400,null],"z":"\u00e9" }"#;
    let expected = format!("\"meta\":{meta}");
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    let (mut ann, mut bob) = (bench.session("ann").await, bench.session("bob").await);
    let frame = format!(
        r#"{{"type":"message.send","conversation_id":"{tea}","client_msg_id":"m1","payload":{{"meta":{meta},"body":"hi"}}}}"#
    );
    ann.stream.send(Message::text(frame)).await.unwrap();
    for client in [&mut ann, &mut bob] {
        let text = client.text_of("message.new").await;
        assert!(text.contains(&expected), "{text}");
    }
    let post =
        format!(r#"{{"meta":{meta},"body":"hi","conversation_id":"{tea}","client_msg_id":"m2"}}"#);
    let (edge, token) = (bench.edge.local_addr(), bench.token("bob"));
    let sent = http(edge, "POST", "/v1/messages", Some(&token), &post).await;
    assert_eq!((sent.status, &sent.body["seq"]), (201, &json!(2)), "{}", sent.text);
    let text = ann.text_of("message.new").await;
    assert!(text.contains(&expected), "{text}");
    let path = format!("/v1/conversations/{tea}/messages");
    let page = http(edge, "GET", &path, Some(&token), "").await.text;
    assert_eq!(page.matches(&expected).count(), 2, "{page}");
}

#[tokio::test]
async fn a_send_is_acknowledged_and_comes_back_as_an_event() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    let (mut ann, mut bob) = (bench.session("ann").await, bench.session("bob").await);
    ann.say(tea, "m1", "hi").await;
    let ack = ann.next_of("message.ack").await;
    assert_eq!((&ack["re"], &ack["client_msg_id"]), (&json!("m1"), &json!("m1")));
    assert_eq!(ack["conversation_id"], json!(tea));
    assert_eq!((&ack["payload"]["seq"], &ack["payload"]["duplicate"]), (&json!(1), &json!(false)));
    assert_eq!(ack["payload"]["durability"], "region");
    for client in [&mut ann, &mut bob] {
        let new = client.next_of("message.new").await;
        assert_eq!(new["payload"]["message_id"], ack["payload"]["message_id"]);
        assert_eq!(
            (&new["payload"]["sender"], &new["payload"]["body"]),
            (&json!("ann"), &json!("hi"))
        );
    }
    ann.say(tea, "m1", "hi").await;
    assert_eq!(ann.next_of("message.ack").await["payload"]["duplicate"], true);
    ann.say(tea, "m1", "something else").await;
    let error = ann.next_of("error").await;
    assert_eq!(
        (&error["payload"]["code"], &error["client_msg_id"]),
        (&json!("client_msg_id_reused"), &json!("m1"))
    );
}

#[tokio::test]
async fn ping_gets_pong_and_types_of_later_versions_an_error() {
    let bench = Bench::start().await;
    let mut ann = bench.session("ann").await;
    ann.send(json!({"id": "p", "type": "ping"})).await;
    let pong = ann.next().await.unwrap();
    assert_eq!((&pong["type"], &pong["re"]), (&json!("pong"), &json!("p")));
    assert!(pong["payload"]["server_time_ms"].is_u64());
    for kind in ["typing.send", "receipt.send", "resume", "message.edit", "make.coffee"] {
        ann.send(json!({"id": "x", "type": kind, "payload": {}})).await;
        let error = ann.next().await.unwrap();
        assert_eq!(
            (&error["payload"]["code"], &error["re"]),
            (&json!("unknown_type"), &json!("x")),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn an_answer_to_a_bad_frame_repeats_what_it_had_and_the_session_lives_on() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &[]);
    let mut ann = bench.session("ann").await;
    let foreign = bench
        .world
        .user_stream_id(&crate::harness::tenant("demo"), &crate::harness::user("ann"))
        .unwrap();
    for (frame, code) in [
        (
            json!({"id": "x", "type": "message.send", "conversation_id": tea, "client_msg_id": "c", "payload": {}}),
            "bad_frame",
        ),
        (
            json!({"id": "x", "type": "message.send", "conversation_id": tea, "client_msg_id": "c", "payload": {"body": ""}}),
            "bad_request",
        ),
        (
            json!({"id": "x", "type": "message.send", "conversation_id": tea, "client_msg_id": "c",
                "payload": {"body": "x".repeat(16_385)}}),
            "too_large",
        ),
        (
            json!({"id": "x", "type": "message.send", "conversation_id": foreign, "client_msg_id": "c",
                "payload": {"body": "x"}}),
            "not_found",
        ),
        (json!({"id": "x", "type": "sync", "payload": {"after": {"x": 1}}}), "bad_frame"),
    ] {
        ann.send(frame.clone()).await;
        let error = ann.next().await.unwrap();
        assert_eq!(
            (&error["payload"]["code"], &error["re"]),
            (&json!(code), &json!("x")),
            "{frame}"
        );
        assert_eq!(error["client_msg_id"], frame["client_msg_id"]);
        assert_eq!(error["conversation_id"], frame["conversation_id"]);
    }
    ann.say(tea, "m", "alive").await;
    ann.next_of("message.ack").await;
}

#[tokio::test]
async fn a_binary_frame_closes_with_1003() {
    let bench = Bench::start().await;
    let mut ann = bench.session("ann").await;
    ann.stream.send(Message::binary(vec![0; 10])).await.unwrap();
    assert_eq!(ann.closed().await, Some(1003));
}

#[tokio::test]
async fn a_frame_of_the_limit_is_read_and_one_over_it_closes_with_1009() {
    let bench = Bench::start().await;
    let mut ann = bench.session("ann").await;
    ann.stream.send(Message::text("x".repeat(64 * 1024))).await.unwrap();
    assert_eq!(ann.next().await.unwrap()["payload"]["code"], "bad_frame");
    ann.stream.send(Message::text("x".repeat(64 * 1024 + 1))).await.unwrap();
    assert_eq!(ann.closed().await, Some(1009));
}

#[tokio::test]
async fn a_close_reaches_a_client_that_is_still_writing_megabytes() {
    let bench = Bench::start().await;
    for _ in 0..5 {
        let mut ann = bench.session("ann").await;
        ann.stream.send(Message::text("x".repeat(8 * 1024 * 1024))).await.unwrap();
        assert_eq!(ann.closed().await, Some(1009));
    }
}

#[tokio::test]
async fn fragments_count_together() {
    let bench = Bench::start().await;
    let mut ann = bench.session("ann").await;
    let fragment = |first: bool, last: bool| {
        let opcode = OpCode::Data(if first { Data::Text } else { Data::Continue });
        Message::Frame(Frame::message(vec![b'x'; 40 * 1024], opcode, last))
    };
    ann.stream.send(fragment(true, false)).await.unwrap();
    ann.stream.send(fragment(false, true)).await.unwrap();
    assert_eq!(ann.closed().await, Some(1009));
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007() {
    let bench = Bench::start().await;
    let mut ann = bench.session("ann").await;
    let frame = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    ann.stream.send(Message::Frame(frame)).await.unwrap();
    assert_eq!(ann.closed().await, Some(1007));
}

#[tokio::test]
async fn repeated_nonsense_closes_with_1008() {
    let bench = Bench::start().await;
    let mut ann = bench.session("ann").await;
    for _ in 0..1_000 {
        if ann.stream.send(Message::text("nonsense")).await.is_err() {
            break;
        }
    }
    assert_eq!(ann.closed().await, Some(1008));
}

#[tokio::test]
async fn a_close_is_echoed_and_a_ping_answered() {
    let bench = Bench::start().await;
    let mut ann = bench.session("ann").await;
    ann.stream.send(Message::Ping("x".into())).await.unwrap();
    let pong = futures_util::StreamExt::next(&mut ann.stream).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("x".into()));
    ann.stream.send(Message::Close(None)).await.unwrap();
    assert_eq!(ann.closed().await, None);
    crate::harness::until("the session is gone", || bench.edge.status().sessions == 0).await;
}

#[test]
fn no_text_frame_is_ever_a_panic_or_a_silence() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(Bench::with(hearth_edge::Limits {
        bad_frames: u32::MAX,
        ..hearth_edge::Limits::default()
    }));
    let ann = std::cell::RefCell::new(runtime.block_on(bench.session("ann")));
    proptest!(ProptestConfig::with_cases(64), |(text in "(?s).{0,120}", kind in "[a-z.]{0,12}", any in ".{0,40}")| {
        let crafted = format!(r#"{{"type":"{kind}","id":1{any}}}"#);
        let ann = &mut *ann.borrow_mut();
        runtime.block_on(async {
            for frame in [text, crafted] {
                ann.stream.send(Message::text(frame)).await.unwrap();
            }
            ann.send(json!({"id": "end", "type": "ping"})).await;
            let mut answers = 0;
            while ann.next().await.unwrap()["type"] == "error" {
                answers += 1;
            }
            assert_eq!(answers, 2);
        });
    });
}
