//! The whole system, told in stories: the real program, over real sockets, as strangers' clients
//! see it.

#![allow(clippy::unwrap_used)]

#[path = "stories/crash.rs"]
mod crash;
#[path = "stories/cut_short.rs"]
mod cut_short;
#[path = "stories/deploy.rs"]
mod deploy;
#[path = "stories/direct.rs"]
mod direct;
#[path = "stories/disk.rs"]
mod disk;
#[path = "stories/faults.rs"]
mod faults;
#[path = "stories/garbage.rs"]
mod garbage;
#[path = "stories/groups.rs"]
mod groups;
#[path = "stories/life.rs"]
mod life;
#[path = "stories/moves.rs"]
mod moves;
#[path = "stories/residency.rs"]
mod residency;
#[path = "stories/tokens.rs"]
mod tokens;

use hearth_stories::http;
use serde_json::{Value, json};

/// A group of `owner` with these members, made at the edge at `base`. Its id.
async fn group(base: &str, owner_token: &str, name: &str, members: &[&str]) -> String {
    make_group(base, owner_token, json!({"name": name, "members": members})).await
}

async fn make_group(base: &str, owner_token: &str, what: Value) -> String {
    let answer = http::post(base, "/v1/groups", owner_token, what).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    text(&answer.body["conversation_id"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}
