//! From a `[[fault]]` to a [`Fault`]: its time within the load, its kind, and the names in it
//! looked up in the world.

use topology::World;
use topology::mistakes::{At, Found, line_of, meant};
use wire::{NodeId, RegionId};

use super::section::Section;
use super::{keys, seconds};
use crate::fault::{Fault, Planned, Ways, What};

/// When things happen, milliseconds after the load began.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// The load ends.
    pub(super) load_ms: u64,
    /// All faults are over.
    pub(super) calm_ms: u64,
}

/// None for a missing part of the file: names are then not looked up and times not compared.
pub(super) fn read(
    mut s: Section<'_, '_>,
    world: Option<&World>,
    times: Option<&Times>,
) -> Option<Planned> {
    let kind = s.text("kind");
    let known =
        kind.as_ref().and_then(|kind| keys::KINDS.iter().find(|(name, _)| *name == kind.value));
    match (&kind, known) {
        (_, Some((name, own))) => {
            s.heading = format!("a fault of kind \"{name}\"");
            let known = [&["at", "for", "kind"], *own].concat();
            s.refuse_unknown(&known);
        }
        (kind, None) => {
            if let Some(kind) = kind {
                unknown(
                    "kind of fault",
                    kind,
                    keys::KINDS.iter().map(|(name, _)| (*name).to_owned()),
                    s.found,
                );
            }
            s.refuse_unknown(&keys::of("fault").collect::<Vec<_>>());
        }
    }
    let (at_ms, for_ms) = (s.millis("at"), s.millis("for"));
    if let (Some(at), Some(times)) = (&at_ms, times) {
        is_in_time(at, for_ms.as_ref(), times, s.found);
    }
    let (name, _) = known?;
    let fault = Reader { s, world }.fault(name);
    Some(Planned { at_ms: at_ms?.value, for_ms: for_ms.map(|at| at.value), fault: fault? })
}

fn is_in_time(at: &At<u64>, for_ms: Option<&At<u64>>, times: &Times, found: &mut Found) {
    let calm = seconds(times.calm_ms);
    if at.value >= times.calm_ms {
        let problem = format!(
            "the fault begins at {} s, and all must be over at {calm} s",
            seconds(at.value)
        );
        found.add(at.line, problem, "let it begin earlier, or raise seconds, or lower quiet_s");
    } else if let Some(lasts) = for_ms
        && at.value + lasts.value > times.calm_ms
    {
        let (end, most) = (seconds(at.value + lasts.value), seconds(times.calm_ms - at.value));
        let problem = format!("the fault ends at {end} s, and all must be over at {calm} s");
        found.add(
            lasts.line,
            problem,
            format!("write for = {most}, or leave the line out, or raise seconds"),
        );
    }
}

struct Reader<'a, 'f, 'w> {
    s: Section<'a, 'f>,
    world: Option<&'w World>,
}

impl Reader<'_, '_, '_> {
    /// A fault of a known kind. Checks every key, whatever is wrong with the others.
    fn fault(&mut self, kind: &str) -> Option<Fault> {
        match kind {
            "kill" => Some(Fault::Kill { node: self.node()? }),
            "power-loss" => Some(Fault::PowerLoss { node: self.node()? }),
            "pause" => Some(Fault::Pause { node: self.node()? }),
            "clock" => self.clock(),
            "drain" => Some(Fault::Drain { node: self.node()? }),
            "lose-region" => Some(Fault::LoseRegion { region: self.region()? }),
            "fail-over" => Some(Fault::FailOver { region: self.region()? }),
            "drain-region" => Some(Fault::DrainRegion { region: self.region()? }),
            "cut" => self.cut(),
            "loss" => {
                let (between, share) = (self.between(), self.share());
                between.and_then(|(a, b)| Some(Fault::Loss { a, b, share: share? }))
            }
            "delay" => {
                let (between, extra_ms) = (self.between(), self.s.whole("extra_ms"));
                between.and_then(|(a, b)| Some(Fault::Delay { a, b, extra_ms: extra_ms?.value }))
            }
            "replica-down" => {
                let (region, power_loss) = (self.region(), self.s.flag("power_loss"));
                Some(Fault::ReplicaDown { region: region?, power_loss: power_loss? })
            }
            "slow-disk" => {
                let (region, sync_ms) = (self.region(), self.s.whole("sync_ms"));
                Some(Fault::SlowDisk { region: region?, sync_ms: sync_ms?.value })
            }
            "late-writes" => {
                let (region, share, by_ms) = (self.region(), self.share(), self.s.whole("by_ms"));
                Some(Fault::LateWrites { region: region?, share: share?, by_ms: by_ms?.value })
            }
            "diverge" => {
                let (region, share) = (self.region(), self.share());
                Some(Fault::Diverge { region: region?, share: share? })
            }
            "flap" => {
                let (region, every_ms) = (self.region(), self.s.whole("every_ms"));
                Some(Fault::Flap { region: region?, every_ms: every_ms?.value })
            }
            "rolling-restart" => Some(Fault::RollingRestart { older: self.s.flag("older")? }),
            _ => None,
        }
    }

    fn clock(&mut self) -> Option<Fault> {
        let (node, rate, jump_ms) = (self.node(), self.s.number("rate"), self.s.signed("jump_ms"));
        if !self.s.table.contains_key("rate") && !self.s.table.contains_key("jump_ms") {
            let cure = "write rate = 1.1, or jump_ms = -5000, or both";
            self.s.found.add(self.s.line, "nothing is wrong with this clock", cure);
        }
        let (rate, jump_ms) = (rate.map_or(1.0, |at| at.value), jump_ms.map_or(0, |at| at.value));
        Some(Fault::Clock { node: node?, rate, jump_ms })
    }

    fn cut(&mut self) -> Option<Fault> {
        let between = self.between();
        let ways = self.choice("ways", &[("both", Ways::Both), ("one", Ways::AToB)]);
        let what = self
            .choice("what", &[("all", What::All), ("mesh", What::Mesh), ("store", What::Store)]);
        let (a, b) = between?;
        Some(Fault::Cut { a, b, ways: ways?, what: what? })
    }

    fn share(&mut self) -> Option<f64> {
        Some(self.s.number("share")?.value)
    }

    /// The first choice when the key is left out.
    fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        if !self.s.table.contains_key(key) {
            return choices.first().map(|(_, value)| *value);
        }
        let at = self.s.text(key)?;
        let chosen = choices.iter().find(|(name, _)| *name == at.value).map(|(_, value)| *value);
        if chosen.is_none() {
            let names: Vec<String> =
                choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            self.s.found.add(
                at.line,
                format!("{key} = \"{}\"", at.value),
                format!("write {}", names.join(" or ")),
            );
        }
        chosen
    }

    fn region(&mut self) -> Option<RegionId> {
        let name = self.s.text("region")?;
        self.look_up(&name)
    }

    fn look_up(&mut self, name: &At<String>) -> Option<RegionId> {
        let world = self.world?;
        let known = world.region_by_name(&name.value).map(|region| region.id);
        if known.is_none() {
            unknown(
                "region",
                name,
                world.regions.iter().map(|region| region.name.clone()),
                self.s.found,
            );
        }
        known
    }

    fn between(&mut self) -> Option<(RegionId, RegionId)> {
        let line = self.s.table.get_key_value("between").map(|(key, _)| key.span().start);
        let names = self.s.names("between")?;
        let line = line.map_or(self.s.line, |at| line_of(self.s.text, at));
        let [a, b] = names.as_slice() else {
            let cure = "write between = [\"one\", \"other\"]";
            self.s.found.add(line, format!("{} is not between two regions", self.s.heading), cure);
            return None;
        };
        if a.value == b.value {
            let problem = format!("{} between \"{}\" and itself", self.s.heading, a.value);
            self.s.found.add(line, problem, "name two regions");
            return None;
        }
        let (a, b) = (self.look_up(a), self.look_up(b));
        Some((a?, b?))
    }

    /// `eu-west/core/1`, with the region's name, or `r1/core/1`, as ids are printed.
    fn node(&mut self) -> Option<NodeId> {
        let name = self.s.text("node")?;
        let world = self.world?;
        let mut known = Vec::new();
        for node in world.nodes() {
            let id = node.to_string();
            let named = match id.split_once('/') {
                Some((_, rest)) => format!("{}/{rest}", world.region_name(node.region)),
                None => id.clone(),
            };
            if name.value == named || name.value == id {
                return Some(node);
            }
            known.push(named);
        }
        unknown("node", &name, known.into_iter(), self.s.found);
        None
    }
}

fn unknown(what: &str, name: &At<String>, known: impl Iterator<Item = String>, found: &mut Found) {
    let known: Vec<String> = known.collect();
    let cure = meant(&name.value, known.iter().map(String::as_str));
    let cure = cure.unwrap_or_else(|| format!("there are {}", known.join(", ")));
    found.add(name.line, format!("there is no {what} \"{}\"", name.value), cure);
}
