use super::*;

/// A world with nothing wrong; the line numbers below count from its first line.
const GOOD: &str = r#"name = "good"
[[region]]
id = 1
name = "north"
lat = 60.0
lon = 10.0
successors = ["middle"]
[[region]]
id = 2
name = "middle"
lat = 50.0
lon = 10
cores = 3
[[region]]
id = 3
name = "south"
lat = 40.0
lon = 10.0
[[zone]]
id = 1
name = "all"
regions = ["north", "middle", "south"]
transit = "deny"
[[zone]]
id = 2
name = "two"
regions = ["north", "south"]
fence = "read"
[[tenant]]
name = "acme"
zone = "all"
durability = "multi-region"
home = "south"
[[tenant]]
name = "duo"
zone = "two"
durability = "region"
issuer = "https://id.duo.example"
jwks_file = "duo.json"
[[link]]
between = ["north", "south"]
delay_ms = 30
loss = 0.01
"#;

fn errors(text: &str) -> Vec<String> {
    parse(text).unwrap_err().0.iter().map(ToString::to_string).collect()
}

/// The one error that replacing `from` with `to` leads to.
fn broken(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let errors = errors(&GOOD.replacen(from, to, 1));
    assert_eq!(errors.len(), 1, "{from} -> {to}: {errors:#?}");
    errors.into_iter().next().unwrap()
}

#[test]
fn a_good_file_says_what_it_says() {
    let world = parse(GOOD).unwrap();
    assert_eq!(world.name, "good");
    assert_eq!(
        world.regions.iter().map(|r| (r.id.0, r.cores, r.edges)).collect::<Vec<_>>(),
        [(1, 2, 1), (2, 3, 1), (3, 2, 1)]
    );
    assert_eq!(world.zones[0].regions.len(), 3);
    assert_eq!(world.zones[0].founding_regions, world.zones[0].regions);
    assert_eq!((world.zones[0].shards, world.zones[0].founding_shards), (4, 4));
    assert_eq!(world.tenants[0].home, Some(world.regions[2].id));
    assert!(world.tenants[1].identity.is_some());
    assert_eq!(world.links[0].loss, 0.01);
}

#[test]
fn every_error_names_its_line_and_the_cure() {
    let cases = [
        (
            "id = 2\nname = \"middle\"",
            "id = 1\nname = \"middle\"",
            "line 9: a second region with id = 1 (the first is on line 3); give it a number of its own",
        ),
        (
            "[[zone]]",
            "[[region]]\nid = 4\nname = \"north\"\nlat = 0\nlon = 0\n[[zone]]",
            "line 21: a second region with name = \"north\"",
        ),
        ("id = 2\nname = \"two\"", "id = 1\nname = \"two\"", "line 25: a second zone with id = 1"),
        (
            "[[tenant]]",
            "[[zone]]\nid = 3\nname = \"all\"\nregions = [\"north\"]\n[[tenant]]",
            "line 31: a second zone with name = \"all\"",
        ),
        ("name = \"duo\"", "name = \"acme\"", "line 35: a second tenant with name = \"acme\""),
        (
            "successors = [\"middle\"]",
            "successors = [\"midle\"]",
            "line 7: there is no region \"midle\"; did you mean \"middle\"?",
        ),
        (
            "successors = [\"middle\"]",
            "successors = [\"north\"]",
            "line 7: \"north\" is its own successor",
        ),
        (
            "successors = [\"middle\"]",
            "successors = [\"south\",\n\"south\"]",
            "line 8: the region \"south\" stands twice",
        ),
        (
            "regions = [\"north\", \"middle\", \"south\"]",
            "regions = [\"north\", \"middle\", \"south\", \"elsewhere\"]",
            "line 22: there is no region \"elsewhere\"; add a [[region]] with name = \"elsewhere\"",
        ),
        (
            "between = [\"north\", \"south\"]",
            "between = [\"north\", \"sauth\"]",
            "line 41: there is no region \"sauth\"; did you mean \"south\"?",
        ),
        (
            "between = [\"north\", \"south\"]",
            "between = [\"north\"]",
            "line 40: a link is not between two regions",
        ),
        (
            "between = [\"north\", \"south\"]",
            "between = [\"north\", \"north\"]",
            "line 40: a link from \"north\" to itself",
        ),
        (
            "delay_ms = 30",
            "delay_ms = -1",
            "line 42: delay_ms = -1; write a number from 0 to 10000",
        ),
        ("delay_ms = 30", "delay_ms = nan", "line 42: \"delay_ms\" is not a number"),
        (
            "delay_ms = 30",
            "",
            "line 40: [[link]] lacks \"delay_ms\"; write for example delay_ms = 34: One way",
        ),
        (
            "loss = 0.01",
            "loss = 1.0",
            "line 43: loss = 1 is not a share of datagrams; write a number from 0 to below 1",
        ),
        ("loss = 0.01", "loss = -0.5", "line 43: loss = -0.5"),
        ("cores = 3", "cores = 0", "line 13: cores = 0; write a number from 1 to 64"),
        ("cores = 3", "edges = 0", "line 13: edges = 0; write a number from 1 to 64"),
        ("cores = 3", "cores = \"3\"", "line 13: \"cores\" is not a whole number from 0 to 65535"),
        ("cores = 3", "cores = 70000", "line 13: \"cores\" is not a whole number from 0 to 65535"),
        (
            "cores = 3",
            "kores = 3",
            "line 13: [[region]] has no field \"kores\"; did you mean \"cores\"?",
        ),
        (
            "cores = 3",
            "colour = 3",
            "line 13: [[region]] has no field \"colour\"; the fields here are id, name, lat",
        ),
        ("lat = 40.0", "lat = 91", "line 17: lat = 91; write a number from -90 to 90"),
        ("id = 3", "id = 0", "line 15: id = 0; count from 1"),
        ("id = 3", "", "line 14: [[region]] lacks \"id\""),
        ("lat = 60.0", "lat = \"60\"", "line 5: \"lat\" is not a number"),
        (
            "fence = \"read\"",
            "fence = \"paxos\"",
            "line 28: fence = \"paxos\"; write \"read\" or \"lease\"",
        ),
        (
            "fence = \"read\"",
            "max_rpo_s = 9",
            "line 28: max_rpo_s = 9; write a number from 10 to 65535",
        ),
        ("fence = \"read\"", "shards = 0", "line 28: shards = 0; write a number from 1 to 1024"),
        (
            "fence = \"read\"",
            "founding_regions = [\"middle\"]",
            "line 28: the founding region \"middle\" is not in the zone \"two\"",
        ),
        (
            "transit = \"deny\"",
            "transit = \"maybe\"",
            "line 23: transit = \"maybe\"; write \"allow\" or \"deny\"",
        ),
        (
            "zone = \"two\"",
            "zone = \"too\"",
            "line 36: there is no zone \"too\"; did you mean \"two\"?",
        ),
        ("zone = \"two\"", "", "line 34: [[tenant]] lacks \"zone\""),
        (
            "durability = \"region\"",
            "durability = \"global\"",
            "line 37: durability = \"global\"; write \"region\" or \"multi-region\"",
        ),
        (
            "durability = \"region\"",
            "durability = \"multi-region\"",
            "line 37: a zone of two regions cannot offer multi-region: losing one leaves no quorum (zone \"two\"); add a third region in the zone, or use durability = \"region\"",
        ),
        (
            "durability = \"region\"",
            "durability = \"region\"\nhome = \"middle\"",
            "line 38: the home \"middle\" is not in the zone \"two\"",
        ),
        (
            "issuer = \"https://id.duo.example\"",
            "issuer = \"hearth-dev\"",
            "line 38: \"hearth-dev\" cannot be an issuer of a tenant",
        ),
        ("issuer = \"https://id.duo.example\"\n", "", "line 38: keys without an issuer"),
        ("jwks_file = \"duo.json\"", "", "line 38: an issuer without keys; add jwks_file"),
        (
            "jwks_file = \"duo.json\"",
            "jwks_file = \"duo.json\"\njwks = '{}'",
            "line 40: both jwks_file and jwks",
        ),
        (
            "name = \"acme\"",
            "name = \"\"",
            "line 30: tenant: empty; choose a name of 1 to 128 bytes",
        ),
        ("name = \"good\"", "", "line 1: the file lacks \"name\""),
        (
            "name = \"good\"",
            "name = \"good\"\nregoin = 1",
            "line 2: the file has no section \"regoin\"; did you mean \"region\"?",
        ),
    ];
    for (from, to, expected) in cases {
        let error = broken(from, to);
        assert!(error.starts_with(expected), "\n got {error}\nwant {expected}");
        assert!(error.contains("; "), "no cure: {error}");
    }
}

#[test]
fn a_bad_region_name_is_refused() {
    for bad in ["Keys", "a/b", "..", "-a", "1a", "ä", ""] {
        let errors = errors(&GOOD.replace("\"middle\"", &format!("\"{bad}\"")));
        assert!(errors[0].contains("is not a name for a region"), "{bad}: {errors:?}");
    }
    let errors = errors(&GOOD.replace("\"middle\"", "\"keys\""));
    assert!(errors[0].contains("cannot be called \"keys\""), "{errors:?}");
}

#[test]
fn a_zone_of_one_region_is_refused_multi_region_with_its_own_reason() {
    let error =
        errors(&GOOD.replacen("[\"north\", \"south\"]\nfence", "[\"north\"]\nfence", 1).replacen(
            "durability = \"region\"",
            "durability = \"multi-region\"",
            1,
        ));
    assert!(error[0].contains("a zone of one region cannot offer multi-region"), "{error:?}");
}

#[test]
fn all_errors_come_at_once_in_the_order_of_lines() {
    let text = GOOD
        .replacen("lat = 60.0", "lat = 600.0", 1)
        .replacen("cores = 3", "cores = 0", 1)
        .replacen("zone = \"two\"", "zone = \"three\"", 1)
        .replacen("delay_ms = 30", "delay = 30", 1);
    let errors = parse(&text).unwrap_err().0;
    assert_eq!(
        errors.iter().map(|error| error.line).collect::<Vec<_>>(),
        [5, 13, 36, 40, 42],
        "{errors:#?}"
    );
}

#[test]
fn what_is_not_toml_says_so_and_nothing_else() {
    let errors = errors(&GOOD.replacen("id = 3", "id = ", 1));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("line 15: not TOML: "), "{errors:?}");
}

#[test]
fn an_empty_file_lacks_everything() {
    let errors = errors("");
    for lacking in ["lacks \"name\"", "no region", "no zone", "no tenant"] {
        assert!(errors.iter().any(|error| error.contains(lacking)), "{lacking}: {errors:?}");
    }
}

#[test]
fn a_single_table_is_read_as_a_list_of_one() {
    let text = include_str!("../../worlds/one-region.toml").replace("[[", "[").replace("]]", "]");
    assert_eq!(parse(&text).unwrap().regions.len(), 1);
}

#[test]
fn a_section_that_is_not_a_table_is_named() {
    let errors = errors("name = \"x\"\nregion = 1\nzone = [1]\n");
    assert!(errors.iter().any(|error| {
        error.starts_with("line 2: \"region\" is not a table; write a line [[region]]")
    }));
    assert!(errors.iter().any(|error| error.starts_with("line 3: \"zone\" is not a table")));
}

#[test]
fn the_reference_is_a_world_file_of_all_fields() {
    let text = reference();
    // The reader accepts everything in the reference: the only mistakes are those of a file that
    // shows everything.
    let errors = errors(&text);
    assert!(
        errors.iter().all(|error| !error.contains("not TOML") && !error.contains("no field")),
        "{errors:?}"
    );
    for field in FIELDS {
        assert!(text.contains(&format!("{} = ", field.key)), "{}", field.key);
        assert!(
            !field.doc.is_empty() && field.doc.ends_with('.') || field.doc.ends_with('"'),
            "{}",
            field.doc
        );
    }
}

proptest::proptest! {
    #[test]
    fn garbage_is_never_a_panic(noise in ".{0,200}", at in 0..GOOD.len(), cut in 0..60usize) {
        let _ = parse(&noise);
        let end = (at + cut).min(GOOD.len());
        let _ = parse(&format!("{}{noise}{}", &GOOD[..at], &GOOD[end..]));
        let _ = parse(&format!("{}{}", &GOOD[..at], &GOOD[end..]));
    }
}
