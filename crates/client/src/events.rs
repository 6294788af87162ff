//! What a program reads: a bounded queue between the service and the program.
//!
//! When it is full, messages are refused, and the service leaves them at the edge until there is
//! room. What cannot be asked for again is never refused and stays bounded otherwise: the changes of
//! one conversation become one, and of the connection's states only the last is kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wire::ConversationId;
use wire::change::Role;
use wire::client::event::{
    AddedPayload, ErrorPayload, Hello, JoinedPayload, MessagePayload, UpdatedPayload,
};

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
    Joined(Box<JoinedPayload>),
    /// Members or roles changed, or the conversation has another home.
    Updated {
        /// Where.
        conversation: ConversationId,
        /// What changed. A program that reads too slowly gets several changes as one.
        update: Box<UpdatedPayload>,
    },
    /// The user is no longer a member.
    Left {
        /// Where.
        conversation: ConversationId,
        /// Who removed them; perhaps themselves.
        by: String,
    },
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
        let mut event = event;
        match &mut event {
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
    /// Once the queue is long, older events that say less than this one go, and an older update of
    /// the same conversation becomes part of it.
    fn make_way_for(&mut self, event: &mut Event) {
        const LONG: usize = 256;
        if self.events.len() < LONG {
            return;
        }
        self.events.retain_mut(|old| match (old, &mut *event) {
            (
                Event::Updated { conversation: there, update: old },
                Event::Updated { conversation: here, update: new },
            ) if there == here => {
                **new = merged(std::mem::take(&mut **old), std::mem::take(&mut **new));
                false
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

/// Two updates of one conversation as one.
fn merged(old: UpdatedPayload, new: UpdatedPayload) -> UpdatedPayload {
    /// What became of a user.
    enum Now {
        In(Role),
        Out,
        Has(Role),
    }
    let mut users = BTreeMap::new();
    for update in [&old, &new] {
        for AddedPayload { user_id, role } in &update.added {
            users.insert(user_id.clone(), Now::In(*role));
        }
        users.extend(update.removed.iter().map(|user| (user.clone(), Now::Out)));
        for (user, role) in &update.roles {
            let is_new = matches!(users.get(user), Some(Now::In(_)));
            users.insert(user.clone(), if is_new { Now::In(*role) } else { Now::Has(*role) });
        }
    }
    let mut update = UpdatedPayload {
        by: new.by.or(old.by),
        member_count: new.member_count.or(old.member_count),
        home_region: new.home_region.or(old.home_region),
        acting_region: new.acting_region.or(old.acting_region),
        ver: new.ver,
        epoch: new.epoch,
        ..UpdatedPayload::default()
    };
    for (user_id, now) in users {
        match now {
            Now::In(role) => update.added.push(AddedPayload { user_id, role }),
            Now::Out => update.removed.push(user_id),
            Now::Has(role) => drop(update.roles.insert(user_id, role)),
        }
    }
    update
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

    fn updated(update: serde_json::Value) -> Event {
        let conversation = ConversationId::from_bytes(&[0x11; 23]).unwrap();
        let update = serde_json::from_value(update).unwrap();
        Event::Updated { conversation, update }
    }

    #[tokio::test]
    async fn a_reader_who_is_too_slow_gets_the_changes_of_a_conversation_as_one() {
        let queue = Queue::new(2);
        for ver in 1..=10_000_u64 {
            let (came, went) = (format!("u{}", ver % 7), format!("u{}", (ver + 3) % 7));
            let update = serde_json::json!({"ver": ver, "epoch": 1, "by": "ann", "removed": [went],
                "added": [{"user_id": came, "role": "member"}], "roles": {"ann": "owner"},
                "member_count": 5});
            assert_eq!(queue.push(updated(update)), Ok(()));
        }
        assert!(queue.lock().events.len() <= 256);
        let (mut members, mut last) = (std::collections::BTreeSet::new(), 0);
        while let Some(Event::Updated { update, .. }) = queue.pop() {
            assert!(update.ver > last);
            last = update.ver;
            members.extend(update.added.iter().map(|added| added.user_id.clone()));
            for user in &update.removed {
                members.remove(user);
            }
        }
        // The last change of each user counts: 9,997 to 10,000 brought 1 to 4, and 0, 5, 6 went.
        let expected = ["u1", "u2", "u3", "u4"];
        assert_eq!(last, 10_000);
        assert!(members.iter().eq(expected), "{members:?}");
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
