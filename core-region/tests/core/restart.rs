//! The embedded store under the cores: what rests on the disk is all there is after a stop of everything.

use super::edge::{ack, actor, send};
use super::site::{ONE, Site, THREE, node};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_everything_was_dropped_a_new_life_goes_on_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    for (world, lives) in [(ONE, 3), (THREE, 2)] {
        let dir = dir.path().join(lives.to_string());
        let mut id = None;
        for life in 0..lives {
            let mut site = Site::on_disk(world, &dir);
            site.add_all();
            site.settled().await;
            let edge = site.edge(&node("r1/edge/1"));
            let ann = actor("demo", "ann");
            let id = match id {
                Some(id) => id,
                None => {
                    let new = edge.group_in(site.shard(1, 0));
                    edge.create(&ann, new, &[]).await;
                    *id.insert(new)
                }
            };
            let mut stream = edge.open(id.shard).await;
            // The whole life before this one again, then something new.
            for n in 0..(life + 1) * 100 {
                stream.start(&ann, id, send(&format!("m-{n}"), "x")).await;
            }
            stream.flush().await;
            let acks: Vec<_> = stream.answers((life + 1) * 100).await.into_values().map(ack).collect();
            for (n, ack) in acks.iter().enumerate() {
                assert_eq!((ack.seq, ack.duplicate), (n as u64 + 1, n < life * 100), "message {n} in life {life}");
            }
            for node in site.cores.keys().cloned().collect::<Vec<_>>() {
                site.kill(&node);
            }
        }
    }
}
