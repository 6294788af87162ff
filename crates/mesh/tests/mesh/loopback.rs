//! Channels from a node to itself: they behave as those between two nodes.

use std::time::Duration;

use bytes::Bytes;
use hearth_mesh::{
    Channel, FEED_BYTES_MAX, Mesh, OpenError, RecvError, STREAM_WINDOW_BYTES, SendError,
};
use tokio::time::timeout;
use wire::limits::MESH_FRAME_BYTES;
use wire::stream::Purpose;
use wire::{Durability, RegionId, ShardId, ZoneId};

use crate::support::{DEADLINE, Rig, echo, echoes, open};

fn start() -> Mesh {
    Rig::new().start("r1/core/1", &[])
}

/// Both ends of a new channel.
async fn ends(mesh: &Mesh) -> (Channel, Channel) {
    let here = open(mesh, mesh.node()).await;
    let (_, _, there) = timeout(DEADLINE, mesh.accept()).await.unwrap().unwrap();
    (here, there)
}

#[tokio::test]
async fn a_node_exchanges_frames_of_every_size_with_itself_both_ways() {
    let mesh = start();
    let shard =
        ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::MultiRegion, n: 3 };
    let here = mesh.open(mesh.node(), Purpose::Shard(shard)).await.unwrap();
    assert!(here.peer() == mesh.node() && !here.is_relayed());
    let (from, purpose, there) = timeout(DEADLINE, mesh.accept()).await.unwrap().unwrap();
    assert_eq!((&from, purpose, there.peer()), (mesh.node(), Purpose::Shard(shard), mesh.node()));

    let frames: Vec<Bytes> = [0, 1, 4096, 4097, 70_000, 3, MESH_FRAME_BYTES, 256]
        .iter()
        .enumerate()
        .map(|(n, len)| Bytes::from(vec![n as u8; *len]))
        .collect();
    let ((mut sender, mut receiver), (mut back, mut arrived)) = (here.split(), there.split());
    let over = Bytes::from(vec![0; MESH_FRAME_BYTES + 1]);
    assert_eq!(sender.feed(over).await, Err(SendError::TooLarge(MESH_FRAME_BYTES + 1)));
    let sent = frames.clone();
    let sending = tokio::spawn(async move {
        for frame in sent {
            sender.feed(frame).await.unwrap();
        }
        sender.finish().await.unwrap();
    });
    let mut got = Vec::new();
    while let Some(frame) = timeout(DEADLINE, arrived.recv()).await.unwrap().unwrap() {
        got.push(frame);
    }
    sending.await.unwrap();
    assert!(got == frames, "{:?}", got.iter().map(Bytes::len).collect::<Vec<_>>());
    // The other direction lives on after the first has finished.
    back.send(Bytes::from_static(b"done")).await.unwrap();
    let answer = timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap();
    assert_eq!(answer.as_deref(), Some(&b"done"[..]));
    drop(back);
    assert_eq!(timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_node_that_does_not_read_itself_makes_its_sender_wait() {
    let mesh = start();
    for size in [1000, 1] {
        let (here, there) = ends(&mesh).await;
        let (mut sender, _receiver) = here.split();
        let frame = Bytes::from(vec![1; size]);
        let mut taken = 0;
        while timeout(Duration::from_millis(200), sender.send(frame.clone())).await.is_ok() {
            taken += frame.len();
            let bound = STREAM_WINDOW_BYTES as usize + FEED_BYTES_MAX;
            assert!(taken <= bound, "{taken} bytes were taken, {bound} allowed");
        }
        // As soon as somebody reads, it goes on where it was.
        let (_back, mut arrived) = there.split();
        let reading = tokio::spawn(async move {
            let mut got = 0;
            while let Some(frame) = arrived.recv().await.unwrap() {
                assert!(frame.len() == size && frame.iter().all(|byte| *byte == 1));
                got += frame.len();
            }
            got
        });
        timeout(DEADLINE, sender.finish()).await.unwrap().unwrap();
        let got = timeout(DEADLINE, reading).await.unwrap().unwrap();
        assert_eq!(got, taken + size, "the frame whose send was cancelled was taken once");
    }
}

#[tokio::test]
async fn a_reset_loopback_is_an_error_and_a_dropped_one_an_end() {
    let mesh = start();
    let (here, there) = ends(&mesh).await;
    let (mut sender, _receiver) = here.split();
    sender.send(Bytes::from_static(b"last words")).await.unwrap();
    drop(sender);
    let (_back, mut arrived) = there.split();
    let last = timeout(DEADLINE, arrived.recv()).await.unwrap().unwrap();
    assert_eq!(last.as_deref(), Some(&b"last words"[..]));
    assert_eq!(timeout(DEADLINE, arrived.recv()).await.unwrap().unwrap(), None);

    let (here, there) = ends(&mesh).await;
    let ((sender, receiver), (mut back, mut arrived)) = (here.split(), there.split());
    sender.reset();
    let torn = timeout(DEADLINE, arrived.recv()).await.unwrap();
    assert!(matches!(torn, Err(RecvError::Broken(_))), "{torn:?}");
    // A receiver that is dropped tells the sender, also one that waits for room.
    let full = async { while back.send(Bytes::from(vec![7; 60_000])).await.is_ok() {} };
    let gone = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(receiver);
    };
    timeout(DEADLINE, async { tokio::join!(full, gone) }).await.unwrap();
}

#[tokio::test]
async fn loopbacks_that_the_node_does_not_accept_are_refused_as_busy() {
    let mesh = start();
    let mut opened = Vec::new();
    for _ in 0..257 {
        opened.push(open(&mesh, mesh.node()).await);
    }
    let refused = timeout(DEADLINE, opened.pop().unwrap().recv()).await.unwrap();
    assert!(matches!(&refused, Err(RecvError::Broken(why)) if why.contains("busy")), "{refused:?}");
    echo(&mesh);
    echoes(opened.swap_remove(0), "still waiting").await;
    echoes(open(&mesh, mesh.node()).await, "room again").await;
}

#[tokio::test]
async fn a_shutdown_waits_for_loopbacks_and_breaks_those_that_stay() {
    let mesh = start();
    let (here, there) = ends(&mesh).await;
    let stopping = tokio::spawn({
        let mesh = mesh.clone();
        async move { mesh.shutdown(DEADLINE).await }
    });
    echoes_through(here, there).await;
    timeout(DEADLINE, stopping).await.unwrap().unwrap();
    let refused = mesh.open(mesh.node(), Purpose::Control).await.unwrap_err();
    assert_eq!(refused, OpenError::Stopped);

    let mesh = start();
    let (mut here, mut there) = ends(&mesh).await;
    mesh.shutdown(Duration::from_millis(100)).await;
    assert!(matches!(here.recv().await, Err(RecvError::Broken(_))));
    let sent = there.send(Bytes::from_static(b"anyone?")).await;
    assert!(matches!(sent, Err(SendError::Broken(_))), "{sent:?}");
}

/// One frame each way, then both ends are dropped.
async fn echoes_through(mut here: Channel, mut there: Channel) {
    here.send(Bytes::from_static(b"ping")).await.unwrap();
    assert_eq!(there.recv().await.unwrap().as_deref(), Some(&b"ping"[..]));
    there.send(Bytes::from_static(b"pong")).await.unwrap();
    assert_eq!(here.recv().await.unwrap().as_deref(), Some(&b"pong"[..]));
}
