//! What a consumer may do to a shard: lag behind it, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use conversation::log::LogFrame;
use hearth_core_region::{
    Consumer, ConsumerContext, ConsumerError, ConsumerStatus, Consumers, Done,
};
use tokio::sync::watch;

use super::edge::{actor, send};
use super::harness::{DEADLINE, Harness, ONE, eventually, node};

/// More frames than the ring of a shard holds.
const SENDS: usize = 400;

/// How a consumer misbehaves, as long as the test is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    StandsStill,
    Panics,
    Fails,
    /// It takes frames and never finishes one.
    NeverDone,
    IsSlow,
}

struct Faulty {
    name: &'static str,
    fault: Fault,
    is_on: watch::Receiver<bool>,
    /// The slots of the frames whose work is done.
    seen: Arc<Mutex<Vec<u64>>>,
    has_panicked: Arc<AtomicBool>,
}

#[async_trait]
impl Consumer for Faulty {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn frame(
        &mut self,
        frame: Arc<LogFrame>,
        _: &ConsumerContext,
    ) -> Result<Done, ConsumerError> {
        let is_on = *self.is_on.borrow();
        let mut on = self.is_on.clone();
        let (seen, slot) = (self.seen.clone(), frame.slot.0);
        match self.fault {
            Fault::StandsStill => {
                let _ = on.wait_for(|on| !on).await;
            }
            Fault::Panics if is_on && slot > 3 => {
                self.has_panicked.store(true, Ordering::Relaxed);
                panic!("as the test wants it")
            }
            Fault::Fails if is_on && slot > 3 => {
                return Err(ConsumerError::Failed("as the test wants it".into()));
            }
            Fault::NeverDone => {
                return Ok(Done::When(Box::pin(async move {
                    let _ = on.wait_for(|on| !on).await;
                    seen.lock().unwrap().push(slot);
                    Ok(())
                })));
            }
            Fault::IsSlow if is_on => tokio::time::sleep(Duration::from_millis(50)).await,
            Fault::Panics | Fault::Fails | Fault::IsSlow => {}
        }
        seen.lock().unwrap().push(slot);
        Ok(Done::Now)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_stands_still_panics_fails_or_is_slow_lags_and_touches_no_ack() {
    let (on_out, on) = watch::channel(true);
    let faults = [
        ("still", Fault::StandsStill),
        ("panics", Fault::Panics),
        ("fails", Fault::Fails),
        ("open", Fault::NeverDone),
        ("slow", Fault::IsSlow),
    ];
    let has_panicked = Arc::<AtomicBool>::default();
    let seen = faults.map(|_| Arc::<Mutex<Vec<u64>>>::default());
    let mut consumers = Consumers::new();
    for ((name, fault), seen) in faults.into_iter().zip(&seen) {
        let (seen, is_on, has_panicked) = (seen.clone(), on.clone(), has_panicked.clone());
        consumers = consumers.with(move || Faulty {
            name,
            fault,
            is_on: is_on.clone(),
            seen: seen.clone(),
            has_panicked: has_panicked.clone(),
        });
    }
    let mut site = Harness::empty(ONE);
    site.consumers = consumers;
    let owner = node("r1/core/1");
    site.add(&owner);
    let shard = site.shard(1, 0);
    site.owner(&shard).await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(shard);
    edge.create(&ann, id, &[]).await;

    // One message a frame, so that there are many frames.
    let mut stream = edge.open(shard).await;
    let began = Instant::now();
    for n in 0..SENDS {
        let answer = stream.command(&ann, id, send(&format!("m-{n}"), "x")).await;
        answer.expect("the stream lives").expect("acknowledged");
    }
    assert!(began.elapsed() < DEADLINE, "acks waited for a consumer");
    let committed = site.status(&owner, &shard).committed;
    assert!(committed > SENDS as u64);

    let status = |site: &Harness, name: &str| -> Option<ConsumerStatus> {
        let consumers = site.status(&owner, &shard).consumers;
        consumers.into_iter().find(|consumer| consumer.name == name)
    };
    for (name, _) in faults {
        eventually("each consumer shows that it lags", || {
            status(&site, name).filter(|status| status.lag_frames > 50)
        })
        .await;
    }
    for name in ["panics", "fails"] {
        eventually("a failure is shown", || status(&site, name).filter(|status| status.is_failing))
            .await;
    }
    assert!(has_panicked.load(Ordering::Relaxed));
    assert_eq!(site.cores[&owner].core.status().panicked, [""; 0], "the core is healthy");

    on_out.send_replace(false);
    for ((name, _), seen) in faults.into_iter().zip(seen) {
        eventually("each consumer catches up", || {
            status(&site, name).filter(|status| status.lag_frames == 0 && !status.is_failing)
        })
        .await;
        let mut slots = seen.lock().unwrap().clone();
        slots.sort_unstable();
        slots.dedup();
        let all: Vec<u64> = (0..committed).collect();
        assert_eq!(slots, all, "{name} has seen every frame");
    }
}
