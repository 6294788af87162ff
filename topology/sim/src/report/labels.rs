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

/// Width of words in the drawing's sans serif. Rust knows no fonts; 0.58 em a letter is a little more than the average.
pub(super) fn width(words: &str, size: f64) -> f64 {
    words.chars().count() as f64 * size * 0.58
}

/// What of a drawing is taken.
pub(super) struct Taken {
    frame: Area,
    areas: Vec<Area>,
}

impl Taken {
    /// Nothing is, inside this frame.
    pub(super) fn nothing(frame: Area) -> Self {
        Self { frame, areas: Vec::new() }
    }

    /// This is.
    pub(super) fn take(&mut self, area: Area) {
        self.areas.push(area);
    }

    /// Takes the candidate that hides least, the earlier one when equal, and returns its index.
    pub(super) fn take_best(&mut self, candidates: &[Area]) -> usize {
        let (mut best, mut least) = (0, f64::INFINITY);
        for (index, candidate) in candidates.iter().enumerate() {
            let hidden: f64 = self.areas.iter().map(|area| area.overlap(candidate)).sum();
            // What leaves the frame cannot be read at all.
            let cost = hidden + 4.0 * candidate.outside(&self.frame);
            if cost + 0.5 < least {
                (best, least) = (index, cost);
            }
        }
        if let Some(area) = candidates.get(best) {
            self.areas.push(*area);
        }
        best
    }
}
