//! The rules that hold inside and between sections. A section that breaks one is reported and still
//! used as far as it goes, so that its mistakes do not echo in the sections that name it.

mod tenant;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire::{RegionId, ZoneId};

use super::read;
use crate::mistakes::{At, Found, meant};
use crate::world::{Fence, Link, Region, Transit, World, Zone};
use tenant::tenant;

/// Most regions of one world.
const REGIONS: usize = 64;
/// A loss is noticed within four seconds, and followers ask for replicated rows every two.
const MAX_RPO_S_MIN: u16 = 10;
/// Names that a region cannot have, because its folder would collide with another.
const RESERVED_REGIONS: [&str; 1] = ["keys"];

pub(super) fn world(file: read::File, found: &mut Found) -> World {
    need_some(file.regions.len(), "region", found);
    need_some(file.zones.len(), "zone", found);
    need_some(file.tenants.len(), "tenant", found);
    if let Some(one_more) = file.regions.get(REGIONS) {
        found.add(one_more.line, format!("more than {REGIONS} regions"), "split the world");
    }
    distinct("region", "id", file.regions.iter().filter_map(|r| r.id.as_ref()), found);
    distinct("region", "name", file.regions.iter().filter_map(|r| r.name.as_ref()), found);
    distinct("zone", "id", file.zones.iter().filter_map(|z| z.id.as_ref()), found);
    distinct("zone", "name", file.zones.iter().filter_map(|z| z.name.as_ref()), found);
    distinct("tenant", "name", file.tenants.iter().filter_map(|t| t.name.as_ref()), found);

    let names = Names::of(&file);
    let regions: Vec<Region> =
        file.regions.into_iter().map(|raw| region(raw, &names, found)).collect();
    let zones: Vec<Zone> = file.zones.into_iter().map(|raw| zone(raw, &names, found)).collect();
    let tenants =
        file.tenants.into_iter().filter_map(|raw| tenant(raw, &names, &zones, found)).collect();
    let links = links(file.links, &names, found);
    World {
        name: file.name.map_or_else(String::new, |name| name.value),
        regions,
        zones,
        tenants,
        links,
    }
}

/// Ids by name, of everything that can be named.
struct Names {
    regions: BTreeMap<String, RegionId>,
    zones: BTreeMap<String, ZoneId>,
    /// For each region, the regions with which it shares a zone.
    neighbours: BTreeMap<String, Vec<String>>,
    /// Zones of which every region is known.
    whole_zones: BTreeSet<String>,
}

impl Names {
    fn of(file: &read::File) -> Self {
        let regions: BTreeMap<String, RegionId> =
            by_name(file.regions.iter().map(|raw| (&raw.name, &raw.id)), RegionId);
        let zones = by_name(file.zones.iter().map(|raw| (&raw.name, &raw.id)), ZoneId);
        let mut neighbours: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut whole_zones = BTreeSet::new();
        for raw in &file.zones {
            let members: Vec<&String> =
                raw.regions.iter().flatten().map(|name| &name.value).collect();
            for member in &members {
                neighbours
                    .entry((*member).clone())
                    .or_default()
                    .extend(members.iter().copied().cloned());
            }
            if let Some(name) = &raw.name
                && !members.is_empty()
                && members.iter().all(|member| regions.contains_key(*member))
            {
                whole_zones.insert(name.value.clone());
            }
        }
        Self { regions, zones, neighbours, whole_zones }
    }

    fn region(&self, name: &At<String>, found: &mut Found) -> Option<RegionId> {
        let known = self.regions.get(&name.value).copied();
        if known.is_none() {
            unknown_name("region", name, self.regions.keys(), found);
        }
        known
    }

    /// The ids of a list of names, each once.
    fn regions(&self, names: &[At<String>], found: &mut Found) -> Vec<RegionId> {
        let mut ids = Vec::new();
        for name in names {
            let Some(id) = self.region(name, found) else { continue };
            if ids.contains(&id) {
                found.add(
                    name.line,
                    format!("the region \"{}\" stands twice in a list", name.value),
                    "remove one",
                );
            } else {
                ids.push(id);
            }
        }
        ids
    }
}

/// Ids by name. A missing or taken id is replaced by an unused one, so that references to its owner
/// are not confused with another; the mistake itself is reported elsewhere.
fn by_name<'a, Id>(
    raws: impl Iterator<Item = (&'a Option<At<String>>, &'a Option<At<u16>>)>,
    wrap: impl Fn(u16) -> Id,
) -> BTreeMap<String, Id> {
    let mut taken = BTreeSet::new();
    let mut ids = BTreeMap::new();
    for (substitute, (name, id)) in (0..=u16::MAX).rev().zip(raws) {
        let given = id.as_ref().map(|at| at.value).filter(|id| taken.insert(*id));
        if let Some(name) = name {
            ids.entry(name.value.clone()).or_insert_with(|| wrap(given.unwrap_or(substitute)));
        }
    }
    ids
}

fn region(raw: read::Region, names: &Names, found: &mut Found) -> Region {
    let name = raw.name.unwrap_or(At { value: String::new(), line: raw.line });
    if !name.value.is_empty() || name.line != raw.line {
        label("region", &name, found);
    }
    if RESERVED_REGIONS.contains(&name.value.as_str()) {
        found.add(
            name.line,
            format!("a region cannot be called \"{}\"", name.value),
            "choose another name",
        );
    }
    let successor_names = raw.successors.unwrap_or_default();
    for successor in &successor_names {
        if successor.value == name.value {
            found.add(
                successor.line,
                format!("\"{}\" is its own successor", name.value),
                "remove it from the list",
            );
        } else if names.regions.contains_key(&successor.value)
            && !names
                .neighbours
                .get(&name.value)
                .is_some_and(|near| near.contains(&successor.value))
        {
            let problem = format!(
                "\"{}\" shares no zone with its successor \"{}\"",
                name.value, successor.value
            );
            found.add(
                successor.line,
                problem,
                "remove it from the list, or add it to a zone of that region",
            );
        }
    }
    let number = |value: &Option<At<f64>>| value.as_ref().map_or(0.0, |at| at.value);
    between("lat", &raw.lat, -90.0, 90.0, found);
    between("lon", &raw.lon, -180.0, 180.0, found);
    Region {
        id: RegionId(id(&raw.id, "region", found)),
        lat: number(&raw.lat),
        lon: number(&raw.lon),
        edges: count("edges", raw.edges, 1, 64, found),
        cores: count("cores", raw.cores, 2, 64, found),
        successors: names.regions(&successor_names, found),
        name: name.value,
    }
}

fn zone(raw: read::Zone, names: &Names, found: &mut Found) -> Zone {
    if let Some(name) = &raw.name {
        label("zone", name, found);
    }
    let name = raw.name.map_or_else(String::new, |name| name.value);
    if raw.regions.as_ref().is_some_and(Vec::is_empty) {
        found.add(
            raw.line,
            format!("the zone \"{name}\" has no regions"),
            "name at least one in `regions`",
        );
    }
    let regions = names.regions(raw.regions.as_deref().unwrap_or_default(), found);
    let founding_regions = match &raw.founding_regions {
        None => regions.clone(),
        Some(founding) => founding_regions(founding, &regions, &name, names, found),
    };
    let transit = choice(
        "transit",
        raw.transit,
        &[("allow", Transit::Allow), ("deny", Transit::Deny)],
        found,
    );
    let fence =
        choice("fence", raw.fence, &[("read", Fence::Read), ("lease", Fence::Lease)], found);
    let max_rpo = raw.max_rpo_s.map(|given| max_rpo(&given, found));
    let shards = count("shards", raw.shards, 4, 1024, found);
    let founding_shards = match raw.founding_shards {
        None => shards,
        given => count("founding_shards", given, shards, 1024, found),
    };
    Zone {
        id: ZoneId(id(&raw.id, "zone", found)),
        name,
        regions,
        transit: transit.unwrap_or(Transit::Allow),
        shards,
        fence: fence.unwrap_or(Fence::Read),
        max_rpo,
        founding_regions,
        founding_shards,
    }
}

fn max_rpo(given: &At<u16>, found: &mut Found) -> Duration {
    if given.value < MAX_RPO_S_MIN {
        let cure = format!("write a number from {MAX_RPO_S_MIN} to {}", u16::MAX);
        found.add(given.line, format!("max_rpo_s = {}", given.value), cure);
    }
    Duration::from_secs(given.value.into())
}

fn founding_regions(
    founding: &[At<String>],
    regions: &[RegionId],
    zone: &str,
    names: &Names,
    found: &mut Found,
) -> Vec<RegionId> {
    for name in founding {
        if names.regions.get(&name.value).is_some_and(|id| !regions.contains(id)) {
            let problem =
                format!("the founding region \"{}\" is not in the zone \"{zone}\"", name.value);
            found.add(name.line, problem, "conversations live there: put it back into `regions`");
        }
    }
    let ids = names.regions(founding, found);
    if ids.is_empty() { regions.to_vec() } else { ids }
}

fn links(raw: Vec<read::Link>, names: &Names, found: &mut Found) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for raw in raw {
        between("delay_ms", &raw.delay_ms, 0.0, 10_000.0, found);
        if let Some(loss) = &raw.loss
            && !(0.0..1.0).contains(&loss.value)
        {
            let problem = format!("loss = {} is not a share of datagrams", loss.value);
            found.add(loss.line, problem, "write a number from 0 to below 1, such as 0.001");
        }
        let Some(ends) = raw.between else { continue };
        let ids: Vec<Option<RegionId>> =
            ends.iter().map(|name| names.region(name, found)).collect();
        let &[a, b] = ids.as_slice() else {
            found.add(
                raw.line,
                "a link is not between two regions",
                "write between = [\"one\", \"other\"]",
            );
            continue;
        };
        let (Some(a), Some(b)) = (a, b) else { continue };
        if ends[0].value == ends[1].value {
            found.add(
                raw.line,
                format!("a link from \"{}\" to itself", ends[0].value),
                "name two regions, or remove it",
            );
        } else if links.iter().any(|link| (link.a, link.b) == (a, b) || (link.b, link.a) == (a, b))
        {
            let problem =
                format!("a second link between \"{}\" and \"{}\"", ends[0].value, ends[1].value);
            found.add(raw.line, problem, "remove one: both directions are alike");
        } else {
            let delay_ms = raw.delay_ms.map_or(0.0, |at| at.value);
            links.push(Link { a, b, delay_ms, loss: raw.loss.map_or(0.0, |at| at.value) });
        }
    }
    links
}

fn need_some(count: usize, kind: &str, found: &mut Found) {
    if count == 0 {
        found.add(1, format!("the world has no {kind}"), format!("add a [[{kind}]]"));
    }
}

fn distinct<'a, T: PartialEq + std::fmt::Debug + 'a>(
    kind: &str,
    key: &str,
    values: impl Iterator<Item = &'a At<T>>,
    found: &mut Found,
) {
    let mut seen: Vec<&At<T>> = Vec::new();
    for at in values {
        match seen.iter().find(|earlier| earlier.value == at.value) {
            Some(first) => found.add(
                at.line,
                format!(
                    "a second {kind} with {key} = {:?} (the first is on line {})",
                    at.value, first.line
                ),
                format!("give it {} of its own", if key == "id" { "a number" } else { "a name" }),
            ),
            None => seen.push(at),
        }
    }
}

fn unknown_name<'a>(
    kind: &str,
    name: &At<String>,
    known: impl Iterator<Item = &'a String>,
    found: &mut Found,
) {
    let cure = meant(&name.value, known.map(String::as_str));
    let cure = cure.unwrap_or_else(|| format!("add a [[{kind}]] with name = \"{}\"", name.value));
    found.add(name.line, format!("there is no {kind} \"{}\"", name.value), cure);
}

fn label(kind: &str, name: &At<String>, found: &mut Found) {
    let good = |text: &str| {
        (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if !good(&name.value) {
        let cure = "use up to 64 of a-z, 0-9 and -, a letter first";
        found.add(name.line, format!("{:?} is not a name for a {kind}", name.value), cure);
    }
}

fn id(given: &Option<At<u16>>, kind: &str, found: &mut Found) -> u16 {
    match given {
        Some(At { value: 0, line }) => {
            found.add(
                *line,
                "id = 0",
                format!("count from 1, and never reuse the number of a {kind}"),
            );
            0
        }
        Some(at) => at.value,
        None => 0,
    }
}

fn count(key: &str, given: Option<At<u16>>, default: u16, most: u16, found: &mut Found) -> u16 {
    let Some(at) = given else { return default };
    if at.value == 0 || at.value > most {
        found.add(
            at.line,
            format!("{key} = {}", at.value),
            format!("write a number from 1 to {most}"),
        );
    }
    at.value.clamp(1, most)
}

fn between(key: &str, given: &Option<At<f64>>, least: f64, most: f64, found: &mut Found) {
    if let Some(at) = given
        && !(least..=most).contains(&at.value)
    {
        found.add(
            at.line,
            format!("{key} = {}", at.value),
            format!("write a number from {least} to {most}"),
        );
    }
}

fn choice<T: Copy>(
    key: &str,
    given: Option<At<String>>,
    choices: &[(&str, T)],
    found: &mut Found,
) -> Option<T> {
    let at = given?;
    let chosen = choices.iter().find(|(name, _)| *name == at.value).map(|(_, value)| *value);
    if chosen.is_none() {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        found.add(
            at.line,
            format!("{key} = \"{}\"", at.value),
            format!("write {}", names.join(" or ")),
        );
    }
    chosen
}
