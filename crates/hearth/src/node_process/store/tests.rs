use std::path::Path;

use super::*;

fn config(datacenters: &str) -> CoreConfig {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.toml");
    let text = format!(
        "node = \"eu-west/core/1\"\n[store]\ncontact_points = [\"c\"]\nprefix = \"p_\"\ndatacenters = {datacenters}\n"
    );
    std::fs::write(&path, text).unwrap();
    let mut config = CoreConfig::read(&path).unwrap();
    config.common.file = Path::new("core.toml").into();
    config
}

#[test]
fn the_options_of_the_store_speak_of_regions_by_number() {
    let world = World::shipped("one-region").unwrap();
    let options = options(&config("{ eu-west = \"dc9\" }"), &world, RegionId(1)).unwrap();
    assert_eq!(options.datacenters, [(RegionId(1), "dc9".to_owned())]);
    assert_eq!((options.zones.len(), options.prefix.as_str(), options.copies), (1, "p_", 3));
}

#[test]
fn a_region_without_a_datacenter_and_a_datacenter_without_a_region_are_told() {
    let world = World::default_world();
    let why = |text: &str| options(&config(text), &world, RegionId(1)).unwrap_err().to_string();
    let first = &world.regions[0].name;
    let lacking = why(&format!("{{ {first} = \"dc1\" }}"));
    assert!(
        lacking.contains("core.toml: [store] datacenters lacks region") && lacking.contains("add "),
        "{lacking}"
    );
    assert!(why("{ atlantis = \"dc1\" }").contains("no region \"atlantis\""));
}

#[test]
fn what_fails_is_a_reason_until_it_answers_again() {
    let health = Health::default();
    assert_eq!(health.troubles(), ["store: not asked yet"]);
    health.set("connecting", Err("nobody".into()));
    assert_eq!(health.troubles(), ["store: connecting: nobody"]);
    health.opened();
    assert!(health.troubles().is_empty());
    health.set("zone eu, region", Err("no quorum".into()));
    health.set("zone eu, region", Err("no quorum yet".into()));
    assert_eq!(health.troubles(), ["store: zone eu, region: no quorum yet"]);
    health.set("zone eu, region", Ok(()));
    assert!(health.troubles().is_empty());
}

#[test]
fn what_a_new_cluster_lacks_is_one_cure_and_other_wrongs_have_theirs() {
    let wrong = |what: &str, cure: &str| Wrong { what: what.into(), cure: cure.into() };
    let all = [
        wrong("table a", "apply the schema"),
        wrong("table b", "apply the schema"),
        wrong("server c", "set d"),
    ];
    let told = list(&all, "core.toml");
    assert_eq!(
        told,
        "2 keyspaces or tables are not there: hearth admin schema apply --config core.toml; also server c: set d"
    );
}
