//! When live events may reach a client that has just connected.
//!
//! A new connection is live from `hello` on, but its client may be about to say with a `sync` what
//! it already has. An event that is written before the answer to that `sync` arrives out of order.
//! So events wait until the client has said something else, or a moment has passed, and while any
//! `sync` is not placed.
//!
//! A `sync` is *placed* when the subscriber is off the live events of every conversation that it
//! names and the queued events that its answer repeats are taken back. From then on its answer and
//! the live events cannot overtake each other.

/// Whether the events of one connection wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settling {
    /// The client has not yet said anything, and may still say `sync`.
    undecided: bool,
    /// `sync` frames that have come and are not placed.
    unplaced: u32,
}

impl Default for Settling {
    /// Nothing waits.
    fn default() -> Self {
        Self { undecided: false, unplaced: 0 }
    }
}

impl Settling {
    /// A connection that has just begun.
    #[must_use]
    pub fn begin() -> Self {
        Self { undecided: true, unplaced: 0 }
    }

    /// Whether events wait.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.undecided || self.unplaced > 0
    }

    /// The client has sent a `sync`. It must be placed.
    pub fn sync(&mut self) {
        self.undecided = false;
        self.unplaced += 1;
    }

    /// A `sync` is placed.
    pub fn placed(&mut self) {
        self.unplaced = self.unplaced.saturating_sub(1);
    }

    /// The client has sent another frame, or its time to send a `sync` is over. A `sync` that came
    /// before is still waited for: a frame that follows it says nothing about what the client has.
    pub fn pass(&mut self) {
        self.undecided = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_first_frame_that_is_no_sync_or_the_end_of_the_wait_lets_events_go() {
        let mut settling = Settling::begin();
        assert!(settling.holds());
        settling.pass();
        assert!(!settling.holds());
    }

    #[test]
    fn a_frame_behind_a_sync_does_not_let_events_go_before_the_sync_is_placed() {
        let mut settling = Settling::begin();
        settling.sync();
        settling.pass();
        assert!(settling.holds());
        settling.placed();
        assert!(!settling.holds());
    }

    proptest! {
        #[test]
        fn events_wait_exactly_while_a_sync_is_not_placed(frames in proptest::collection::vec(0..3u8, 0..40)) {
            let mut settling = Settling::begin();
            let (mut unplaced, mut decided) = (0u32, false);
            for frame in frames {
                match frame {
                    0 => {
                        settling.sync();
                        unplaced += 1;
                        decided = true;
                    }
                    1 if unplaced > 0 => {
                        settling.placed();
                        unplaced -= 1;
                    }
                    _ => {
                        settling.pass();
                        decided = true;
                    }
                }
                prop_assert_eq!(settling.holds(), unplaced > 0 || !decided);
            }
        }
    }
}
