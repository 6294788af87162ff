//! What was asked of the owner of one shard and is not answered: kept in order, as it was sent, so that it can be sent again
//! to the next owner.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use wire::command::{Actor, Answer, Query, Refusal, UserCommand};
use wire::stream::ToOwner;
use wire::version::Feature;
use wire::{ConversationId, ErrorCode};

/// Bytes of requests that one shard keeps. Full: `overloaded`.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// A request.
pub(crate) enum Ask {
    /// A command of a user.
    Command(Actor, UserCommand),
    /// A question of a user, or of the edge itself.
    Query(Option<Actor>, Query),
}

/// Takes the answer. It is called once, without any lock held, and must not block.
pub(crate) type Reply = Box<dyn FnOnce(Result<Answer, Refusal>) + Send>;

struct Entry {
    conversation: ConversationId,
    frame: Bytes,
    /// Of the owner.
    needs: Option<Feature>,
    deadline: Instant,
    /// None: answered, but something before it is not.
    to: Option<Reply>,
}

/// A request on its way to another queue.
pub(super) struct Request {
    conversation: ConversationId,
    frame: Bytes,
    /// Of the owner.
    needs: Option<Feature>,
    deadline: Instant,
    to: Reply,
}

/// The queue. Its requests have dense numbers; their request ids on the stream are even.
#[derive(Default)]
pub(crate) struct Pending {
    /// Number of the first entry.
    first: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// So many from the front were sent on the current stream.
    sent: usize,
}

impl Pending {
    /// Adds a request, or gives `to` back when there are too many.
    pub(crate) fn push(
        &mut self,
        conversation: ConversationId,
        ask: Ask,
        to: Reply,
        deadline: Instant,
        most: usize,
    ) -> Result<(), Reply> {
        if self.is_full(most) {
            return Err(to);
        }
        let rid = self.next_rid();
        let frame = match ask {
            Ask::Command(actor, command) => {
                ToOwner::Command { rid, actor, conversation, command: command.into() }
            }
            Ask::Query(actor, query) => ToOwner::Query { rid, actor, conversation, query },
        };
        let needs = frame.needs();
        self.push_frame(Request { conversation, frame: frame.to_bytes(), needs, deadline, to });
        Ok(())
    }

    /// Takes out, in order, what is asked of a conversation and not answered.
    pub(super) fn take(&mut self, conversation: &ConversationId) -> Vec<Request> {
        let mut taken = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.conversation == *conversation) {
            if let Some(to) = entry.to.take() {
                let frame = std::mem::take(&mut entry.frame);
                self.bytes -= frame.len();
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

    /// Adds what was taken out of another queue, or gives back who waits when there is too much.
    pub(super) fn push_again(&mut self, mut request: Request, most: usize) -> Result<(), Reply> {
        if self.is_full(most) {
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

    fn is_full(&self, most: usize) -> bool {
        self.entries.len() >= most || self.bytes >= BYTES_MAX
    }

    fn next_rid(&self) -> u64 {
        (self.first + self.entries.len() as u64) * 2
    }

    fn push_frame(&mut self, request: Request) {
        let Request { conversation, frame, needs, deadline, to } = request;
        self.bytes += frame.len();
        self.entries.push_back(Entry { conversation, frame, needs, deadline, to: Some(to) });
    }

    /// A new stream: everything is to be sent again.
    pub(crate) fn begin_stream(&mut self) {
        self.sent = 0;
    }

    /// The next frames to send, in order, at most so many.
    pub(crate) fn unsent(&mut self, most: usize) -> Vec<Bytes> {
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
    pub(crate) fn refused(
        &mut self,
        most: usize,
        lacks: impl Fn(Option<Feature>) -> Option<Feature>,
    ) -> Vec<(Reply, Feature)> {
        let mut refused = Vec::new();
        for entry in self.entries.iter_mut().skip(self.sent).take(most) {
            if let Some(feature) = lacks(entry.needs)
                && let Some(to) = entry.to.take()
            {
                self.bytes -= std::mem::take(&mut entry.frame).len();
                refused.push((to, feature));
            }
        }
        self.drop_answered();
        refused
    }

    /// Whether there is something to send.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.entries.len()
    }

    /// The request that this answers, if it is still waiting.
    pub(crate) fn answered(&mut self, rid: u64) -> Option<Reply> {
        let at = usize::try_from((rid / 2).checked_sub(self.first)?).ok()?;
        let entry = self.entries.get_mut(at)?;
        let to = entry.to.take();
        self.bytes -= std::mem::take(&mut entry.frame).len();
        self.drop_answered();
        to
    }

    /// Those whose time is over.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Reply> {
        let mut expired = Vec::new();
        while let Some(entry) = self.entries.front_mut().filter(|entry| entry.deadline <= now) {
            self.bytes -= std::mem::take(&mut entry.frame).len();
            expired.extend(entry.to.take());
            self.drop_answered();
        }
        expired
    }

    fn drop_answered(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.to.is_none()) {
            self.entries.pop_front();
            self.first += 1;
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// How many wait, about.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// For requests whose home did not answer in time.
pub(crate) fn unavailable() -> Refusal {
    let refusal = Refusal::new(
        ErrorCode::HomeUnavailable,
        "the home of the conversation does not answer; try again",
    );
    Refusal { retry_after_ms: Some(1_000), ..refusal }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use wire::version::Features;

    use super::*;

    fn conversation() -> ConversationId {
        let mut bytes = [0; 23];
        bytes[0] = 0x10;
        ConversationId::from_bytes(&bytes).unwrap()
    }

    fn push(pending: &mut Pending, now: Instant) -> oneshot::Receiver<Result<Answer, Refusal>> {
        let (sender, receiver) = oneshot::channel();
        let ask = Ask::Query(None, Query::Changes { after_ver: pending.len() as u64, limit: 1 });
        assert!(
            pending
                .push(conversation(), ask, Box::new(|result| drop(sender.send(result))), now, 4)
                .is_ok()
        );
        receiver
    }

    #[test]
    fn what_is_not_answered_is_sent_again_in_order_and_unchanged() {
        let mut pending = Pending::default();
        let now = Instant::now();
        let _receivers: Vec<_> = (0..4).map(|_| push(&mut pending, now)).collect();
        let first = pending.unsent(3);
        assert_eq!((first.len(), pending.unsent(3).len(), pending.has_unsent()), (3, 1, false));
        assert!(
            pending.answered(2).is_some()
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
        let (mut old, mut new) = (Pending::default(), Pending::default());
        let now = Instant::now();
        let _receivers: Vec<_> = (0..3).map(|_| push(&mut old, now)).collect();
        let _other = push(&mut new, now);
        old.unsent(9);
        assert!(old.answered(2).is_some());
        let taken = old.take(&conversation());
        assert_eq!((taken.len(), old.len(), old.bytes), (2, 0, 0));
        assert!(old.answered(4).is_none(), "what is answered there concerns nobody any more");
        for request in taken {
            assert!(new.push_again(request, 4).is_ok());
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
        let mut pending = Pending::default();
        let now = Instant::now();
        let _receivers: Vec<_> = (0..3).map(|_| push(&mut pending, now)).collect();
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
        let mut pending = Pending::default();
        let now = Instant::now();
        let _receivers: Vec<_> =
            (0..4).map(|n| push(&mut pending, now + Duration::from_secs(n))).collect();
        let (sender, _receiver) = oneshot::channel();
        let ask = Ask::Query(None, Query::Changes { after_ver: 9, limit: 1 });
        assert!(
            pending
                .push(conversation(), ask, Box::new(|result| drop(sender.send(result))), now, 4)
                .is_err()
        );
        assert_eq!(pending.expired(now + Duration::from_secs(1)).len(), 2);
        assert_eq!(pending.len(), 2);
        pending.answered(4);
        pending.answered(6);
        assert_eq!((pending.len(), pending.bytes), (0, 0));
    }
}
