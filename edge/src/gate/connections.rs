//! The places of HTTP connections. When all are taken, a new connection takes the place of one that
//! has not shown a good token yet, the oldest first, and else of the one that has been idle for the
//! longest. A connection whose user waits for an answer keeps its place. So strangers push out each
//! other, and no user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One line of the log at most for each of these.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// All connections that speak HTTP.
pub(crate) struct Connections {
    most: usize,
    now: Mutex<Now>,
    /// A place is free, or may be taken.
    freed: Notify,
}

#[derive(Default)]
struct Now {
    begun: u64,
    held: BTreeMap<u64, Held>,
    /// Those that give way, the first one first.
    giving_way: BTreeSet<(GivesWay, u64, u64)>,
    /// Since the last line of the log.
    evicted: u64,
    logged: Option<Instant>,
}

struct Held {
    gives_way: Option<(GivesWay, u64)>,
    evicted: CancellationToken,
}

/// Why a connection gives way to a new one; these go in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum GivesWay {
    Unproven,
    Idle,
}

/// One connection, from its accept until it ends or becomes a session.
pub(crate) struct Connection {
    connections: Arc<Connections>,
    number: u64,
    evicted: CancellationToken,
    /// It has shown a good token.
    proven: AtomicBool,
    /// Requests without a complete answer.
    open: AtomicU32,
    /// Requests so far.
    requests: AtomicU32,
    /// Requests that came before the client had waited for an answer.
    pipelined: AtomicU32,
    /// Who looks at the connection again when no request is open any more.
    reader: AtomicWaker,
}

/// A request that is being answered.
pub(crate) struct OpenRequest(Arc<Connection>);

impl Connections {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, now: Mutex::default(), freed: Notify::new() })
    }

    /// Waits for a place and takes it. Cancel safe.
    pub(crate) async fn take(self: &Arc<Self>) -> Arc<Connection> {
        loop {
            if let Some(connection) = self.try_take() {
                return connection;
            }
            self.freed.notified().await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let mut now = self.lock();
        if now.held.len() >= self.most {
            let (why, _, number) = now.giving_way.pop_first()?;
            if let Some(held) = now.held.remove(&number) {
                held.evicted.cancel();
            }
            now.note_evicted(why);
        }
        now.begun += 1;
        let (number, evicted) = (now.begun, CancellationToken::new());
        let gives_way = (GivesWay::Unproven, number);
        now.giving_way.insert((gives_way.0, gives_way.1, number));
        now.held.insert(number, Held { gives_way: Some(gives_way), evicted: evicted.clone() });
        metrics::gauge!("hearth_edge_http_connections").set(count(now.held.len()));
        drop(now);
        Some(Arc::new(Connection {
            connections: self.clone(),
            number,
            evicted,
            proven: AtomicBool::new(false),
            open: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            pipelined: AtomicU32::new(0),
            reader: AtomicWaker::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

impl Now {
    fn set(&mut self, number: u64, gives_way: Option<GivesWay>) {
        self.begun += 1;
        let since = self.begun;
        let Some(held) = self.held.get_mut(&number) else { return };
        if let Some((why, since)) = held.gives_way.take() {
            self.giving_way.remove(&(why, since, number));
        }
        if let Some(why) = gives_way {
            held.gives_way = Some((why, since));
            self.giving_way.insert((why, since, number));
        }
    }

    fn note_evicted(&mut self, why: GivesWay) {
        let kind = match why {
            GivesWay::Unproven => "unproven",
            GivesWay::Idle => "idle",
        };
        metrics::counter!("hearth_edge_connections_evicted_total", "kind" => kind).increment(1);
        self.evicted += 1;
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
            tracing::warn!(
                connections = self.held.len() + 1,
                evicted = self.evicted,
                "all places for connections are taken; new ones take the places of unproven and \
                 idle ones"
            );
            (self.evicted, self.logged) = (0, Some(Instant::now()));
        }
    }
}

impl Connection {
    /// Resolves when its place is another's: it must end.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// A request on it has shown a good token.
    pub(crate) fn prove(&self) {
        if !self.proven.swap(true, Ordering::Relaxed) {
            self.connections.lock().set(self.number, None);
        }
    }

    /// A request has begun.
    pub(crate) fn request(self: &Arc<Self>) -> OpenRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.pipelined.fetch_add(1, Ordering::Relaxed);
        let first = self.open.fetch_add(1, Ordering::Relaxed) == 0;
        if first && self.is_proven() {
            self.connections.lock().set(self.number, None);
        }
        OpenRequest(self.clone())
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Requests that came since the client last waited.
    pub(crate) fn pipelined(&self) -> u32 {
        self.pipelined.load(Ordering::Relaxed)
    }

    /// The client has sent nothing more: it waits.
    pub(crate) fn note_waiting(&self) {
        self.pipelined.store(0, Ordering::Relaxed);
    }

    /// Wakes the task when no request is open any more.
    pub(crate) fn wake_when_idle(&self, cx: &Context<'_>) {
        self.reader.register(cx.waker());
    }

    fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut now = self.connections.lock();
        now.set(self.number, None);
        now.held.remove(&self.number);
        metrics::gauge!("hearth_edge_http_connections").set(count(now.held.len()));
        drop(now);
        self.connections.freed.notify_one();
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let connection = &self.0;
        if connection.open.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        connection.reader.wake();
        if connection.is_proven() {
            connection.connections.lock().set(connection.number, Some(GivesWay::Idle));
            connection.connections.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(connection: &Connection) -> bool {
        connection.evicted.is_cancelled()
    }

    #[test]
    fn a_new_connection_takes_the_place_of_the_oldest_unproven_one_then_of_the_longest_idle() {
        let all = Connections::new(3);
        let [first, second, third] = [(); 3].map(|()| all.try_take().unwrap());
        first.prove();
        let fourth = all.try_take().unwrap();
        assert!(is_evicted(&second) && !is_evicted(&first) && !is_evicted(&third));
        // The evicted one ends; its place was given away already.
        drop(second);
        for idle in [&fourth, &third, &first] {
            idle.prove();
            drop(idle.request());
        }
        let fifth = all.try_take().unwrap();
        assert!(is_evicted(&fourth) && !is_evicted(&third) && !is_evicted(&first));
        let sixth = all.try_take().unwrap();
        assert!(is_evicted(&fifth) && !is_evicted(&third), "strangers push out each other");
        drop(sixth);
        assert_eq!(all.lock().held.len(), 2);
    }

    #[tokio::test]
    async fn one_whose_user_waits_for_an_answer_keeps_its_place_until_it_is_there() {
        let all = Connections::new(1);
        let busy = all.try_take().unwrap();
        busy.prove();
        let (one, other) = (busy.request(), busy.request());
        assert!(all.try_take().is_none());
        drop(one);
        assert!(all.try_take().is_none());
        let waiting = tokio::spawn({
            let all = all.clone();
            async move { all.take().await }
        });
        tokio::task::yield_now().await;
        drop(other);
        waiting.await.unwrap();
        assert!(is_evicted(&busy));
        drop(busy);
        assert!(all.lock().held.is_empty() && all.lock().giving_way.is_empty());
    }
}
