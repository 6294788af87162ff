//! The embedded store under the cores: what rests on the disk is all there is after a stop of
//! everything.

use super::edge::{ack, actor, send};
use super::harness::{Harness, ONE, THREE, node};

/// Sends of one life: more than a conversation remembers in memory of what each became.
const EACH: usize = 700;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_everything_was_dropped_a_new_life_goes_on_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    for (world, lives) in [(ONE, 3), (THREE, 2)] {
        let dir = dir.path().join(lives.to_string());
        let mut id = None;
        for incarnation in 0..lives {
            let mut site = Harness::on_disk(world, &dir);
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
            for n in 0..(incarnation + 1) * EACH {
                stream.start(&ann, id, send(&format!("m-{n}"), "x")).await;
            }
            stream.flush().await;
            let acks: Vec<_> =
                stream.answers((incarnation + 1) * EACH).await.into_values().map(ack).collect();
            for (n, ack) in acks.iter().enumerate() {
                // More were sent at the end of each life.
                let seq = n + 1 + (EACH + 1) * (n / EACH);
                assert_eq!(
                    (ack.seq, ack.duplicate),
                    (seq as u64, n < incarnation * EACH),
                    "message {n} in incarnation {incarnation}"
                );
            }
            // Twice in one breath, with more between the two than memory holds.
            let twice = format!("twice-{incarnation}");
            let first = stream.start(&ann, id, send(&twice, "x")).await;
            for n in 0..EACH {
                stream.start(&ann, id, send(&format!("{twice}-{n}"), "x")).await;
            }
            let last = stream.start(&ann, id, send(&twice, "x")).await;
            stream.flush().await;
            let answers = stream.answers(EACH + 2).await;
            let (first, again) = (ack(answers[&first].clone()), ack(answers[&last].clone()));
            assert_eq!((again.seq, first.duplicate, again.duplicate), (first.seq, false, true));
            for node in site.cores.keys().cloned().collect::<Vec<_>>() {
                site.kill(&node);
            }
        }
    }
}
