use std::fs;

use super::*;

const CORE: &str = "node = \"eu-west/core/1\"\n[store]\ncontact_points = [\"c\"]\ndatacenters = { eu-west = \"dc1\" }\n";

fn read<T>(text: &str, read: impl Fn(&Path) -> Result<T, ConfigError>) -> Result<T, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, text).unwrap();
    read(&path).map_err(|error| error.to_string())
}

fn core(text: &str) -> Result<CoreConfig, String> {
    read(text, CoreConfig::read)
}

fn edge(text: &str) -> Result<EdgeConfig, String> {
    read(text, EdgeConfig::read)
}

#[test]
fn a_core_needs_to_know_who_it_is_and_where_its_store_is_and_all_else_has_a_default() {
    let config = core(CORE).unwrap();
    let common = &config.common;
    assert_eq!(common.who.world, common.file.with_file_name("world.toml"));
    assert_eq!(common.mesh.key, common.file.with_file_name("node.key.pem"));
    assert_eq!((common.mesh.bind, &common.admin.token_file), (None, &None));
    assert!(common.mesh.withhold_features.is_empty());
    assert_eq!(common.admin.bind.to_string(), "127.0.0.1:9400");
    assert_eq!(
        (common.log.format, common.log.level.as_str()),
        (LogFormat::Json, "info,scylla=warn")
    );
    assert_eq!((common.shutdown.drain_seconds, common.shutdown.stop_seconds), (30, 5));
    let store = &config.store;
    assert_eq!(
        (store.copies.get(), store.in_flight_max.get(), store.waiting_max.get()),
        (3, 256, 4096)
    );
    assert_eq!((store.prefix.as_str(), store.dialect, store.check), ("", Dialect::Scylla, true));
}

#[test]
fn the_defaults_of_the_store_are_those_of_its_options() {
    let config = core(CORE).unwrap().store;
    let options = ::store::scylla::ScyllaOptions::new(vec![], wire::RegionId(1), vec![], vec![]);
    assert_eq!(config.copies.get(), options.copies);
    assert_eq!(
        (config.in_flight_max.get(), config.waiting_max.get()),
        (options.in_flight_max, options.waiting_max)
    );
    assert_eq!(
        (config.prefix.as_str(), config.dialect),
        (options.prefix.as_str(), options.dialect)
    );
}

#[test]
fn datacenters_may_be_a_section_of_their_own_and_paths_lie_beside_the_file() {
    let text = "node = \"a/core/1\"\nworld = \"../w.toml\"\n[store]\ncontact_points = [\"c\"]\ndialect = \"cassandra\"\n\
                [store.datacenters]\neu-west = \"dc1\"\n[admin]\ntoken_file = \"/run/token\"\n";
    let config = core(text).unwrap();
    assert_eq!(config.store.datacenters["eu-west"], "dc1");
    assert_eq!(config.store.dialect, Dialect::Cassandra);
    assert_eq!(config.common.who.world, config.common.file.with_file_name("../w.toml"));
    assert_eq!(config.common.admin.token_file.unwrap(), Path::new("/run/token"));
}

#[test]
fn every_mistake_names_the_file_the_line_and_the_cure() {
    for (more, wanted) in [
        ("copies = 0", "line 5: \"copies\""),
        ("dialect = \"oracle\"", "expected `cassandra` or `scylla`"),
        ("in_flight_max = \"many\"", "write for example in_flight_max = 256"),
        ("contact_point = []", "did you mean \"contact_points\"?"),
        ("[mesh]\nbind = \"everywhere\"", "line 6: \"bind\": invalid socket address"),
        ("[mesh]\nwithhold_features = [\"wings\"]", "unknown variant `wings`, expected `moves`"),
        ("[log]\nformat = \"xml\"", "expected `text` or `json`"),
        ("[shutdown]\ndrain_seconds = -1", "\"drain_seconds\""),
        ("[admn]\nbind = \"127.0.0.1:1\"", "did you mean \"admin\"?"),
        ("[edge]\nbind = \"127.0.0.1:1\"", "nothing is called \"edge\" here"),
        ("copies = ", "not TOML"),
        ("[limits]\nframes_in_flight = 0", "line 6: \"frames_in_flight\": 0 is not in 1 to "),
        ("[limits]\nsessions = 1", "[limits] has no field \"sessions\""),
    ] {
        let error = core(&format!("{CORE}{more}\n")).unwrap_err();
        assert!(error.contains("node.toml, line ") && error.contains(wanted), "{more}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    assert!(core("").unwrap_err().contains("lacks \"node\""));
    assert!(core("node = \"a/core/1\"").unwrap_err().contains("[store] lacks \"contact_points\""));
    let missing = CoreConfig::read(Path::new("/nowhere/core.toml")).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read /nowhere/core.toml"), "{missing}");
}

#[test]
fn an_edge_needs_only_its_name_and_time_to_close() {
    let config = edge("node = \"eu-west/edge/1\"").unwrap();
    assert_eq!((config.edge.bind.port(), config.auth.dev_tokens), (8080, false));
    assert_eq!(config.auth.keys, config.common.file.with_file_name("keys"));
    assert_eq!(Role::Edge(config).spread(), Duration::from_secs(10));
    let error = edge("node = \"eu-west/edge/1\"\n[shutdown]\ndrain_seconds = 10\n").unwrap_err();
    assert!(error.contains("write less than [shutdown] drain_seconds = 10"), "{error}");
}

/// Lines such as `#bind = "…"` count, prose does not.
fn uncommented(example: &str) -> String {
    let lines = example.lines().filter(|line| !line.starts_with("# "));
    lines.map(|line| line.strip_prefix('#').unwrap_or(line).to_owned() + "\n").collect()
}

#[test]
fn the_examples_are_configs_as_they_are_and_with_everything_in_them_switched_on() {
    for text in [core_example(), uncommented(&core_example())] {
        core(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
    for text in [edge_example(), uncommented(&edge_example())] {
        edge(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
    assert!(uncommented(&core_example()).contains("\ntoken_file = "));
}
