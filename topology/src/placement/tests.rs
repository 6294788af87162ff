use proptest::prelude::*;
use wire::ZoneId;

use super::*;

/// Three regions with this many cores each, and many shards.
fn world(cores: u16, shards: u16) -> World {
    let mut world = World::default_world();
    for region in &mut world.regions {
        region.cores = cores;
    }
    for zone in &mut world.zones {
        (zone.shards, zone.founding_shards) = (shards, shards);
    }
    world
}

fn all(world: &World) -> Live {
    Live::new(world.nodes())
}

fn without(live: &Live, gone: impl Fn(&NodeId) -> bool) -> Live {
    Live::new(live.cores().filter(|core| !gone(core)).cloned())
}

fn shard(home: u16, durability: Durability) -> ShardId {
    ShardId { zone: ZoneId(1), home: RegionId(home), durability, n: 0 }
}

fn node(text: &str) -> NodeId {
    text.parse().unwrap()
}

#[test]
fn a_healthy_shard_is_served_at_home() {
    let world = World::default_world();
    let live = all(&world);
    for shard in world.all_shards() {
        let owner = owner(&world, &shard, &live).unwrap();
        assert_eq!((owner.region, owner.role), (shard.home, NodeRole::Core));
        assert!(may_claim(&world, &shard, &owner, &live));
        let claimants =
            world.nodes().into_iter().filter(|node| may_claim(&world, &shard, node, &live)).count();
        assert_eq!(claimants, 1, "{shard}");
    }
}

/// Pinned: two builds that disagree here would take shards from each other during a rolling
/// upgrade.
#[test]
fn placement_is_the_same_in_every_process_of_every_build() {
    let world = World::default_world();
    let owners: Vec<String> = world
        .all_shards()
        .iter()
        .map(|shard| owner(&world, shard, &all(&world)).unwrap().name.as_str().to_owned())
        .collect();
    assert_eq!(owners.concat(), "1222112122221221112221122121");
}

#[test]
fn the_table_of_owners_says_what_the_function_says() {
    let world = world(3, 16);
    let live = without(&all(&world), |core| core.region == RegionId(1));
    let owners = Owners::compute(&world, &live);
    for shard in world.all_shards() {
        assert_eq!(owners.of(&shard).cloned(), owner(&world, &shard, &live), "{shard}");
    }
}

#[test]
fn a_lost_core_leaves_its_shards_to_others_of_its_region() {
    let world = World::default_world();
    let shard = shard(1, Durability::Region);
    let live = all(&world);
    let first = owner(&world, &shard, &live).unwrap();
    let second = owner(&world, &shard, &without(&live, |core| *core == first)).unwrap();
    assert_ne!(first, second);
    assert_eq!(second.region, RegionId(1));
    assert_eq!(candidates(&world, &shard, &live), [first, second]);
}

#[test]
fn a_lost_home_leaves_multi_region_shards_to_the_first_live_successor() {
    let world = World::default_world();
    let shard = shard(1, Durability::MultiRegion);
    assert_eq!(region_order(&world, &shard, &all(&world)), [1, 2, 3].map(RegionId));
    let live = without(&all(&world), |core| core.region == RegionId(1));
    let successor = owner(&world, &shard, &live).unwrap();
    assert_eq!(successor.region, RegionId(2));
    assert!(may_claim(&world, &shard, &successor, &live));
    // With two of three regions gone the third sees no majority.
    let alone = without(&live, |core| core.region == RegionId(2));
    let last = owner(&world, &shard, &alone).unwrap();
    assert_eq!(last.region, RegionId(3));
    assert!(!may_claim(&world, &shard, &last, &alone));
}

#[test]
fn a_lost_home_keeps_its_region_class_shards() {
    let world = World::default_world();
    let shard = shard(1, Durability::Region);
    let live = without(&all(&world), |core| core.region == RegionId(1));
    assert_eq!(candidates(&world, &shard, &live), []);
    assert!(world.nodes().iter().all(|node| !may_claim(&world, &shard, node, &live)));
}

#[test]
fn a_home_that_is_failed_over_leaves_them_to_its_successor_even_when_it_lives() {
    let world = World::default_world();
    let (ours, other) = (shard(1, Durability::Region), shard(2, Durability::Region));
    let failed_over = FailedOver::from([(ours.zone, ours.home)]);
    let lost = without(&all(&world), |core| core.region == RegionId(1))
        .with_failed_over(failed_over.clone());
    let successor = owner(&world, &ours, &lost).unwrap();
    assert_eq!(successor.region, RegionId(2));
    assert!(may_claim(&world, &ours, &successor, &lost));
    let back = all(&world).with_failed_over(failed_over);
    assert_eq!(owner(&world, &ours, &back), Some(successor.clone()));
    assert!(candidates(&world, &ours, &back).iter().all(|core| core.region != RegionId(1)));
    assert_eq!(
        owner(&world, &other, &back),
        owner(&world, &other, &all(&world)),
        "of other homes it says nothing"
    );
    // A node that does not know of the failover asks the right core, or one that knows.
    let blind = without(&all(&world), |core| core.region == RegionId(1));
    assert_eq!(whom_to_ask(&world, &ours, &blind), Some(successor));
    assert_eq!(whom_to_ask(&world, &ours, &all(&world)).unwrap().region, RegionId(1));
    assert_eq!(
        Owners::to_ask(&world, &blind).of(&ours).cloned(),
        whom_to_ask(&world, &ours, &blind)
    );
}

#[test]
fn a_home_alone_goes_on_claiming_its_own() {
    let world = World::default_world();
    let shard = shard(1, Durability::MultiRegion);
    let alone = without(&all(&world), |core| core.region != RegionId(1));
    let home = owner(&world, &shard, &alone).unwrap();
    assert!(may_claim(&world, &shard, &home, &alone));
}

#[test]
fn a_draining_core_is_no_candidate() {
    let world = World::default_world();
    let nodes = world.nodes();
    let live = Live::from_view(nodes.iter().map(|node| (node, node.region == RegionId(1))));
    assert_eq!(live.of_region(RegionId(1)).count(), 0);
    assert_eq!(live.cores().count(), 4, "no edges");
    assert_eq!(
        owner(&world, &shard(1, Durability::MultiRegion), &live).unwrap().region,
        RegionId(2)
    );
}

#[test]
fn a_region_outside_the_zone_is_never_a_candidate() {
    let world = World::shipped("six-regions").unwrap();
    let shard =
        ShardId { zone: ZoneId(2), home: RegionId(4), durability: Durability::MultiRegion, n: 1 };
    let names: Vec<String> = region_order(&world, &shard, &all(&world))
        .iter()
        .map(|id| world.region_name(*id))
        .collect();
    assert_eq!(names, ["eu-west", "eu-central", "eu-north"]);
    let outside = without(&all(&world), |core| core.region.0 > 3);
    assert_eq!(candidates(&world, &shard, &outside), []);
}

#[test]
fn successors_that_the_file_leaves_out_come_nearest_first() {
    let mut world = World::default_world();
    world.regions[2].successors.clear();
    let names: Vec<String> = region_order(&world, &shard(3, Durability::MultiRegion), &all(&world))
        .iter()
        .map(|id| world.region_name(*id))
        .collect();
    assert_eq!(names, ["ap-south", "eu-west", "us-east"]);
}

#[test]
fn a_shard_that_the_world_does_not_have_is_nobodys() {
    let world = World::default_world();
    let mut unknown = shard(1, Durability::MultiRegion);
    unknown.n = 99;
    assert_eq!(owner(&world, &unknown, &all(&world)), None);
    unknown = ShardId { zone: ZoneId(9), ..shard(1, Durability::Region) };
    assert_eq!(owner(&world, &unknown, &all(&world)), None);
    assert!(!may_claim(&world, &unknown, &node("r1/core/1"), &all(&world)));
}

#[test]
fn the_shards_of_a_region_are_spread_over_its_cores() {
    for cores in [2, 3, 5, 8] {
        let world = world(cores, 256);
        let live = all(&world);
        let mut served: BTreeMap<NodeId, usize> = BTreeMap::new();
        let owners = Owners::compute(&world, &live);
        for shard in world.all_shards() {
            *served.entry(owners.of(&shard).unwrap().clone()).or_default() += 1;
        }
        let (least, most) = (served.values().min().unwrap(), served.values().max().unwrap());
        assert_eq!(served.len(), usize::from(cores) * 3);
        assert!(most <= &(least * 3), "{cores} cores: {least} to {most} shards");
    }
}

/// Of S shards homed in a region of n cores, a joining core takes about S/(n+1), evenly from all,
/// and no shard moves between two others. When it leaves, exactly those move back. The bounds limit
/// how far the share may be from S/(n+1): over all inputs drawn here, the furthest are 0.43 and
/// 1.64 times it.
fn a_newcomer_takes_only_its_share(cores: u16, newcomer: &str) -> Result<(), TestCaseError> {
    let world = world(cores, 256);
    let before = all(&world);
    let newcomer = node(newcomer);
    let after = Live::new(before.cores().cloned().chain([newcomer.clone()]));
    let (old, new) = (Owners::compute(&world, &before), Owners::compute(&world, &after));
    let mut moved = 0;
    for shard in world.all_shards() {
        let (from, to) = (old.of(&shard).unwrap(), new.of(&shard).unwrap());
        if from != to {
            prop_assert_eq!(to, &newcomer, "{} moved between two others", shard);
            moved += 1;
        }
    }
    let fair = world.shards_homed_in(newcomer.region).len() as f64 / f64::from(cores + 1);
    prop_assert!(
        (fair * 0.4..fair * 1.7).contains(&f64::from(moved)),
        "{} moved, {} would be fair",
        moved,
        fair
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_core_that_comes_or_goes_moves_only_its_own_share(cores in 1..12u16, name in 0..1000u16) {
        a_newcomer_takes_only_its_share(cores, &format!("r2/core/new-{name}"))?;
    }

    /// Whatever two nodes see, at most one core may claim in each view, and it is alive in it.
    #[test]
    fn in_any_view_at_most_one_may_claim(dead in proptest::collection::vec(any::<bool>(), 9)) {
        let world = World::default_world();
        let nodes = world.nodes();
        let live = Live::new(nodes.iter().zip(&dead).filter(|(_, dead)| !**dead).map(|(node, _)| node.clone()));
        for shard in world.all_shards() {
            let claimants: Vec<&NodeId> = nodes.iter().filter(|node| may_claim(&world, &shard, node, &live)).collect();
            prop_assert!(claimants.len() <= 1);
            prop_assert!(claimants.iter().all(|node| live.contains(node)));
        }
    }
}
