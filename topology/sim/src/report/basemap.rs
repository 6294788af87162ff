//! The map's background: land as dots, a graticule of degrees, and the projection of a place.
//!
//! Equirectangular: a degree has the same length everywhere, so that latitude and longitude can be
//! read off the graticule.

use super::text::place;
use crate::outcome::RegionFacts;

/// Land as dots, one line per 2.5 degrees from north to south. Created from Natural Earth's 1:110m
/// land, public domain.
const LAND: &str = include_str!("land.txt");
const LAND_STEP: f64 = 2.5;
const NORTH: f64 = 82.5;
const SOUTH: f64 = -57.5;
/// Width of the drawing; 3 units are one degree.
pub(super) const WIDTH: f64 = 1_080.0;
const SCALE: f64 = WIDTH / 360.0;
/// Height of the drawing.
pub(super) const HEIGHT: f64 = (NORTH - SOUTH) * SCALE;

/// The place of a region. Impossible coordinates are drawn at the nearest possible place.
pub(super) fn point(region: &RegionFacts) -> (f64, f64) {
    let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
    let lat = finite(region.lat).clamp(SOUTH + 3.0, NORTH - 3.0);
    let lon = finite(region.lon).clamp(-180.0, 180.0);
    (x(lon), y(lat))
}

/// Land and graticule.
pub(super) fn draw() -> String {
    format!("<path class=\"land\" d=\"{}\"/>{}", land(), graticule())
}

fn land() -> String {
    let mut dots = String::new();
    for (row, line) in LAND.lines().enumerate() {
        let y = (row as f64 + 0.5) * LAND_STEP * SCALE;
        let mut column = 0;
        for run in line.split_inclusive('.') {
            let land = run.trim_end_matches('.').len();
            if land > 0 {
                // Dashes of length 0 with round caps are dots; the last one wants a little more
                // than its own length.
                let from = (column as f64 + 0.5) * LAND_STEP * SCALE;
                let long = (land - 1) as f64 * LAND_STEP * SCALE + 0.1;
                dots.push_str(&format!("M{} {}h{}", place(from), place(y), place(long)));
            }
            column += run.len();
        }
    }
    dots
}

fn graticule() -> String {
    let (mut lines, mut words) = (String::new(), String::new());
    for lon in (-150..=150).step_by(30) {
        let x = x(f64::from(lon));
        lines.push_str(&format!("M{} 0V{}", place(x), place(HEIGHT)));
        words.push_str(&degrees(x + 4.0, HEIGHT - 6.0, lon, ('E', 'W')));
    }
    for lat in [60, 30, 0, -30] {
        let y = y(f64::from(lat));
        lines.push_str(&format!("M0 {}H{}", place(y), place(WIDTH)));
        words.push_str(&degrees(5.0, y - 4.0, lat, ('N', 'S')));
    }
    format!(
        "<path class=\"grid\" d=\"{lines}\"/><g class=\"degrees\" aria-hidden=\"true\">{words}</g>"
    )
}

fn degrees(x: f64, y: f64, degrees: i32, (above, below): (char, char)) -> String {
    let side = match degrees {
        0 => String::new(),
        1.. => format!(" {above}"),
        _ => format!(" {below}"),
    };
    format!("<text x=\"{}\" y=\"{}\">{}°{side}</text>", place(x), place(y), degrees.abs())
}

fn x(lon: f64) -> f64 {
    (lon + 180.0) * SCALE
}

fn y(lat: f64) -> f64 {
    (NORTH - lat) * SCALE
}
