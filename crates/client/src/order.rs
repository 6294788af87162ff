//! The order of one conversation's messages: duplicates dropped, holes asked for, nothing delivered
//! past a hole; what a lost region took with it delivered anew. Pure.

use std::collections::BTreeMap;

use wire::Durability;

/// Most messages that are held past a hole. Further ones are dropped: the repair brings them too.
const HELD_MAX: usize = 1_024;

/// Where the delivery of one conversation stands. `M` is a message.
///
/// Of class `region` what was delivered may be lost with its region: then other messages get those
/// numbers, under a higher epoch. They are delivered in its place. While live that shows by itself;
/// a new session looks whether the last message is still the one it knows, and if not, further
/// back.
#[derive(Debug)]
pub(crate) struct MessageOrder<M> {
    /// Delivered up to here; none until the first message says where live delivery starts.
    last: Option<u64>,
    /// Of that message, and of the one before it; none: not known.
    epoch: Option<u64>,
    epoch_before: Option<u64>,
    may_fork: bool,
    /// Whether the message after this one is still the one that was delivered is asked. Nothing
    /// else counts before that.
    checked_after: Option<u64>,
    /// With their epochs.
    held: BTreeMap<u64, (u64, M)>,
    repair: Repair,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    /// No hole is known.
    Whole,
    /// The hole is known; nobody was asked yet.
    Wanted,
    /// An edge was asked and has not answered.
    Asked,
}

impl<M> MessageOrder<M> {
    /// Delivery goes on after `last`; none: with the first message that comes.
    pub(crate) fn new(class: Durability, last: Option<u64>) -> Self {
        Self {
            last,
            epoch: None,
            epoch_before: None,
            may_fork: class == Durability::Region,
            checked_after: None,
            held: BTreeMap::new(),
            repair: Repair::Whole,
        }
    }

    /// The last seq delivered.
    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }

    /// Takes a message as it came. Afterwards [`MessageOrder::pop`] gives what may be delivered.
    pub(crate) fn take(&mut self, seq: u64, epoch: u64, message: M) {
        let mut last = *self.last.get_or_insert(seq.saturating_sub(1));
        let is_newer = self.epoch.is_some_and(|known| epoch > known);
        if let Some(after) = self.checked_after {
            if seq != after + 1 {
                return;
            }
            if is_newer && after > 0 {
                self.check_after(after / 2);
                return;
            }
            self.checked_after = None;
        }
        if seq <= last {
            if !(is_newer && self.may_fork) {
                return;
            }
            last = seq - 1;
            self.last = Some(last);
            self.held.clear();
        }
        if seq > last + 1 && self.repair == Repair::Whole && !self.is_bridged(last, seq) {
            self.repair = Repair::Wanted;
        }
        if self.held.len() < HELD_MAX || seq == last + 1 {
            self.held.entry(seq).or_insert((epoch, message));
        }
    }

    /// Whether everything between is held and only waits to be popped.
    fn is_bridged(&self, last: u64, seq: u64) -> bool {
        self.held.range(last + 1..seq).count() as u64 == seq - last - 1
    }

    /// The next message in order, if it is here. The caller delivers it, or gives it back with
    /// [`MessageOrder::put_back`].
    pub(crate) fn pop(&mut self) -> Option<(u64, M)> {
        let next = self.last? + 1;
        let (epoch, message) = self.held.remove(&next)?;
        self.last = Some(next);
        self.epoch_before = self.epoch.replace(epoch);
        Some((next, message))
    }

    /// There was no room for the message just popped: forget it and what is behind it, and ask
    /// again later.
    pub(crate) fn put_back(&mut self, seq: u64) {
        self.last = Some(seq - 1);
        self.epoch = self.epoch_before;
        self.held.clear();
        self.repair = Repair::Wanted;
    }

    /// After which seq to ask, if someone should be asked now; it counts as asked.
    pub(crate) fn ask(&mut self) -> Option<u64> {
        (self.repair == Repair::Wanted).then(|| {
            self.repair = Repair::Asked;
            self.checked_after.or(self.last).unwrap_or(0)
        })
    }

    /// Whether [`MessageOrder::ask`] would ask.
    pub(crate) fn wants(&self) -> bool {
        self.repair == Repair::Wanted
    }

    /// The answer is complete; the head of the conversation is `head`, if the edge said. A hole
    /// that is still there is asked for again.
    pub(crate) fn answered(&mut self, head: Option<u64>) {
        if let (Some(after), Some(head)) = (self.checked_after, head)
            && head <= after
        {
            self.check_after(head.saturating_sub(1));
            if head == 0 {
                (self.last, self.epoch, self.checked_after) = (Some(0), None, None);
            }
        }
        let short = head.is_some_and(|head| self.last.is_some_and(|last| last < head));
        let open = short || !self.held.is_empty() || self.checked_after.is_some();
        self.repair = if open { Repair::Wanted } else { Repair::Whole };
    }

    /// The edge could not answer: ask (the next one) again.
    pub(crate) fn unanswered(&mut self) {
        self.repair = Repair::Wanted;
    }

    /// The edge is gone: the next one is asked for what was missed, and whether what was delivered
    /// still counts.
    pub(crate) fn begin_session(&mut self) {
        self.repair = Repair::Wanted;
        if let Some(last) =
            self.last.filter(|last| *last > 0 && self.may_fork && self.epoch.is_some())
        {
            self.check_after(last - 1);
        }
    }

    fn check_after(&mut self, after: u64) {
        self.checked_after = Some(after);
        self.held.clear();
        self.repair = Repair::Wanted;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(order: &mut MessageOrder<u64>) -> Vec<u64> {
        std::iter::from_fn(|| order.pop()).map(|(seq, _)| seq).collect()
    }

    fn take(order: &mut MessageOrder<u64>, seqs: &[u64]) -> Vec<u64> {
        seqs.iter()
            .flat_map(|&seq| {
                order.take(seq, 1, seq);
                drain(order)
            })
            .collect()
    }

    #[test]
    fn the_first_live_message_says_where_delivery_starts() {
        let mut order = MessageOrder::new(Durability::MultiRegion, None);
        assert_eq!(take(&mut order, &[7, 8, 7, 6, 9]), [7, 8, 9]);
        assert!(!order.wants());
    }

    #[test]
    fn nothing_is_delivered_past_a_hole_until_it_is_repaired() {
        let mut order = MessageOrder::new(Durability::MultiRegion, Some(2));
        assert_eq!(take(&mut order, &[3, 6, 7]), [3]);
        assert_eq!((order.ask(), order.ask()), (Some(3), None), "asked once");
        assert_eq!(take(&mut order, &[4, 5, 6]), [4, 5, 6, 7]);
        order.answered(Some(7));
        assert!(!order.wants());
    }

    #[test]
    fn a_short_answer_is_asked_for_again() {
        let mut order = MessageOrder::new(Durability::MultiRegion, Some(0));
        take(&mut order, &[3]);
        assert_eq!(order.ask(), Some(0));
        take(&mut order, &[1]);
        order.answered(None);
        assert_eq!(order.ask(), Some(1), "3 is still held");
        take(&mut order, &[2]);
        order.answered(Some(4));
        assert_eq!(order.ask(), Some(3), "the edge knows of 4");
        order.unanswered();
        assert!(order.wants());
    }

    #[test]
    fn what_found_no_room_is_asked_for_again() {
        let mut order = MessageOrder::new(Durability::MultiRegion, Some(0));
        order.take(1, 1, 1);
        order.take(2, 1, 2);
        assert_eq!(order.pop(), Some((1, 1)));
        let (seq, _) = order.pop().unwrap();
        order.put_back(seq);
        assert_eq!((order.last(), order.ask()), (Some(1), Some(1)));
        assert_eq!(take(&mut order, &[2, 3]), [2, 3]);
    }

    /// Of class `region`, with this history, an epoch for each message, delivered live.
    fn delivered(epochs: &[u64]) -> MessageOrder<u64> {
        let mut order = MessageOrder::new(Durability::Region, Some(0));
        for (seq, epoch) in (1..).zip(epochs) {
            order.take(seq, *epoch, seq);
            assert_eq!(drain(&mut order), [seq]);
        }
        order
    }

    /// What a new session delivers of the conversation as it is now.
    fn caught_up(order: &mut MessageOrder<u64>, epochs: &[u64]) -> Vec<u64> {
        let head = epochs.len() as u64;
        let mut delivered = Vec::new();
        order.begin_session();
        while let Some(after) = order.ask() {
            for (seq, epoch) in (1..).zip(epochs).skip(usize::try_from(after).unwrap()) {
                order.take(seq, *epoch, seq);
                delivered.extend(drain(order));
            }
            order.answered(Some(head));
        }
        delivered
    }

    #[test]
    fn a_newer_history_is_delivered_in_place_of_the_one_that_was_lost() {
        let mut order = delivered(&[1, 1, 1, 1]);
        order.take(3, 1, 3);
        assert_eq!(drain(&mut order), [] as [u64; 0]);
        for seq in 3..=5 {
            order.take(seq, 2, seq);
            assert_eq!(drain(&mut order), [seq]);
        }
    }

    #[test]
    fn a_new_session_finds_out_what_was_lost() {
        assert_eq!(caught_up(&mut delivered(&[1, 1, 2]), &[1, 1, 2, 2, 3]), [4, 5], "nothing");
        assert_eq!(
            caught_up(&mut delivered(&[1; 40]), &[1; 40]),
            [] as [u64; 0],
            "nothing, and nothing new"
        );
        let now = [vec![1; 9], vec![2; 41]].concat();
        assert_eq!(caught_up(&mut delivered(&[1; 40]), &now), (10..=50).collect::<Vec<_>>());
        assert_eq!(
            caught_up(&mut delivered(&[1; 40]), &now[..12]),
            [10, 11, 12],
            "though it is shorter now"
        );
        assert_eq!(
            caught_up(&mut delivered(&[1; 40]), &now[..9]),
            [] as [u64; 0],
            "or ends where they part"
        );
        assert_eq!(caught_up(&mut delivered(&[1; 3]), &[2, 2, 2, 2]), [1, 2, 3, 4], "all of it");
        assert_eq!(
            caught_up(&mut delivered(&[1; 3]), &[]),
            [] as [u64; 0],
            "and nothing is there instead"
        );
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut order = MessageOrder::new(Durability::MultiRegion, Some(0));
        for seq in 2..10_000 {
            order.take(seq, 1, seq);
        }
        assert_eq!(order.held.len(), HELD_MAX);
        assert_eq!(take(&mut order, &[1]).len(), HELD_MAX + 1);
        order.answered(Some(9_999));
        assert!(order.wants(), "the rest is asked for");
    }

    proptest! {
        /// Live messages may be lost, doubled and disordered; whoever is asked answers from the
        /// history, or not at all.
        #[test]
        fn whatever_the_edge_does_everything_is_delivered_once_in_order(
            head in 1..60u64,
            live in proptest::collection::vec(1..60u64, 0..120),
            fails in proptest::collection::vec(any::<bool>(), 8),
        ) {
            let mut order = MessageOrder::new(Durability::MultiRegion, Some(0));
            let mut delivered = take(&mut order, &live.into_iter().map(|seq| seq.min(head)).collect::<Vec<_>>());
            // A new session asks for everything; every answer may fail a few times.
            order.unanswered();
            for fails in fails.into_iter().chain([false; 2]) {
                let Some(after) = order.ask() else { break };
                if fails {
                    order.unanswered();
                    continue;
                }
                delivered.extend(take(&mut order, &(after + 1..=head).collect::<Vec<_>>()));
                order.answered(Some(head));
            }
            prop_assert_eq!(delivered, (1..=head).collect::<Vec<_>>());
            prop_assert!(!order.wants());
        }
    }
}
