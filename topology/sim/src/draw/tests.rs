use std::collections::BTreeSet;
use std::mem::discriminant;

use super::*;

/// Enough for the rarest kind.
const SEEDS: u64 = 500;

#[test]
fn the_same_seed_draws_the_same() {
    for seed in [0, 7, u64::MAX] {
        assert_eq!(format!("{:?}", of_seed(seed)), format!("{:?}", of_seed(seed)));
    }
    assert_ne!(format!("{:?}", of_seed(1)), format!("{:?}", of_seed(2)));
}

#[test]
fn both_worlds_are_drawn_the_small_one_mostly() {
    let small = (0..SEEDS).filter(|seed| world_of(*seed).name == "explore").count();
    assert!((350..450).contains(&small), "{small}");
    let names: BTreeSet<String> = (0..SEEDS).map(|seed| world_of(seed).name.clone()).collect();
    assert_eq!(names.len(), 2);
}

#[test]
fn the_small_world_is_small_and_holds_every_promise() {
    let world = World::parse(EXPLORE).unwrap();
    let cores: Vec<u16> = world.regions.iter().map(|region| region.cores).collect();
    assert_eq!(cores, [1, 2, 1]);
    assert!(world.regions.iter().all(|region| region.edges == 1));
    assert!(world.zones.iter().all(|zone| zone.shards == 1));
    let classes: Vec<wire::Durability> =
        world.tenants.iter().map(|tenant| tenant.durability).collect();
    assert_eq!(
        classes,
        [wire::Durability::MultiRegion, wire::Durability::Region, wire::Durability::Region]
    );
    assert_eq!(world.zones[1].transit, topology::Transit::Deny);
}

#[test]
fn every_kind_of_fault_is_drawn() {
    let drawn: Vec<Fault> =
        (0..SEEDS).flat_map(|seed| of_seed(seed).faults).map(|planned| planned.fault).collect();
    let mut kinds = Vec::new();
    for fault in &drawn {
        if !kinds.contains(&discriminant(fault)) {
            kinds.push(discriminant(fault));
        }
    }
    assert_eq!(kinds.len(), KINDS.len() + 1, "these, and regions that are failed over");
    let restarts =
        drawn.iter().filter(|fault| matches!(fault, Fault::RollingRestart { .. })).count();
    assert!(restarts * 20 < drawn.len(), "{restarts} of {}", drawn.len());
}

#[test]
fn every_drawn_scenario_is_within_bounds() {
    for seed in 0..SEEDS {
        let scenario = of_seed(seed);
        assert_eq!(scenario.name, format!("drawn-{seed}"));
        assert!(LOAD_MS.contains(&scenario.load_ms), "seed {seed}");
        assert!(FAULTS.contains(&plain(seed).faults.len()), "seed {seed}");
        assert!(!scenario.faults.is_empty() && scenario.faults.len() < 12, "seed {seed}");
        load_is_within_bounds(&scenario.load, seed);
        for planned in &scenario.faults {
            let end_ms = planned.at_ms + planned.for_ms.expect("drawn faults end");
            assert!(planned.for_ms >= Some(LAST_MS), "seed {seed}: {planned:?}");
            assert!(end_ms <= scenario.load_ms - scenario.quiet_ms, "seed {seed}: {planned:?}");
            fault_is_within_bounds(&planned.fault, &scenario.world, seed);
        }
    }
}

#[test]
fn two_seeds_of_five_are_given_a_scene_and_the_others_are_as_before() {
    let scene = |seed: u64| {
        let faults = of_seed(seed).faults.into_iter();
        faults
            .filter(|planned| !matches!(planned.fault, Fault::FailOver { .. }))
            .collect::<Vec<_>>()
    };
    let staged = (0..SEEDS).filter(|seed| scene(*seed) != plain(*seed).faults).count();
    assert!((150..250).contains(&staged), "{staged} of {SEEDS}");
    for seed in 0..SEEDS {
        let load = Load { moves_per_s: 0.0, region_moves_per_s: 0.0, ..of_seed(seed).load };
        assert_eq!(load, plain(seed).load, "seed {seed}");
    }
}

#[test]
fn in_one_seed_of_three_conversations_move() {
    let moving = (0..SEEDS).filter(|seed| of_seed(*seed).load.moves_per_s > 0.0).count();
    assert!((120..220).contains(&moving), "{moving} of {SEEDS}");
    assert!((0..SEEDS).all(|seed| plain(seed).load.moves_per_s == 0.0));
}

#[test]
fn in_one_seed_of_four_those_of_class_region_move() {
    let moving = (0..SEEDS).filter(|seed| of_seed(*seed).load.region_moves_per_s > 0.0).count();
    assert!((90..160).contains(&moving), "{moving} of {SEEDS}");
    assert!((0..SEEDS).all(|seed| plain(seed).load.region_moves_per_s == 0.0));
}

#[test]
fn in_one_seed_of_five_a_region_is_failed_over() {
    let is_over = |planned: &Planned| matches!(planned.fault, Fault::FailOver { .. });
    let failed_over = (0..SEEDS).filter(|seed| of_seed(*seed).faults.iter().any(is_over)).count();
    assert!((70..130).contains(&failed_over), "{failed_over} of {SEEDS}");
}

#[test]
fn two_regions_of_a_zone_are_rarely_lost_together() {
    let mut together = 0;
    for seed in 0..SEEDS {
        let scenario = of_seed(seed);
        let rng = Draws { inner: SmallRng::seed_from_u64(0), world: &scenario.world };
        let faults = &scenario.faults;
        together += usize::from(
            (0..faults.len())
                .any(|n| faults[..n].iter().any(|a| rng.loses_too_much(a, &faults[n]))),
        );
    }
    assert!(together < 15, "{together} of {SEEDS}");
}

#[test]
fn a_world_of_one_region_is_drawn_in_as_well() {
    let world = Arc::new(World::shipped("one-region").unwrap());
    for seed in 0..SEEDS {
        for planned in draw(&world, seed).faults {
            fault_is_within_bounds(&planned.fault, &world, seed);
        }
    }
}

fn load_is_within_bounds(load: &Load, seed: u64) {
    assert!((1..=3).contains(&load.clients), "seed {seed}");
    assert!((5.0..=25.0).contains(&load.messages_per_s), "seed {seed}");
    assert!((2..=5).contains(&load.groups), "seed {seed}");
    assert!((1..=3).contains(&load.directs), "seed {seed}");
    assert!((0.0..=1.5).contains(&load.edits_per_s), "seed {seed}");
    assert!((0.0..=1.0).contains(&load.reads_per_s), "seed {seed}");
    assert!((0.0..=2.5).contains(&load.moves_per_s), "seed {seed}");
    assert!((0.0..=1.5).contains(&load.region_moves_per_s), "seed {seed}");
    assert!((0.0..=0.4).contains(&load.resend), "seed {seed}");
    assert!((40..=400).contains(&load.body_bytes), "seed {seed}");
}

fn fault_is_within_bounds(fault: &Fault, world: &World, seed: u64) {
    assert!(
        fault.regions().iter().all(|region| world.region(*region).is_some()),
        "seed {seed}: {fault:?}"
    );
    match fault {
        Fault::Clock { node, rate, jump_ms } => {
            assert!(world.nodes().iter().any(|known| known == node), "seed {seed}");
            assert!(
                (0.8..=1.25).contains(rate) && jump_ms.abs() <= JUMP_MS,
                "seed {seed}: {fault:?}"
            );
            assert!(*rate != 1.0 || *jump_ms != 0, "seed {seed}: {fault:?}");
        }
        Fault::Kill { node }
        | Fault::PowerLoss { node }
        | Fault::Pause { node }
        | Fault::Drain { node } => {
            assert!(world.nodes().iter().any(|known| known == node), "seed {seed}");
        }
        Fault::Cut { a, b, .. } | Fault::Delay { a, b, .. } => assert_ne!(a, b, "seed {seed}"),
        Fault::Loss { a, b, share } => {
            assert!(a != b && (0.0..=1.0).contains(share), "seed {seed}: {fault:?}")
        }
        Fault::LateWrites { share, by_ms, .. } => {
            assert!((0.0..=1.0).contains(share) && *by_ms > 0, "seed {seed}: {fault:?}");
        }
        Fault::Diverge { share, .. } => {
            assert!((0.0..=1.0).contains(share), "seed {seed}: {fault:?}")
        }
        _ => {}
    }
}
