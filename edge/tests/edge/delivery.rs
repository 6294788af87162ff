//! Who gets which events, in which order.

use std::time::Duration;

use hearth_edge::Limits;
use serde_json::json;

use crate::harness::{Bench, until};

fn seq(frame: &serde_json::Value) -> u64 {
    frame["payload"]["seq"].as_u64().unwrap()
}

#[tokio::test]
async fn all_members_get_all_messages_in_order_and_others_none() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    let mut sessions =
        vec![bench.session("ann").await, bench.session("bob").await, bench.session("bob").await];
    let mut eve = bench.session("eve").await;
    for n in 1..=50 {
        bench.say("ann", tea, &format!("m{n}"), "hi");
    }
    for session in &mut sessions {
        for n in 1..=50 {
            assert_eq!(seq(&session.next_of("message.new").await), n);
        }
    }
    eve.send(json!({"type": "ping"})).await;
    assert_eq!(eve.next().await.unwrap()["type"], "pong");
}

#[tokio::test]
async fn what_members_are_told_of_a_change_does_not_grow_with_their_number() {
    let bench = Bench::start().await;
    let names: Vec<String> = (0..900).map(|n| format!("a-member-with-a-long-name-{n}")).collect();
    let members: Vec<&str> = names.iter().map(String::as_str).collect();
    let tea = bench.group("ann", &members);
    let mut ann = bench.session("ann").await;
    bench.change("ann", tea, &["bob"], &[]);
    let updated = ann.next_of("conversation.updated").await;
    assert_eq!(updated["payload"]["member_count"], 902);
    assert!(updated.to_string().len() < 512, "{updated}");
}

#[tokio::test]
async fn who_is_added_joins_who_is_removed_leaves_and_the_others_are_told() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &[]);
    let (mut ann, mut bob) = (bench.session("ann").await, bench.session("bob").await);
    bench.say("ann", tea, "m1", "before");
    bench.change("ann", tea, &["bob"], &[]);
    let joined = bob.next_of("conversation.joined").await;
    assert_eq!((&joined["payload"]["ver"], &joined["payload"]["name"]), (&json!(3), &json!("tea")));
    assert_eq!(joined["payload"].get("members"), None);
    let place = (&joined["payload"]["role"], &joined["payload"]["joined_seq"]);
    assert_eq!(place, (&json!("member"), &json!(2)));
    let updated = ann.next_of("conversation.updated").await;
    let told = json!({"ver": 3, "epoch": 1, "by": "ann", "member_count": 2,
        "added": [{"user_id": "bob", "role": "member"}]});
    assert_eq!(updated["payload"], told);
    bench.say("ann", tea, "m2", "welcome");
    assert_eq!(seq(&bob.next_of("message.new").await), 2);
    bench.change("ann", tea, &[], &["bob"]);
    let left = bob.next_of("conversation.left").await;
    assert_eq!(left["payload"], json!({"ver": 5, "epoch": 1, "by": "ann"}));
    bench.say("ann", tea, "m3", "gone");
    bench.change("ann", tea, &["bob"], &[]);
    assert_eq!(bob.next_of("conversation.joined").await["payload"]["ver"], 7);
    bench.say("ann", tea, "m4", "back");
    assert_eq!(
        seq(&bob.next_of("message.new").await),
        4,
        "what was said while he was out is not pushed"
    );
}

#[tokio::test]
async fn a_new_conversation_reaches_those_who_are_online_with_all_its_messages() {
    let bench = Bench::start().await;
    let mut bob = bench.session("bob").await;
    for n in 0..5 {
        let tea = bench.group("ann", &["bob"]);
        bench.say("ann", tea, "m1", "at once");
        bench.say("ann", tea, "m2", "and again");
        assert_eq!(bob.next_of("conversation.joined").await["conversation_id"], json!(tea), "{n}");
        assert_eq!(seq(&bob.next_of("message.new").await), 1);
        assert_eq!(seq(&bob.next_of("message.new").await), 2);
    }
}

#[tokio::test]
async fn a_late_session_joins_a_conversation_that_others_here_are_served_beyond() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    let mut bob = bench.session("bob").await;
    bench.say("ann", tea, "m1", "one");
    assert_eq!(seq(&bob.next_of("message.new").await), 1);
    let mut cid = bench.session("cid").await;
    bench.change("ann", tea, &["cid"], &[]);
    for n in 2..=30 {
        bench.say("ann", tea, &format!("m{n}"), "more");
    }
    assert_eq!(cid.next_of("conversation.joined").await["payload"]["ver"], 3);
    for n in 2..=30 {
        assert_eq!(seq(&cid.next_of("message.new").await), n);
    }
}

#[tokio::test]
async fn a_sync_brings_what_is_missing_in_order_then_the_heads() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    for n in 1..=250 {
        bench.say("ann", tea, &format!("m{n}"), "hi");
    }
    let mut bob = bench.session("bob").await;
    bob.sync(tea, 20).await;
    let (seqs, done) = bob.synced().await;
    assert_eq!(seqs, (21..=250).collect::<Vec<_>>());
    assert_eq!(
        (&done["re"], &done["payload"]["heads"]),
        (&json!("sync"), &json!({tea.to_string(): 250}))
    );
    bob.sync(tea, 250).await;
    assert_eq!(bob.synced().await.0, Vec::<u64>::new());
    bob.sync(tea, 9_999).await;
    assert_eq!(bob.synced().await.0, Vec::<u64>::new());
    bench.say("ann", tea, "last", "live again");
    assert_eq!(seq(&bob.next_of("message.new").await), 251);
    bob.send(json!({"type": "sync", "payload": {"after": {}}})).await;
    assert_eq!(bob.next_of("sync.done").await["payload"]["heads"], json!({}));
}

#[tokio::test]
async fn a_sync_right_after_hello_under_load_has_no_hole_and_no_double() {
    let bench = Bench::with(Limits { settle: Duration::from_secs(10), ..Limits::default() }).await;
    let tea = bench.group("ann", &["bob"]);
    for round in 0..5u64 {
        let total = (round + 1) * 300;
        let from = round * 300;
        let talk = async {
            for n in from + 1..=total {
                bench.say("ann", tea, &format!("m{n}"), "hi");
                if n % 7 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let listen = async {
            let mut bob = bench.session("bob").await;
            bob.sync(tea, from).await;
            for n in from + 1..=total {
                assert_eq!(seq(&bob.next_of("message.new").await), n);
            }
            bob.next_of("sync.done").await;
        };
        tokio::join!(talk, listen);
    }
}

#[tokio::test]
async fn a_sync_of_what_one_may_not_read_is_an_error_for_that_one_alone() {
    let bench = Bench::start().await;
    let (tea, secret) = (bench.group("ann", &["bob"]), bench.group("ann", &[]));
    bench.say("ann", tea, "m1", "hi");
    let mut bob = bench.session("bob").await;
    let mut nowhere = tea;
    nowhere.unique = [9; 16];
    let mut far = tea;
    far.shard.n = 9_999;
    let after = json!({tea.to_string(): 0, secret.to_string(): 0, nowhere.to_string(): 0, far.to_string(): 0});
    bob.send(json!({"id": "s", "type": "sync", "payload": {"after": after}})).await;
    let mut errors = Vec::new();
    for _ in 0..3 {
        let error = bob.next_of("error").await;
        assert_eq!(error["re"], "s");
        errors.push((error["conversation_id"].clone(), error["payload"]["code"].clone()));
    }
    for (conversation, code) in
        [(secret, "not_a_member"), (nowhere, "not_found"), (far, "not_found")]
    {
        assert!(errors.contains(&(json!(conversation), json!(code))), "{conversation}: {errors:?}");
    }
    assert_eq!(bob.next_of("sync.done").await["payload"]["heads"], json!({tea.to_string(): 1}));
    assert_eq!(seq(&bob.next_of("message.new").await), 1);
}

#[tokio::test]
async fn a_slow_reader_is_told_that_it_is_behind_and_misses_nothing() {
    let limits = Limits { outbox_events: 8, outbox_bytes: 200_000, ..Limits::default() };
    let bench = Bench::with(limits).await;
    let tea = bench.group("ann", &["bob"]);
    let mut bob = bench.session("bob").await;
    bob.send(json!({"type": "ping"})).await;
    bob.next_of("pong").await;
    let long = "x".repeat(16_000);
    for n in 1..=800 {
        bench.say("ann", tea, &format!("m{n}"), &long);
        if n % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let mut last = 0;
    let mut behind = 0;
    while last < 800 {
        let frame = bob.next().await.unwrap();
        match frame["type"].as_str().unwrap() {
            "behind" => {
                behind += 1;
                assert_eq!(frame["payload"]["from_seq"], last + 1);
                assert!(frame["payload"]["to_seq"].as_u64().unwrap() > last);
            }
            "message.new" => {
                last += 1;
                assert_eq!(seq(&frame), last);
            }
            other => panic!("{other}"),
        }
    }
    assert!(behind > 0);
    bench.say("ann", tea, "last", "live again");
    assert_eq!(seq(&bob.next_of("message.new").await), 801);
}

#[tokio::test]
async fn a_change_of_members_during_a_catch_up_is_not_lost() {
    let limits = Limits { outbox_events: 4, outbox_bytes: 100_000, ..Limits::default() };
    let bench = Bench::with(limits).await;
    let tea = bench.group("ann", &["bob"]);
    let mut bob = bench.session("bob").await;
    let long = "x".repeat(16_000);
    for n in 1..=600 {
        bench.say("ann", tea, &format!("m{n}"), &long);
        if n == 500 {
            bench.change("ann", tea, &["cid"], &[]);
        }
        if n % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    bench.change("ann", tea, &[], &["bob"]);
    bench.say("ann", tea, "secret", "he must not read this");
    let (mut last, mut updates) = (0, 0);
    loop {
        let frame = bob.next().await.unwrap();
        match frame["type"].as_str().unwrap() {
            "message.new" => {
                last += 1;
                assert_eq!(seq(&frame), last);
            }
            "conversation.updated" => updates += 1,
            "conversation.left" => break,
            "behind" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!((last, updates), (600, 1));
    bob.send(json!({"type": "ping"})).await;
    assert_eq!(bob.next().await.unwrap()["type"], "pong");
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_let_go() {
    let limits =
        Limits { stall: Duration::from_millis(1_500), outbox_events: 8, ..Limits::default() };
    let bench = Bench::with(limits).await;
    let tea = bench.group("ann", &["bob"]);
    let bob = bench.session("bob").await;
    let long = "x".repeat(16_000);
    for n in 1..=1_000 {
        bench.say("ann", tea, &format!("m{n}"), &long);
    }
    until("he is gone", || bench.edge.status().sessions == 0).await;
    drop(bob);
}

#[tokio::test]
async fn what_nobody_here_wants_is_unwatched_after_a_while() {
    let bench =
        Bench::with(Limits { linger: Duration::from_millis(100), ..Limits::default() }).await;
    let tea = bench.group("ann", &["bob"]);
    let bob = bench.session("bob").await;
    assert_eq!(bench.owner.homes().watchers(tea), 1);
    drop(bob);
    until("it is unwatched", || bench.owner.homes().watchers(tea) == 0).await;
    let mut bob = bench.session("bob").await;
    bench.say("ann", tea, "m1", "hi");
    assert_eq!(seq(&bob.next_of("message.new").await), 1);
}

#[tokio::test]
async fn what_a_lost_region_took_with_it_is_delivered_as_it_goes_on_elsewhere() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    let (mut bob, mut ann) = (bench.session("bob").await, bench.session("ann").await);
    for n in 1..=4 {
        bench.say("ann", tea, &format!("m{n}"), "as it was");
        assert_eq!(seq(&bob.next_of("message.new").await), n);
    }
    // The group, and the first message.
    bench.owner.homes().lose(tea, 2);
    for n in 1..=5 {
        bench.say("ann", tea, &format!("n{n}"), "as it is");
    }
    for session in [&mut bob, &mut ann] {
        let mut frame = session.next_of("message.new").await;
        while frame["payload"]["body"] == "as it was" {
            frame = session.next_of("message.new").await;
        }
        for n in 2..=6 {
            let payload = &frame["payload"];
            assert_eq!((&payload["seq"], &payload["epoch"]), (&json!(n), &json!(2)));
            if n < 6 {
                frame = session.next_of("message.new").await;
            }
        }
    }
}

#[tokio::test]
async fn a_backfill_leaves_no_task_behind() {
    let bench = Bench::start().await;
    let tea = bench.group("ann", &["bob"]);
    for n in 1..=150 {
        bench.say("ann", tea, &format!("m{n}"), "hi");
    }
    let mut bob = bench.session("bob").await;
    for after in [0, 150, 40] {
        bob.sync(tea, after).await;
        bob.next_of("sync.done").await;
        until("the task is gone", || bench.edge.status().backfills == 0).await;
    }
}

#[tokio::test]
async fn a_frame_behind_a_sync_lets_no_live_event_overtake_its_answer() {
    let bench = Bench::with(Limits { settle: Duration::from_secs(10), ..Limits::default() }).await;
    let tea = bench.group("ann", &["bob"]);
    for n in 1..=40 {
        bench.say("ann", tea, &format!("m{n}"), "before");
    }
    let mut bob = bench.session("bob").await;
    for n in 41..=60 {
        bench.say("ann", tea, &format!("m{n}"), "live");
    }
    // They wait at the edge when a later one has come back to their sender.
    let mut ann = bench.session("ann").await;
    ann.say(tea, "seen", "seen").await;
    while seq(&ann.next_of("message.new").await) < 61 {}
    let sync = json!({"id": "s", "type": "sync", "payload": {"after": {tea.to_string(): 10}}});
    bob.send_together([sync, json!({"id": "p", "type": "ping"})]).await;
    let (seqs, _) = bob.synced().await;
    assert_eq!(seqs, (11..=61).collect::<Vec<_>>());
}
