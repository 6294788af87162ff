//! What is not yet acknowledged, in order, per conversation. Pure: `now` is passed in.
//!
//! An entry stays until it is acknowledged or refused for good. Its frame is made once and sent
//! again unchanged, so the home recognises it and gives it its old `seq`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use wire::ConversationId;

/// How often a refusal that should not be final is tried again: `internal` hides an unknown
/// outcome, and after `token_expired` comes a session with a fresh token.
const DOUBTS_MAX: u32 = 8;
/// Pause before a refused send is tried again, when the edge names none; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The pause is never longer.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// One message on its way.
pub(crate) struct Entry<F, T> {
    /// The `id` of its frame.
    pub(crate) id: u64,
    /// Ready for the wire.
    pub(crate) frame: F,
    /// Who waits for it.
    pub(crate) ticket: T,
    sent: bool,
}

struct Queue<F, T> {
    entries: VecDeque<Entry<F, T>>,
    not_before: Option<Instant>,
    refusals: u32,
}

/// All that is on its way. `F` is a frame, `T` whatever waits for its outcome.
pub(crate) struct Outbox<F, T> {
    window: usize,
    queues: BTreeMap<ConversationId, Queue<F, T>>,
    conversations: HashMap<u64, ConversationId>,
}

/// What to do about a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<T> {
    /// It will be sent again.
    Retrying,
    /// It is out of the outbox.
    Failed(T),
    /// It is no longer there.
    Unknown,
}

impl<F: Clone, T> Outbox<F, T> {
    /// With at most `window` sent and unacknowledged per conversation.
    pub(crate) fn new(window: usize) -> Self {
        Self { window: window.max(1), queues: BTreeMap::new(), conversations: HashMap::new() }
    }

    /// Puts a message at the end of its conversation's queue.
    pub(crate) fn push(&mut self, conversation: ConversationId, id: u64, frame: F, ticket: T) {
        let queue = self.queues.entry(conversation).or_insert_with(|| Queue {
            entries: VecDeque::new(),
            not_before: None,
            refusals: 0,
        });
        queue.entries.push_back(Entry { id, frame, ticket, sent: false });
        self.conversations.insert(id, conversation);
    }

    /// The next frame that may be sent now; it counts as sent.
    pub(crate) fn next(&mut self, now: Instant) -> Option<F> {
        let window = self.window;
        for queue in self.queues.values_mut() {
            if queue.not_before.is_some_and(|at| at > now) {
                continue;
            }
            if let Some(entry) = queue.entries.iter_mut().take(window).find(|entry| !entry.sent) {
                entry.sent = true;
                return Some(entry.frame.clone());
            }
        }
        None
    }

    /// When [`Outbox::next`] has something again without anything else happening.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        let waiting =
            |queue: &&Queue<F, T>| queue.entries.iter().take(self.window).any(|entry| !entry.sent);
        self.queues.values().filter(waiting).filter_map(|queue| queue.not_before).min()
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether anything is sent and unacknowledged.
    pub(crate) fn is_owed(&self) -> bool {
        self.queues.values().any(|queue| queue.entries.front().is_some_and(|entry| entry.sent))
    }

    /// Acknowledged: out.
    pub(crate) fn acked(&mut self, id: u64) -> Option<T> {
        let (conversation, mut queue) = self.take_queue(id)?;
        let at = queue.entries.iter().position(|entry| entry.id == id)?;
        let entry = queue.entries.remove(at);
        queue.refusals = 0;
        self.put_back(conversation, queue, id);
        entry.map(|entry| entry.ticket)
    }

    /// Refused. A retryable code means that nothing is known; it and all after it are sent again,
    /// in order.
    pub(crate) fn refused(
        &mut self,
        id: u64,
        code: wire::ErrorCode,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Refused<T> {
        let Some((conversation, mut queue)) = self.take_queue(id) else { return Refused::Unknown };
        let Some(at) = queue.entries.iter().position(|entry| entry.id == id) else {
            return Refused::Unknown;
        };
        let doubtful = matches!(code, wire::ErrorCode::Internal | wire::ErrorCode::TokenExpired);
        if code.is_retryable() || (doubtful && queue.refusals < DOUBTS_MAX) {
            let backoff = RETRY_MIN.saturating_mul(1 << queue.refusals.min(8)).min(RETRY_MAX);
            queue.refusals += 1;
            queue.not_before = Some(now + retry_after.unwrap_or(backoff));
            queue.entries.iter_mut().skip(at).for_each(|entry| entry.sent = false);
            self.queues.insert(conversation, queue);
            return Refused::Retrying;
        }
        let entry = queue.entries.remove(at);
        queue.refusals = 0;
        self.put_back(conversation, queue, id);
        entry.map_or(Refused::Unknown, |entry| Refused::Failed(entry.ticket))
    }

    /// The connection is gone: all is to be sent again, at once.
    pub(crate) fn disconnected(&mut self) {
        for queue in self.queues.values_mut() {
            queue.not_before = None;
            queue.refusals = 0;
            queue.entries.iter_mut().for_each(|entry| entry.sent = false);
        }
    }

    /// Gives up everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + use<F, T> {
        self.conversations.clear();
        std::mem::take(&mut self.queues)
            .into_values()
            .flat_map(|queue| queue.entries)
            .map(|entry| entry.ticket)
    }

    fn take_queue(&mut self, id: u64) -> Option<(ConversationId, Queue<F, T>)> {
        let conversation = *self.conversations.get(&id)?;
        self.queues.remove(&conversation).map(|queue| (conversation, queue))
    }

    fn put_back(&mut self, conversation: ConversationId, queue: Queue<F, T>, gone: u64) {
        self.conversations.remove(&gone);
        if !queue.entries.is_empty() {
            self.queues.insert(conversation, queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::ErrorCode;

    use super::*;

    fn conversation(n: u8) -> ConversationId {
        let mut bytes = [0; 23];
        (bytes[0], bytes[22]) = (0x11, n);
        ConversationId::from_bytes(&bytes).unwrap()
    }

    fn outbox(window: usize) -> Outbox<&'static str, char> {
        let mut outbox = Outbox::new(window);
        outbox.push(conversation(1), 1, "one", 'a');
        outbox.push(conversation(1), 2, "two", 'b');
        outbox.push(conversation(1), 3, "three", 'c');
        outbox
    }

    #[tokio::test]
    async fn a_window_of_one_waits_for_the_ack() {
        let now = Instant::now();
        let mut outbox = outbox(1);
        assert!(!outbox.is_owed());
        assert_eq!((outbox.next(now), outbox.next(now)), (Some("one"), None));
        assert!(outbox.is_owed());
        assert_eq!(outbox.acked(1), Some('a'));
        assert_eq!(outbox.acked(1), None, "a second ack of the same");
        assert_eq!((outbox.next(now), outbox.next(now)), (Some("two"), None));
        outbox.push(conversation(2), 4, "elsewhere", 'd');
        assert_eq!(outbox.next(now), Some("elsewhere"), "conversations do not wait for each other");
    }

    #[tokio::test]
    async fn after_a_break_everything_is_sent_again_in_order() {
        let now = Instant::now();
        let mut outbox = outbox(2);
        assert_eq!(
            (outbox.next(now), outbox.next(now), outbox.next(now)),
            (Some("one"), Some("two"), None)
        );
        outbox.disconnected();
        assert_eq!((outbox.next(now), outbox.next(now)), (Some("one"), Some("two")));
        assert_eq!(outbox.acked(2), Some('b'), "acks may come in any order");
        assert_eq!(outbox.next(now), Some("three"));
        assert_eq!(outbox.drain().collect::<String>(), "ac");
    }

    #[tokio::test]
    async fn a_retryable_refusal_waits_and_a_final_one_ends_it() {
        let now = Instant::now();
        let mut outbox = outbox(1);
        outbox.next(now);
        let later = Duration::from_millis(700);
        assert_eq!(
            outbox.refused(1, ErrorCode::HomeUnavailable, Some(later), now),
            Refused::Retrying
        );
        assert_eq!((outbox.next(now), outbox.wakes_at()), (None, Some(now + later)));
        assert_eq!(outbox.next(now + later), Some("one"), "the same frame again");
        assert_eq!(outbox.refused(1, ErrorCode::NotAMember, None, now), Refused::Failed('a'));
        assert_eq!(outbox.refused(1, ErrorCode::NotAMember, None, now), Refused::Unknown);
        assert_eq!(outbox.next(now + later), Some("two"));
    }

    #[tokio::test]
    async fn an_internal_error_is_tried_again_a_few_times() {
        let mut now = Instant::now();
        let mut outbox = outbox(1);
        for _ in 0..DOUBTS_MAX {
            assert_eq!(outbox.next(now), Some("one"));
            assert_eq!(outbox.refused(1, ErrorCode::Internal, None, now), Refused::Retrying);
            now += RETRY_MAX;
        }
        assert_eq!(outbox.next(now), Some("one"));
        assert_eq!(outbox.refused(1, ErrorCode::Internal, None, now), Refused::Failed('a'));
    }
}
