//! The loop of a session on a WebSocket: writes what waits, reads what comes, sleeps. One future
//! without await points, so that its state is the few fields below.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use conversation::delivery::Settling;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;
use wire::client::close;

use super::framing::{self, Batch};
use super::socket::{Incoming, Socket};
use crate::session::outbox::{Close, Outgoing};
use crate::session::requests::{self, Handled};
use crate::session::state::Session;
use crate::shared::Shared;

/// Frames handled before others get their turn.
const FRAMES_PER_TURN: usize = 64;
/// Small frames that wait together are copied into one write of at most so many bytes.
const COALESCE_BYTES: usize = 16 * 1024;
/// Answers that may wait before the client is read again.
const ANSWERS_MAX: usize = 128;

/// Why a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// We close it.
    Close(Close),
    /// The client closed; its close is echoed.
    Left,
    /// The socket is gone.
    Gone,
}

/// How often a client may talk nonsense.
#[derive(Default)]
struct Abuse {
    since_ms: u64,
    count: u32,
}

impl Abuse {
    /// Counts one bad frame; true when that is enough.
    fn is_too_much(&mut self, now_ms: u64, window: Duration, most: u32) -> bool {
        if u128::from(now_ms.saturating_sub(self.since_ms)) >= window.as_millis() {
            *self = Self { since_ms: now_ms, count: 0 };
        }
        self.count += 1;
        self.count >= most
    }
}

struct Pump<'a, S> {
    shared: &'a Arc<Shared>,
    session: &'a Arc<Session>,
    socket: &'a mut Socket<S>,
    abuse: Abuse,
    /// How long events wait for a first frame of the client.
    settle: Option<Pin<Box<Sleep>>>,
    /// How long the answers that wait hold a close back.
    closing: Option<Pin<Box<Sleep>>>,
}

/// Runs until the session ends. Events are held back for a moment, see [`crate::Limits::settle`].
pub(crate) async fn pump<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    socket: &mut Socket<S>,
) -> End {
    let settle = Some(Box::pin(tokio::time::sleep(shared.limits.settle)));
    let mut pump = Pump { shared, session, socket, abuse: Abuse::default(), settle, closing: None };
    std::future::poll_fn(|cx| pump.poll(cx)).await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<'_, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.session.outbox.register(cx);
        if self.settle.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
            self.settle();
        }
        for _ in 0..FRAMES_PER_TURN {
            if let Poll::Ready(gone) = self.write(cx) {
                return Poll::Ready(gone);
            }
            if let Some(close) = self.session.outbox.closing() {
                return self.poll_answered(cx).map(|()| End::Close(close));
            }
            if !self.may_read() {
                return Poll::Pending;
            }
            match self.socket.poll_read(cx) {
                Poll::Pending => return self.write(cx),
                Poll::Ready(incoming) => {
                    if let Some(end) = self.handle(incoming) {
                        return Poll::Ready(end);
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready only when the socket is gone.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let bound = self.shared.limits.outbox();
        let outbox = &self.session.outbox;
        let next = || {
            let mut batch = Batch::default();
            outbox.take(bound, COALESCE_BYTES, |next| {
                batch.add(match next {
                    Outgoing::Ping => framing::PING,
                    Outgoing::Frame(frame) => frame.websocket(),
                });
            });
            batch.finish()
        };
        match self.socket.poll_write(cx, next) {
            Poll::Ready(Ok(())) => {
                self.session.note_progress();
                Poll::Pending
            }
            Poll::Ready(Err(_)) => Poll::Ready(End::Gone),
            Poll::Pending => {
                if self.socket.take_progress() {
                    self.session.note_progress();
                }
                self.session.note_stalled(self.shared.now_ms());
                Poll::Pending
            }
        }
    }

    /// Ready when the answers have left, or the client does not take them in time: an ack that is
    /// earned leaves before the close.
    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.session.outbox.answers() == 0 {
            return Poll::Ready(());
        }
        let timer = || Box::pin(tokio::time::sleep(super::CLOSE_TIMEOUT));
        self.closing.get_or_insert_with(timer).as_mut().poll(cx)
    }

    /// A client is not read while too much of what it asked is under way: TCP tells it to wait. The
    /// answers wake this task.
    fn may_read(&self) -> bool {
        self.session.requests() < self.shared.limits.requests_per_session
            && self.session.outbox.answers() < ANSWERS_MAX
    }

    fn handle(&mut self, incoming: Incoming) -> Option<End> {
        let now_ms = self.shared.now_ms();
        self.session.note_alive(now_ms);
        match incoming {
            Incoming::Text(text) => {
                let handled = requests::handle(self.shared, self.session, &text);
                if handled == Handled::Sync {
                    self.settle = None;
                } else {
                    self.settle();
                }
                let limits = &self.shared.limits;
                let is_nonsense = handled == Handled::Nonsense;
                (is_nonsense
                    && self.abuse.is_too_much(now_ms, limits.abuse_window, limits.bad_frames))
                .then_some(End::Close(ABUSE))
            }
            Incoming::Alive => None,
            Incoming::Closed => Some(End::Left),
            Incoming::Gone => Some(End::Gone),
            Incoming::Fault(close) => Some(End::Close(close)),
        }
    }

    fn settle(&mut self) {
        if self.settle.take().is_some() {
            self.session.outbox.settle(Settling::pass);
        }
    }
}

const ABUSE: Close = Close { code: close::POLICY, reason: "too many bad frames" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_bad_frames_in_a_short_time_are_too_much() {
        let window = Duration::from_secs(10);
        let mut abuse = Abuse::default();
        assert!((0..19).all(|n| !abuse.is_too_much(1_000 + n, window, 20)));
        assert!(abuse.is_too_much(2_000, window, 20));
        let mut slow = Abuse::default();
        assert!((0..100).all(|n| !slow.is_too_much(n * 1_000, window, 20)));
    }
}
