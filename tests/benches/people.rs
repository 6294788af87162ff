//! Tokens and conversations for many users at once.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hearth_stories::http;
use serde_json::json;
use wire::{TenantId, UserId};

/// Signs as `hearth token` does, without a process for each.
pub(crate) fn token(dir: &Path, user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let issuer = auth::DevIssuer::load(&dir.join("keys")).unwrap();
    let (tenant, user) = (TenantId::new("demo").unwrap(), UserId::new(user).unwrap());
    issuer.issue(&tenant, &user, None, 86_400, u64::try_from(now.as_millis()).unwrap())
}

/// A group of `owner` and these members; its id.
pub(crate) fn group(base: &str, owner: &str, members: &[String]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let made =
            http::post(base, "/v1/groups", owner, json!({"name": "bench", "members": []})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let id = made.body["conversation_id"].as_str().unwrap().to_owned();
        for some in members.chunks(1_000) {
            let added =
                http::post(base, &format!("/v1/groups/{id}/members"), owner, json!({"add": some}))
                    .await;
            assert_eq!(added.status, 200, "{}", added.body);
        }
        id
    })
}

/// The number of conversations that a user's own stream knows.
pub(crate) fn inbox(base: &str, token: &str) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let inbox = runtime.block_on(http::get(base, "/v1/inbox", token));
    inbox.body["conversations"].as_array().map_or(0, Vec::len)
}

/// Waits until a user's own stream knows that many conversations.
pub(crate) fn wait_for_inbox(base: &str, token: &str, conversations: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(hearth_stories::eventually("the membership notes", || async {
        let inbox = http::get(base, "/v1/inbox", token).await;
        (inbox.body["conversations"].as_array()?.len() >= conversations).then_some(())
    }));
}
