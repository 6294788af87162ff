//! `hearth topology check`: is this a world, and what does it promise?

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use topology::{Tenant, Transit, World};
use wire::Durability;

use crate::out;

/// World files
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  hearth topology check world.toml")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Say what a world file promises, or everything that is wrong with it
    #[command(
        after_help = "Examples:\n  hearth topology check world.toml\n  hearth topology check three-regions"
    )]
    Check {
        /// A world file, or the name of a world that comes with hearth
        file: PathBuf,
        /// Print one JSON object a line: the summary, or one for each mistake
        #[arg(long)]
        json: bool,
    },
}

/// Checks it.
///
/// # Errors
/// When the file cannot be read or is not a world.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let Verb::Check { file, json } = &options.verb;
    let name = file.display().to_string();
    let text = read(file)?;
    match World::parse(&text) {
        Ok(world) if *json => out::json(&facts(&world))?,
        Ok(world) => out::line(summary(&world).trim_end())?,
        Err(errors) => {
            for error in &errors.0 {
                if *json {
                    let topology::mistakes::Mistake { line, problem, cure } = error;
                    out::json(
                        &serde_json::json!({"valid": false, "line": line, "problem": problem, "cure": cure}),
                    )?;
                } else {
                    out::note(format_args!("{name}: {error}"));
                }
            }
            let n = errors.0.len();
            anyhow::bail!(
                "{name} is not a valid world: {n} mistake{}",
                if n == 1 { "" } else { "s" }
            );
        }
    }
    Ok(())
}

fn read(file: &std::path::Path) -> anyhow::Result<String> {
    if !file.exists()
        && let Some((_, text)) =
            topology::world::SHIPPED.iter().find(|(name, _)| file.as_os_str() == *name)
    {
        return Ok((*text).to_owned());
    }
    crate::text::read(file)
}

/// What the tenant keeps when something is lost.
fn survives(world: &World, tenant: &Tenant) -> String {
    let regions = world.zone(tenant.zone).map_or(0, |zone| zone.regions.len());
    match tenant.durability {
        Durability::MultiRegion => {
            let n = (regions.saturating_sub(1)) / 2;
            let any = if n == 1 { "any one region".to_owned() } else { format!("any {n} regions") };
            format!("an acknowledged message survives the loss of {any} of {regions}; takeover is automatic")
        }
        Durability::Region => {
            "an acknowledged message survives the loss of any node of its home region; while that region is lost, its \
             conversations wait"
                .to_owned()
        }
    }
}

fn names(world: &World, regions: &[wire::RegionId]) -> Vec<String> {
    regions.iter().map(|id| world.region_name(*id)).collect()
}

fn summary(world: &World) -> String {
    let mut out = String::new();
    let mut say = |line: String| writeln!(out, "{line}").expect("a String takes everything");
    say(format!("{}: a valid world", world.name));
    say(format!("  {} regions", world.regions.len()));
    for region in &world.regions {
        let successors = names(world, &region.successors).join(", ");
        let after = if successors.is_empty() {
            String::new()
        } else {
            format!(", successors {successors}")
        };
        say(format!("    {}: {} cores, {} edges{after}", region.name, region.cores, region.edges));
    }
    say(format!("  {} zones", world.zones.len()));
    for zone in &world.zones {
        let transit = match zone.transit {
            Transit::Allow => "edges elsewhere may carry its frames",
            Transit::Deny => "clients elsewhere are sent inside",
        };
        let shards = zone.shards;
        say(format!(
            "    {}: {}; {shards} shards a home; {transit}",
            zone.name,
            names(world, &zone.regions).join(", ")
        ));
    }
    say(format!("  {} tenants", world.tenants.len()));
    for tenant in &world.tenants {
        let zone = world.zone(tenant.zone).map_or("?", |zone| zone.name.as_str());
        say(format!(
            "    {}: zone {zone}, {}: {}",
            tenant.id,
            tenant.durability,
            survives(world, tenant)
        ));
    }
    out
}

fn facts(world: &World) -> serde_json::Value {
    serde_json::json!({
        "valid": true,
        "name": world.name,
        "regions": world.regions.iter().map(|region| serde_json::json!({
            "name": region.name, "cores": region.cores, "edges": region.edges,
            "successors": names(world, &region.successors),
        })).collect::<Vec<_>>(),
        "zones": world.zones.iter().map(|zone| serde_json::json!({
            "name": zone.name, "regions": names(world, &zone.regions), "shards": zone.shards,
            "transit": if zone.transit == Transit::Allow { "allow" } else { "deny" },
        })).collect::<Vec<_>>(),
        "tenants": world.tenants.iter().map(|tenant| serde_json::json!({
            "name": tenant.id, "durability": tenant.durability, "survives": survives(world, tenant),
            "zone": world.zone(tenant.zone).map(|zone| zone.name.clone()),
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_world_is_summed_up() {
        for (name, _) in topology::world::SHIPPED {
            let world = World::shipped(name).unwrap();
            let summary = summary(&world);
            assert!(summary.contains("a valid world"), "{summary}");
            for tenant in &world.tenants {
                assert!(summary.contains(tenant.id.as_str()), "{summary}");
            }
            assert_eq!(facts(&world)["valid"], true);
        }
        assert!(
            summary(&World::default_world()).contains("survives the loss of any one region of 3")
        );
    }

    #[test]
    fn a_broken_world_and_a_missing_file_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("world.toml");
        std::fs::write(&file, "name = 7").unwrap();
        let check = |file: PathBuf| run(&Options { verb: Verb::Check { file, json: false } });
        assert!(check(file).unwrap_err().to_string().contains("not a valid world"));
        assert!(check(dir.path().join("none.toml")).unwrap_err().to_string().contains("none.toml"));
        assert!(check("three-regions".into()).is_ok());
    }
}
