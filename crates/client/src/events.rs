//! What a program reads: a bounded queue between the service and the program.
//!
//! When it is full, messages are refused, and the service leaves them at the edge until there is
//! room. What cannot be asked for again is never refused and stays bounded otherwise: of a
//! conversation's views only the newest is kept, and of the connection's states only the last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wire::ConversationId;
use wire::client::event::{ErrorPayload, GroupPayload, Hello, MessagePayload};

use crate::handle::Shared;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A session began. What was missed meanwhile follows in order.
    Connected(Box<Hello>),
    /// The session broke; the client is looking for another edge.
    Disconnected {
        /// For people.
        why: String,
    },
    /// A message: every one once, in `seq` order within its conversation. Of class `region`, when a
    /// region was lost and what it alone had with it: `seq` steps back, under a higher `epoch`, and
    /// everything from there on is delivered as it is now.
    Message {
        /// Where.
        conversation: ConversationId,
        /// What.
        message: Box<MessagePayload>,
    },
    /// The user is a member now.
    Joined(Box<GroupPayload>),
    /// Members or roles changed.
    Updated(Box<GroupPayload>),
    /// The user is no longer a member.
    Left(Box<GroupPayload>),
    /// An error that answers no request of this client.
    Error(ErrorPayload),
    /// The client gave up for good; nothing follows.
    Closed {
        /// For people.
        why: String,
    },
}

#[derive(Debug)]
pub(crate) struct Queue {
    capacity: usize,
    inner: Mutex<Inner>,
    /// Told when there is something to read, or never will be.
    readable: Notify,
    /// Told when a queue that was full is half empty again.
    room: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    messages: usize,
    starved: bool,
    reader_gone: bool,
    ended: bool,
}

/// No room for a message now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Queue {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity: capacity.max(1),
            inner: Mutex::default(),
            readable: Notify::new(),
            room: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event. Only a message can be refused.
    pub(crate) fn push(&self, event: Event) -> Result<(), Full> {
        let mut inner = self.lock();
        if inner.reader_gone {
            return Ok(());
        }
        match &event {
            Event::Message { .. } => {
                if inner.messages >= self.capacity {
                    inner.starved = true;
                    return Err(Full);
                }
                inner.messages += 1;
            }
            event => inner.make_way_for(event),
        }
        inner.events.push_back(event);
        drop(inner);
        self.readable.notify_one();
        Ok(())
    }

    /// Nothing follows.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.readable.notify_one();
    }

    /// Waits until a queue that refused a message has room again. Cancel safe.
    pub(crate) async fn room(&self) {
        self.room.notified().await;
    }

    fn pop(&self) -> Option<Event> {
        let mut inner = self.lock();
        let event = inner.events.pop_front();
        if matches!(event, Some(Event::Message { .. })) {
            inner.messages -= 1;
            if inner.starved && inner.messages <= self.capacity / 2 {
                inner.starved = false;
                self.room.notify_one();
            }
        }
        event
    }
}

impl Inner {
    /// Once the queue is long, older events that say less than this one go.
    fn make_way_for(&mut self, event: &Event) {
        const LONG: usize = 256;
        if self.events.len() < LONG {
            return;
        }
        self.events.retain(|old| match (old, event) {
            (Event::Updated(old), Event::Updated(new)) => {
                old.conversation_id != new.conversation_id
            }
            (
                Event::Connected(_) | Event::Disconnected { .. },
                Event::Connected(_) | Event::Disconnected { .. },
            )
            | (Event::Error(_), Event::Error(_)) => false,
            _ => true,
        });
    }
}

/// The stream of events of one client, for one reader. Dropping it makes the client forget what it
/// would have delivered.
#[derive(Debug)]
pub struct Events {
    pub(crate) queue: Arc<Queue>,
    /// The client lives as long as someone reads it.
    pub(crate) _shared: Arc<Shared>,
}

impl Events {
    /// The next event; none when the client has ended and all was read. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.queue.pop() {
                return Some(event);
            }
            if self.queue.lock().ended {
                return None;
            }
            self.queue.readable.notified().await;
        }
    }

    /// The next event, if it is already here.
    pub fn try_next(&mut self) -> Option<Event> {
        self.queue.pop()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut inner = self.queue.lock();
        inner.reader_gone = true;
        inner.events.clear();
        inner.messages = 0;
        drop(inner);
        self.queue.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> Event {
        let message: MessagePayload = serde_json::from_value(serde_json::json!({
            "message_id": "m", "seq": seq, "ver": seq, "epoch": 1, "sender": "a", "device_id": "", "ts_ms": 0, "body": "x",
        }))
        .unwrap();
        let conversation = ConversationId::from_bytes(&[0x10; 23]).unwrap();
        Event::Message { conversation, message: Box::new(message) }
    }

    fn disconnected() -> Event {
        Event::Disconnected { why: "x".into() }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_messages_and_says_when_there_is_room() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(message(1)), Ok(()));
        assert_eq!(queue.push(message(2)), Ok(()));
        assert_eq!(queue.push(message(3)), Err(Full));
        assert_eq!(
            queue.push(disconnected()),
            Ok(()),
            "what cannot be asked for again is never refused"
        );
        assert!(queue.pop().is_some());
        queue.room().await;
        assert_eq!(queue.push(message(3)), Ok(()));
    }

    #[tokio::test]
    async fn a_flapping_connection_does_not_fill_the_queue() {
        let queue = Queue::new(2);
        for _ in 0..10_000 {
            assert_eq!(queue.push(disconnected()), Ok(()));
        }
        assert!(queue.lock().events.len() <= 256);
    }
}
