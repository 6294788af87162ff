//! One session in one conversation.

use std::sync::Arc;

use super::Guard;
use super::place::{At, From};
use crate::session::Session;

/// Times that a user may be put out and taken in again while this edge is behind. Further ones are not heard of before he
/// connects anew.
const AGAIN_MAX: usize = 256;

/// A session that waits for the owner's word: on its user, or on where the conversation stands.
pub(super) struct Asking {
    pub(super) session: Arc<Session>,
    pub(super) from: From,
    /// The watch on the current stream that names it.
    pub(super) asked: Option<u64>,
    /// See [`Subscriber::again`].
    pub(super) again: Again,
    _guard: Option<Guard>,
}

impl Asking {
    pub(super) fn new(session: Arc<Session>, from: From, guard: Option<Guard>) -> Self {
        Self { session, from, asked: None, again: Again::default(), _guard: guard }
    }
}

/// A session that gets the events of the conversation.
pub(super) struct Subscriber {
    pub(super) session: Arc<Session>,
    pub(super) state: Delivering,
    /// When its user is in again. That news may come before the one that he was put out.
    pub(super) again: Again,
    /// While it was off, what it may have got behind this place was lost with a region.
    pub(super) back_to: Option<At>,
}

/// After which changes a user was taken in again; ascending.
#[derive(Default)]
pub(super) struct Again(Vec<u64>);

impl Again {
    pub(super) fn note(&mut self, ver: u64) {
        if let Err(at) = self.0.binary_search(&ver)
            && self.0.len() < AGAIN_MAX
        {
            self.0.insert(at, ver);
        }
    }

    /// He was put out by `ver`: after which change is he in again, if he is?
    pub(super) fn after(&mut self, ver: u64) -> Option<u64> {
        self.0.drain(..self.0.partition_point(|again| *again < ver));
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }
}

/// What a subscriber gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivering {
    /// Everything that comes.
    Live,
    /// What comes after this `ver`.
    After(u64),
    /// Nothing: it is being caught up.
    Off,
    /// Nothing any more: its user is out.
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_removal_is_followed_by_the_next_time_that_he_was_taken_in() {
        let mut again = Again::default();
        for ver in [29, 9, 19, 9] {
            again.note(ver);
        }
        assert_eq!(again.after(5), Some(9));
        assert_eq!(again.after(15), Some(19));
        assert_eq!(again.after(40), None, "what came before the removal does not count");
        assert_eq!(again.after(0), None);
    }
}
