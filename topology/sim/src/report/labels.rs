//! Words in drawings: how wide they are, and where they do not hide each other.

/// A rectangle of a drawing.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    fn overlap(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    fn outside(&self, frame: &Self) -> f64 {
        let own = (self.right - self.left) * (self.bottom - self.top);
        own - self.overlap(frame)
    }
}

/// Width of words in the drawing's sans serif. Rust knows no fonts; 0.58 em a letter is a little
/// more than the average.
pub(super) fn width(words: &str, size: f64) -> f64 {
    words.chars().count() as f64 * size * 0.58
}

/// The same, for words in bold.
pub(super) fn width_bold(words: &str, size: f64) -> f64 {
    width(words, size) * 1.18
}

/// The occupied parts of a drawing.
pub(super) struct Taken {
    frame: Area,
    /// With what it costs to hide them.
    areas: Vec<(Area, f64)>,
}

/// Crossing a line is not nice; hiding words is worse.
const LINE_COST: f64 = 1.5;
/// Lines count as a chain of squares of this size.
const LINE_STEP: f64 = 6.0;

impl Taken {
    /// Nothing is, inside this frame.
    pub(super) fn nothing(frame: Area) -> Self {
        Self { frame, areas: Vec::new() }
    }

    /// This is.
    pub(super) fn take(&mut self, area: Area) {
        self.areas.push((area, 3.0));
    }

    /// A line is drawn from here to there.
    pub(super) fn cross(&mut self, from: (f64, f64), to: (f64, f64)) {
        let (wide, high) = (to.0 - from.0, to.1 - from.1);
        let steps = (wide.hypot(high) / LINE_STEP).clamp(1.0, 400.0) as u32;
        for step in 0..steps {
            let share = f64::from(step) / f64::from(steps);
            let (x, y) = (from.0 + wide * share, from.1 + high * share);
            self.areas.push((
                Area { left: x - 3.0, top: y - 3.0, right: x + 3.0, bottom: y + 3.0 },
                LINE_COST,
            ));
        }
    }

    /// Takes the candidate that hides least, the earlier one when equal, and returns its index.
    pub(super) fn take_best(&mut self, candidates: &[Area]) -> usize {
        let (mut best, mut least) = (0, f64::INFINITY);
        for (index, candidate) in candidates.iter().enumerate() {
            let hidden: f64 =
                self.areas.iter().map(|(area, cost)| area.overlap(candidate) * cost).sum();
            // A label outside the frame cannot be read.
            let cost = hidden + 12.0 * candidate.outside(&self.frame);
            if cost + 0.5 < least {
                (best, least) = (index, cost);
            }
        }
        if let Some(area) = candidates.get(best) {
            self.areas.push((*area, 3.0));
        }
        best
    }
}
