//! The requests of one conversation at its owner: strictly in order, the later ones behind the one
//! that has to wait. What is read from the store for a waiting request finds it by its ticket.

use std::collections::VecDeque;

/// Requests that wait, oldest first.
#[derive(Clone, Debug)]
pub struct RequestQueue<T> {
    waiting: VecDeque<T>,
    /// Ticket of the first one: one more for each that left.
    head_ticket: u64,
    /// It stands in the owner's list of queues to look at.
    is_listed: bool,
}

impl<T> RequestQueue<T> {
    /// `incarnation` tells it from other queues of the same conversation, earlier or later: no two
    /// of them share a ticket.
    #[must_use]
    pub fn new(incarnation: u32) -> Self {
        Self {
            waiting: VecDeque::new(),
            head_ticket: u64::from(incarnation) << 32,
            is_listed: false,
        }
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The ticket of the first one, or of the next if none waits.
    #[must_use]
    pub fn head_ticket(&self) -> u64 {
        self.head_ticket
    }

    /// The tickets of all that wait.
    #[must_use]
    pub fn tickets(&self) -> std::ops::Range<u64> {
        self.head_ticket..self.head_ticket + self.waiting.len() as u64
    }

    /// The request with this ticket, if it still waits.
    pub fn get_mut(&mut self, ticket: u64) -> Option<&mut T> {
        let index = usize::try_from(ticket.checked_sub(self.head_ticket)?).ok()?;
        self.waiting.get_mut(index)
    }

    /// A request came: served at once if none waits, else put last. `serve` hands it back if it has
    /// to wait. Returns whether it waits.
    pub fn arrive(&mut self, request: T, serve: Option<impl FnOnce(T) -> Result<(), T>>) -> bool {
        let request = match serve {
            Some(serve) if self.waiting.is_empty() => match serve(request) {
                Ok(()) => {
                    self.head_ticket += 1;
                    return false;
                }
                Err(request) => request,
            },
            Some(_) | None => request,
        };
        self.waiting.push_back(request);
        true
    }

    /// Serves the first one. Returns whether it left; if not, it stays first.
    pub fn serve_first(&mut self, serve: impl FnOnce(T) -> Result<(), T>) -> bool {
        let Some(request) = self.waiting.pop_front() else { return false };
        match serve(request) {
            Ok(()) => {
                self.head_ticket += 1;
                true
            }
            Err(request) => {
                self.waiting.push_front(request);
                false
            }
        }
    }

    /// Takes the requests of an earlier queue of the same conversation.
    pub fn adopt(&mut self, earlier: Self, renew: impl FnMut(T) -> T) {
        self.waiting = earlier.waiting.into_iter().map(renew).collect();
    }

    /// Takes all requests out.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.waiting).into_iter()
    }

    /// Whether to put it into the list of queues to look at: somebody waits, and it is not there.
    pub fn list(&mut self) -> bool {
        let list = !self.is_listed && !self.waiting.is_empty();
        self.is_listed |= list;
        list
    }

    /// It was taken from the list.
    pub fn unlist(&mut self) {
        self.is_listed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Served = fn(u8) -> Result<(), u8>;

    #[test]
    fn a_request_is_served_at_once_only_when_none_waits() {
        let mut queue = RequestQueue::new(0);
        assert!(!queue.arrive(1, Some(|_| Ok(()))));
        assert!(queue.arrive(2, Some(Err)));
        assert!(queue.arrive(3, Some(|_| -> Result<(), u8> { unreachable!("2 is first") })));
        assert!(queue.arrive(4, None::<Served>));
        assert_eq!(queue.tickets(), 1..4);
        assert!(!queue.serve_first(Err));
        let mut order = Vec::new();
        while queue.serve_first(|request| {
            order.push(request);
            Ok(())
        }) {}
        assert_eq!(order, [2, 3, 4]);
        assert_eq!(queue.head_ticket(), 4);
    }

    #[test]
    fn a_ticket_finds_its_request_or_nothing() {
        let mut queue = RequestQueue::new(0);
        queue.arrive('a', None::<fn(char) -> Result<(), char>>);
        queue.arrive('b', None::<fn(char) -> Result<(), char>>);
        assert_eq!(queue.get_mut(1), Some(&mut 'b'));
        queue.serve_first(|_| Ok(()));
        assert_eq!(queue.get_mut(0), None, "served");
        let mut later = RequestQueue::new(1);
        later.adopt(queue, |request| request);
        assert_eq!(later.len(), 1);
        assert_eq!(later.get_mut(1), None, "a ticket of the earlier queue");
    }

    #[test]
    fn a_queue_is_listed_once_and_only_while_somebody_waits() {
        let mut queue = RequestQueue::new(0);
        assert!(!queue.list());
        queue.arrive(1, None::<Served>);
        assert!(queue.list());
        assert!(!queue.list());
        queue.unlist();
        assert!(queue.list());
    }
}
