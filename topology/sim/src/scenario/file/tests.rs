use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use topology::World;
use wire::RegionId;

use super::keys::{KEYS, KINDS};
use super::*;
use crate::fault::{Fault, Ways, What};
use crate::scenario::shipped::SHIPPED;

const TOP: &str = "name = \"x\"\nworld = \"three-regions\"\nseconds = 40\n";

fn world(name: &str) -> Result<World, String> {
    World::shipped(name).ok_or_else(|| "no such file".into())
}

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse(text, &world).map_err(|errors| errors.to_string())
}

fn fault(keys: &str) -> Result<Fault, String> {
    let text = format!("{TOP}[[fault]]\nat = 1\n{keys}\n");
    parse(&text).map(|scenario| scenario.faults[0].fault.clone())
}

/// Every one of these stands in the errors.
fn refused(text: &str, wanted: &[&str]) {
    let errors = parse(text).expect_err(text);
    for wanted in wanted {
        assert!(errors.contains(wanted), "{errors}\nlacks\n{wanted}");
    }
    assert_eq!(errors.lines().count(), wanted.len(), "{errors}");
}

#[test]
fn a_scenario_in_ten_lines_is_read() {
    let scenario = parse(&format!(
        "{TOP}[load]\nclients = 5\nmessages_per_s = 1_2\n[[fault]]\nat = 10.5\nfor = 15\nkind = \"lose-region\"\nregion = \"eu-west\"\n"
    ))
    .unwrap();
    assert_eq!((scenario.load_ms, scenario.quiet_ms), (40_000, 10_000));
    assert_eq!((scenario.converge_ms, scenario.tick_ms), (30_000, 2));
    assert_eq!(scenario.load, Load { clients: 5, messages_per_s: 12.0, ..Load::default() });
    let lost = Fault::LoseRegion { region: RegionId(1) };
    assert_eq!(scenario.faults, [Planned { at_ms: 10_500, for_ms: Some(15_000), fault: lost }]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let scenario = parse("name = \"x\"\nworld = \"three-regions\"\nseconds = 8\n").unwrap();
    assert_eq!((scenario.quiet_ms, scenario.about.as_str()), (2_000, ""));
    assert_eq!(scenario.load, Load::default());
    assert!(scenario.faults.is_empty());
    let scenario = parse(&format!("{TOP}quiet_s = 0.5\nconverge_s = 7\ntick_ms = 5\n")).unwrap();
    assert_eq!((scenario.quiet_ms, scenario.converge_ms, scenario.tick_ms), (500, 7_000, 5));
}

#[test]
fn every_kind_of_fault_is_read() {
    let (eu, us) = (RegionId(1), RegionId(2));
    let node = "r2/core/1".parse::<wire::NodeId>().unwrap();
    let cases = [
        ("kind = \"kill\"\nnode = \"us-east/core/1\"", Fault::Kill { node: node.clone() }),
        ("kind = \"power-loss\"\nnode = \"r2/core/1\"", Fault::PowerLoss { node: node.clone() }),
        ("kind = \"pause\"\nnode = \"r2/core/1\"", Fault::Pause { node: node.clone() }),
        (
            "kind = \"clock\"\nnode = \"r2/core/1\"\njump_ms = -7",
            Fault::Clock { node: node.clone(), rate: 1.0, jump_ms: -7 },
        ),
        (
            "kind = \"clock\"\nnode = \"r2/core/1\"\nrate = 2",
            Fault::Clock { node: node.clone(), rate: 2.0, jump_ms: 0 },
        ),
        ("kind = \"drain\"\nnode = \"r2/core/1\"", Fault::Drain { node }),
        ("kind = \"lose-region\"\nregion = \"eu-west\"", Fault::LoseRegion { region: eu }),
        ("kind = \"drain-region\"\nregion = \"eu-west\"", Fault::DrainRegion { region: eu }),
        (
            "kind = \"cut\"\nbetween = [\"us-east\", \"eu-west\"]\nways = \"one\"\nwhat = \"store\"",
            Fault::Cut { a: us, b: eu, ways: Ways::AToB, what: What::Store },
        ),
        (
            "kind = \"cut\"\nbetween = [\"us-east\", \"eu-west\"]",
            Fault::Cut { a: us, b: eu, ways: Ways::Both, what: What::All },
        ),
        (
            "kind = \"loss\"\nbetween = [\"us-east\", \"eu-west\"]\nshare = 1",
            Fault::Loss { a: us, b: eu, share: 1.0 },
        ),
        (
            "kind = \"delay\"\nbetween = [\"us-east\", \"eu-west\"]\nextra_ms = 9",
            Fault::Delay { a: us, b: eu, extra_ms: 9 },
        ),
        (
            "kind = \"replica-down\"\nregion = \"eu-west\"\npower_loss = true",
            Fault::ReplicaDown { region: eu, power_loss: true },
        ),
        (
            "kind = \"slow-disk\"\nregion = \"eu-west\"\nsync_ms = 0x10",
            Fault::SlowDisk { region: eu, sync_ms: 16 },
        ),
        (
            "kind = \"late-writes\"\nregion = \"eu-west\"\nshare = 0.5\nby_ms = 9",
            Fault::LateWrites { region: eu, share: 0.5, by_ms: 9 },
        ),
        (
            "kind = \"diverge\"\nregion = \"eu-west\"\nshare = 0.5",
            Fault::Diverge { region: eu, share: 0.5 },
        ),
        (
            "kind = \"flap\"\nregion = \"eu-west\"\nevery_ms = 90",
            Fault::Flap { region: eu, every_ms: 90 },
        ),
        ("kind = \"fail-over\"\nregion = \"us-east\"", Fault::FailOver { region: us }),
        ("kind = \"rolling-restart\"", Fault::RollingRestart { older: false }),
    ];
    for (keys, wanted) in &cases {
        assert_eq!(fault(keys).as_ref(), Ok(wanted), "{keys}");
    }
    for (kind, _) in KINDS {
        assert!(cases.iter().any(|(keys, _)| keys.contains(&format!("\"{kind}\""))), "{kind}");
    }
}

#[test]
fn every_mistake_is_named_with_its_line_and_cure_at_once() {
    let text = "nam = \"x\"\nworld = \"three-region\"\nseconds = \"40\"\ntick_ms = 0\n[load]\nclient = 3\nresend = 2\n\
                [[fault]]\nat = -1\nkind = \"lose-regoin\"\n[[fault]]\nkind = \"loss\"\nshare = 1.5\nregion = \"eu-west\"\n";
    refused(
        text,
        &[
            "line 1: the file has no \"nam\"; did you mean \"name\"?",
            "line 1: the file lacks \"name\"; write for example name = \"region-loss\"",
            "line 2: there is no world \"three-region\": no such file; did you mean \"three-regions\"?",
            "line 3: \"seconds\" is not a number",
            "line 4: tick_ms = 0; write a number from 1 to 100",
            "line 6: [load] has no \"client\"; did you mean \"clients\"?",
            "line 7: resend = 2; write a number from 0 to 1",
            "line 9: at = -1; write a number from 0 to 3600",
            "line 10: there is no kind of fault \"lose-regoin\"; did you mean \"lose-region\"?",
            "line 11: a fault of kind \"loss\" lacks \"at\"",
            "line 11: a fault of kind \"loss\" lacks \"between\"",
            "line 13: share = 1.5; write a number from 0 to 1",
            "line 14: a fault of kind \"loss\" has no \"region\"; the keys here are at, for, kind, between, share",
        ],
    );
    let errors = Scenario::parse(text, &world).unwrap_err().0;
    assert!(errors.is_sorted_by_key(|error| error.line), "{errors:?}");
}

#[test]
fn names_that_the_world_does_not_have_are_refused() {
    let faults = [
        (
            "kind = \"lose-region\"\nregion = \"eu-wset\"",
            "line 7: there is no region \"eu-wset\"; did you mean \"eu-west\"?",
        ),
        (
            "kind = \"kill\"\nnode = \"eu-west/core/9\"",
            "line 7: there is no node \"eu-west/core/9\"; did you mean \"eu-west/core/",
        ),
        (
            "kind = \"kill\"\nnode = \"\"",
            "line 7: there is no node \"\"; there are eu-west/core/1, ",
        ),
        (
            "kind = \"cut\"\nbetween = [\"eu-west\", \"mars\"]",
            "line 7: there is no region \"mars\"; there are eu-west, us-east, ap-south",
        ),
        (
            "kind = \"cut\"\nbetween = [\"eu-west\", \"eu-west\"]",
            "line 7: a fault of kind \"cut\" between \"eu-west\" and itself",
        ),
        (
            "kind = \"cut\"\nbetween = [\"eu-west\"]",
            "line 7: a fault of kind \"cut\" is not between two regions",
        ),
    ];
    for (keys, wanted) in faults {
        refused(&format!("{TOP}[[fault]]\nat = 1\n{keys}\n"), &[wanted]);
    }
}

#[test]
fn impossible_values_are_refused() {
    let faults = [
        ("for = 0\nkind = \"rolling-restart\"", "for = 0; write a number from 0.001"),
        (
            "kind = \"clock\"\nnode = \"r1/core/1\"\nrate = 3",
            "rate = 3; write a number from 0.5 to 2",
        ),
        ("kind = \"clock\"\nnode = \"r1/core/1\"", "nothing is wrong with this clock"),
        ("kind = \"slow-disk\"\nregion = \"eu-west\"\nsync_ms = -4", "sync_ms = -4"),
        (
            "kind = \"slow-disk\"\nregion = \"eu-west\"\nsync_ms = 1.5",
            "\"sync_ms\" is not a whole number",
        ),
        ("kind = \"diverge\"\nregion = \"eu-west\"\nshare = nan", "\"share\" is not a number"),
        (
            "kind = \"cut\"\nbetween = [\"eu-west\", \"us-east\"]\nways = \"two\"",
            "ways = \"two\"; write \"both\" or \"one\"",
        ),
        ("kind = \"rolling-restart\"\nolder = 1", "\"older\" is not true or false"),
        (
            "for = 30\nkind = \"rolling-restart\"",
            "the fault ends at 31 s, and all must be over at 30 s; write for = 29",
        ),
    ];
    for (keys, wanted) in faults {
        refused(&format!("{TOP}[[fault]]\nat = 1\n{keys}\n"), &[wanted]);
    }
    refused(
        &format!("{TOP}[[fault]]\nat = 30\nkind = \"rolling-restart\"\n"),
        &["the fault begins at 30 s, and all must be over at 30 s"],
    );
    refused(
        &format!("{TOP}quiet_s = 40\n"),
        &["line 4: quiet_s = 40 leaves no time for faults; write less than seconds = 40"],
    );
    refused(
        &format!("{TOP}[load]\ngroups = 0\ndirects = 0\n"),
        &["nobody has anything to talk in"],
    );
    refused(
        &format!("load = 3\nfault = 4\n{TOP}"),
        &["line 1: \"load\" is not a table", "line 2: \"fault\" is not a table"],
    );
    refused("name = \n", &["line 1: not TOML"]);
}

#[test]
fn a_world_that_is_too_large_is_refused() {
    let large = |_: &str| {
        let mut world = World::default_world();
        world.regions[0].cores = 64;
        Ok(world)
    };
    let errors = Scenario::parse(TOP, &large).unwrap_err().to_string();
    assert!(
        errors.starts_with(
            "line 2: the world \"three-regions\" has 71 nodes; choose one of at most 24"
        ),
        "{errors}"
    );
}

#[test]
fn a_region_whose_number_fits_no_address_is_refused() {
    let far = |_: &str| {
        let mut world = World::default_world();
        world.regions[1].id = wire::RegionId(255);
        Ok(world)
    };
    let errors = Scenario::parse(TOP, &far).unwrap_err().to_string();
    assert!(
        errors
            .starts_with("line 2: the region \"us-east\" of the world \"three-regions\" has id = 255; simulate a copy"),
        "{errors}"
    );
}

#[test]
fn a_fault_of_a_world_that_is_not_there_is_no_second_mistake() {
    let text = "name = \"x\"\nworld = \"a.toml\"\nseconds = 9\n[[fault]]\nat = 1\nkind = \"kill\"\nnode = \"n/core/1\"\n";
    refused(
        text,
        &["line 2: there is no world \"a.toml\": no such file; name one that is shipped"],
    );
}

/// Not a proof: a great many files that are nearly right.
#[test]
fn no_input_makes_it_panic() {
    const BITS: [&str; 16] = [
        "",
        "\"",
        "[",
        "]",
        "=",
        "-",
        "0",
        "9e999",
        "-1",
        "true",
        "nan",
        "[[fault]]",
        "[load]",
        "\n",
        "\u{e9}",
        "18446744073709551616",
    ];
    let mut rng = SmallRng::seed_from_u64(1);
    for (_, text) in SHIPPED {
        let chars: Vec<char> = text.chars().filter(|c| *c != '#').collect();
        for _ in 0..600 {
            let mut mutated = chars.clone();
            for _ in 0..rng.random_range(1..4) {
                let from = rng.random_range(0..mutated.len());
                let to = (from + rng.random_range(0..6)).min(mutated.len());
                mutated.splice(from..to, BITS[rng.random_range(0..BITS.len())].chars());
            }
            let _ = parse(&mutated.into_iter().collect::<String>());
        }
        // A value of every type for every key.
        for value in
            ["0", "-1", "1e300", "\"\"", "[]", "[\"\"]", "{}", "true", "1979-05-27", "[[1]]"]
        {
            for (n, line) in text.lines().enumerate().filter(|(_, line)| line.contains(" = ")) {
                let key = line.split(" = ").next().unwrap_or_default();
                let other = format!("{key} = {value}");
                let lines = text
                    .lines()
                    .enumerate()
                    .map(|(m, line)| if m == n { other.as_str() } else { line });
                let _ = parse(&lines.collect::<Vec<_>>().join("\n"));
            }
        }
    }
}

#[test]
fn every_key_belongs_to_a_kind_and_every_kind_has_only_keys() {
    for (kind, own) in KINDS {
        for name in *own {
            assert!(
                KEYS.iter().any(|key| (key.section, key.key) == ("fault", *name)),
                "{kind}: {name}"
            );
        }
    }
    let shared = ["at", "for", "kind"];
    for key in KEYS.iter().filter(|key| key.section == "fault" && !shared.contains(&key.key)) {
        assert!(KINDS.iter().any(|(_, own)| own.contains(&key.key)), "{}", key.key);
    }
}

#[test]
fn the_page_on_simulation_explains_every_key_and_kind() {
    let page = include_str!("../../../../../docs/simulation.md");
    for key in KEYS {
        assert!(page.contains(&format!("`{}`", key.key)), "docs/simulation.md lacks `{}`", key.key);
    }
    for (kind, own) in KINDS {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{kind}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/simulation.md has no row for `{kind}`"));
        assert!(own.iter().all(|key| row.contains(&format!("`{key}`"))), "{row}");
    }
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(parse(example).is_ok(), "{:?}", parse(example).err());
}
