//! Which edge is next, and when. Pure: time and randomness are passed in.

use std::collections::VecDeque;
use std::time::Duration;

/// The order in which edges are tried: those that others suggested, then the program's own, then
/// those just left.
#[derive(Debug)]
pub(crate) struct Rotation {
    backoff_min: Duration,
    backoff_max: Duration,
    round: VecDeque<String>,
    suggested: VecDeque<String>,
    avoided: Vec<String>,
    failed_rounds: u32,
}

/// Most suggestions that are kept.
const SUGGESTED_MAX: usize = 8;

impl Rotation {
    pub(crate) fn new(backoff_min: Duration, backoff_max: Duration) -> Self {
        Self {
            backoff_min,
            backoff_max,
            round: VecDeque::new(),
            suggested: VecDeque::new(),
            avoided: Vec::new(),
            failed_rounds: 0,
        }
    }

    /// An edge named others to go to: they come before all else, and it comes last.
    pub(crate) fn suggest(&mut self, by: &str, alternatives: &[String]) {
        self.avoid(by);
        for url in alternatives.iter().take(SUGGESTED_MAX) {
            if url != by && !self.suggested.contains(url) && self.suggested.len() < SUGGESTED_MAX {
                self.suggested.push_back(url.clone());
            }
        }
    }

    /// This edge comes last in the next round.
    pub(crate) fn avoid(&mut self, edge: &str) {
        if !self.avoided.iter().any(|avoided| avoided == edge) {
            self.avoided.push(edge.to_owned());
        }
    }

    /// Starts a round over the program's edges.
    pub(crate) fn begin(&mut self, edges: Vec<String>) {
        let avoided = std::mem::take(&mut self.avoided);
        let (last, first): (Vec<_>, Vec<_>) =
            edges.into_iter().partition(|edge| avoided.contains(edge));
        self.round = first.into_iter().chain(last).collect();
    }

    /// The edge to try now; none when the round is over.
    pub(crate) fn next(&mut self) -> Option<String> {
        if let Some(url) = self.suggested.pop_front() {
            self.round.retain(|edge| *edge != url);
            return Some(url);
        }
        self.round.pop_front()
    }

    /// The round is over and nobody let us in. How long to wait before the next; `random` is in
    /// 0..1.
    pub(crate) fn failed(&mut self, random: f64) -> Duration {
        let most =
            self.backoff_min.saturating_mul(1 << self.failed_rounds.min(16)).min(self.backoff_max);
        self.failed_rounds = self.failed_rounds.saturating_add(1);
        most.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    /// A session lived long enough to believe in it.
    pub(crate) fn settled(&mut self) {
        self.failed_rounds = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation() -> Rotation {
        Rotation::new(Duration::from_millis(100), Duration::from_secs(3))
    }

    fn round(rotation: &mut Rotation) -> String {
        std::iter::from_fn(|| rotation.next()).collect()
    }

    fn edges() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    #[test]
    fn suggestions_come_first_and_the_edge_that_sends_us_away_last() {
        let mut rotation = rotation();
        rotation.begin(edges());
        assert_eq!(round(&mut rotation), "abc");
        rotation.suggest("a", &["c".into(), "d".into(), "a".into()]);
        rotation.begin(edges());
        assert_eq!(round(&mut rotation), "cdba");
        rotation.begin(edges());
        assert_eq!(round(&mut rotation), "abc", "forgiven");
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_starts_again_after_a_session() {
        let mut rotation = rotation();
        let pauses: Vec<_> = (0..8).map(|_| rotation.failed(1.0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_000, 3_000, 3_000]);
        assert_eq!(rotation.failed(0.0).as_millis(), 1_500, "jitter takes up to half");
        rotation.settled();
        assert_eq!(rotation.failed(1.0).as_millis(), 100);
    }

    #[test]
    fn a_flood_of_suggestions_is_cut() {
        let mut rotation = rotation();
        let many: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        rotation.suggest("a", &many);
        rotation.suggest("a", &many);
        assert_eq!(rotation.suggested.len(), SUGGESTED_MAX);
    }
}
