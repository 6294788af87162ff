//! How far a backfill has come, and where it goes on when a fork is noticed meanwhile.

use wire::Epoch;

use super::{Place, Seqs};

/// Terms that a backfill remembers. Of older ones it only knows that it had everything.
const TERMS_MAX: usize = 16;

/// What a backfill has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    have: Place,
    /// The client says that it has the messages up to this one. It may know more than this edge.
    claimed: u64,
    /// Of what it brought: epochs, ascending, each with the last `ver` before it.
    terms: Vec<(Epoch, u64)>,
}

impl Progress {
    #[must_use]
    pub fn from(have: Place) -> Self {
        Self { have, claimed: 0, terms: Vec::new() }
    }

    #[must_use]
    pub fn have(&self) -> Place {
        self.have
    }

    /// The client says that it has the messages up to this one.
    pub fn claim(&mut self, seq: u64) {
        self.claimed = seq;
    }

    /// Whether the client knows of messages that this backfill has not met yet.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.have.seq < self.claimed
    }

    /// Whether the client has the message that this change is.
    #[must_use]
    pub fn has_message(&self, seqs: Option<Seqs>) -> bool {
        seqs.is_some_and(|seqs| seqs.before < seqs.after && seqs.after <= self.claimed)
    }

    /// It has brought the change at this place.
    pub fn brought(&mut self, at: Place, epoch: Epoch) {
        if self.terms.last().is_none_or(|(last, _)| *last < epoch) {
            if self.terms.len() == TERMS_MAX {
                self.terms.remove(0);
            }
            self.terms.push((epoch, self.have.ver));
        }
        self.have = at;
    }

    /// Whether it has something of a later term than this.
    pub(super) fn is_beyond(&self, epoch: Epoch) -> bool {
        self.terms.last().is_some_and(|(last, _)| *last > epoch)
    }

    /// The last `ver` that it has of a term older than `epoch`.
    #[must_use]
    pub fn last_before(&self, epoch: Epoch) -> u64 {
        let newer = self.terms.iter().find(|(term, _)| *term >= epoch);
        newer.map_or(self.have.ver, |(_, before)| *before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_new_history_already_is_not_fetched_again() {
        let mut progress = Progress::from(Place { ver: 3, seq: 2 });
        progress.brought(Place { ver: 4, seq: 3 }, Epoch(1));
        assert_eq!(progress.last_before(Epoch(2)), 4, "everything is of the old history");
        progress.brought(Place { ver: 5, seq: 4 }, Epoch(2));
        assert_eq!(progress.last_before(Epoch(2)), 4);
        assert_eq!(progress.last_before(Epoch(3)), 5);
        assert_eq!(progress.last_before(Epoch(1)), 3);
    }
}
