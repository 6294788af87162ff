//! The way to the owner: what is asked again, of whom, and what is delivered across a break.

use std::time::Duration;

use hearth_edge::Limits;
use serde_json::json;
use wire::command::{Command, UserCommand};

use crate::harness::{Bench, until};
use crate::socket::http;

fn seq(frame: &serde_json::Value) -> u64 {
    frame["payload"]["seq"].as_u64().unwrap()
}

#[tokio::test]
async fn what_was_not_answered_is_sent_again_in_order_and_unchanged() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &[]);
    let mut ann = bench.session("ann").await;
    bench.owner.homes().deaf = true;
    for n in 1..=20 {
        ann.say(tea, &format!("m{n}"), "hi").await;
    }
    until("all have come", || bench.owner.homes().commands.len() == 20).await;
    {
        let mut homes = bench.owner.homes();
        homes.deaf = false;
        homes.end_streams();
    }
    for n in 1..=20 {
        let ack = ann.next_of("message.ack").await;
        assert_eq!(
            (ack["client_msg_id"].as_str().unwrap(), seq(&ack)),
            (format!("m{n}").as_str(), n)
        );
        assert_eq!(seq(&ann.next_of("message.new").await), n);
    }
    let homes = bench.owner.homes();
    assert_eq!(homes.commands.len(), 40);
    assert_eq!(homes.commands[..20], homes.commands[20..]);
}

#[tokio::test]
async fn what_was_done_and_not_answered_is_a_duplicate_and_not_an_error() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &[]);
    let mut ann = bench.session("ann").await;
    bench.owner.homes().mute = true;
    ann.say(tea, "m1", "hi").await;
    assert_eq!(seq(&ann.next_of("message.new").await), 1);
    {
        let mut homes = bench.owner.homes();
        homes.mute = false;
        homes.end_streams();
    }
    let ack = ann.next_of("message.ack").await;
    assert_eq!((seq(&ack), &ack["payload"]["duplicate"]), (1, &json!(true)));
}

#[tokio::test]
async fn a_home_that_does_not_answer_in_time_is_unavailable() {
    let bench =
        Bench::with(Limits { home_deadline: Duration::from_secs(1), ..Limits::default() }).await;
    let tea = bench.group("ann", &[]);
    let mut ann = bench.session("ann").await;
    bench.owner.homes().deaf = true;
    ann.say(tea, "m1", "hi").await;
    let error = ann.next_of("error").await;
    assert_eq!(
        (&error["payload"]["code"], &error["client_msg_id"]),
        (&json!("home_unavailable"), &json!("m1"))
    );
    assert!(error["payload"]["retry_after_ms"].is_u64());
    let body = json!({"conversation_id": tea, "client_msg_id": "m2", "body": "hi"}).to_string();
    let answer =
        http(bench.edge.local_addr(), "POST", "/v1/messages", Some(&bench.token("ann")), &body)
            .await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("home_unavailable")));
    assert!(answer.head.contains("retry-after"));
}

#[tokio::test]
async fn a_client_that_asks_too_much_at_once_is_not_read_and_loses_nothing() {
    let bench = Bench::with(Limits { requests_per_session: 4, ..Limits::default() }).await;
    let tea = bench.group("ann", &["bob"]);
    let mut ann = bench.session("ann").await;
    bench.owner.homes().deaf = true;
    for n in 1..=30 {
        ann.say(tea, &format!("m{n}"), "hi").await;
    }
    until("four have come", || bench.owner.homes().commands.len() == 4).await;
    // What another session says later comes, and nothing more of this one.
    let mut bob = bench.session("bob").await;
    bob.say(tea, "later", "hi").await;
    until("it has come", || bench.owner.homes().commands.len() >= 5).await;
    assert_eq!(bench.owner.homes().commands.len(), 5);
    {
        let mut homes = bench.owner.homes();
        homes.deaf = false;
        homes.end_streams();
    }
    let mut last = 0;
    for _ in 1..=30 {
        let next = seq(&ann.next_of("message.ack").await);
        assert!(next > last, "in the order in which they were said");
        last = next;
    }
}

#[tokio::test]
async fn a_full_shard_says_overloaded() {
    let limits = Limits { requests_per_shard: 4, ..Limits::default() };
    let bench = Bench::with(limits).await;
    let tea = bench.group("ann", &[]);
    let mut ann = bench.session("ann").await;
    bench.owner.homes().deaf = true;
    for n in 1..=5 {
        ann.say(tea, &format!("m{n}"), "hi").await;
    }
    let error = ann.next_of("error").await;
    assert_eq!(
        (&error["payload"]["code"], &error["client_msg_id"]),
        (&json!("overloaded"), &json!("m5"))
    );
}

#[tokio::test]
async fn a_core_that_is_not_the_owner_says_who_is() {
    let bench = Bench::start().await;
    for name in ["r1/core/1", "r1/core/2"] {
        {
            let mut homes = bench.owner.homes();
            homes.elsewhere = Some(name.parse().unwrap());
            homes.end_streams();
        }
        let tea = bench.group("ann", &[]);
        let mut ann = bench.session("ann").await;
        ann.say(tea, "m1", "hi").await;
        assert_eq!(seq(&ann.next_of("message.ack").await), 1);
        assert!(
            bench
                .edge
                .status()
                .links
                .iter()
                .all(|link| { link.owner.as_ref().is_none_or(|owner| owner.to_string() == name) })
        );
    }
}

#[tokio::test]
async fn after_the_death_of_an_owner_everything_goes_on_with_the_next() {
    let mut bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    let (mut ann, mut bob) = (bench.session("ann").await, bench.session("bob").await);
    ann.say(tea, "m1", "hi").await;
    assert_eq!(seq(&ann.next_of("message.ack").await), 1);
    assert_eq!(seq(&bob.next_of("message.new").await), 1);
    let links = bench.edge.status().links;
    let link = links.iter().find(|link| link.shard == tea.shard).unwrap();
    let dead = usize::from(link.owner.as_ref().unwrap().to_string().ends_with('2'));
    drop(bench.cores[dead].take());
    bench.owner.homes().end_streams();
    bench.say("ann", tea, "m2", "meanwhile");
    ann.say(tea, "m3", "hello?").await;
    assert_eq!(seq(&ann.next_of("message.ack").await), 3);
    for n in 2..=3 {
        assert_eq!(seq(&bob.next_of("message.new").await), n);
    }
}

#[tokio::test]
async fn what_the_feed_leaves_out_is_asked_for() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    let mut bob = bench.session("bob").await;
    bench.owner.homes().forgetful = true;
    for n in 1..=5 {
        bench.say("ann", tea, &format!("m{n}"), "lost");
    }
    bench.owner.homes().forgetful = false;
    bench.say("ann", tea, "m6", "seen");
    for n in 1..=6 {
        assert_eq!(seq(&bob.next_of("message.new").await), n);
    }
}

#[tokio::test]
async fn hello_does_not_wait_for_ever_and_what_is_late_is_attached_late() {
    let bench =
        Bench::with(Limits { hello_wait: Duration::from_millis(300), ..Limits::default() }).await;
    let tea = bench.group("ann", &[]);
    bench.owner.homes().elsewhere = Some("r1/core/9".parse().unwrap());
    bench.owner.homes().end_streams();
    let mut ann = bench.session("ann").await;
    bench.owner.homes().elsewhere = None;
    until("it is watched", || bench.owner.homes().watchers(tea) == 1).await;
    bench.say("ann", tea, "m1", "hi");
    assert_eq!(seq(&ann.next_of("message.new").await), 1);
    let is_send =
        |(_, command): &(u64, Command)| matches!(command, Command::User(UserCommand::Send(_)));
    assert!(!bench.owner.homes().commands.iter().any(is_send));
}
