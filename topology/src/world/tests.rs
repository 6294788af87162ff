use std::collections::BTreeMap;

use wire::{ConversationKind, UserId};

use super::*;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn user(name: impl AsRef<str>) -> UserId {
    UserId::new(name).unwrap()
}

#[test]
fn every_shipped_world_is_good_and_starts_with_the_tenant_demo() {
    for (name, _) in SHIPPED {
        let world = World::shipped(name).unwrap();
        assert_eq!(world.name, name);
        assert_eq!(world.tenants[0].id, tenant("demo"));
    }
    assert!(World::shipped("no-such-world").is_none());
}

#[test]
fn the_default_world_is_what_the_protocol_promises() {
    let world = World::default_world();
    let demo = world.tenant(&tenant("demo")).unwrap();
    assert_eq!(demo.durability, Durability::MultiRegion);
    assert_eq!(world.zone_of(&demo.id).unwrap().regions.len(), 3);
    let pinned = world.tenant(&tenant("demo-eu")).unwrap();
    assert_eq!(pinned.durability, Durability::Region);
    let zone = world.zone_of(&pinned.id).unwrap();
    assert_eq!((zone.name.as_str(), zone.regions.len(), zone.transit), ("eu", 1, Transit::Deny));
    let nodes: Vec<String> = world.nodes().iter().map(NodeId::to_string).collect();
    let region = |n: u8| [format!("r{n}/core/1"), format!("r{n}/core/2"), format!("r{n}/edge/1")];
    assert_eq!(nodes, [region(1), region(2), region(3)].concat());
}

#[test]
fn six_regions_are_two_zones_with_nothing_in_common() {
    let world = World::shipped("six-regions").unwrap();
    assert!(world.zones[0].regions.iter().all(|region| !world.zones[1].regions.contains(region)));
    assert!(world.zones.iter().all(|zone| zone.offers(Durability::MultiRegion)));
}

#[test]
fn shards_are_those_of_the_classes_that_the_zone_offers() {
    let world = World::default_world();
    // global: 3 homes x 2 classes x 4; eu: 1 home x 1 class x 4.
    assert_eq!(world.all_shards().len(), 28);
    let homed: usize =
        world.regions.iter().map(|region| world.shards_homed_in(region.id).len()).sum();
    assert_eq!(homed, 28);
    assert!(world.all_shards().iter().all(|shard| world.has_shard(shard)));
    let mut foreign = world.all_shards()[0];
    foreign.n = 4;
    assert!(!world.has_shard(&foreign));
    let eu = world.zone_by_name("eu").unwrap();
    let no_quorum =
        ShardId { zone: eu.id, home: eu.regions[0], durability: Durability::MultiRegion, n: 0 };
    assert!(!world.has_shard(&no_quorum));
}

#[test]
fn an_edge_outside_a_zone_carries_its_frames_or_names_those_inside() {
    let world = World::default_world();
    let [global, eu] = ["global", "eu"].map(|name| world.zone_by_name(name).unwrap().id);
    let [eu_west, us_east] =
        ["eu-west", "us-east"].map(|name| world.region_by_name(name).unwrap().id);
    assert_eq!(world.edge_serves(us_east, global), Serve::Yes);
    assert_eq!(world.edge_serves(eu_west, eu), Serve::Yes);
    assert_eq!(world.edge_serves(us_east, eu), Serve::Refuse { alternatives: vec![eu_west] });
    let six = World::shipped("six-regions").unwrap();
    let Serve::Refuse { alternatives } = six.edge_serves(RegionId(2), ZoneId(2)) else {
        panic!("denied")
    };
    let names: Vec<String> = alternatives.iter().map(|id| six.region_name(*id)).collect();
    assert_eq!(names, ["eu-west", "eu-north", "eu-central"], "nearest to us-west first");
}

#[test]
fn a_delay_is_what_the_file_says_or_what_the_coordinates_give() {
    let world = World::default_world();
    let [eu, us, ap] = [1, 2, 3].map(RegionId);
    assert_eq!(world.delay(eu, us).as_millis(), 34);
    assert_eq!(world.delay(us, eu), world.delay(eu, us));
    assert_eq!(world.delay(eu, eu).as_millis(), 0);
    let mut without_links = world.clone();
    without_links.links.clear();
    // Within a quarter of what was measured.
    for (a, b) in [(eu, us), (eu, ap), (us, ap)] {
        let (given, computed) =
            (world.delay(a, b).as_secs_f64(), without_links.delay(a, b).as_secs_f64());
        assert!(
            (computed / given - 1.0).abs() < 0.25,
            "{a:?}-{b:?}: {given} given, {computed} computed"
        );
    }
}

#[test]
fn a_direct_conversation_is_the_same_for_both() {
    let world = World::default_world();
    let (demo, ann, ben) = (tenant("demo"), user("ann"), user("ben"));
    let id = world.direct_id(&demo, &ann, &ben).unwrap();
    assert_eq!(Some(id), world.direct_id(&demo, &ben, &ann));
    assert_eq!((id.kind, id.shard.durability), (ConversationKind::Direct, Durability::MultiRegion));
    assert!(world.has_shard(&id.shard));
    assert_ne!(Some(id), world.direct_id(&tenant("demo-eu"), &ann, &ben));
    assert!(world.direct_id(&tenant("nobody"), &ann, &ben).is_none());
}

#[test]
fn users_are_spread_over_regions_and_shards_alike() {
    let world = World::default_world();
    let mut users: BTreeMap<ShardId, u32> = BTreeMap::new();
    for n in 0..12_000 {
        let id = world.user_stream_id(&tenant("demo"), &user(format!("user-{n}"))).unwrap();
        *users.entry(id.shard).or_default() += 1;
    }
    assert_eq!(users.len(), 12);
    assert!(users.values().all(|count| (850..1150).contains(count)), "{users:?}");
}

/// Pinned: these ids stand in people's stores.
#[test]
fn derived_ids_never_change() {
    let world = World::default_world();
    let stream = world.user_stream_id(&tenant("demo"), &user("ann")).unwrap();
    let direct = world.direct_id(&tenant("demo"), &user("ann"), &user("ben")).unwrap();
    assert_eq!(stream.shard.to_string(), "z1-r1-multi-region-1");
    assert_eq!(direct.shard.to_string(), "z1-r1-multi-region-2");
}

#[test]
fn a_zone_that_grows_keeps_its_derived_ids_when_it_names_its_founders() {
    let text = include_str!("../../worlds/three-regions.toml");
    let grown = text
        .replace(
            "regions = [\"eu-west\", \"us-east\", \"ap-south\"]",
            "regions = [\"eu-west\", \"us-east\", \"ap-south\", \"sa-east\"]",
        )
        .replace(
            "# founding_regions = [...] ",
            "founding_regions = [\"eu-west\", \"us-east\", \"ap-south\"]\nshards = 16 ",
        )
        .replace("# founding_shards = 4 ", "founding_shards = 4 ")
        + "\n[[region]]\nid = 4\nname = \"sa-east\"\nlat = -23.5\nlon = -46.6\n";
    let (before, after) = (World::default_world(), World::parse(&grown).unwrap());
    assert_eq!((after.zones[0].regions.len(), after.zones[0].shards), (4, 16));
    for n in 0..1_000 {
        let (demo, ann) = (tenant("demo"), user(format!("user-{n}")));
        assert_eq!(before.user_stream_id(&demo, &ann), after.user_stream_id(&demo, &ann));
    }
    let group = after
        .new_group_id(&tenant("demo"), RegionId(4), Durability::MultiRegion, [255; 16])
        .unwrap();
    assert_eq!(group.shard.n, 15);
    assert!(after.has_shard(&group.shard));
}

#[test]
fn a_group_is_born_only_where_its_tenant_may_rest_and_only_as_durable_as_its_zone_can() {
    let world = World::default_world();
    let (demo, demo_eu) = (tenant("demo"), tenant("demo-eu"));
    let [eu, us] = [1, 2].map(RegionId);
    let id = world.new_group_id(&demo, us, Durability::MultiRegion, [7; 16]).unwrap();
    assert_eq!((id.kind, id.shard.home, id.unique), (ConversationKind::Group, us, [7; 16]));
    assert!(world.new_group_id(&demo, us, Durability::Region, [7; 16]).is_some());
    assert!(world.new_group_id(&demo_eu, us, Durability::Region, [7; 16]).is_none());
    assert!(world.new_group_id(&demo_eu, eu, Durability::MultiRegion, [7; 16]).is_none());
    assert_eq!(world.birth_home(&demo, us), Some(us));
    assert_eq!(world.birth_home(&demo_eu, us), Some(eu));
    assert_eq!(world.birth_home(&tenant("nobody"), us), None);
}
