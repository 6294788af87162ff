//! Scenario files: TOML in which every mistake is named with its line and the cure, all of them at
//! once, as in world files.
//!
//! | module | what it does |
//! |---|---|
//! | [`keys`] | what a scenario file may say, in one table |
//! | `section` | the keys of one table of the file, with their lines |
//! | `faults` | from a `[[fault]]` to a [`Fault`](crate::fault::Fault) in a world |

mod faults;
pub mod keys;
mod section;

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use topology::World;
use topology::mistakes::{self, At, Found, Mistakes, line_of, meant};
use topology::world::Fence;

use self::faults::Times;
use self::section::Section;
use super::{Load, Scenario, with_fence};
use crate::fault::Planned;

/// Nodes of one simulated world. More would be slow and show nothing new.
pub const NODES_MAX: usize = 24;
/// A region's number is a part of its machines' addresses.
const REGION_ID_MAX: u16 = 254;
/// Without `quiet_s`, the last quarter of the load is quiet, but no more than this.
const QUIET_MAX_MS: u64 = 10_000;

impl Scenario {
    /// Reads and checks a scenario file. `load_world` is called at most once, with the file's
    /// `world`; its error is a sentence.
    ///
    /// # Errors
    /// All mistakes, each with its line and the cure.
    pub fn parse(
        text: &str,
        load_world: &dyn Fn(&str) -> Result<World, String>,
    ) -> Result<Self, Mistakes> {
        let mut found = Found::default();
        match read(text, load_world, &mut found) {
            Some(scenario) if found.is_empty() => Ok(scenario),
            _ => Err(found.into_mistakes()),
        }
    }
}

/// Reads as much as possible. None only after a reported mistake.
fn read(
    text: &str,
    load_world: &dyn Fn(&str) -> Result<World, String>,
    found: &mut Found,
) -> Option<Scenario> {
    let root = mistakes::root(text, found)?;
    let root = root.get_ref();
    let mut top =
        Section { text, name: "", heading: "the file".into(), line: 1, table: root, found };
    top.refuse_unknown(&keys::of("").chain(["load", "fault"]).collect::<Vec<_>>());
    let name = top.text("name");
    let about = top.text("about");
    let world = top.text("world");
    let fence = fence(&mut top);
    let times = times(&mut top);
    let tick_ms = top.whole("tick_ms");
    let converge_ms = top.millis("converge_s");
    if let Some(empty) = name.as_ref().filter(|name| name.value.trim().is_empty()) {
        found.add(empty.line, "the name is empty", "write what people shall call the scenario");
    }
    let world = world.and_then(|named| load(&named, load_world, found));
    let world = world.map(|world| match fence {
        Some(fence) => with_fence(&world, fence),
        None => world,
    });
    let load = people(text, root, found);
    let faults = planned(text, root, world.as_ref(), times.as_ref(), found);
    let times = times?;
    Some(Scenario {
        name: name?.value,
        about: about.map_or_else(String::new, |at| at.value),
        world: Arc::new(world?),
        load_ms: times.load_ms,
        quiet_ms: times.load_ms - times.calm_ms,
        converge_ms: converge_ms.map_or(keys::CONVERGE_MS, |at| at.value),
        tick_ms: tick_ms.map_or(keys::TICK_MS, |at| at.value),
        load,
        faults,
    })
}

/// None when the file leaves it to the world.
fn fence(top: &mut Section<'_, '_>) -> Option<Fence> {
    let At { value, line } = top.text("fence")?;
    match value.as_str() {
        "read" => Some(Fence::Read),
        "lease" => Some(Fence::Lease),
        _ => {
            top.found.add(
                line,
                format!("\"{value}\" is not a fence"),
                "write \"read\" or \"lease\"",
            );
            None
        }
    }
}

/// None without a length in the file.
fn times(top: &mut Section<'_, '_>) -> Option<Times> {
    let quiet_ms = top.millis("quiet_s");
    let load_ms = top.millis("seconds")?.value;
    let quiet_ms = match quiet_ms {
        Some(quiet) if quiet.value >= load_ms => {
            let problem = format!("quiet_s = {} leaves no time for faults", seconds(quiet.value));
            top.found.add(
                quiet.line,
                problem,
                format!("write less than seconds = {}", seconds(load_ms)),
            );
            // Reported already: later checks use the default.
            default_quiet_ms(load_ms)
        }
        Some(quiet) => quiet.value,
        None => default_quiet_ms(load_ms),
    };
    Some(Times { load_ms, calm_ms: load_ms - quiet_ms })
}

fn default_quiet_ms(load_ms: u64) -> u64 {
    (load_ms / 4).min(QUIET_MAX_MS)
}

fn load(
    named: &At<String>,
    load_world: &dyn Fn(&str) -> Result<World, String>,
    found: &mut Found,
) -> Option<World> {
    let world = match load_world(&named.value) {
        Ok(world) => world,
        Err(why) => {
            let shipped: Vec<&str> =
                topology::world::SHIPPED.iter().map(|(name, _)| *name).collect();
            let cure = meant(&named.value, shipped.iter().copied()).unwrap_or_else(|| {
                format!(
                    "name one that is shipped ({}), or a file relative to this one",
                    shipped.join(", ")
                )
            });
            let problem = format!(
                "there is no world \"{}\": {}",
                named.value,
                why.trim().replace('\n', " | ")
            );
            found.add(named.line, problem, cure);
            return None;
        }
    };
    let nodes = world.nodes().len();
    if nodes > NODES_MAX {
        let problem = format!("the world \"{}\" has {nodes} nodes", named.value);
        found.add(
            named.line,
            problem,
            format!("choose one of at most {NODES_MAX}, or give its regions fewer cores"),
        );
    }
    for region in world.regions.iter().filter(|region| !(1..=REGION_ID_MAX).contains(&region.id.0))
    {
        let problem = format!(
            "the region \"{}\" of the world \"{}\" has id = {}",
            region.name, named.value, region.id.0
        );
        found.add(
            named.line,
            problem,
            format!("simulate a copy of the world with numbers from 1 to {REGION_ID_MAX}"),
        );
    }
    Some(world)
}

/// The `[load]`; each key left out is as in [`Load::default`].
fn people(text: &str, root: &DeTable<'_>, found: &mut Found) -> Load {
    let usual = Load::default();
    let Some(value) = root.get("load") else { return usual };
    let line = line_of(text, value.span().start);
    let DeValue::Table(table) = value.get_ref() else {
        found.add(line, "\"load\" is not a table", "write a line [load] before its keys, once");
        return usual;
    };
    let mut s = Section { text, name: "load", heading: "[load]".into(), line, table, found };
    s.refuse_unknown(&keys::of("load").collect::<Vec<_>>());
    let load = Load {
        clients: s.small("clients").unwrap_or(usual.clients),
        messages_per_s: s.number("messages_per_s").map_or(usual.messages_per_s, |at| at.value),
        groups: s.small("groups").unwrap_or(usual.groups),
        directs: s.small("directs").unwrap_or(usual.directs),
        edits_per_s: s.number("edits_per_s").map_or(usual.edits_per_s, |at| at.value),
        reads_per_s: s.number("reads_per_s").map_or(usual.reads_per_s, |at| at.value),
        moves_per_s: s.number("moves_per_s").map_or(usual.moves_per_s, |at| at.value),
        region_moves_per_s: s
            .number("region_moves_per_s")
            .map_or(usual.region_moves_per_s, |at| at.value),
        resend: s.number("resend").map_or(usual.resend, |at| at.value),
        body_bytes: s.small("body_bytes").unwrap_or(usual.body_bytes),
    };
    if load.groups == 0 && load.directs == 0 {
        found.add(
            line,
            "groups = 0 and directs = 0: nobody has anything to talk in",
            "write groups = 6, or directs = 3",
        );
    }
    load
}

fn planned(
    text: &str,
    root: &DeTable<'_>,
    world: Option<&World>,
    times: Option<&Times>,
    found: &mut Found,
) -> Vec<Planned> {
    let Some(value) = root.get("fault") else { return Vec::new() };
    let tables: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
        DeValue::Array(tables) => tables.iter().collect(),
        _ => vec![value],
    };
    let mut planned = Vec::new();
    for value in tables {
        let line = line_of(text, value.span().start);
        let DeValue::Table(table) = value.get_ref() else {
            found.add(line, "\"fault\" is not a table", "write a line [[fault]] before its keys");
            continue;
        };
        let s = Section { text, name: "fault", heading: "a fault".into(), line, table, found };
        planned.extend(faults::read(s, world, times));
    }
    planned
}

/// Milliseconds as people write them in the file.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
