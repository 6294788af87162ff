//! Requests to one shard that have no answer yet: in order, as they were sent, so that they can be
//! sent again to the next owner. Pure: no stream, no clock.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use wire::ConversationId;
use wire::stream::ToOwner;
use wire::version::Feature;

/// Entries that a queue may have for each of its requests: most of them answered, behind one that
/// is not.
const ANSWERED_FACTOR: usize = 16;

/// A request without an answer. `T` takes the answer.
struct Entry<T> {
    conversation: ConversationId,
    frame: Bytes,
    /// Of the owner.
    needs: Option<Feature>,
    /// None: it waits for as long as it takes.
    deadline: Option<Instant>,
    /// None: answered, but something before it is not.
    to: Option<T>,
}

/// A request outside of a queue: it waits to get in, or goes from one to another.
pub struct Request<T> {
    conversation: ConversationId,
    frame: Bytes,
    needs: Option<Feature>,
    deadline: Option<Instant>,
    to: T,
}

impl<T> Request<T> {
    /// A request that has no number yet: its frame is made anew when it gets one.
    #[must_use]
    pub fn new(
        conversation: ConversationId,
        frame: &ToOwner,
        to: T,
        deadline: Option<Instant>,
    ) -> Self {
        Self { conversation, frame: frame.to_bytes(), needs: frame.needs(), deadline, to }
    }

    /// Where.
    #[must_use]
    pub fn conversation(&self) -> &ConversationId {
        &self.conversation
    }

    /// The bytes of its frame.
    #[must_use]
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|until| until <= now)
    }

    /// The one who takes the answer.
    #[must_use]
    pub fn into_taker(self) -> T {
        self.to
    }
}

/// The queue. Its requests have dense numbers; their request ids on the stream are even. Its user
/// may give odd ids to frames of its own.
pub struct Pending<T> {
    /// Number of the first entry.
    first: u64,
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    /// Entries without an answer.
    open: usize,
    /// So many from the front were sent on the current stream.
    sent: usize,
    requests_max: usize,
    bytes_max: usize,
}

impl<T> Pending<T> {
    /// For so many requests, and so many bytes of them; the last one taken may pass the bytes.
    #[must_use]
    pub fn new(requests_max: usize, bytes_max: usize) -> Self {
        let entries = VecDeque::new();
        Self { first: 0, entries, bytes: 0, open: 0, sent: 0, requests_max, bytes_max }
    }

    /// Adds a request, whose frame is made for its id.
    ///
    /// # Errors
    /// The queue is full. `to` comes back.
    pub fn push(
        &mut self,
        conversation: ConversationId,
        frame: impl FnOnce(u64) -> ToOwner,
        to: T,
        deadline: Option<Instant>,
    ) -> Result<(), T> {
        if self.is_full() {
            return Err(to);
        }
        let frame = frame(self.next_rid());
        let needs = frame.needs();
        self.push_frame(Request { conversation, frame: frame.to_bytes(), needs, deadline, to });
        Ok(())
    }

    /// Takes out, in order, what is asked of a conversation and not answered.
    #[must_use]
    pub fn take(&mut self, conversation: &ConversationId) -> Vec<Request<T>> {
        let mut taken = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.conversation == *conversation) {
            if let Some(to) = entry.to.take() {
                let frame = std::mem::take(&mut entry.frame);
                self.bytes -= frame.len();
                self.open -= 1;
                taken.push(Request {
                    conversation: *conversation,
                    frame,
                    needs: entry.needs,
                    deadline: entry.deadline,
                    to,
                });
            }
        }
        self.drop_answered();
        taken
    }

    /// Adds a request that was taken out of another queue.
    ///
    /// # Errors
    /// The queue is full. The one who takes the answer comes back.
    pub fn push_again(&mut self, mut request: Request<T>) -> Result<(), T> {
        if self.is_full() {
            return Err(request.to);
        }
        let rid = self.next_rid();
        let frame = match ToOwner::from_bytes(&request.frame) {
            Ok(ToOwner::Command { actor, conversation, command, .. }) => {
                ToOwner::Command { rid, actor, conversation, command }
            }
            Ok(ToOwner::Query { actor, conversation, query, .. }) => {
                ToOwner::Query { rid, actor, conversation, query }
            }
            // Only these are ever put in.
            Ok(_) | Err(_) => return Err(request.to),
        };
        request.frame = frame.to_bytes();
        self.push_frame(request);
        Ok(())
    }

    /// Whether it takes no more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        // An answered request behind one that is not costs little, but not nothing.
        let is_long = self.entries.len() >= self.requests_max.saturating_mul(ANSWERED_FACTOR);
        self.open >= self.requests_max || self.bytes >= self.bytes_max || is_long
    }

    fn next_rid(&self) -> u64 {
        (self.first + self.entries.len() as u64) * 2
    }

    fn push_frame(&mut self, request: Request<T>) {
        let Request { conversation, frame, needs, deadline, to } = request;
        self.bytes += frame.len();
        self.open += 1;
        self.entries.push_back(Entry { conversation, frame, needs, deadline, to: Some(to) });
    }

    /// A new stream: everything is to be sent again.
    pub fn begin_stream(&mut self) {
        self.sent = 0;
    }

    /// The next frames to send, in order, at most so many.
    pub fn unsent(&mut self, most: usize) -> Vec<Bytes> {
        let unsent: Vec<Bytes> = self
            .entries
            .iter()
            .skip(self.sent)
            .take(most)
            .filter(|entry| entry.to.is_some())
            .map(|entry| entry.frame.clone())
            .collect();
        self.sent = self.entries.len().min(self.sent + most);
        unsent
    }

    /// Takes out, of the next requests to send, those for which the owner lacks a feature.
    pub fn refused(
        &mut self,
        most: usize,
        lacks: impl Fn(Option<Feature>) -> Option<Feature>,
    ) -> Vec<(T, Feature)> {
        let mut refused = Vec::new();
        for entry in self.entries.iter_mut().skip(self.sent).take(most) {
            if let Some(feature) = lacks(entry.needs)
                && let Some(to) = entry.to.take()
            {
                self.bytes -= std::mem::take(&mut entry.frame).len();
                self.open -= 1;
                refused.push((to, feature));
            }
        }
        self.drop_answered();
        refused
    }

    /// Whether there is something to send.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.sent < self.entries.len()
    }

    /// Whether a request with this id waits for its answer.
    #[must_use]
    pub fn waits_for(&self, rid: u64) -> bool {
        let entry = self.index(rid).and_then(|index| self.entries.get(index));
        entry.is_some_and(|entry| entry.to.is_some())
    }

    fn index(&self, rid: u64) -> Option<usize> {
        usize::try_from((rid / 2).checked_sub(self.first)?).ok()
    }

    /// Takes out the request that this answers, if it is still waiting.
    pub fn answered(&mut self, rid: u64) -> Option<T> {
        let index = self.index(rid)?;
        let entry = self.entries.get_mut(index)?;
        let to = entry.to.take();
        self.open -= usize::from(to.is_some());
        self.bytes -= std::mem::take(&mut entry.frame).len();
        self.drop_answered();
        to
    }

    /// Takes out those whose time is over.
    #[must_use]
    pub fn expired(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        for entry in &mut self.entries {
            if entry.deadline.is_some_and(|until| until <= now)
                && let Some(to) = entry.to.take()
            {
                self.bytes -= std::mem::take(&mut entry.frame).len();
                self.open -= 1;
                expired.push(to);
            }
        }
        self.drop_answered();
        expired
    }

    fn drop_answered(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.to.is_none()) {
            self.entries.pop_front();
            self.first += 1;
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// How many wait, about: the answered ones behind the oldest are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::command::Query;
    use wire::version::Features;

    use super::*;

    fn conversation() -> ConversationId {
        let mut bytes = [0; 23];
        bytes[0] = 0x10;
        ConversationId::from_bytes(&bytes).unwrap()
    }

    fn queue() -> Pending<u64> {
        Pending::new(4, 1_000)
    }

    /// Asks for something that only this request asks for; its number takes the answer.
    fn push(pending: &mut Pending<u64>, until: Option<Instant>) -> Result<(), u64> {
        let n = pending.len() as u64;
        let query = Query::Changes { after_ver: n, limit: 1 };
        let frame = |rid| ToOwner::Query { rid, actor: None, conversation: conversation(), query };
        pending.push(conversation(), frame, n, until)
    }

    fn with(requests: u64) -> Pending<u64> {
        let mut pending = queue();
        (0..requests).for_each(|_| push(&mut pending, None).unwrap());
        pending
    }

    #[test]
    fn what_is_not_answered_is_sent_again_in_order_and_unchanged() {
        let mut pending = with(4);
        let first = pending.unsent(3);
        assert_eq!((first.len(), pending.unsent(3).len(), pending.has_unsent()), (3, 1, false));
        assert!(
            pending.waits_for(2)
                && pending.answered(2) == Some(1)
                && !pending.waits_for(2)
                && pending.answered(2).is_none()
                && pending.answered(99).is_none()
        );
        pending.begin_stream();
        assert_eq!(pending.unsent(2), vec![first[0].clone()], "the second is answered");
        assert_eq!(pending.unsent(9)[0], first[2]);
        assert!(pending.answered(0).is_some());
        assert_eq!((pending.len(), pending.first), (2, 2));
    }

    #[test]
    fn what_is_asked_of_one_conversation_goes_to_another_queue_in_order_under_new_numbers() {
        let (mut old, mut new) = (with(3), with(1));
        old.unsent(9);
        assert!(old.answered(2).is_some());
        let taken = old.take(&conversation());
        assert_eq!((taken.len(), old.len(), old.bytes), (2, 0, 0));
        assert!(old.answered(4).is_none(), "what is answered there concerns nobody any more");
        for request in taken {
            assert!(new.push_again(request).is_ok());
        }
        let asked = |frame: &Bytes| match ToOwner::from_bytes(frame) {
            Ok(ToOwner::Query { rid, query: Query::Changes { after_ver, .. }, .. }) => {
                (rid, after_ver)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(new.unsent(9).iter().map(asked).collect::<Vec<_>>(), [(0, 0), (2, 0), (4, 2)]);
    }

    #[test]
    fn what_the_owner_is_too_old_for_is_refused_and_the_rest_is_sent() {
        let mut pending = with(3);
        pending.entries[1].needs = Some(Feature::Moves);
        let older = Features::default();
        let refused = pending.refused(9, |needs| older.lack(needs));
        assert_eq!(refused.iter().map(|(_, feature)| *feature).collect::<Vec<_>>(), Feature::ALL);
        assert_eq!(pending.unsent(9).len(), 2);
        assert!(pending.answered(2).is_none() && pending.answered(4).is_some());
        assert!(pending.refused(9, |needs| Features::all().lack(needs)).is_empty());
    }

    #[test]
    fn it_is_bounded_and_forgets_what_is_too_late() {
        let mut pending = queue();
        let now = Instant::now();
        for n in 0..4 {
            push(&mut pending, Some(now + Duration::from_secs(n))).unwrap();
        }
        assert!(pending.is_full());
        assert_eq!(push(&mut pending, None), Err(4));
        assert_eq!(pending.expired(now + Duration::from_secs(1)), [0, 1]);
        assert_eq!(pending.len(), 2);
        pending.answered(4);
        pending.answered(6);
        assert!(pending.is_empty());
        assert_eq!(pending.bytes, 0);
        push(&mut pending, None).unwrap();
        let year = Duration::from_secs(31_536_000);
        assert!(pending.expired(now + year).is_empty(), "no deadline");
        let mut narrow = Pending::new(100, 1);
        push(&mut narrow, None).unwrap();
        assert_eq!(push(&mut narrow, None), Err(1), "too many bytes");
    }
}
