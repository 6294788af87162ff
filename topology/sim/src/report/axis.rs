//! Scales: time from left to right, shared by everything drawn over it, and values from bottom to
//! top.

use crate::outcome::Outcome;

/// Left end of time in the drawing; names and figures stand before it.
pub(super) const LEFT: f64 = 150.0;
/// Right end of time in the drawing.
pub(super) const RIGHT: f64 = 1_080.0;
/// Width of the drawing.
pub(super) const WIDTH: f64 = 1_100.0;

/// Steps that people count in, milliseconds.
const STEPS_MS: [u64; 20] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000,
    900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000, 43_200_000, 86_400_000,
];
const TIME_TICKS_MAX: u64 = 14;
/// From here on, a linear scale would press the low values onto the ground.
const LOG_FROM_RATIO: f64 = 30.0;

/// Time from left to right.
pub(super) struct TimeAxis {
    pub(super) end_ms: u64,
}

impl TimeAxis {
    /// Long enough for every second and every fault. Faults may be planned to outlast the run, and
    /// are cut off there.
    pub(super) fn over(outcome: &Outcome) -> Self {
        let seconds = outcome.seconds.last().map_or(0, |second| second.at_ms.saturating_add(1_000));
        let faults =
            outcome.faults.iter().map(|fault| fault.to_ms.max(fault.from_ms)).max().unwrap_or(0);
        let end_ms = seconds.max(faults.min(outcome.virtual_ms));
        Self { end_ms: if end_ms == 0 { 1_000 } else { end_ms } }
    }

    /// The x of a moment.
    pub(super) fn x(&self, ms: u64) -> f64 {
        let share = ms.min(self.end_ms) as f64 / self.end_ms as f64;
        LEFT + share * (RIGHT - LEFT)
    }

    /// Round moments.
    pub(super) fn ticks(&self) -> Vec<u64> {
        let fits = |step: &&u64| self.end_ms / **step <= TIME_TICKS_MAX;
        let step =
            STEPS_MS.iter().find(fits).copied().unwrap_or(self.end_ms / TIME_TICKS_MAX).max(1);
        (0..=self.end_ms / step).map(|tick| tick * step).collect()
    }
}

/// Values from bottom to top.
pub(super) struct ValueAxis {
    low: f64,
    high: f64,
    pub(super) is_log: bool,
    top: f64,
    bottom: f64,
}

impl ValueAxis {
    /// From zero to a round number above the largest.
    pub(super) fn linear(values: impl Iterator<Item = f64>, top: f64, bottom: f64) -> Self {
        let largest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let step = nice_step(largest / 3.0);
        let high = (largest / step).ceil().max(1.0) * step;
        Self { low: 0.0, high, is_log: false, top, bottom }
    }

    /// By powers of ten when the values are far apart, else linear. Zeros do not count: no wait is
    /// that short.
    pub(super) fn log_if_wide(values: impl Iterator<Item = f64>, top: f64, bottom: f64) -> Self {
        let values: Vec<f64> = values.filter(|value| value.is_finite() && *value > 0.0).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = values.iter().copied().fold(0.0, f64::max);
        if values.is_empty() || largest / least < LOG_FROM_RATIO {
            return Self::linear(values.into_iter(), top, bottom);
        }
        let low = 10_f64.powf(least.log10().floor());
        let high = 10_f64.powf(largest.log10().ceil());
        Self { low, high, is_log: true, top, bottom }
    }

    /// The y of a value.
    pub(super) fn y(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            value / self.high
        };
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        self.bottom - share * (self.bottom - self.top)
    }

    /// Round values, the smallest first.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            let decades = (self.high / self.low).log10().round() as i32;
            // At most five or so, however wide it is.
            let stride = usize::try_from(decades / 5 + 1).unwrap_or(1);
            return (0..=decades)
                .step_by(stride)
                .map(|decade| self.low * 10_f64.powi(decade))
                .collect();
        }
        let step = nice_step(self.high / 3.5);
        let count = (self.high / step).round().clamp(1.0, 8.0) as u32;
        (0..=count)
            .map(|tick| f64::from(tick) * step)
            .filter(|tick| *tick <= self.high * 1.001)
            .collect()
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below the value; at least 1, as all
/// that is drawn is counted in whole messages or milliseconds.
fn nice_step(value: f64) -> f64 {
    if !value.is_finite() || value <= 1.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let nice =
        [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= value * 0.999);
    nice.unwrap_or(10.0 * power)
}
