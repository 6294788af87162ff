//! A zone's content rests in its regions and nowhere else.

use std::fs;
use std::path::Path;

use hearth_stories::http;
use hearth_stories::mesh::Mesh;
use hearth_stories::socket::Socket;
use serde_json::json;

use crate::group;

/// Files under `dir` that hold these bytes.
fn holding(dir: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, needle));
        } else if fs::read(&path)
            .unwrap_or_default()
            .windows(needle.len())
            .any(|window| window == needle)
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_tenant_is_served_inside_its_zone_and_rests_there_alone() {
    let mut mesh = Mesh::up();
    let pinned = mesh.ready["tenants"][1].clone();
    let (tenant, zone) = (pinned["name"].as_str().unwrap().to_owned(), pinned["zone"].clone());
    let regions = mesh.ready["regions"].as_array().unwrap().clone();
    let (inside, outside): (Vec<_>, Vec<_>) =
        regions.iter().partition(|region| region["zones"].as_array().unwrap().contains(&zone));
    let inside = inside[0]["name"].as_str().unwrap().to_owned();
    let (ann, bob) = (mesh.token_of(&tenant, "ann"), mesh.token_of(&tenant, "bob"));

    for region in &outside {
        let edge = region["edge"].as_str().unwrap();
        let refused = Socket::open(edge, &ann).await.err().expect("refused");
        assert_eq!((refused.status, &refused.body["code"]), (421, &json!("wrong_zone")));
        assert_eq!(refused.body["alternatives"], json!([mesh.edge(&inside)]));
        let refused = http::get(edge, "/v1/inbox", &ann).await;
        assert_eq!((refused.status, refused.code()), (421, "wrong_zone"));
    }

    let edge = mesh.edge(&inside);
    let conversation = group(&edge, &ann, "klausur", &["bob"]).await;
    let secret = "Kronjuwelen-7c3f9a-im-Tresor";
    let mut socket = Socket::session(&edge, &bob).await;
    socket.send_message(&conversation, "1", secret).await.unwrap();
    assert_eq!(socket.next_of("message.ack").await["payload"]["durability"], "region");
    let elsewhere = json!({"name": "x", "members": [], "home_region": outside[0]["name"]});
    let refused = http::post(&edge, "/v1/groups", &ann, elsewhere).await;
    assert_eq!((refused.status, refused.code()), (403, "residency_denied"));

    // A control: what the unpinned tenant says rests in all of its three regions.
    let control = "open-to-the-world-51d2";
    let demo = mesh.token("ann");
    let open = group(&edge, &demo, "open", &[]).await;
    let body = json!({"conversation_id": open, "client_msg_id": "1", "body": control});
    assert_eq!(http::post(&edge, "/v1/messages", &demo, body).await.status, 201);

    mesh.end();
    for region in &regions {
        let name = region["name"].as_str().unwrap();
        let dir = mesh.dir().join(name);
        assert_eq!(!holding(&dir, secret.as_bytes()).is_empty(), name == inside, "in {name}");
        assert!(!holding(&dir, control.as_bytes()).is_empty(), "in {name}");
    }
    let beside = holding(mesh.dir(), secret.as_bytes());
    assert!(
        beside.iter().all(|path| path.starts_with(&*mesh.dir().join(&inside).to_string_lossy())),
        "{beside:?}"
    );
}
