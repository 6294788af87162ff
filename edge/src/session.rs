//! One client connection, from its upgrade to its close. From the [gate](crate::gate); to the [route](crate::route) with what
//! the client asks, and from the [fan-out](crate::fanout) with what it gets.
//!
//! A session is one task. It is small while idle: a parser, a 512-byte buffer, a handle; what a start, a catch-up or a close
//! needs is allocated for that time only. It never waits for a home: answers come back through its outbox. It must never drop
//! a message: what the outbox cannot take becomes a mark from which [`catch_up`] goes on.

pub(crate) mod catch_up;
pub(crate) mod frame;
pub(crate) mod outbox;
pub(crate) mod pump;
pub(crate) mod registry;
pub(crate) mod requests;
pub(crate) mod socket;
pub(crate) mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wire::ConversationId;
use wire::client::close;
use wire::command::Actor;

use crate::options::Limits;
use crate::shared::{Held, Shared};
use outbox::{Close, Outbox};
use socket::Socket;

/// How long a client has to take a close and go.
const GOODBYE: Duration = Duration::from_secs(5);

/// The same when the edge does not wait any longer.
const GOODBYE_AT_STOP: Duration = Duration::from_millis(300);

/// What is shared between a session's task and those who reach it.
pub(crate) struct Session {
    /// Unique in this process.
    pub(crate) number: u64,
    /// Who it is.
    pub(crate) actor: Actor,
    /// When its token ends, milliseconds since 1970.
    expires_ms: u64,
    /// What waits to be written.
    pub(crate) outbox: Outbox,
    /// Frames sent on to a home and not answered.
    asked: AtomicU32,
    /// Last sign of life, milliseconds of the edge's clock.
    seen_ms: AtomicU64,
    /// Last ping, as above.
    pinged_ms: AtomicU64,
    /// Since when the socket has taken nothing though something waits; 0: it takes.
    stalled_ms: AtomicU64,
    /// The conversations that it is attached to, sorted. None once it has ended: nothing is attached any more.
    attached: std::sync::Mutex<Option<Vec<ConversationId>>>,
    /// What has to be caught up, while there is something.
    pub(crate) catch_up: catch_up::Slot,
}

impl Session {
    pub(crate) fn new(number: u64, actor: Actor, expires_ms: u64, now_ms: u64) -> Self {
        Self {
            number,
            actor,
            expires_ms,
            outbox: Outbox::default(),
            asked: AtomicU32::new(0),
            seen_ms: AtomicU64::new(now_ms),
            pinged_ms: AtomicU64::new(now_ms),
            stalled_ms: AtomicU64::new(0),
            attached: std::sync::Mutex::new(Some(Vec::new())),
            catch_up: catch_up::Slot::default(),
        }
    }

    /// Remembers that it is attached. False when it was already; none when it has ended: do not attach.
    pub(crate) fn note_attached(&self, conversation: ConversationId) -> Option<bool> {
        let mut attached = self.attached();
        let list = attached.as_mut()?;
        let place = list.binary_search(&conversation);
        if let Err(at) = place {
            list.insert(at, conversation);
        }
        Some(place.is_err())
    }

    /// The inverse.
    pub(crate) fn note_detached(&self, conversation: &ConversationId) {
        if let Some(list) = &mut *self.attached()
            && let Ok(at) = list.binary_search(conversation)
        {
            list.remove(at);
        }
    }

    fn attached(&self) -> std::sync::MutexGuard<'_, Option<Vec<ConversationId>>> {
        self.attached.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One more frame went to a home.
    pub(crate) fn begin_request(&self) {
        self.begin_requests(1);
    }

    /// A frame that weighs as much as so many.
    pub(crate) fn begin_requests(&self, weight: u32) {
        self.asked.fetch_add(weight, Ordering::Relaxed);
    }

    /// It is answered: here.
    pub(crate) fn end_request(&self, answer: Bytes) {
        self.asked.fetch_sub(1, Ordering::Relaxed);
        self.outbox.answer(answer);
    }

    /// It is over; the answer went another way.
    pub(crate) fn end_requests(&self, weight: u32) {
        self.asked.fetch_sub(weight, Ordering::Relaxed);
        self.outbox.wake();
    }

    /// Frames sent on to a home and not answered.
    pub(crate) fn requests(&self) -> usize {
        self.asked.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn note_alive(&self, now_ms: u64) {
        self.seen_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn note_stalled(&self, now_ms: u64) {
        if self.stalled_ms.load(Ordering::Relaxed) == 0 {
            self.stalled_ms.store(now_ms.max(1), Ordering::Relaxed);
        }
    }

    pub(crate) fn note_progress(&self) {
        self.stalled_ms.store(0, Ordering::Relaxed);
    }

    /// Looks at the clocks, about once a second: pings, or closes.
    pub(crate) fn tick(&self, now_ms: u64, wall_ms: u64, limits: &Limits) {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let heartbeat = millis(limits.heartbeat);
        let [stalled, seen, pinged] =
            [&self.stalled_ms, &self.seen_ms, &self.pinged_ms].map(|at| at.load(Ordering::Relaxed));
        if wall_ms >= self.expires_ms {
            self.outbox.close(TOKEN_EXPIRED);
        } else if stalled != 0 && now_ms.saturating_sub(stalled) >= millis(limits.stall) {
            self.outbox.close(TOO_SLOW);
        } else if now_ms.saturating_sub(pinged) >= heartbeat {
            if seen < pinged && now_ms.saturating_sub(seen) >= 2 * heartbeat {
                self.outbox.close(HEARTBEAT_MISSED);
            } else if stalled == 0 {
                self.pinged_ms.store(now_ms, Ordering::Relaxed);
                self.outbox.answer(frame::PING);
            }
        }
    }
}

const TOKEN_EXPIRED: Close =
    Close { code: close::TOKEN_EXPIRED, reason: "the token's time is over" };
const HEARTBEAT_MISSED: Close = Close { code: close::HEARTBEAT_MISSED, reason: "no sign of life" };
/// A client that does not read.
pub(crate) const TOO_SLOW: Close = Close { code: close::TOO_SLOW, reason: "too slow for too long" };

/// Runs a session to its end. `starting`: the place that the gate gave it among those that start.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn holds the socket twice: as its argument and as its variable"
)]
pub(crate) fn run<S: AsyncRead + AsyncWrite + Unpin + Send>(
    shared: Arc<Shared>,
    session: Arc<Session>,
    mut socket: Socket<S>,
    starting: Held,
) -> impl Future<Output = ()> + Send {
    async move {
        shared.sessions.insert(&session);
        Box::pin(start::start(&shared, &session, starting)).await;
        let end = pump::pump(&shared, &session, &mut socket).await;
        shared.sessions.remove(&session);
        session.outbox.end();
        catch_up::end(&session);
        detach(&shared, &session);
        tracing::debug!(session = session.number, ?end, "session ended");
        Box::pin(goodbye(&shared, &mut socket, end)).await;
    }
}

async fn goodbye<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    socket: &mut Socket<S>,
    end: pump::End,
) {
    let close = async {
        match end {
            pump::End::Close(close) => {
                metrics::counter!("hearth_edge_closes_total", "code" => close.code.to_string())
                    .increment(1);
                socket.close(close).await
            }
            pump::End::Left => socket.leave().await,
            pump::End::Gone => Ok(()),
        }
    };
    let stop = async {
        shared.stop.cancelled().await;
        tokio::time::sleep(GOODBYE_AT_STOP).await;
    };
    // A client that takes no close is cut off.
    tokio::select! {
        _ = close => {}
        () = tokio::time::sleep(GOODBYE) => {}
        () = stop => {}
    }
}

fn detach(shared: &Shared, session: &Session) {
    let attached = session.attached().take().unwrap_or_default();
    for conversation in attached {
        shared.route.interest(&conversation, |interest| interest.detach(&conversation));
    }
}
