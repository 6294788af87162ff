//! Watches: live, replayed, too slow.

use std::time::Duration;

use hearth_core_region::Limits;
use wire::command::Answer;
use wire::stream::FromOwner;

use super::edge::{actor, send, vers};
use super::harness::{Harness, ONE, node};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_the_past_goes_on_live_without_hole_or_double() {
    let mut site = Harness::start(ONE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &[]).await;
    let mut writer = edge.open(id.shard).await;
    let writing = tokio::spawn({
        let ann = ann.clone();
        async move {
            for n in 0..600 {
                writer.start(&ann, id, send(&format!("m-{n}"), "x")).await;
                if n % 10 == 0 {
                    writer.flush().await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            writer.flush().await;
            writer.answers(600).await.len()
        }
    });
    // Watches that start everywhere in the past while it grows.
    let mut watches = Vec::new();
    for n in 0..12u64 {
        let mut stream = edge.open(id.shard).await;
        let answer = stream.watch(id, Some(n), &[]).await.unwrap().unwrap();
        assert!(matches!(answer, Answer::Watching { .. }));
        watches.push((n, stream));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(writing.await.unwrap(), 600);
    for (after, mut stream) in watches {
        let fed = stream.deliveries(601 - usize::try_from(after).unwrap()).await;
        assert_eq!(vers(&fed)[&id], (after + 1..=601).collect::<Vec<u64>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_too_slowly_is_told_and_loses_nothing() {
    let mut site = Harness::empty(ONE);
    let limits = Limits {
        feed_bytes_per_stream: 16 * 1024,
        deliveries_behind_replay: 8,
        ..Limits::default()
    };
    for core in ["r1/core/1", "r1/core/2"] {
        let store = site.store(node(core).region);
        site.add_with(&node(core), store, limits.clone());
    }
    site.settled().await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &[]).await;
    let mut slow = edge.open(id.shard).await;
    slow.watch(id, None, &[]).await.unwrap().unwrap();
    let mut writer = edge.open(id.shard).await;
    let body = "x".repeat(16_000);
    // More than any window between the two can hold.
    for n in 0..1_500 {
        writer.start(&ann, id, send(&format!("m-{n}"), &body)).await;
        if n % 50 == 49 {
            writer.flush().await;
            writer.answers(50).await;
        }
    }
    let mut seen = 1;
    let mut lagged = 0;
    while seen < 1_501 {
        match slow.next().await.expect("the stream lives") {
            FromOwner::Feed { deliveries } => {
                for delivery in deliveries {
                    assert_eq!(delivery.change.ver, seen + 1);
                    seen += 1;
                }
            }
            FromOwner::Lagged { conversation } => {
                lagged += 1;
                assert_eq!(conversation, id);
                slow.watch_again(id, seen).await;
            }
            FromOwner::Reply { result, .. } => assert!(result.is_ok()),
            other => panic!("{other:?}"),
        }
    }
    assert!(lagged > 0, "the feed was never full");
}
