//! Channels between two nodes over real QUIC.

use std::time::Duration;

use crate::support::{DEADLINE, Rig, echo, echoes, node, open};
use bytes::Bytes;
use hearth_mesh::{FEED_BYTES_MAX, OpenError, RecvError, STREAM_WINDOW_BYTES, SendError};
use tokio::time::timeout;
use wire::limits::MESH_FRAME_BYTES;
use wire::stream::Purpose;
use wire::{Durability, RegionId, ShardId, ZoneId};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_exchange_frames_of_every_size_in_order_and_know_each_other() {
    let rig = Rig::new();
    let nodes = rig.start_all(&["r1/edge/1", "r2/core/1"]).await;
    let shard =
        ShardId { zone: ZoneId(1), home: RegionId(2), durability: Durability::MultiRegion, n: 3 };
    let channel = nodes[0].open(nodes[1].node(), Purpose::Shard(shard)).await.unwrap();
    assert!(!channel.is_relayed());
    let (mut sender, mut receiver) = channel.split();
    let (from, purpose, arrived) = timeout(DEADLINE, nodes[1].accept()).await.unwrap().unwrap();
    assert_eq!((&from, purpose), (nodes[0].node(), Purpose::Shard(shard)));
    assert_eq!(arrived.peer(), nodes[0].node());

    let frames: Vec<Bytes> = [0, 1, 4096, 4097, 70_000, 3, MESH_FRAME_BYTES, 256]
        .iter()
        .enumerate()
        .map(|(n, len)| Bytes::from(vec![n as u8; *len]))
        .collect();
    let sent = frames.clone();
    let sending = tokio::spawn(async move {
        for frame in sent {
            sender.feed(frame).await.unwrap();
        }
        sender.finish().await.unwrap();
    });
    let (mut back, mut there) = arrived.split();
    let mut got = Vec::new();
    while let Some(frame) = timeout(DEADLINE, there.recv()).await.unwrap().unwrap() {
        got.push(frame);
    }
    sending.await.unwrap();
    assert!(got == frames, "{:?}", got.iter().map(Bytes::len).collect::<Vec<_>>());
    // The other direction lives on after the first has finished.
    back.send(Bytes::from_static(b"done")).await.unwrap();
    assert_eq!(
        timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap().as_deref(),
        Some(&b"done"[..])
    );
    drop(back);
    assert_eq!(timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_before_it_is_sent_and_the_channel_lives_on() {
    let rig = Rig::new();
    let nodes = rig.start_all(&["r1/edge/1", "r1/core/1"]).await;
    echo(&nodes[1]);
    let (mut sender, mut receiver) = open(&nodes[0], nodes[1].node()).await.split();
    let over = Bytes::from(vec![0; MESH_FRAME_BYTES + 1]);
    assert_eq!(sender.send(over).await, Err(SendError::TooLarge(MESH_FRAME_BYTES + 1)));
    sender.send(Bytes::from_static(b"still here")).await.unwrap();
    assert_eq!(
        timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap().as_deref(),
        Some(&b"still here"[..])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_read_makes_the_sender_wait_and_others_go_on() {
    let rig = Rig::new();
    let nodes = rig.start_all(&["r1/edge/1", "r2/core/1"]).await;
    let (mut sender, _receiver) = open(&nodes[0], nodes[1].node()).await.split();
    let (_, _, stuck) = timeout(DEADLINE, nodes[1].accept()).await.unwrap().unwrap();
    echo(&nodes[1]);

    let frame = Bytes::from(vec![1; 1000]);
    let mut taken = 0;
    while timeout(Duration::from_millis(500), sender.send(frame.clone())).await.is_ok() {
        taken += frame.len();
        assert!(taken < 100_000_000, "the sender never waits");
    }
    let bound = STREAM_WINDOW_BYTES as usize + FEED_BYTES_MAX + 2 * frame.len();
    assert!(taken <= bound, "{taken} bytes were taken, {bound} allowed");
    // Another channel on the same link is not held up.
    echoes(open(&nodes[0], nodes[1].node()).await, "past the stuck one").await;
    // As soon as somebody reads, it goes on where it was.
    let (_back, mut there) = stuck.split();
    let reading = tokio::spawn(async move {
        let mut got = 0;
        while let Some(frame) = there.recv().await.unwrap() {
            assert!(frame.len() == 1000 && frame.iter().all(|byte| *byte == 1));
            got += frame.len();
        }
        got
    });
    timeout(DEADLINE, sender.finish()).await.unwrap().unwrap();
    let got = timeout(DEADLINE, reading).await.unwrap().unwrap();
    assert_eq!(got, taken + frame.len(), "the frame whose send was cancelled was taken once");
}

#[tokio::test]
async fn channels_that_nobody_accepts_are_refused_as_busy() {
    let rig = Rig::new();
    let nodes = rig.start_all(&["r1/edge/1", "r1/core/1"]).await;
    let mut opened = Vec::new();
    for _ in 0..300 {
        opened.push(open(&nodes[0], nodes[1].node()).await.split());
    }
    let (mut waiting, mut busy) = (0, 0);
    for (_, receiver) in &mut opened {
        match timeout(Duration::from_millis(300), receiver.recv()).await {
            Err(_) => {
                waiting += 1;
                if waiting > 2 {
                    break;
                }
            }
            Ok(Err(RecvError::Broken(why))) if why.contains("busy") => busy += 1,
            Ok(other) => panic!("{other:?}"),
        }
    }
    // The queue holds 256: the first wait, the last were refused.
    let mut last = opened.pop().unwrap().1;
    let refused = timeout(DEADLINE, last.recv()).await.unwrap();
    assert!(
        matches!(&refused, Err(RecvError::Broken(why)) if why.contains("busy")),
        "{refused:?} {busy}"
    );
    // Once somebody accepts, the node is open for business.
    echo(&nodes[1]);
    echoes(open(&nodes[0], nodes[1].node()).await, "room again").await;
}

#[tokio::test]
async fn a_reset_channel_is_an_error_and_a_dropped_one_an_end() {
    let rig = Rig::new();
    let nodes = rig.start_all(&["r1/edge/1", "r1/core/1"]).await;
    let (mut sender, _receiver) = open(&nodes[0], nodes[1].node()).await.split();
    sender.send(Bytes::from_static(b"last words")).await.unwrap();
    drop(sender);
    let (_, _, arrived) = timeout(DEADLINE, nodes[1].accept()).await.unwrap().unwrap();
    let (_back, mut there) = arrived.split();
    assert_eq!(
        timeout(DEADLINE, there.recv()).await.unwrap().unwrap().as_deref(),
        Some(&b"last words"[..])
    );
    assert_eq!(timeout(DEADLINE, there.recv()).await.unwrap().unwrap(), None);

    let (sender, _receiver) = open(&nodes[0], nodes[1].node()).await.split();
    let (_, _, arrived) = timeout(DEADLINE, nodes[1].accept()).await.unwrap().unwrap();
    sender.reset();
    let (mut back, mut there) = arrived.split();
    assert!(matches!(timeout(DEADLINE, there.recv()).await.unwrap(), Err(RecvError::Broken(_))));
    // And who no longer reads is told to the sender.
    drop(_receiver);
    let told = async {
        while back.send(Bytes::from_static(b"anyone?")).await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    timeout(DEADLINE, told).await.unwrap();
}

#[tokio::test]
async fn nobody_opens_to_a_stranger() {
    let rig = Rig::new();
    let mesh = rig.start("r1/edge/1", &[]);
    let stranger = node("r9/core/9");
    assert_eq!(
        mesh.open(&stranger, Purpose::Control).await.unwrap_err(),
        OpenError::Unknown(stranger)
    );
}

#[tokio::test]
async fn a_shutdown_delivers_what_was_flushed_and_ends_accept_and_open() {
    let rig = Rig::new();
    let nodes = rig.start_all(&["r1/edge/1", "r1/core/1"]).await;
    let (mut sender, receiver) = open(&nodes[0], nodes[1].node()).await.split();
    let (_, _, arrived) = timeout(DEADLINE, nodes[1].accept()).await.unwrap().unwrap();
    let body = Bytes::from(vec![9; 300_000]);
    sender.send(body.clone()).await.unwrap();
    drop((sender, receiver));
    let reading = tokio::spawn(async move { arrived.split().1.recv().await.unwrap() });
    nodes[0].shutdown(DEADLINE).await;
    assert_eq!(timeout(DEADLINE, reading).await.unwrap().unwrap(), Some(body));
    assert!(nodes[0].accept().await.is_none());
    assert_eq!(
        nodes[0].open(nodes[1].node(), Purpose::Control).await.unwrap_err(),
        OpenError::Stopped
    );
    // It took leave: nobody has to suspect it.
    crate::support::sees(&nodes[1], &["r1/core/1"]).await;
}
