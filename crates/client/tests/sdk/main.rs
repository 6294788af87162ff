//! The SDK against an edge that misbehaves on purpose.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod edge;

use std::time::Duration;

use edge::{Edge, TIMEOUT, connect, conversation, event, options, seqs};
use hearth_client::{Client, Event, Http, HttpError, Options, Read, SendError, State};
use serde_json::json;
use wire::ErrorCode;

#[tokio::test]
async fn an_unacknowledged_message_is_sent_again_unchanged_after_a_break() {
    let mut edge = Edge::start().await;
    let (client, _events) = connect(&[&edge]);
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.send(conversation(), "one").await }
    });
    let mut conn = edge.admit().await;
    let sent = conn.hear().await;
    assert_eq!((&sent["type"], &sent["payload"]["body"]), (&json!("message.send"), &json!("one")));
    drop(conn);
    let mut conn = edge.admit().await;
    assert_eq!(conn.hear().await, sent);
    conn.ack(&sent, 1).await;
    conn.ack(&sent, 1).await;
    assert_eq!(first.await.unwrap().unwrap().seq, 1);
}

#[tokio::test]
async fn messages_of_one_conversation_wait_for_each_other_and_keep_their_order() {
    let mut edge = Edge::start().await;
    let (client, _events) = connect(&[&edge]);
    let mut pending = Vec::new();
    for n in 0..3 {
        let payload = wire::client::MessageContent::text(n.to_string());
        pending.push(client.queue(conversation(), client.new_message_id(), payload).await.unwrap());
    }
    let mut conn = edge.admit().await;
    for n in 0..3 {
        let sent = conn.hear().await;
        assert_eq!(sent["payload"]["body"], n.to_string());
        conn.refuse(&sent, "home_unavailable").await;
        let again = conn.hear().await;
        assert_eq!(again, sent, "a retryable refusal is no outcome");
        conn.ack(&sent, n + 1).await;
    }
    for (pending, n) in pending.into_iter().zip(1..) {
        assert_eq!(pending.await.unwrap().seq, n);
    }
}

#[tokio::test]
async fn a_final_refusal_is_told_and_the_next_message_goes_on() {
    let mut edge = Edge::start().await;
    let (client, _events) = connect(&[&edge]);
    let sending = tokio::spawn(async move {
        let first = client.send(conversation(), "one").await;
        (first, client.send(conversation(), "two").await, client.send(conversation(), "").await)
    });
    let mut conn = edge.admit().await;
    let sent = conn.hear().await;
    conn.refuse(&sent, "not_a_member").await;
    let sent = conn.hear().await;
    conn.ack(&sent, 1).await;
    let (first, second, empty) = sending.await.unwrap();
    assert!(matches!(first, Err(SendError::Refused { code: ErrorCode::NotAMember, .. })));
    assert_eq!(second.unwrap().seq, 1);
    assert!(
        matches!(empty, Err(SendError::Refused { code: ErrorCode::BadRequest, .. })),
        "checked before it is sent"
    );
}

#[tokio::test]
async fn duplicates_are_dropped_and_a_hole_is_repaired_before_anything_later() {
    let mut edge = Edge::start().await;
    let (_client, mut events) = connect(&[&edge]);
    let mut conn = edge.admit().await;
    for seq in [5, 6, 6, 5, 9, 10] {
        conn.message(seq).await;
    }
    let (sync, after) = conn.hear_sync().await;
    assert_eq!(after, 6);
    for seq in [7, 8, 9, 11] {
        conn.message(seq).await;
    }
    conn.synced(&sync, 11).await;
    assert_eq!(seqs(&mut events, 7).await, [5, 6, 7, 8, 9, 10, 11]);
}

#[tokio::test]
async fn a_refused_repair_is_asked_for_again() {
    let mut edge = Edge::start().await;
    let (_client, mut events) = connect(&[&edge]);
    let mut conn = edge.admit().await;
    conn.message(1).await;
    conn.message(3).await;
    let (sync, _) = conn.hear_sync().await;
    conn.refuse(&sync, "home_unavailable").await;
    let (sync, after) = conn.hear_sync().await;
    assert_eq!(after, 1);
    conn.message(2).await;
    conn.synced(&sync, 3).await;
    assert_eq!(seqs(&mut events, 3).await, [1, 2, 3]);
}

#[tokio::test]
async fn after_a_reconnect_the_client_asks_for_what_it_missed_at_the_next_edge() {
    let (mut first, mut second) = (Edge::start().await, Edge::start().await);
    let (client, mut events) = connect(&[&first, &second]);
    client.follow(conversation(), 0).unwrap();
    let mut conn = first.admit().await;
    let (sync, after) = conn.hear_sync().await;
    assert_eq!(after, 0);
    conn.message(1).await;
    conn.synced(&sync, 1).await;
    assert_eq!(seqs(&mut events, 1).await, [1]);
    drop((conn, first));
    let mut conn = second.admit().await;
    let (sync, after) = conn.hear_sync().await;
    assert_eq!(after, 1);
    conn.message(3).await;
    conn.message(2).await;
    conn.message(3).await;
    conn.synced(&sync, 3).await;
    assert_eq!(seqs(&mut events, 2).await, [2, 3]);
    assert!(matches!(client.state(), State::Connected { edge, .. } if edge == second.url));
}

/// What the simulator found (seed 1001563): a message that came with the hello said where delivery
/// starts.
#[tokio::test]
async fn what_is_followed_counts_before_the_first_message_that_comes() {
    for _ in 0..20 {
        let mut edge = Edge::start().await;
        let (client, mut events) = connect(&[&edge]);
        client.follow(conversation(), 1).unwrap();
        let mut conn = edge.admit().await;
        conn.message(4).await;
        let (sync, after) = conn.hear_sync().await;
        assert_eq!(after, 1);
        conn.message(2).await;
        conn.message(3).await;
        conn.synced(&sync, 4).await;
        assert_eq!(seqs(&mut events, 3).await, [2, 3, 4]);
    }
}

#[tokio::test]
async fn goaway_leads_to_the_alternative_it_names() {
    let (mut first, mut second) = (Edge::start().await, Edge::start().await);
    let (client, mut events) = connect(&[&first]);
    let mut conn = first.admit().await;
    let alternatives = [&second.url];
    let payload =
        json!({"reconnect_after_ms": 20, "alternatives": alternatives, "reason": "draining"});
    conn.say(json!({"type": "goaway", "payload": payload})).await;
    let _conn = second.admit().await;
    let why = event(&mut events, |event| match event {
        Event::Disconnected { why } => Some(why),
        _ => None,
    });
    assert!(why.await.contains("draining"));
    client.ready().await.unwrap();
}

#[tokio::test]
async fn an_edge_of_the_wrong_zone_names_the_right_one() {
    let (mut wrong, mut right) = (Edge::start().await, Edge::start().await);
    let (client, _events) = connect(&[&wrong]);
    let problem = json!({"type": "about:blank", "title": "t", "status": 421, "code": "wrong_zone", "detail": "not here",
        "alternatives": [right.url]});
    wrong.answer("421 Misdirected Request", &problem).await;
    let _conn = right.admit().await;
    client.ready().await.unwrap();
}

#[tokio::test]
async fn a_client_that_nobody_lets_in_ends_and_says_why() {
    let mut edge = Edge::start().await;
    let (client, mut events) = connect(&[&edge]);
    let sending = tokio::spawn({
        let client = client.clone();
        async move { client.send(conversation(), "x").await }
    });
    let problem = json!({"type": "about:blank", "title": "t", "status": 401, "code": "unauthenticated", "detail": "who?"});
    for _ in 0..3 {
        edge.answer("401 Unauthorized", &problem).await;
    }
    assert!(matches!(sending.await.unwrap(), Err(SendError::Closed(why)) if why.contains("who?")));
    assert!(matches!(events.next().await, Some(Event::Closed { .. })));
    assert_eq!(events.next().await, None);
    assert!(matches!(client.ready().await, Err(SendError::Closed(_))));
    assert!(matches!(client.send(conversation(), "y").await, Err(SendError::Closed(_))));
}

#[tokio::test]
async fn a_reader_that_is_slow_holds_up_messages_but_not_acks() {
    let mut edge = Edge::start().await;
    let (client, mut events) = Client::connect(Options { event_messages: 2, ..options(&[&edge]) });
    let mut conn = edge.admit().await;
    for seq in 1..=4 {
        conn.message(seq).await;
    }
    let sending = tokio::spawn(async move { (client.send(conversation(), "x").await, client) });
    let sent = conn.hear().await;
    assert_eq!(sent["type"], "message.send", "nothing is asked for while there is no room: {sent}");
    conn.ack(&sent, 5).await;
    let (ack, _client) = sending.await.unwrap();
    assert_eq!(ack.unwrap().seq, 5);
    assert_eq!(seqs(&mut events, 2).await, [1, 2]);
    let (sync, after) = conn.hear_sync().await;
    assert_eq!(after, 2);
    conn.message(3).await;
    conn.message(4).await;
    conn.synced(&sync, 4).await;
    assert_eq!(seqs(&mut events, 2).await, [3, 4]);
}

#[tokio::test]
async fn an_edge_that_owes_an_ack_and_is_silent_is_left() {
    let (mut deaf, mut good) = (Edge::start().await, Edge::start().await);
    let silence_max = Duration::from_millis(100);
    let (client, _events) = Client::connect(Options { silence_max, ..options(&[&deaf, &good]) });
    let sending = tokio::spawn(async move { client.send(conversation(), "x").await });
    let mut first = deaf.admit().await;
    let sent = first.hear().await;
    // It comes back here, the preferred edge, until it is gone.
    drop(deaf);
    let mut second = good.admit().await;
    assert_eq!(second.hear().await, sent);
    second.ack(&sent, 1).await;
    assert_eq!(sending.await.unwrap().unwrap().seq, 1);
}

#[tokio::test]
async fn an_edge_that_talks_and_acknowledges_nothing_is_left_for_the_next_one() {
    let (mut cut_off, mut good) = (Edge::start().await, Edge::start().await);
    let stall_max = Duration::from_millis(100);
    let (client, _events) = Client::connect(Options { stall_max, ..options(&[&cut_off, &good]) });
    let sending = tokio::spawn(async move { client.send(conversation(), "x").await });
    let mut first = cut_off.admit().await;
    let sent = first.hear().await;
    first.refuse(&sent, "home_unavailable").await;
    let mut second = good.admit().await;
    assert_eq!(second.hear().await, sent);
    second.ack(&sent, 1).await;
    assert_eq!(sending.await.unwrap().unwrap().seq, 1);
}

#[tokio::test]
async fn a_reader_of_acks_skips_messages_and_a_closed_client_is_gone() {
    let mut edge = Edge::start().await;
    let (client, mut events) = Client::connect(Options { read: Read::Acks, ..options(&[&edge]) });
    let sending = tokio::spawn(async move { (client.send(conversation(), "x").await, client) });
    let mut conn = edge.admit().await;
    conn.message(1).await;
    let sent = conn.hear().await;
    conn.ack(&sent, 2).await;
    let (ack, client) = sending.await.unwrap();
    assert_eq!(ack.unwrap().seq, 2);
    client.close().await;
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Message { .. }));
    }
}

#[tokio::test]
async fn garbage_from_an_edge_is_skipped() {
    let mut edge = Edge::start().await;
    let (_client, mut events) = connect(&[&edge]);
    let mut conn = edge.admit().await;
    for garbage in [
        json!([]),
        json!({"type": "message.new", "payload": {}}),
        json!({"type": "new", "payload": 1}),
    ] {
        conn.say(garbage).await;
    }
    conn.message(1).await;
    assert_eq!(seqs(&mut events, 1).await, [1]);
}

#[tokio::test]
async fn joining_a_conversation_starts_its_delivery_at_the_join() {
    let mut edge = Edge::start().await;
    let (_client, mut events) = connect(&[&edge]);
    let mut conn = edge.admit().await;
    let group = json!({"conversation_id": conversation(), "kind": "group", "name": "g",
        "zone": "z", "home_region": "r", "acting_region": "r", "durability": "region", "epoch": 1,
        "ver": 3, "head_seq": 4, "member_count": 2, "role": "member", "joined_seq": 3});
    for _ in 0..2 {
        conn.say(json!({"type": "conversation.joined", "conversation_id": conversation(), "payload": group})).await;
    }
    let (sync, after) = conn.hear_sync().await;
    assert_eq!(after, 2);
    conn.message(3).await;
    conn.message(4).await;
    conn.synced(&sync, 4).await;
    assert_eq!(seqs(&mut events, 2).await, [3, 4]);
}

#[tokio::test]
async fn http_goes_to_the_next_edge_and_reads_history_page_by_page() {
    let (mut tired, mut good) = (Edge::start().await, Edge::start().await);
    let dead = Edge::start().await;
    let http = Http::new(&options(&[&dead, &tired, &good]));
    drop(dead);
    let reading = tokio::spawn(async move { http.history_after(conversation(), 0).await });
    let problem = json!({"type": "about:blank", "title": "t", "status": 503, "code": "draining", "detail": "going"});
    tired.answer("503 Service Unavailable", &problem).await;
    let page = |seq: u64, has_more| json!({"messages": [edge::message(seq)["payload"]], "head_seq": 2, "has_more": has_more});
    let request = good.answer("200 OK", &page(1, true)).await;
    assert!(
        request.contains("after=0") && request.contains("authorization: Bearer token"),
        "{request}"
    );
    tired.answer("503 Service Unavailable", &problem).await;
    assert!(good.answer("200 OK", &page(2, false)).await.contains("after=1"));
    let seqs: Vec<_> = reading.await.unwrap().unwrap().iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [1, 2]);
}

#[tokio::test]
async fn http_says_why_not_and_times_out() {
    let mut edge = Edge::start().await;
    let http =
        Http::new(&Options { http_timeout: Duration::from_millis(200), ..options(&[&edge]) });
    let asking = tokio::spawn({
        let http = http.clone();
        async move { http.group(conversation()).await }
    });
    let problem = json!({"type": "about:blank", "title": "t", "status": 404, "code": "not_found", "detail": "no such"});
    edge.answer("404 Not Found", &problem).await;
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(error, HttpError::Refused { code: ErrorCode::NotFound, .. }), "{error}");
    drop(edge);
    let error = tokio::time::timeout(TIMEOUT, http.inbox()).await.unwrap().unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { .. }), "{error}");
}
