//! Direct conversations.

use hearth_stories::http;
use hearth_stories::mesh::Mesh;
use hearth_stories::socket::Socket;
use serde_json::json;

use crate::text;

#[tokio::test(flavor = "multi_thread")]
async fn two_users_who_open_one_at_the_same_moment_get_the_same() {
    let mesh = Mesh::up();
    let regions = mesh.regions();
    let (near, far) = (mesh.edge(&regions[0]), mesh.edge(&regions[2]));
    for n in 0..10 {
        let [a, b] = [format!("a{n}"), format!("b{n}")];
        let (token_a, token_b) = (mesh.token(&a), mesh.token(&b));
        let ask = |with: &str| json!({"kind": "direct", "user_id": with});
        let (one, two) = tokio::join!(
            http::post(&near, "/v1/conversations", &token_a, ask(&b)),
            http::post(&far, "/v1/conversations", &token_b, ask(&a)),
        );
        assert!(one.status < 300 && two.status < 300, "{} {}", one.body, two.body);
        assert_eq!(one.body["conversation_id"], two.body["conversation_id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_one_hear_each_other_and_nobody_else_gets_in() {
    let mesh = Mesh::up();
    let regions = mesh.regions();
    let (near, far) = (mesh.edge(&regions[0]), mesh.edge(&regions[1]));
    let (ann, bob, eve) = (mesh.token("ann"), mesh.token("bob"), mesh.token("eve"));
    let mut at_far = Socket::session(&far, &bob).await;
    let mut at_near = Socket::session(&near, &ann).await;
    let opened =
        http::post(&near, "/v1/conversations", &ann, json!({"kind": "direct", "user_id": "bob"}))
            .await;
    let conversation = text(&opened.body["conversation_id"]);
    assert_eq!(
        (&opened.body["kind"], &opened.body["name"]),
        (&json!("direct"), &json!(null)),
        "{}",
        opened.body
    );
    assert_eq!(at_far.next_of("conversation.joined").await["conversation_id"], conversation);
    at_far.send_message(&conversation, "1", "hello ann").await.unwrap();
    assert_eq!(at_near.next_of("message.new").await["payload"]["body"], "hello ann");

    let path = format!("/v1/conversations/{conversation}/messages");
    let peek = http::get(&near, &path, &eve).await;
    assert_eq!((peek.status, peek.code()), (403, "not_a_member"));
    let push = json!({"add": ["eve"]});
    let pushed = http::post(&near, &format!("/v1/groups/{conversation}/members"), &ann, push).await;
    assert!(pushed.status == 400 || pushed.status == 403, "{}", pushed.body);
    let alone =
        http::post(&near, "/v1/conversations", &ann, json!({"kind": "direct", "user_id": "ann"}))
            .await;
    assert_eq!((alone.status, alone.code()), (400, "bad_request"));
}
