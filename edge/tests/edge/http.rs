//! The HTTP interface.

use serde_json::{Value, json};

use crate::harness::Bench;
use crate::socket::{Answered, http};

impl Bench {
    async fn get(&self, user: &str, path: &str) -> Answered {
        http(self.edge.local_addr(), "GET", path, Some(&self.token(user)), "").await
    }

    async fn post(&self, user: &str, path: &str, body: Value) -> Answered {
        http(self.edge.local_addr(), "POST", path, Some(&self.token(user)), &body.to_string()).await
    }
}

#[tokio::test]
async fn a_group_is_made_shown_and_changed() {
    let bench = Bench::start().await;
    let made = bench.post("ann", "/v1/groups", json!({"name": "tea", "members": ["bob"]})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["conversation_id"].as_str().unwrap().to_owned();
    for (field, value) in [
        ("kind", json!("group")),
        ("name", json!("tea")),
        ("zone", json!("open")),
        ("home_region", json!("here")),
        ("acting_region", json!("here")),
        ("durability", json!("region")),
        ("head_seq", json!(0)),
        (
            "members",
            json!([{"user_id": "ann", "role": "owner", "joined_seq": 1}, {"user_id": "bob", "role": "member", "joined_seq": 1}]),
        ),
    ] {
        assert_eq!(made.body[field], value, "{field}");
    }
    let path = format!("/v1/groups/{id}");
    assert_eq!(bench.get("bob", &path).await.body, made.body);
    assert_eq!(
        bench.get("bob", &format!("{path}?members_after=ann")).await.body["members"][0]["user_id"],
        "bob"
    );
    let denied = bench.post("bob", &format!("{path}/members"), json!({"add": ["eve"]})).await;
    assert_eq!((denied.status, &denied.body["code"]), (403, &json!("forbidden")));
    let body = json!({"add": ["cid"], "remove": ["bob"], "roles": {}});
    let changed = bench.post("ann", &format!("{path}/members"), body).await;
    assert_eq!((changed.status, &changed.body["members"][1]["user_id"]), (200, &json!("cid")));
    assert_eq!(bench.get("bob", &path).await.body["code"], "not_a_member");
}

#[tokio::test]
async fn a_direct_conversation_is_the_same_for_both() {
    let bench = Bench::start().await;
    let first =
        bench.post("ann", "/v1/conversations", json!({"kind": "direct", "user_id": "bob"})).await;
    let second =
        bench.post("bob", "/v1/conversations", json!({"kind": "direct", "user_id": "ann"})).await;
    assert_eq!((first.status, second.status), (201, 200));
    assert_eq!(first.body["conversation_id"], second.body["conversation_id"]);
    assert_eq!(first.body["name"], Value::Null);
    let group =
        bench.post("ann", "/v1/conversations", json!({"kind": "group", "user_id": "bob"})).await;
    assert_eq!((group.status, &group.body["code"]), (400, &json!("bad_request")));
}

#[tokio::test]
async fn messages_are_sent_once_and_read_by_pages() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    let body = json!({"conversation_id": tea, "client_msg_id": "m1", "body": "hi", "mentions": ["bob"], "meta": {"a": 1}});
    let sent = bench.post("ann", "/v1/messages", body.clone()).await;
    assert_eq!(
        (sent.status, &sent.body["seq"], &sent.body["duplicate"]),
        (201, &json!(1), &json!(false))
    );
    let again = bench.post("ann", "/v1/messages", body).await;
    assert_eq!((again.status, &again.body["duplicate"]), (200, &json!(true)));
    let other = json!({"conversation_id": tea, "client_msg_id": "m1", "body": "else"});
    assert_eq!(bench.post("ann", "/v1/messages", other).await.status, 409);
    for n in 2..=60 {
        bench.say("bob", tea, &format!("m{n}"), "more");
    }
    let path = format!("/v1/conversations/{tea}/messages");
    let seqs = |answer: &Answered| -> Vec<u64> {
        answer.body["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["seq"].as_u64().unwrap())
            .collect()
    };
    let newest = bench.get("bob", &path).await;
    assert_eq!((seqs(&newest), &newest.body["has_more"]), ((11..=60).collect(), &json!(true)));
    let first = bench.get("bob", &format!("{path}?after=0&limit=1")).await;
    assert_eq!(first.body["messages"][0]["client_msg_id"], "m1");
    assert_eq!(first.body["messages"][0]["meta"], json!({"a": 1}));
    assert_eq!((seqs(&first), &first.body["head_seq"]), (vec![1], &json!(60)));
    assert_eq!(seqs(&bench.get("bob", &format!("{path}?before=4&limit=2")).await), [2, 3]);
    for bad in
        ["limit=0", "limit=201", "limit=x", "before=-1", "before=1&after=1", "after=1&after=2"]
    {
        let refused = bench.get("bob", &format!("{path}?{bad}")).await;
        assert_eq!((refused.status, &refused.body["code"]), (400, &json!("bad_request")), "{bad}");
    }
    assert_eq!(bench.get("eve", &path).await.body["code"], "not_a_member");
}

#[tokio::test]
async fn the_inbox_lists_what_one_is_in() {
    let bench = Bench::start().await;
    let (tea, _) = (bench.group("ann", &["bob"]), bench.group("ann", &[]));
    let inbox = bench.get("bob", "/v1/inbox").await;
    assert_eq!(inbox.body["conversations"].as_array().unwrap().len(), 1);
    assert_eq!(inbox.body["conversations"][0]["conversation_id"], json!(tea));
    assert_eq!(inbox.body["next"], Value::Null);
    assert_eq!(
        bench.get("ann", "/v1/inbox?limit=1").await.body["conversations"].as_array().unwrap().len(),
        1
    );
    for bad in ["limit=0", "limit=1000", "cursor=x"] {
        assert_eq!(bench.get("bob", &format!("/v1/inbox?{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn another_tenant_sees_nothing_by_any_id() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    let token = bench.token_of("other", "ann", 60);
    let edge = bench.edge.local_addr();
    let send = json!({"conversation_id": tea, "client_msg_id": "m", "body": "x"}).to_string();
    for (method, path, body) in [
        ("GET", format!("/v1/groups/{tea}"), ""),
        ("GET", format!("/v1/conversations/{tea}/messages"), ""),
        ("POST", format!("/v1/groups/{tea}/members"), r#"{"add":["ann"]}"#),
        ("POST", "/v1/messages".to_owned(), &send),
    ] {
        let refused = http(edge, method, &path, Some(&token), body).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (404, &json!("not_found")),
            "{method} {path}"
        );
    }
    let mut ann = crate::socket::Client::open(edge, &token).await.unwrap();
    ann.sync(tea, 0).await;
    assert_eq!(ann.next_of("error").await["payload"]["code"], "not_found");
    bench.say("ann", tea, "m1", "secret");
    ann.send(json!({"type": "ping"})).await;
    ann.next_of("pong").await;
    assert!(!bench.edge.status().links.is_empty());
}

#[tokio::test]
async fn a_home_outside_the_zone_is_denied_and_a_class_it_cannot_have_refused() {
    let bench = Bench::start().await;
    for (body, status, code) in [
        (json!({"name": "x", "home_region": "there"}), 403, "residency_denied"),
        (json!({"name": "x", "home_region": "atlantis"}), 400, "bad_request"),
        (json!({"name": "x", "durability": "multi-region"}), 400, "bad_request"),
        (json!({"name": "x", "durability": "eternal"}), 400, "bad_request"),
        (json!({"name": "x", "members": [""]}), 400, "bad_request"),
        (json!({"name": "x", "members": ["x".repeat(129)]}), 400, "bad_request"),
        (json!({"name": "", "members": []}), 400, "bad_request"),
        (json!({"name": 7}), 400, "bad_request"),
        (json!({"name": "x", "color": "red"}), 400, "bad_request"),
        (json!({"members": []}), 400, "bad_request"),
        (json!([]), 400, "bad_request"),
    ] {
        let refused = bench.post("ann", "/v1/groups", body.clone()).await;
        assert_eq!((refused.status, &refused.body["code"]), (status, &json!(code)), "{body}");
    }
}

#[tokio::test]
async fn every_error_is_a_problem_with_a_code() {
    let bench = Bench::start().await;
    let edge = bench.edge.local_addr();
    let token = bench.token("ann");
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let huge = format!(r#"{{"name":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    let long = json!({"conversation_id": bench.group("ann", &[]), "client_msg_id": "m", "body": "x".repeat(16_385)})
        .to_string();
    for (method, path, body, status, code) in [
        ("GET", "/", "", 404, "not_found"),
        ("GET", "/v1/events", "", 404, "not_found"),
        ("GET", "/v1/poll", "", 404, "not_found"),
        ("DELETE", "/v1/inbox", "", 405, "bad_request"),
        ("GET", "/v1/groups", "", 405, "bad_request"),
        ("POST", "/v1/groups", "", 400, "bad_request"),
        ("POST", "/v1/groups", "{", 400, "bad_request"),
        ("POST", "/v1/groups", &deep, 400, "bad_request"),
        ("POST", "/v1/groups", &huge, 413, "too_large"),
        ("POST", "/v1/messages", &long, 413, "too_large"),
        ("GET", "/v1/groups/nonsense", "", 400, "bad_request"),
        ("GET", "/v1/groups/%FF", "", 400, "bad_request"),
        ("GET", "/v1/groups/cnv_7777777777777777777777777777777777777", "", 404, "not_found"),
        ("GET", "/v1/inbox?cursor=cnv_7777777777777777777777777777777777777", "", 404, "not_found"),
        ("GET", "/v1/groups/cnv_ceaacaacaabqaaicamcakbqhbaequcymbuha6", "", 404, "not_found"),
        ("POST", "/v1/conversations", r#"{"kind":"direct","user_id":""}"#, 400, "bad_request"),
        ("POST", "/v1/conversations", r#"{"kind":"direct","user_id":"ann"}"#, 400, "bad_request"),
    ] {
        let answer = http(edge, method, path, Some(&token), body).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (status, &json!(code)),
            "{method} {path} {answer:?}"
        );
        assert_eq!(
            (&answer.body["status"], &answer.body["type"]),
            (&json!(status), &json!("about:blank"))
        );
        assert!(
            answer.head.to_lowercase().contains("content-type: application/problem+json"),
            "{}",
            answer.head
        );
        assert!(!answer.body["detail"].as_str().unwrap().contains("xxxx"));
    }
    let anonymous = http(edge, "GET", "/v1/inbox", None, "").await;
    assert_eq!(anonymous.status, 401);
    assert!(anonymous.head.to_lowercase().contains("www-authenticate: bearer"));
}
