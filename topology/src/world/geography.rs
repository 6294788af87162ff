//! How far apart regions are.

use std::time::Duration;

use wire::RegionId;

use super::{Link, Region, World};

/// Mean radius of the earth, km.
const EARTH_KM: f64 = 6371.0;
/// Light in fibre, km per millisecond: two thirds of its speed in vacuum.
const FIBRE_KM_PER_MS: f64 = 200.0;
/// How much longer cables are than the great circle, as commonly measured.
const DETOUR: f64 = 1.5;

impl World {
    /// One way between two regions: what the file says, or what the coordinates give. Zero within a
    /// region, and when the world does not know one of them.
    #[must_use]
    pub fn delay(&self, a: RegionId, b: RegionId) -> Duration {
        Duration::from_secs_f64(self.delay_ms(a, b) / 1000.0)
    }

    /// Share of datagrams lost between two regions; 0 unless the file says otherwise.
    #[must_use]
    pub fn loss(&self, a: RegionId, b: RegionId) -> f64 {
        self.link(a, b).map_or(0.0, |link| link.loss)
    }

    /// These regions, nearest to `from` first; equally near ones by number.
    #[must_use]
    pub fn nearest_first(&self, from: RegionId, regions: &[RegionId]) -> Vec<RegionId> {
        let mut sorted = regions.to_vec();
        sorted.sort_by(|a, b| {
            self.delay_ms(from, *a).total_cmp(&self.delay_ms(from, *b)).then(a.cmp(b))
        });
        sorted
    }

    fn link(&self, a: RegionId, b: RegionId) -> Option<&Link> {
        self.links.iter().find(|link| (link.a, link.b) == (a, b) || (link.a, link.b) == (b, a))
    }

    fn delay_ms(&self, a: RegionId, b: RegionId) -> f64 {
        if a == b {
            return 0.0;
        }
        if let Some(link) = self.link(a, b) {
            return link.delay_ms;
        }
        match (self.region(a), self.region(b)) {
            (Some(a), Some(b)) => great_circle_km(a, b) * DETOUR / FIBRE_KM_PER_MS,
            _ => 0.0,
        }
    }
}

/// Haversine formula.
fn great_circle_km(a: &Region, b: &Region) -> f64 {
    let half = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
    let h = half(a.lat, b.lat)
        + a.lat.to_radians().cos() * b.lat.to_radians().cos() * half(a.lon, b.lon);
    2.0 * EARTH_KM * h.sqrt().min(1.0).asin()
}
