//! The scenarios that come with the program. Each teaches one kind of trouble; their files are
//! worth reading.

use topology::World;

use super::Scenario;

/// Name and text, in the order in which to read them.
pub const SHIPPED: [(&str, &str); 13] = [
    ("region-loss", include_str!("../../scenarios/region-loss.toml")),
    ("region-failover", include_str!("../../scenarios/region-failover.toml")),
    ("region-drain", include_str!("../../scenarios/region-drain.toml")),
    ("moving-house", include_str!("../../scenarios/moving-house.toml")),
    (
        "moving-out-of-a-lost-region",
        include_str!("../../scenarios/moving-out-of-a-lost-region.toml"),
    ),
    ("partial-partition", include_str!("../../scenarios/partial-partition.toml")),
    ("zone-cut", include_str!("../../scenarios/zone-cut.toml")),
    ("zombie-core", include_str!("../../scenarios/zombie-core.toml")),
    ("timed-leases", include_str!("../../scenarios/timed-leases.toml")),
    ("edge-storm", include_str!("../../scenarios/edge-storm.toml")),
    ("rolling-restart", include_str!("../../scenarios/rolling-restart.toml")),
    ("bad-disk", include_str!("../../scenarios/bad-disk.toml")),
    ("weather", include_str!("../../scenarios/weather.toml")),
];

/// A scenario that comes with the program, by name.
#[must_use]
pub fn shipped(name: &str) -> Option<Scenario> {
    let (_, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)?;
    Some(Scenario::parse(text, &shipped_world).expect("a test reads every shipped scenario"))
}

fn shipped_world(name: &str) -> Result<World, String> {
    World::shipped(name).ok_or_else(|| "it is not shipped".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_read_and_says_what_it_shows() {
        for (name, text) in SHIPPED {
            let scenario = Scenario::parse(text, &shipped_world)
                .unwrap_or_else(|errors| panic!("{name}:\n{errors}"));
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty() && !scenario.about.contains('\n'), "{name}");
            assert!(!scenario.faults.is_empty(), "{name}");
            assert_eq!(
                shipped(name).map(|shipped| shipped.faults),
                Some(scenario.faults),
                "{name}"
            );
        }
        assert!(shipped("no-such").is_none());
    }
}
