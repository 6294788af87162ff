//! Groups: who is in, who may do what.

use hearth_stories::http::{self, Answer};
use hearth_stories::mesh::Mesh;
use hearth_stories::socket::Socket;
use serde_json::{Value, json};

use crate::group;

async fn change(edge: &str, conversation: &str, token: &str, what: Value) -> Answer {
    http::post(edge, &format!("/v1/groups/{conversation}/members"), token, what).await
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_say_who_may_do_what() {
    let mesh = Mesh::up_with(&["--world", "one-region"]);
    let edge = mesh.edge(&mesh.regions()[0]);
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|user| mesh.token(user));
    let conversation = group(&edge, &ann, "tea", &["bob", "cid"]).await;

    // A member may not add, remove others or promote.
    for what in
        [json!({"add": ["dan"]}), json!({"remove": ["cid"]}), json!({"roles": {"bob": "admin"}})]
    {
        let refused = change(&edge, &conversation, &bob, what).await;
        assert_eq!((refused.status, refused.code()), (403, "forbidden"));
    }
    assert_eq!(
        change(&edge, &conversation, &ann, json!({"roles": {"bob": "admin"}})).await.status,
        200
    );
    assert_eq!(change(&edge, &conversation, &bob, json!({"add": ["dan"]})).await.status, 200);
    let refused = change(&edge, &conversation, &bob, json!({"remove": ["ann"]})).await;
    assert_eq!((refused.status, refused.code()), (403, "forbidden"));

    // All or nothing: the forbidden half takes the allowed one with it.
    let refused =
        change(&edge, &conversation, &bob, json!({"add": ["fay"], "remove": ["ann"]})).await;
    assert_eq!(refused.status, 403);
    let view = http::get(&edge, &format!("/v1/groups/{conversation}"), &cid).await.body;
    let members: Vec<_> = view["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["user_id"].as_str().unwrap())
        .collect();
    assert_eq!(members, ["ann", "bob", "cid", "dan"]);
    assert_eq!(view["members"][1]["role"], "admin");

    // Anyone may leave; who has left neither reads nor writes.
    assert_eq!(change(&edge, &conversation, &cid, json!({"remove": ["cid"]})).await.status, 200);
    let gone = http::get(&edge, &format!("/v1/groups/{conversation}"), &cid).await;
    assert_eq!((gone.status, gone.code()), (403, "not_a_member"));
    let body =
        json!({"conversation_id": conversation, "client_msg_id": "1", "body": "still here?"});
    let gone = http::post(&edge, "/v1/messages", &cid, body).await;
    assert_eq!((gone.status, gone.code()), (403, "not_a_member"));
    for bad in [
        json!({"add": [""]}),
        json!({"nonsense": []}),
        json!({"roles": {"bob": "king"}}),
        json!([]),
    ] {
        let refused = change(&edge, &conversation, &ann, bad).await;
        assert_eq!((refused.status, refused.code()), (400, "bad_request"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_hears_from_being_added_until_being_removed() {
    let mesh = Mesh::up();
    let regions = mesh.regions();
    let (near, far) = (mesh.edge(&regions[0]), mesh.edge(&regions[1]));
    let (ann, bob) = (mesh.token("ann"), mesh.token("bob"));
    let mut bobs = Socket::session(&far, &bob).await;
    let conversation = group(&near, &ann, "tea", &[]).await;
    let mut anns = Socket::session(&near, &ann).await;
    anns.send_message(&conversation, "1", "to myself").await.unwrap();
    anns.next_of("message.ack").await;

    assert_eq!(change(&near, &conversation, &ann, json!({"add": ["bob"]})).await.status, 200);
    let joined = bobs.next_of("conversation.joined").await;
    let (payload, place) = (&joined["payload"], json!({"role": "member", "joined_seq": 2}));
    assert_eq!((&payload["ver"], &payload["member_count"]), (&json!(3), &json!(2)));
    assert_eq!(json!({"role": payload["role"], "joined_seq": payload["joined_seq"]}), place);
    let updated = anns.next_of("conversation.updated").await;
    let added = json!([{"user_id": "bob", "role": "member"}]);
    let told = json!({"ver": 3, "epoch": 1, "by": "ann", "added": added, "member_count": 2});
    assert_eq!(updated["payload"], told, "what changed and nothing else");
    anns.send_message(&conversation, "2", "welcome").await.unwrap();
    let heard = bobs.next_of("message.new").await;
    assert_eq!((&heard["payload"]["seq"], &heard["payload"]["ver"]), (&json!(2), &json!(4)));

    assert_eq!(change(&near, &conversation, &ann, json!({"remove": ["bob"]})).await.status, 200);
    bobs.next_of("conversation.left").await;
    anns.send_message(&conversation, "3", "without bob").await.unwrap();
    anns.next_where("its ack", |frame| frame["type"] == "message.ack" && frame["re"] == "3").await;
    // The next frame for bob answers the ping. The message never comes.
    bobs.send(json!({"id": "p", "type": "ping"})).await.unwrap();
    let next = bobs
        .next_where("anything", |frame| frame["type"] == "pong" || frame["type"] == "message.new")
        .await;
    assert_eq!(next["type"], "pong");
    let refused =
        http::get(&far, &format!("/v1/conversations/{conversation}/messages"), &bob).await;
    assert_eq!((refused.status, refused.code()), (403, "not_a_member"));
}
