//! The world: regions where they are, the links between them, and which of both the faults
//! concerned.

use std::collections::{BTreeMap, BTreeSet};

use super::basemap::{self, HEIGHT, WIDTH, point};
use super::labels::{self, Area, Taken};
use super::lanes::link_name;
use super::text::{Escaped, counted, place, shortened, span_f64};
use crate::outcome::{LinkFacts, Outcome, RegionFacts};

const FONT: f64 = 13.0;
const NAME_CHARS_MAX: usize = 24;
/// With more links than this, only those that faults concerned inject their delay; all are in the
/// table below.
const LINK_LABELS_MAX: usize = 15;
/// Colours that the style sheet knows.
const ZONE_COLOURS: usize = 7;

/// From and to, milliseconds.
type Spans = Vec<(u64, u64)>;

/// Targets and times of the faults.
struct Concerned<'a> {
    regions: BTreeMap<&'a str, Spans>,
    links: BTreeMap<(&'a str, &'a str), Spans>,
}

/// The drawing, its legend, and the delays as a table.
pub(super) fn section(outcome: &Outcome) -> String {
    if outcome.regions.is_empty() {
        return "<p class=\"quiet\">This world has no regions.</p>".to_owned();
    }
    format!("<figure>{}{}</figure>{}", drawing(outcome), legend(outcome), delays(outcome))
}

fn drawing(outcome: &Outcome) -> String {
    let concerned = Concerned::by(outcome);
    let mut taken = Taken::nothing(Area { left: 0.0, top: 0.0, right: WIDTH, bottom: HEIGHT });
    for region in &outcome.regions {
        let (x, y) = point(region);
        taken.take(Area { left: x - 9.0, top: y - 9.0, right: x + 9.0, bottom: y + 9.0 });
    }
    for (from, to) in outcome.links.iter().filter_map(|link| line(outcome, link)).flatten() {
        taken.cross(from, to);
    }
    // Names are placed first, as they matter more than delays, and drawn last, so that no line
    // crosses them.
    let zones = zones(outcome);
    let dots: String =
        outcome.regions.iter().map(|region| dot(region, &zones, &concerned, &mut taken)).collect();
    let (mut lines, mut figures) = (String::new(), String::new());
    for link in &outcome.links {
        draw_link(outcome, link, &concerned, &mut taken, (&mut lines, &mut figures));
    }
    format!(
        "<svg class=\"map{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"map-title map-desc\">\
         <title id=\"map-title\">Map of the world {}</title><desc id=\"map-desc\">{}</desc>{}{lines}{figures}{dots}</svg>",
        if outcome.links.len() > LINK_LABELS_MAX { " many" } else { "" },
        place(WIDTH),
        place(HEIGHT),
        Escaped(&outcome.world),
        Escaped(&described(outcome, &concerned)),
        basemap::draw()
    )
}

fn described(outcome: &Outcome, concerned: &Concerned<'_>) -> String {
    let names: Vec<&str> = outcome.regions.iter().map(|region| region.name.as_str()).collect();
    let hit: Vec<&str> = concerned.regions.keys().copied().collect();
    let hit = if hit.is_empty() { "no single region".to_owned() } else { hit.join(", ") };
    format!("Regions: {}. Faults concerned {hit}.", names.join(", "))
}

/// A region's mark and its name, on the side where the name hides least.
fn dot(
    region: &RegionFacts,
    zones: &[&str],
    concerned: &Concerned<'_>,
    taken: &mut Taken,
) -> String {
    let (x, y) = point(region);
    let hit = concerned.regions.get(region.name.as_str());
    let is_hit = hit.is_some();
    let mut marks = String::new();
    if is_hit {
        marks.push_str(&format!(
            "<circle class=\"hit\" cx=\"{}\" cy=\"{}\" r=\"13\"/>",
            place(x),
            place(y)
        ));
    }
    marks.push_str(&zone_marks(region, zones, x, y));
    let name = shortened(&region.name, NAME_CHARS_MAX);
    let (text_x, text_y, anchor) = beside(x, y, labels::width_bold(&name, FONT), taken);
    let is_hit = if is_hit { " is-hit" } else { "" };
    format!(
        "<g class=\"region{is_hit}\"{}><title>{}: {}, {}; zones: {}</title>{marks}\
         <text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text></g>",
        spans_attribute(hit),
        Escaped(&region.name),
        counted(region.cores.into(), "core"),
        counted(region.edges.into(), "edge"),
        Escaped(&zone_list(region)),
        place(text_x),
        place(text_y),
        Escaped(&name)
    )
}

/// One disc inside the other when a region keeps the data of several zones; the first is the
/// innermost.
fn zone_marks(region: &RegionFacts, zones: &[&str], x: f64, y: f64) -> String {
    let (x, y) = (place(x), place(y));
    if region.zones.is_empty() {
        return format!("<circle class=\"dot\" cx=\"{x}\" cy=\"{y}\" r=\"5.5\"/>");
    }
    let mut marks = String::new();
    for (ring, zone) in region.zones.iter().take(3).enumerate().rev() {
        let radius = place(5.5 + 2.5 * ring as f64);
        let class = zone_class(zone, zones);
        marks.push_str(&format!(
            "<circle class=\"dot {class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>"
        ));
    }
    marks
}

fn beside(x: f64, y: f64, wide: f64, taken: &mut Taken) -> (f64, f64, &'static str) {
    let options = [
        (x + 19.0, y + 4.5, "start"),
        (x - 19.0, y + 4.5, "end"),
        (x, y - 19.0, "middle"),
        (x, y + 29.0, "middle"),
        (x + 13.0, y - 12.0, "start"),
        (x + 13.0, y + 21.0, "start"),
        (x - 13.0, y - 12.0, "end"),
        (x - 13.0, y + 21.0, "end"),
    ];
    let areas = options.map(|(text_x, text_y, anchor)| {
        let left = match anchor {
            "start" => text_x,
            "end" => text_x - wide,
            _ => text_x - wide / 2.0,
        };
        Area { left, top: text_y - FONT + 1.0, right: left + wide, bottom: text_y + 4.0 }
    });
    options[taken.take_best(&areas)]
}

/// From one end to the other.
type Line = ((f64, f64), (f64, f64));

/// A straight line, the short way round; across the date line it leaves on one side and enters on
/// the other.
fn line(outcome: &Outcome, link: &LinkFacts) -> Option<Vec<Line>> {
    let find = |name: &str| outcome.regions.iter().find(|region| region.name == name).map(point);
    let ((ax, ay), (bx, by)) = (find(&link.a)?, find(&link.b)?);
    if (bx - ax).abs() <= WIDTH / 2.0 {
        return Some(vec![((ax, ay), (bx, by))]);
    }
    let turn = WIDTH.copysign(ax - bx);
    Some(vec![((ax, ay), (bx + turn, by)), ((ax - turn, ay), (bx, by))])
}

fn draw_link(
    outcome: &Outcome,
    link: &LinkFacts,
    concerned: &Concerned<'_>,
    taken: &mut Taken,
    (lines, figures): (&mut String, &mut String),
) {
    let Some(parts) = line(outcome, link) else { return };
    let mut path = String::new();
    for ((ax, ay), (bx, by)) in &parts {
        path.push_str(&format!("M{} {}L{} {}", place(*ax), place(*ay), place(*bx), place(*by)));
    }
    let hit = concerned.links.get(&ordered(&link.a, &link.b));
    let is_hit = hit.is_some();
    let class = if is_hit { "link is-hit" } else { "link" };
    let delay = span_f64(link.delay_ms);
    let name = link_name(&link.a, &link.b);
    lines.push_str(&format!(
        "<path class=\"{class}\" d=\"{path}\"{}><title>{}: {delay}</title></path>",
        spans_attribute(hit),
        Escaped(&name)
    ));
    if !is_hit && outcome.links.len() > LINK_LABELS_MAX {
        return;
    }
    let Some((a, b)) = parts.first() else { return };
    let (x, y) = along(*a, *b, labels::width(&delay, FONT - 1.5), taken);
    let (x, y) = (place(x), place(y + 4.0));
    figures.push_str(&format!(
        "<text class=\"delay\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{delay}</text>"
    ));
}

/// The place on a line where a label hides least: the middle if possible.
fn along(a: (f64, f64), b: (f64, f64), wide: f64, taken: &mut Taken) -> (f64, f64) {
    let options = [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82]
        .map(|share| (a.0 + (b.0 - a.0) * share, a.1 + (b.1 - a.1) * share));
    let areas = options.map(|(x, y)| Area {
        left: x - wide / 2.0 - 2.0,
        top: y - 8.0,
        right: x + wide / 2.0 + 2.0,
        bottom: y + 8.0,
    });
    options[taken.take_best(&areas)]
}

fn legend(outcome: &Outcome) -> String {
    let mut items = String::new();
    let zones = zones(outcome);
    for zone in &zones {
        let class = zone_class(zone, &zones);
        items.push_str(&format!("<li><i class=\"swatch {class}\"></i>zone {}</li>", Escaped(zone)));
    }
    format!(
        "<figcaption><ul class=\"legend\">{items}<li><i class=\"swatch ring\"></i>a fault concerned this region</li>\
         <li><i class=\"swatch cut\"></i>a fault concerned this link</li></ul>\
         A dot has the colour of the zone whose data rests there, rings stand for further zones. Figures on links are \
         delays, one way.</figcaption>"
    )
}

/// Every region with its facts, and its delay to each other.
fn delays(outcome: &Outcome) -> String {
    let heads: String = outcome
        .regions
        .iter()
        .map(|region| format!("<th scope=\"col\" class=\"num\">{}</th>", Escaped(&region.name)))
        .collect();
    let rows: String = outcome.regions.iter().map(|region| delay_row(outcome, region)).collect();
    format!(
        "<details><summary>Regions and the delays between them</summary><div class=\"wide\"><table>\
         <thead><tr><th scope=\"col\">Region</th><th scope=\"col\">Zones</th><th scope=\"col\" class=\"num\">Cores</th>\
         <th scope=\"col\" class=\"num\">Edges</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )
}

fn delay_row(outcome: &Outcome, region: &RegionFacts) -> String {
    let mut cells = String::new();
    for other in &outcome.regions {
        let link = outcome
            .links
            .iter()
            .find(|link| ordered(&link.a, &link.b) == ordered(&region.name, &other.name));
        let delay = link.map_or_else(|| "·".to_owned(), |link| span_f64(link.delay_ms));
        cells.push_str(&format!("<td class=\"num\">{delay}</td>"));
    }
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>{cells}</tr>",
        Escaped(&region.name),
        Escaped(&zone_list(region)),
        region.cores,
        region.edges
    )
}

impl<'a> Concerned<'a> {
    fn by(outcome: &'a Outcome) -> Self {
        let mut concerned = Self { regions: BTreeMap::new(), links: BTreeMap::new() };
        for fault in &outcome.faults {
            let span = (fault.from_ms, fault.to_ms);
            match fault.regions.as_slice() {
                [a, b] if fault.is_link => {
                    concerned.links.entry(ordered(a, b)).or_default().push(span)
                }
                names => names.iter().for_each(|name| concerned.region(name, span)),
            }
        }
        for incident in &outcome.incidents {
            concerned
                .region(&incident.region, (incident.from_ms, incident.to_ms.unwrap_or(u64::MAX)));
        }
        concerned
    }

    fn region(&mut self, name: &'a str, span: (u64, u64)) {
        self.regions.entry(name).or_default().push(span);
    }
}

/// For the time cursor of the script, which marks what was concerned at that moment.
fn spans_attribute(spans: Option<&Spans>) -> String {
    let Some(spans) = spans else { return String::new() };
    let written: Vec<String> = spans.iter().map(|(from, to)| format!("{from}-{to}")).collect();
    format!(" data-spans=\"{}\"", written.join(" "))
}

fn zones(outcome: &Outcome) -> Vec<&str> {
    let zones: BTreeSet<&str> =
        outcome.regions.iter().flat_map(|region| &region.zones).map(String::as_str).collect();
    zones.into_iter().collect()
}

/// Beyond the palette colours come again; the names are in the legend, the tooltips and the table.
fn zone_class(zone: &str, zones: &[&str]) -> String {
    let index = zones.iter().position(|known| *known == zone).unwrap_or(0);
    format!("zone-{}", index % ZONE_COLOURS)
}

fn zone_list(region: &RegionFacts) -> String {
    if region.zones.is_empty() { "none".to_owned() } else { region.zones.join(", ") }
}

fn ordered<'a>(a: &'a str, b: &'a str) -> (&'a str, &'a str) {
    if b < a { (b, a) } else { (a, b) }
}
