//! What a program chooses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wire::{ConversationId, DeviceId};

use crate::{Endpoints, Tokens};

/// What a client reads from its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// All that the edge sends, as [`crate::Event`]s.
    Everything,
    /// Only what answers its own frames. For senders in bulk: messages are skipped unread.
    Acks,
}

/// What a client needs, and its bounds.
#[derive(Clone)]
pub struct Options {
    /// The sockets.
    pub net: Arc<dyn net::Net>,
    /// Where the edges are.
    pub endpoints: Arc<dyn Endpoints>,
    /// Who the user is.
    pub tokens: Arc<dyn Tokens>,
    /// Asked for when the token names no device: then a stream token is fetched first, one request
    /// more per connection.
    pub device: Option<DeviceId>,
    /// The last seq that is already known, per conversation: delivery goes on after it.
    pub cursors: BTreeMap<ConversationId, u64>,
    /// What is read.
    pub read: Read,
    /// Unacknowledged messages on the wire per conversation. With 1 the order of sends is the order
    /// of seqs, whatever fails; with more, a send that had to be tried again may come after later
    /// ones.
    pub window: usize,
    /// Unacknowledged messages in all. When full, `send` waits and `try_queue` refuses.
    pub outbox_messages: usize,
    /// Events that wait to be read. When full, messages are left at the edge and asked for again
    /// when there is room; acknowledgements go on.
    pub event_messages: usize,
    /// For one attempt: lookup, TCP, upgrade and `hello` together.
    pub dial_timeout: Duration,
    /// Pause after a round over all edges that failed: between half of this and this, doubled after
    /// every further round.
    pub backoff_min: Duration,
    /// The pause is never longer than this.
    pub backoff_max: Duration,
    /// An edge that owes an acknowledgement and is silent for so long is left for another.
    pub silence_max: Duration,
    /// An edge through which nothing is acknowledged for so long although something waits is left
    /// for another, also when it talks: its region may be cut off with it. Doubled, up to
    /// eightfold, every time until there is an acknowledgement.
    pub stall_max: Duration,
    /// How long one HTTP request is tried, over all edges, before it fails.
    pub http_timeout: Duration,
    /// Of jitter and of the message ids that the client draws; from the operating system when
    /// absent.
    pub seed: Option<u64>,
}

impl Options {
    /// With the bounds of a person's device.
    #[must_use]
    pub fn new(
        net: Arc<dyn net::Net>,
        endpoints: Arc<dyn Endpoints>,
        tokens: Arc<dyn Tokens>,
    ) -> Self {
        Self {
            net,
            endpoints,
            tokens,
            device: None,
            cursors: BTreeMap::new(),
            read: Read::Everything,
            window: 1,
            outbox_messages: 1_024,
            event_messages: 4_096,
            dial_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(3),
            silence_max: Duration::from_secs(8),
            stall_max: Duration::from_secs(10),
            http_timeout: Duration::from_secs(30),
            seed: None,
        }
    }
}
