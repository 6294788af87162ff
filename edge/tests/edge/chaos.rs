//! Everything at once, by a seed: streams that end, feeds that are lost, clients that come, go, lag
//! and sync, members who are put out and back in. Whatever happens, each client sees every message
//! once and in order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hearth_edge::Limits;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wire::ConversationId;

use crate::harness::{Bench, TIMEOUT};

const STEPS: u64 = 600;
const CLIENTS: usize = 8;

fn limits() -> Limits {
    Limits {
        outbox_events: 8,
        // Nothing live is written before the client has said where it stands.
        settle: Duration::from_secs(30),
        linger: Duration::from_millis(20),
        ..Limits::default()
    }
}

/// Reads one user's stream across many sessions until the last message.
async fn follow(bench: &Bench, user: &str, tea: ConversationId, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut last = 0;
    loop {
        let mut client = bench.session(user).await;
        client.sync(tea, last).await;
        let mut attempts =
            if random.random_bool(0.7) { random.random_range(1..300) } else { u32::MAX };
        let is_slow = random.random_bool(0.3);
        while attempts > 0 {
            let frame = client
                .next()
                .await
                .unwrap_or_else(|code| panic!("seed {seed}: closed with {code:?}"));
            attempts -= 1;
            if frame["type"] == "message.new" {
                let seq = frame["payload"]["seq"].as_u64().unwrap();
                assert_eq!(seq, last + 1, "seed {seed}, user {user}");
                last = seq;
                if frame["payload"]["body"] == "last" {
                    return;
                }
            }
            if is_slow && random.random_bool(0.1) {
                tokio::time::sleep(Duration::from_millis(random.random_range(1..20))).await;
            }
        }
    }
}

async fn weather(bench: &Bench, tea: ConversationId, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut said = 0;
    for step in 0..STEPS {
        for _ in 0..random.random_range(0..12) {
            said += 1;
            bench.say("ann", tea, &format!("m{said}"), &"x".repeat(random.random_range(1..3_000)));
        }
        match random.random_range(0..60) {
            0 => bench.owner.homes().end_streams(),
            1 => bench.owner.homes().forgetful = true,
            2..=4 => bench.owner.homes().forgetful = false,
            5 => bench.change("ann", tea, &[&format!("guest-{step}")], &[]),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..6))).await;
    }
    bench.owner.homes().forgetful = false;
    // Something must tell of a hole at the very end.
    bench.say("ann", tea, "last", "last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_every_client_sees_every_message_once_and_in_order() {
    let seed = crate::harness::now_ms();
    println!("seed {seed}");
    let bench = Arc::new(Bench::with(limits()).await);
    let names: Vec<String> = (0..CLIENTS / 2).map(|n| format!("user-{n}")).collect();
    let tea = bench.group("ann", &names.iter().map(String::as_str).collect::<Vec<_>>());
    let followers: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (bench, name) = (bench.clone(), names[n % names.len()].clone());
            tokio::spawn(async move { follow(&bench, &name, tea, seed + n as u64).await })
        })
        .collect();
    weather(&bench, tea, seed).await;
    for follower in followers {
        tokio::time::timeout(TIMEOUT, follower)
            .await
            .unwrap_or_else(|_| panic!("seed {seed}: not all arrived"))
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_and_goes_gets_exactly_what_was_said_while_he_was_in() {
    let seed = crate::harness::now_ms();
    println!("seed {seed}");
    let bench = Arc::new(Bench::with(Limits { outbox_events: 8, ..Limits::default() }).await);
    let tea = bench.group("ann", &[]);
    let mut bob = bench.session("bob").await;
    let expected = Arc::new(Mutex::new(Vec::new()));
    let (talker, wanted) = (bench.clone(), expected.clone());
    let talk = tokio::spawn(async move {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut said, mut is_in) = (0u64, false);
        for step in 0..300 {
            if random.random_bool(0.1) || step == 299 {
                is_in = !is_in || step == 299;
                let (add, remove): (&[&str], &[&str]) =
                    if is_in { (&["bob"], &[]) } else { (&[], &["bob"]) };
                talker.change("ann", tea, add, remove);
            }
            if random.random_bool(0.02) {
                talker.owner.homes().end_streams();
            }
            said += 1;
            talker.say("ann", tea, &format!("m{said}"), if step == 299 { "last" } else { "hi" });
            if is_in {
                wanted.lock().unwrap().push(said);
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..5))).await;
        }
    });
    let mut got = Vec::new();
    let mut is_in = false;
    loop {
        let frame = bob.next().await.unwrap();
        match frame["type"].as_str().unwrap() {
            "conversation.joined" => {
                assert!(!is_in, "seed {seed}: joined twice after {got:?}");
                is_in = true;
            }
            "conversation.left" => {
                assert!(is_in, "seed {seed}: left twice");
                is_in = false;
            }
            "message.new" => {
                assert!(is_in, "seed {seed}: a message from outside");
                got.push(frame["payload"]["seq"].as_u64().unwrap());
                if frame["payload"]["body"] == "last" {
                    break;
                }
            }
            _ => {}
        }
    }
    talk.await.unwrap();
    assert_eq!(got, *expected.lock().unwrap(), "seed {seed}");
}
