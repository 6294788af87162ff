//! The bytes of an HTTP connection, with deadlines: a head must come in time, an idle connection
//! ends, and a client must take what it is sent. A body has its deadline where it is read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::connections::Connection;
use super::pace::{Arrival, Pace};
use crate::options::Limits;

/// The deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    head: Pace,
    idle: Duration,
    write: Duration,
}

/// See the module.
pub(crate) struct PacedIo<S> {
    io: S,
    connection: Arc<Connection>,
    deadlines: Deadlines,
    reading: Reading,
    /// The requests that [`Self::reading`] knows of.
    requests: u32,
    /// Runs while nothing comes that must come.
    read_timer: Option<Pin<Box<Sleep>>>,
    /// Runs while the client takes nothing.
    write_timer: Option<Pin<Box<Sleep>>>,
}

enum Reading {
    Head(Arrival),
    /// A request is answered, or its body is on its way.
    Busy,
    /// Between two requests.
    Idle(Instant),
}

impl Deadlines {
    pub(super) fn new(limits: &Limits) -> Self {
        let bytes_per_second = limits.http_bytes_per_second_min;
        Self {
            head: Pace { pause: limits.http_head, bytes_per_second },
            idle: limits.http_idle,
            write: limits.http_write,
        }
    }
}

impl<S> PacedIo<S> {
    pub(super) fn new(io: S, connection: Arc<Connection>, deadlines: Deadlines) -> Self {
        let reading = Reading::Head(Arrival::begin());
        let (read_timer, write_timer) = (None, None);
        Self { io, connection, deadlines, reading, requests: 0, read_timer, write_timer }
    }

    /// Without the deadlines.
    pub(crate) fn into_inner(self) -> S {
        self.io
    }

    /// What HTTP has made of the bytes since the last look.
    fn look(&mut self) {
        let requests = self.connection.requests();
        if self.connection.is_busy() {
            self.reading = Reading::Busy;
        } else if requests != self.requests || matches!(self.reading, Reading::Busy) {
            self.reading = Reading::Idle(Instant::now());
        }
        self.requests = requests;
    }

    fn note_read(&mut self, bytes: usize) {
        self.read_timer = None;
        self.look();
        match &mut self.reading {
            Reading::Head(arrival) => arrival.note(bytes),
            Reading::Busy => {}
            Reading::Idle(_) => {
                let mut arrival = Arrival::begin();
                arrival.note(bytes);
                self.reading = Reading::Head(arrival);
            }
        }
    }

    /// Nothing has come. Ready when that is too much.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.note_waiting();
        self.connection.wake_when_idle(cx);
        self.look();
        let (deadline, kind) = match &self.reading {
            Reading::Head(arrival) => (arrival.deadline(self.deadlines.head), "head"),
            Reading::Idle(since) => (*since + self.deadlines.idle, "idle"),
            Reading::Busy => {
                self.read_timer = None;
                return Poll::Pending;
            }
        };
        let timer =
            self.read_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| note_late(kind))
    }

    /// The client has taken nothing. Ready when that is too much.
    fn poll_stalled<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let write = self.deadlines.write;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(write)));
        timer.as_mut().poll(cx).map(|()| {
            note_late("write");
            Err(io::ErrorKind::TimedOut.into())
        })
    }

    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_pending() {
            return self.poll_stalled(cx);
        }
        self.write_timer = None;
        done
    }
}

fn note_late(kind: &'static str) {
    metrics::counter!("hearth_edge_connections_late_total", "kind" => kind).increment(1);
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                self.note_read(buf.filled().len() - before);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_late(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Pending => self.poll_stalled(cx),
            done => done,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Pending => self.poll_stalled(cx),
            done => done,
        }
    }
}
