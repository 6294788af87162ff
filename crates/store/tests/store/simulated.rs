//! The simulated store: the suite in good weather, and what must hold in bad.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::shard::{Cas, FenceMode, Nonce};
use hearth_store::conformance::{self, REGIONS, Subject};
use hearth_store::simulated::{Crash, Simulated, SimulatedOptions, Weather};
use hearth_store::{Mark, Store, StoreError};
use wire::{Durability, Epoch, NodeId, Position, RegionId, ShardId, Slot, ZoneId};

const WIDE: ShardId =
    ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::MultiRegion, n: 1 };

fn world(seed: u64, weather: Weather) -> Simulated {
    Simulated::new(SimulatedOptions {
        seed,
        regions: REGIONS.to_vec(),
        zones: conformance::zones(),
        weather,
        sync_all: false,
    })
}

fn at(epoch: u64, slot: u64) -> Position {
    Position { epoch: Epoch(epoch), slot: Slot(slot) }
}

fn node(region: u16) -> NodeId {
    format!("r{region}/core/a").parse().unwrap()
}

struct Memory(Simulated);

#[async_trait]
impl Subject for Memory {
    fn store(&self, region: RegionId) -> Arc<dyn Store> {
        self.0.store(region)
    }

    async fn holds(&self, region: RegionId, needle: &[u8]) -> bool {
        self.0.holds(region, needle)
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_store_keeps_the_contract() {
    for seed in 0..3 {
        conformance::suite(&Memory(world(seed, Weather::calm()))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_overtake_each_other_do_not_break_the_contract() {
    let delay = Duration::from_millis(1)..Duration::from_millis(900);
    conformance::suite(&Memory(world(7, Weather { delay, ..Weather::calm() }))).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_majority_has_synced_survives_the_crash_of_any_machine() {
    for seed in 0..30 {
        let world = world(seed, Weather::storm());
        let store = world.store(RegionId(1));
        let mut acknowledged = Vec::new();
        for slot in 0..20 {
            if store.append(WIDE, at(1, slot), Bytes::from_static(b"frame")).await.is_ok() {
                acknowledged.push(slot);
            }
        }
        for victim in REGIONS {
            world.crash(victim, Crash::Machine);
            world.set_weather(Weather::calm());
            let other = world.store(RegionId(victim.0 % 3 + 1));
            let rows = other.read_log(WIDE, Slot(0), 100).await.unwrap();
            for slot in &acknowledged {
                assert!(
                    rows.iter().any(|row| row.at.slot.0 == *slot),
                    "seed {seed}: slot {slot} without {victim:?}"
                );
            }
            world.restart(victim);
            // What it lost it must have again before the next one may fail.
            world.repair(victim);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_synced_may_be_lost_and_a_checkpoint_makes_durable_what_stands_before_it() {
    let mut lost = 0;
    for seed in 0..20 {
        let world = world(seed, Weather::calm());
        let store = world.store(RegionId(1));
        store.write_mark(WIDE, &Mark::Committed, at(1, 1)).await.unwrap();
        store.write_mark(WIDE, &Mark::Checkpoint, at(1, 1)).await.unwrap();
        store.write_mark(WIDE, &Mark::Committed, at(1, 2)).await.unwrap();
        // All arrived everywhere.
        tokio::time::sleep(Duration::from_secs(1)).await;
        for region in REGIONS {
            world.crash(region, Crash::Machine);
            world.restart(region);
        }
        assert_eq!(store.mark(WIDE, &Mark::Checkpoint).await, Ok(Some(at(1, 1))));
        let committed = store.mark(WIDE, &Mark::Committed).await.unwrap();
        assert!(committed >= Some(at(1, 1)), "seed {seed}: {committed:?}");
        lost += usize::from(committed < Some(at(1, 2)));
    }
    assert!(lost > 0, "no seed lost anything: the crash is too kind");
}

#[tokio::test(start_paused = true)]
async fn a_region_cut_off_can_do_nothing_and_the_others_go_on() {
    let world = world(1, Weather::calm());
    let [one, two, three] = REGIONS.map(|region| world.store(region));
    world.cut(RegionId(1), RegionId(2));
    world.cut(RegionId(1), RegionId(3));
    assert_eq!(
        one.append(WIDE, at(1, 0), Bytes::from_static(b"alone")).await,
        Err(StoreError::Unknown)
    );
    assert!(matches!(
        one.fence(WIDE).await,
        Err(StoreError::Unavailable { needed: 2, answering: 1, .. })
    ));
    assert!(one.claim(WIDE, Epoch(0), &node(1), Nonce(1), FenceMode::Read).await.is_err());
    assert_eq!(
        two.claim(WIDE, Epoch(0), &node(2), Nonce(2), FenceMode::Read).await,
        Ok(Cas::Applied)
    );
    three.append(WIDE, at(1, 5), Bytes::from_static(b"majority")).await.unwrap();
    world.heal(RegionId(1), RegionId(2));
    assert_eq!(one.lease(WIDE).await.unwrap().nonce, Nonce(2));
    let slots: Vec<u64> =
        one.read_log(WIDE, Slot(0), 9).await.unwrap().iter().map(|row| row.at.slot.0).collect();
    // The write on a minority shows to who asks that minority. What to make of it the rules of the
    // takeover say.
    assert_eq!(slots, vec![0, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_write_may_land_long_after_its_sender_gave_up() {
    let mut landed = 0;
    for seed in 0..20 {
        let world = world(seed, Weather { late: 1.0, ..Weather::calm() });
        let store = world.store(RegionId(1));
        let result = store.append(WIDE, at(1, 0), Bytes::from_static(b"late")).await;
        assert_eq!(result, Err(StoreError::Unknown));
        world.set_weather(Weather::calm());
        let there = |rows: Vec<_>| usize::from(!rows.is_empty());
        let others = world.store(RegionId(2));
        world.crash(RegionId(1), Crash::Process);
        let before = there(others.read_log(WIDE, Slot(0), 9).await.unwrap());
        tokio::time::sleep(Duration::from_secs(30)).await;
        landed += there(others.read_log(WIDE, Slot(0), 9).await.unwrap()) - before;
    }
    assert!(landed > 0);
}

/// What a claimant may rely on: once a serial read says that a claim is not the last one, it never
/// is.
#[tokio::test(start_paused = true)]
async fn a_claim_in_doubt_is_settled_by_the_first_read_after_it() {
    let mut doubts = 0;
    for seed in 0..60 {
        let world = world(seed, Weather { lost: 0.3, late: 0.2, ..Weather::storm() });
        let mut settled: Vec<(Epoch, Nonce)> = Vec::new();
        let mut nonce = 0u128;
        for round in 0..20u16 {
            let region = REGIONS[usize::from(round % 3)];
            let store = world.store(region);
            let Ok(lease) = store.lease(WIDE).await else { continue };
            if let Some((_, known)) = settled.iter().find(|(epoch, _)| *epoch == lease.epoch) {
                assert_eq!(
                    *known, lease.nonce,
                    "seed {seed}: term {:?} changed hands after it was read",
                    lease.epoch
                );
            }
            assert!(
                settled.iter().all(|(epoch, _)| *epoch <= lease.epoch),
                "seed {seed}: an epoch went back"
            );
            settled.push((lease.epoch, lease.nonce));
            nonce += 1;
            match store
                .claim(WIDE, lease.epoch, &node(region.0), Nonce(nonce), FenceMode::Read)
                .await
            {
                Ok(Cas::Applied) => settled.push((lease.epoch.next(), Nonce(nonce))),
                Ok(Cas::Refused) => panic!("seed {seed}: nobody else claims"),
                Err(error) => doubts += usize::from(error.may_have_written()),
            }
        }
    }
    assert!(doubts > 20, "too few doubtful claims to mean anything: {doubts}");
}

async fn story(seed: u64) -> Vec<String> {
    let world = world(seed, Weather::storm());
    let begun = tokio::time::Instant::now();
    let mut said = Vec::new();
    for slot in 0..30 {
        let region = REGIONS[slot as usize % 3];
        let store = world.store(region);
        let appended = store.append(WIDE, at(1, slot), Bytes::from(slot.to_string())).await;
        let read = store.read_log(WIDE, Slot(0), 100).await.map(|rows| rows.len());
        said.push(format!("{:?} {appended:?} {read:?}", begun.elapsed()));
        if slot == 15 {
            world.crash(RegionId(3), Crash::Machine);
            world.restart(RegionId(3));
        }
    }
    said
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_tells_the_same_story() {
    assert_eq!(story(42).await, story(42).await);
    assert_ne!(story(42).await, story(43).await);
}
