//! One client's WebSocket. tungstenite reads it: frames, fragments, masks, UTF-8, limits, pongs. We
//! write it ourselves, from buffers that all sockets share, so an event that goes to thousands is
//! never copied for one of them.
//!
//! Pongs and the echo of a close, which tungstenite makes while it reads, are gathered aside and go
//! out between two frames.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};
use wire::client::close;
use wire::limits;

use super::framing;
use crate::session::outbox::Close;

/// The read buffer is zeroed before every read, and kept while idle: small is fast and cheap here.
const READ_BUFFER_BYTES: usize = 512;
/// Pongs that may wait. Beyond it the socket is not read.
const CONTROL_BYTES_MAX: usize = 2 * 1024;
/// Read and thrown away after a close from our side, so that the close is not lost to a reset:
/// bytes at most.
const LINGER_BYTES: usize = 32 * 1024 * 1024;

/// See the module.
pub(crate) struct Socket<S> {
    io: S,
    parser: WebSocketContext,
    /// Came with the HTTP request, before the upgrade.
    early: Bytes,
    /// Pongs and close echoes that tungstenite wants to send.
    controls: Vec<u8>,
    /// What of the current buffer is not written yet.
    writing: Bytes,
    /// The socket has taken something since it was last asked.
    progressed: bool,
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A text message.
    Text(tokio_tungstenite::tungstenite::Utf8Bytes),
    /// A ping or a pong: a sign of life.
    Alive,
    /// The client closes; its close is echoed.
    Closed,
    /// The socket is gone.
    Gone,
    /// The client broke the protocol or a limit: close with this.
    Fault(Close),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Around a stream after its upgrade; `early` was read beyond the request.
    pub(crate) fn new(io: S, early: Bytes) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(CONTROL_BYTES_MAX)
            .max_message_size(Some(limits::FRAME_BYTES))
            .max_frame_size(Some(limits::FRAME_BYTES));
        // Even an empty one would keep the whole buffer of the request alive.
        let early = if early.is_empty() { Bytes::new() } else { early };
        let parser = WebSocketContext::new(Role::Server, Some(config));
        Self { io, parser, early, controls: Vec::new(), writing: Bytes::new(), progressed: false }
    }

    /// Reads one message. Pending also while too many pongs wait to be written.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if self.controls.len() > CONTROL_BYTES_MAX {
            return Poll::Pending;
        }
        let Self { io, parser, early, controls, .. } = self;
        let mut side = Side { io, cx, early, controls };
        Poll::Ready(match parser.read(&mut side) {
            Ok(Message::Text(text)) => Incoming::Text(text),
            Ok(Message::Binary(_)) => Incoming::Fault(UNSUPPORTED),
            Ok(Message::Ping(_)) => {
                // Only gathers the pong: the side never blocks.
                let _ = parser.flush(&mut side);
                Incoming::Alive
            }
            Ok(Message::Pong(_) | Message::Frame(_)) => Incoming::Alive,
            Ok(Message::Close(_)) => {
                let _ = parser.flush(&mut side);
                Incoming::Closed
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Poll::Pending;
            }
            Err(error) => fault(&error),
        })
    }

    /// Writes all there is: the rest of the last buffer, controls, then what `next` gives. Ready
    /// when nothing is left.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        mut next: impl FnMut() -> Option<Bytes>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.writing.is_empty() {
                self.writing = match (self.controls.is_empty(), &mut next) {
                    (false, _) => std::mem::take(&mut self.controls).into(),
                    (true, next) => match next() {
                        Some(bytes) => bytes,
                        None => return Poll::Ready(Ok(())),
                    },
                };
            }
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.writing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.progressed = true;
            self.writing.advance(written);
            if self.writing.is_empty() {
                // Lets go of the shared buffer.
                self.writing = Bytes::new();
            }
        }
    }

    /// Whether the socket has taken something since this was last asked.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// Writes what is begun and then a close, and waits for the client to go. A socket that is
    /// dropped with unread bytes sends a reset, which would overtake the close: so what still comes
    /// is read and thrown away. The caller bounds the time.
    pub(crate) async fn close(&mut self, close: Close) -> io::Result<()> {
        let mut last = Some(framing::close(close.code, close.reason));
        std::future::poll_fn(|cx| self.poll_write(cx, || last.take())).await?;
        self.linger().await
    }

    /// Writes what is begun (the echo of a close), then as [`Socket::close`].
    pub(crate) async fn leave(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_write(cx, || None)).await?;
        self.linger().await
    }

    async fn linger(&mut self) -> io::Result<()> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        self.io.shutdown().await?;
        let mut scratch = vec![0; 8 * 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match self.io.read(&mut scratch).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok(())
    }
}

const UNSUPPORTED: Close = Close { code: close::UNSUPPORTED, reason: "only text frames" };

fn fault(error: &Error) -> Incoming {
    let closed = |code, reason| Incoming::Fault(Close { code, reason });
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            closed(close::TOO_LARGE, "over the frame limit")
        }
        Error::Utf8(_) => closed(close::NOT_UTF8, "text is not UTF-8"),
        Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => Incoming::Gone,
        _ => closed(close::PROTOCOL, "not WebSocket"),
    }
}

/// The stream as tungstenite sees it while it reads: reads from the socket, "writes" aside.
struct Side<'a, 'b, S> {
    io: &'a mut S,
    cx: &'a mut Context<'b>,
    early: &'a mut Bytes,
    controls: &'a mut Vec<u8>,
}

impl<S: AsyncRead + Unpin> Read for Side<'_, '_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            let n = self.early.len().min(buf.len());
            self.early.copy_to_slice(&mut buf[..n]);
            if self.early.is_empty() {
                *self.early = Bytes::new();
            }
            return Ok(n);
        }
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.io).poll_read(self.cx, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S> Write for Side<'_, '_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.controls.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
