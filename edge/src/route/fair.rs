//! What waits to be sent to one shard, fair to those who ask: deficit round robin over tenants, and
//! in each over its users. Pure.
//!
//! In each round a tenant may have [`QUANTUM_BYTES`] sent, and in it a user as much. So whoever asks
//! for much waits behind themselves. When the queue is full, the last request of the user with the
//! most bytes in the tenant with the most bytes is taken out, which may be the new one.

use std::collections::{BTreeMap, VecDeque};

use wire::{TenantId, UserId};

/// What a tenant, and a user in it, may have sent in one round.
const QUANTUM_BYTES: usize = 16 * 1024;

/// Who asks. None: the edge itself, as one user of one tenant.
pub(super) type Asker = Option<(TenantId, UserId)>;

/// The queue.
pub(super) struct FairQueue<T> {
    tenants: Ring<Option<TenantId>, Ring<Option<UserId>, Line<T>>>,
    len: usize,
    len_max: usize,
    bytes_max: usize,
}

impl<T> FairQueue<T> {
    /// For so many items, and so many bytes of them.
    pub(super) fn new(len_max: usize, bytes_max: usize) -> Self {
        Self { tenants: Ring::default(), len: 0, len_max, bytes_max }
    }

    /// Adds an item of so many bytes. Returns the one that there is no room for, if there is one.
    #[must_use]
    pub(super) fn push(&mut self, asker: Asker, item: T, bytes: usize) -> Option<T> {
        let (tenant, user) = asker.unzip();
        // A queue without bytes counts as empty.
        let bytes = bytes.max(1);
        let users = self.tenants.at(tenant);
        users.at(user).push(item, bytes);
        users.bytes += bytes;
        self.tenants.bytes += bytes;
        self.len += 1;
        let is_over = self.len > self.len_max || self.tenants.bytes() > self.bytes_max;
        // The bytes may be passed by one item: it would not fit otherwise.
        if is_over && self.len > 1 { self.take_last_of_most() } else { None }
    }

    /// The next item in fair order.
    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.tenants.pop();
        self.len -= usize::from(item.is_some());
        item
    }

    /// Takes out the items that are chosen; those of one user in their order.
    pub(super) fn take_out(&mut self, mut is_chosen: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for users in self.tenants.queues.values_mut() {
            for line in users.0.queues.values_mut() {
                line.0.take_out(&mut is_chosen, &mut taken);
            }
            users.0.drop_empty();
        }
        self.tenants.drop_empty();
        self.len -= taken.len();
        taken
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn take_last_of_most(&mut self) -> Option<T> {
        let users = &mut self.tenants.with_most()?.0;
        let item = users.with_most()?.0.pop_last();
        users.drop_empty();
        self.tenants.drop_empty();
        self.len -= usize::from(item.is_some());
        item
    }
}

/// Something that a round robin can go over.
trait Queue {
    type Item;
    /// The bytes of its next item.
    fn head(&mut self) -> Option<usize>;
    fn pop(&mut self) -> Option<Self::Item>;
    /// All its bytes.
    fn bytes(&self) -> usize;
}

/// The items of one user, in order.
struct Line<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Line<T> {
    fn push(&mut self, item: T, bytes: usize) {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
    }

    fn pop_last(&mut self) -> Option<T> {
        let (item, bytes) = self.items.pop_back()?;
        self.bytes -= bytes;
        Some(item)
    }

    fn take_out(&mut self, is_chosen: &mut impl FnMut(&T) -> bool, taken: &mut Vec<T>) {
        for (item, bytes) in std::mem::take(&mut self.items) {
            if is_chosen(&item) {
                self.bytes -= bytes;
                taken.push(item);
            } else {
                self.items.push_back((item, bytes));
            }
        }
    }
}

impl<T> Queue for Line<T> {
    type Item = T;

    fn head(&mut self) -> Option<usize> {
        self.items.front().map(|(_, bytes)| *bytes)
    }

    fn pop(&mut self) -> Option<T> {
        let (item, bytes) = self.items.pop_front()?;
        self.bytes -= bytes;
        Some(item)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Deficit round robin over queues. Each has its queue and the bytes that it may still have sent in
/// this round.
struct Ring<K, Q> {
    queues: BTreeMap<K, (Q, usize)>,
    /// Those that are not empty, in the order of their turns.
    turns: VecDeque<K>,
    bytes: usize,
}

impl<K, Q> Default for Ring<K, Q> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), turns: VecDeque::new(), bytes: 0 }
    }
}

impl<K: Ord + Clone, Q: Queue + Default> Ring<K, Q> {
    /// The queue of a key; made, and last in turn, when there is none. Something must be put in.
    fn at(&mut self, key: K) -> &mut Q {
        if !self.queues.contains_key(&key) {
            self.turns.push_back(key.clone());
        }
        &mut self.queues.entry(key).or_default().0
    }

    fn with_most(&mut self) -> Option<&mut (Q, usize)> {
        self.queues.values_mut().max_by_key(|(queue, _)| queue.bytes())
    }

    fn drop_empty(&mut self) {
        self.queues.retain(|_, (queue, _)| queue.bytes() > 0);
        let Self { queues, turns, .. } = self;
        turns.retain(|key| queues.contains_key(key));
        self.recount();
    }

    fn recount(&mut self) {
        self.bytes = self.queues.values().map(|(queue, _)| queue.bytes()).sum();
    }
}

impl<K: Ord + Clone, Q: Queue + Default> Queue for Ring<K, Q> {
    type Item = Q::Item;

    fn head(&mut self) -> Option<usize> {
        loop {
            let (queue, allowance) = self.queues.get_mut(self.turns.front()?)?;
            let bytes = queue.head()?;
            if bytes <= *allowance {
                return Some(bytes);
            }
            *allowance += QUANTUM_BYTES;
            self.turns.rotate_left(1);
        }
    }

    fn pop(&mut self) -> Option<Q::Item> {
        let bytes = self.head()?;
        let key = self.turns.front()?.clone();
        let (queue, allowance) = self.queues.get_mut(&key)?;
        *allowance -= bytes;
        let item = queue.pop();
        self.bytes -= bytes;
        if queue.bytes() == 0 {
            self.queues.remove(&key);
            self.turns.pop_front();
        }
        item
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asker(tenant: u8, user: u8) -> Asker {
        let tenant = TenantId::new(format!("t{tenant}")).unwrap();
        Some((tenant, UserId::new(format!("u{user}")).unwrap()))
    }

    #[test]
    fn one_who_asks_for_much_waits_behind_themselves() {
        let mut queue = FairQueue::new(1_000, usize::MAX);
        for n in 0..500 {
            assert!(queue.push(asker(1, 1), (1, n), 16 * 1024).is_none());
        }
        for user in 2..10 {
            assert!(queue.push(asker(1, user), (user, 0), 100).is_none());
        }
        assert!(queue.push(asker(2, 1), (100, 0), 100).is_none());
        let first: Vec<u8> = (0..20).filter_map(|_| queue.pop()).map(|(user, _)| user).collect();
        for user in (2..10).chain([100]) {
            assert!(first.contains(&user), "{user} is not among the first: {first:?}");
        }
    }

    #[test]
    fn a_full_queue_takes_from_the_one_who_has_most() {
        let mut queue = FairQueue::new(10, usize::MAX);
        for n in 0..10 {
            assert!(queue.push(asker(1, 1), (1, n), 1_000).is_none());
        }
        assert_eq!(queue.push(asker(1, 1), (1, 10), 1_000), Some((1, 10)), "their own newest");
        assert_eq!(queue.push(asker(1, 2), (2, 0), 10), Some((1, 9)));
        assert_eq!(queue.push(None, (0, 0), 10), Some((1, 8)));
        assert_eq!(queue.len(), 10);
    }

    proptest! {
        /// Whatever is pushed and taken, every item comes out once, those of a user in order, and
        /// the counts are right.
        #[test]
        fn nothing_is_lost_and_a_users_order_stays(
            steps in prop::collection::vec((0..3u8, 0..4u8, 1..40_000usize, any::<bool>()), 1..300),
        ) {
            let mut queue = FairQueue::new(50, 400_000);
            let (mut out, mut refused) = (Vec::new(), Vec::new());
            for (n, (tenant, user, bytes, pops)) in steps.iter().enumerate() {
                refused.extend(queue.push(asker(*tenant, *user), (*tenant, *user, n), *bytes));
                if *pops {
                    out.extend(queue.pop());
                }
                prop_assert!(queue.len() <= 50);
            }
            out.extend(queue.take_out(|(tenant, ..)| *tenant == 1));
            let (len, mut rest) = (queue.len(), 0);
            while let Some(item) = queue.pop() {
                out.push(item);
                rest += 1;
            }
            prop_assert_eq!((len, queue.len(), queue.tenants.bytes()), (rest, 0, 0));
            for tenant in 0..3 {
                for user in 0..4 {
                    let of = |item: &&(u8, u8, usize)| (item.0, item.1) == (tenant, user);
                    let order: Vec<usize> = out.iter().filter(of).map(|item| item.2).collect();
                    prop_assert!(order.is_sorted(), "{:?}", order);
                }
            }
            let mut all: Vec<usize> = out.iter().chain(&refused).map(|item| item.2).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..steps.len()).collect::<Vec<_>>());
        }
    }
}
