//! A message's life, and that of its retries.

use hearth_stories::mesh::Mesh;
use hearth_stories::socket::{Got, Socket};
use hearth_stories::{eventually, http};
use serde_json::json;

use crate::group;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_crosses_the_mesh_and_is_there_ever_after() {
    let mut mesh = Mesh::up();
    let regions = mesh.regions();
    let (near, far) = (mesh.edge(&regions[0]), mesh.edge(&regions[2]));
    let (ann, bob) = (mesh.token("ann"), mesh.token("bob"));
    let mut at_near = Socket::session(&near, &ann).await;
    let mut at_far = Socket::session(&far, &bob).await;
    let conversation = group(&near, &ann, "tea", &["bob"]).await;

    // Both sides learn of the group without asking.
    for socket in [&mut at_near, &mut at_far] {
        let joined = socket.next_of("conversation.joined").await;
        assert_eq!(joined["conversation_id"], conversation);
        assert_eq!(joined["payload"]["ver"], 1);
        assert_eq!(joined["payload"]["member_count"], 2);
    }

    at_near.send_message(&conversation, "m-1", "Schöne Grüße 🫖").await.unwrap();
    let ack = at_near.next_of("message.ack").await;
    assert_eq!(ack["re"], "m-1");
    assert_eq!(ack["client_msg_id"], "m-1");
    assert_eq!(ack["payload"]["seq"], 1);
    assert_eq!(ack["payload"]["durability"], "multi-region");
    assert_eq!(ack["payload"]["duplicate"], false);
    for socket in [&mut at_near, &mut at_far] {
        let new = socket.next_of("message.new").await;
        assert_eq!(new["conversation_id"], conversation);
        assert_eq!(new["payload"]["body"], "Schöne Grüße 🫖");
        assert_eq!((&new["payload"]["seq"], &new["payload"]["ver"]), (&json!(1), &json!(2)));
        assert_eq!(new["payload"]["sender"], "ann");
        assert_eq!(new["payload"]["message_id"], ack["payload"]["message_id"]);
    }

    at_far.send(json!({"id": "p", "type": "ping"})).await.unwrap();
    assert_eq!(at_far.next_of("pong").await["re"], "p");

    // History, from every region's edge, and the inbox.
    for region in &regions {
        let history = http::history(&mesh.edge(region), &conversation, &bob).await;
        assert_eq!(history.len(), 1);
        assert_eq!(history[0]["client_msg_id"], "m-1");
    }
    let inbox = http::get(&far, "/v1/inbox", &bob).await;
    let entry = &inbox.body["conversations"][0];
    assert_eq!((&entry["conversation_id"], &entry["head_seq"]), (&json!(conversation), &json!(1)));
    assert_eq!(
        (&entry["unread"], &entry["name"], &entry["kind"]),
        (&json!(1), &json!("tea"), &json!("group"))
    );

    // All of it is there after the end and another start.
    mesh.end();
    mesh.start();
    let history = http::history(&mesh.edge(&regions[1]), &conversation, &bob).await;
    assert_eq!(history.len(), 1);
    assert_eq!(history[0]["body"], "Schöne Grüße 🫖");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_that_ends_answers_its_sessions_tells_them_and_closes_with_1001() {
    let mut mesh = Mesh::up_with(&["--world", "one-region"]);
    let edge = mesh.edge(&mesh.regions()[0]);
    let ann = mesh.token("ann");
    let conversation = group(&edge, &ann, "tea", &[]).await;
    let mut socket = Socket::session(&edge, &ann).await;
    for n in 1..=40 {
        socket.send_message(&conversation, &format!("m-{n}"), "before the end").await.unwrap();
    }
    let ending = tokio::task::spawn_blocking(move || mesh.end());
    let (mut acked, mut told) = (0, None);
    let code = loop {
        match socket.next().await {
            Got::Frame(frame) => match frame["type"].as_str() {
                Some("message.ack") => acked += 1,
                Some("goaway") => told = Some(frame["payload"]["alternatives"].clone()),
                _ => {}
            },
            Got::Closed(code) => break code,
        }
    };
    ending.await.unwrap();
    assert_eq!((acked, code), (40, Some(1001)));
    assert_eq!(told, Some(json!([])), "no other edge is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_one_message_and_another_body_is_refused() {
    let mesh = Mesh::up_with(&["--world", "one-region"]);
    let edge = mesh.edge(&mesh.regions()[0]);
    let (ann, bob) = (mesh.token("ann"), mesh.token("bob"));
    let conversation = group(&edge, &ann, "tea", &["bob"]).await;
    let mut socket = Socket::session(&edge, &ann).await;
    for duplicate in [false, true, true] {
        socket.send_message(&conversation, "same", "once").await.unwrap();
        let ack = socket.next_of("message.ack").await;
        assert_eq!(
            (&ack["payload"]["seq"], &ack["payload"]["duplicate"]),
            (&json!(1), &json!(duplicate))
        );
    }
    let post = |id: &str, body: &str| json!({"conversation_id": conversation, "client_msg_id": id, "body": body});
    let again = http::post(&edge, "/v1/messages", &ann, post("same", "once")).await;
    assert_eq!((again.status, &again.body["duplicate"]), (200, &json!(true)));
    let other = http::post(&edge, "/v1/messages", &ann, post("same", "twice")).await;
    assert_eq!((other.status, other.code()), (409, "client_msg_id_reused"));
    socket.send_message(&conversation, "same", "twice").await.unwrap();
    let error = socket.next_of("error").await;
    assert_eq!(error["payload"]["code"], "client_msg_id_reused");
    assert_eq!((&error["re"], &error["client_msg_id"]), (&json!("same"), &json!("same")));

    // The id is the sender's own: another sender may use the same.
    let bobs = http::post(&edge, "/v1/messages", &bob, post("same", "mine")).await;
    assert_eq!((bobs.status, &bobs.body["seq"]), (201, &json!(2)));
    assert_eq!(http::history(&edge, &conversation, &bob).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_sends_what_was_missed_in_order() {
    let mesh = Mesh::for_load("one-region");
    let edge = mesh.edge(&mesh.regions()[0]);
    let (ann, bob) = (mesh.token("ann"), mesh.token("bob"));
    let conversation = group(&edge, &ann, "tea", &["bob"]).await;
    for n in 1..=450 {
        let body = json!({"conversation_id": conversation, "client_msg_id": format!("m{n}"), "body": format!("{n}")});
        assert_eq!(http::post(&edge, "/v1/messages", &ann, body).await.status, 201);
    }
    let mut socket = Socket::session(&edge, &bob).await;
    socket
        .send(json!({"id": "s", "type": "sync", "payload": {"after": {&*conversation: 7}}}))
        .await
        .unwrap();
    for n in 8..=450 {
        let new = socket.next_of("message.new").await;
        assert_eq!(new["payload"]["seq"], n);
        assert_eq!(new["payload"]["body"], n.to_string());
    }
    let done = socket.next_of("sync.done").await;
    assert_eq!(done["re"], "s");
    assert_eq!(done["payload"]["heads"][&*conversation], 450);
    socket.send_message(&conversation, "after", "live again").await.unwrap();
    assert_eq!(socket.next_of("message.new").await["payload"]["seq"], 451);

    // Pages of history, in both directions.
    let page = |query: &str| format!("/v1/conversations/{conversation}/messages?{query}");
    let newest = http::get(&edge, &page("limit=3"), &bob).await.body;
    let seqs: Vec<_> =
        newest["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect();
    assert_eq!(
        (seqs, &newest["has_more"], &newest["head_seq"]),
        (vec![449, 450, 451], &json!(true), &json!(451))
    );
    let first = http::get(&edge, &page("before=3"), &bob).await.body;
    assert_eq!(
        (first["messages"].as_array().unwrap().len(), &first["has_more"]),
        (2, &json!(false))
    );
    for bad in ["limit=0", "limit=201", "limit=x", "before=1&after=1"] {
        let refused = http::get(&edge, &page(bad), &bob).await;
        assert_eq!((refused.status, refused.code()), (400, "bad_request"), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_counts_what_is_unread() {
    let mesh = Mesh::up_with(&["--world", "one-region"]);
    let edge = mesh.edge(&mesh.regions()[0]);
    let (ann, bob) = (mesh.token("ann"), mesh.token("bob"));
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        let id = group(&edge, &ann, name, &["bob"]).await;
        for n in 0..3 {
            let body =
                json!({"conversation_id": id, "client_msg_id": format!("m{n}"), "body": "x"});
            assert_eq!(http::post(&edge, "/v1/messages", &ann, body).await.status, 201);
        }
        ids.push(id);
    }
    // Membership reaches a user's own stream a moment after the group is made, and the head of
    // another shard's conversation reaches an inbox a moment after the ack.
    eventually("three conversations with three unread in bob's inbox", || async {
        let inbox = http::get(&edge, "/v1/inbox", &bob).await;
        let rows = inbox.body["conversations"].as_array().unwrap();
        (rows.len() == 3 && rows.iter().all(|row| row["unread"] == 3)).then_some(())
    })
    .await;
    let mut seen = Vec::new();
    let mut path = "/v1/inbox?limit=2".to_owned();
    loop {
        let page = http::get(&edge, &path, &bob).await;
        assert_eq!(page.status, 200, "{}", page.body);
        for entry in page.body["conversations"].as_array().unwrap() {
            assert_eq!((&entry["unread"], &entry["read_seq"]), (&json!(3), &json!(0)), "{entry}");
            seen.push(entry["conversation_id"].as_str().unwrap().to_owned());
        }
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/v1/inbox?limit=2&cursor={next}");
    }
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);
    // Own sends count as read.
    eventually("nothing unread in ann's inbox", || async {
        let own = http::get(&edge, "/v1/inbox", &ann).await;
        let rows = own.body["conversations"].as_array().unwrap();
        rows.iter().all(|row| row["unread"] == 0).then_some(())
    })
    .await;
}
