//! A stream of frames between two nodes whose identities are proven to each other, or between two
//! parts of one node.
//!
//! Flow control is the transport's: a receiver that does not read makes the sender wait, with at
//! most [`crate::STREAM_WINDOW_BYTES`] on the way, [`FEED_BYTES_MAX`] in the sender and one frame
//! in the receiver.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use wire::NodeId;
use wire::limits::MESH_FRAME_BYTES;
use wire::version::{Feature, Features};

use crate::codes;
use crate::error::{RecvError, SendError};
use crate::frames::{Inbox, Outbox, TooLarge};
use crate::link::Use;
use crate::loopback::{self, ReadEnd, WriteEnd};
use crate::raw_stream::{Pipe, RawStream};

/// When so many bytes wait in a sender, it flushes by itself.
pub const FEED_BYTES_MAX: usize = 64 * 1024;
/// Chunks read from a stream at once.
const CHUNKS_AT_ONCE: usize = 32;
/// The TLS of a relayed channel has this long to close.
const TLS_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// TLS from end to end, inside a stream through a relay.
pub(crate) type Tunnel = TlsStream<Pipe>;

/// A two-way stream of frames with one peer, whose identity is proven.
#[derive(Debug)]
pub struct Channel {
    sender: Sender,
    receiver: Receiver,
}

impl Channel {
    pub(crate) fn direct(
        peer: NodeId,
        send: SendStream,
        recv: RecvStream,
        link: Option<Use>,
    ) -> Self {
        let ends = Arc::new(Ends { peer, relay: None, _held: Held::Link(link) });
        Self {
            sender: Sender {
                ends: ends.clone(),
                out: Some(Out::Quic(send)),
                outbox: Outbox::default(),
                shared_features: None,
            },
            receiver: Receiver { ends, inflow: Inflow::Quic(recv), inbox: Inbox::default() },
        }
    }

    pub(crate) fn relayed(peer: NodeId, tunnel: Tunnel, link: Use) -> Self {
        let ends = Arc::new(Ends {
            peer,
            relay: Some(link.peer().clone()),
            _held: Held::Link(Some(link)),
        });
        let (read, write) = tokio::io::split(tunnel);
        Self {
            sender: Sender {
                ends: ends.clone(),
                out: Some(Out::Tls(write)),
                outbox: Outbox::default(),
                shared_features: None,
            },
            receiver: Receiver {
                ends,
                inflow: Inflow::Tls(read, BytesMut::new()),
                inbox: Inbox::default(),
            },
        }
    }

    /// Both ends of a channel within this node. A shutdown waits for what the tracker counts;
    /// `stop` breaks the channel as the loss of a link does.
    pub(crate) fn loopback(
        node: &NodeId,
        open: &TaskTracker,
        stop: &CancellationToken,
    ) -> (Self, Self) {
        let (there, arriving) = loopback::lane(stop.clone());
        let (back, returning) = loopback::lane(stop.clone());
        let end = |write, read| {
            let held = Held::Loopback(open.token());
            let ends = Arc::new(Ends { peer: node.clone(), relay: None, _held: held });
            Self {
                sender: Sender {
                    ends: ends.clone(),
                    out: Some(Out::Loopback(write)),
                    outbox: Outbox::default(),
                    shared_features: None,
                },
                receiver: Receiver {
                    ends,
                    inflow: Inflow::Loopback(read),
                    inbox: Inbox::default(),
                },
            }
        };
        (end(there, returning), end(back, arriving))
    }

    /// Both ends have these; `None`: the peer has not told its own yet.
    pub(crate) fn with_features(mut self, shared: Option<Features>) -> Self {
        self.sender.shared_features = shared;
        self
    }

    /// Who is at the other end: proven by its certificate, also when relayed.
    #[must_use]
    pub fn peer(&self) -> &NodeId {
        &self.sender.ends.peer
    }

    /// Does it pass through a third region?
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        self.relay().is_some()
    }

    /// The node it passes through, which sees ciphertext only.
    #[must_use]
    pub fn relay(&self) -> Option<&NodeId> {
        self.sender.ends.relay.as_ref()
    }

    /// Both halves, for two tasks.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// As [`Sender::send`], for who asks and answers in turn.
    ///
    /// # Errors
    /// As [`SendError`] says.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), SendError> {
        self.sender.send(frame).await
    }

    /// As [`Receiver::recv`], for who asks and answers in turn.
    ///
    /// # Errors
    /// As [`RecvError`] says.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, RecvError> {
        self.receiver.recv().await
    }

    pub(crate) fn halves(&mut self) -> (&mut Sender, &mut Receiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// The bare stream, for a relay and for what is inside a relayed stream.
    pub(crate) fn into_raw(mut self) -> Option<RawStream> {
        let ahead = self.receiver.inbox.rest();
        match (self.sender.out.take(), self.receiver.inflow) {
            (Some(Out::Quic(send)), Inflow::Quic(recv)) => Some(RawStream { send, recv, ahead }),
            _ => None,
        }
    }

    /// Ends both ways at once, with the reason.
    pub(crate) fn refuse(mut self, code: VarInt) {
        self.sender.reset_with(code);
        self.receiver.stop_with(code);
    }
}

/// What both halves share.
#[derive(Debug)]
struct Ends {
    peer: NodeId,
    relay: Option<NodeId>,
    _held: Held,
}

/// Keeps a shutdown waiting while a channel is in use.
#[derive(Debug)]
enum Held {
    /// Also keeps the link from being closed as superseded.
    Link(#[expect(dead_code, reason = "held until dropped")] Option<Use>),
    Loopback(#[expect(dead_code, reason = "held until dropped")] TaskTrackerToken),
}

enum Out {
    Quic(SendStream),
    Tls(WriteHalf<Tunnel>),
    Loopback(WriteEnd),
}

/// The sending half.
///
/// Dropping it ends the stream after what was flushed: the peer reads all that, then `None`. What
/// was only fed is lost.
pub struct Sender {
    ends: Arc<Ends>,
    /// None once the stream was given to [`Sender::end`].
    out: Option<Out>,
    outbox: Outbox,
    /// Both ends have them.
    shared_features: Option<Features>,
}

impl Sender {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &NodeId {
        &self.ends.peer
    }

    /// The feature among what a frame `needs` that one of the ends lacks: do not send such a frame.
    /// A peer that has not told its features is asked, and refuses by itself.
    #[must_use]
    pub fn lacks(&self, needs: Option<Feature>) -> Option<Feature> {
        self.shared_features.as_ref()?.lack(needs)
    }

    /// Takes one frame; it travels with the next [`Sender::flush`], or now when [`FEED_BYTES_MAX`]
    /// bytes wait: then this waits while the peer does not read. Cancel safe: the frame is taken at
    /// the first poll, once.
    ///
    /// # Errors
    /// [`SendError::TooLarge`]: not taken, the channel stays open. [`SendError::Broken`]: the
    /// channel is over.
    pub async fn feed(&mut self, frame: Bytes) -> Result<(), SendError> {
        if frame.len() > MESH_FRAME_BYTES {
            return Err(SendError::TooLarge(frame.len()));
        }
        self.outbox.push(frame);
        if self.outbox.waiting() >= FEED_BYTES_MAX { self.flush().await } else { Ok(()) }
    }

    /// Hands all that was fed to the transport, in one go. Waits while the peer does not read.
    /// Cancel safe: the next flush goes on where this one was.
    ///
    /// # Errors
    /// [`SendError::Broken`]: the channel is over; what of the last frames the peer has seen is
    /// unknown.
    pub async fn flush(&mut self) -> Result<(), SendError> {
        while self.outbox.waiting() > 0 {
            let chunks = self.outbox.chunks();
            match self.out.as_mut() {
                Some(Out::Quic(stream)) => {
                    let written =
                        stream.write_chunks(chunks).await.map_err(|error| broken_write(&error))?;
                    self.outbox.written(written.chunks, written.bytes);
                }
                Some(Out::Tls(stream)) => {
                    let first = &mut chunks[0];
                    let bytes = stream
                        .write(first)
                        .await
                        .map_err(|error| SendError::Broken(error.to_string()))?;
                    bytes::Buf::advance(first, bytes);
                    let whole = usize::from(first.is_empty());
                    self.outbox.written(whole, bytes);
                }
                Some(Out::Loopback(lane)) => {
                    let (whole, bytes) = lane.write(chunks).await.map_err(SendError::Broken)?;
                    self.outbox.written(whole, bytes);
                }
                None => return Err(SendError::Broken("the stream was ended".to_owned())),
            }
        }
        if let Some(Out::Tls(stream)) = &mut self.out {
            stream.flush().await.map_err(|error| SendError::Broken(error.to_string()))?;
        }
        Ok(())
    }

    /// [`Sender::feed`], then [`Sender::flush`]. Cancel safe as they are: the frame is taken, the
    /// next flush sends it.
    ///
    /// # Errors
    /// As [`SendError`] says.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), SendError> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// Flushes and ends the stream: the peer reads everything, then `None`. Does not wait for it to
    /// have done so.
    ///
    /// # Errors
    /// As [`SendError`] says.
    pub async fn finish(mut self) -> Result<(), SendError> {
        self.flush().await
    }

    /// Ends the stream at once: what is under way may be lost, and the peer reads an error.
    pub fn reset(mut self) {
        self.reset_with(codes::ABORTED);
    }

    fn reset_with(&mut self, code: VarInt) {
        match self.out.take() {
            Some(Out::Quic(mut stream)) => {
                let _ = stream.reset(code);
            }
            Some(Out::Loopback(lane)) => lane.reset(code),
            // A relayed one is torn: the other end misses the close of TLS.
            Some(Out::Tls(_)) | None => {}
        }
    }

    /// Closes the stream in the background; the link is in use until the peer has acknowledged it.
    fn end(&mut self) {
        let (Some(out), Ok(runtime)) = (self.out.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let ends = self.ends.clone();
        match out {
            Out::Quic(mut stream) => {
                if stream.finish().is_ok() {
                    runtime.spawn(async move {
                        let _ = stream.stopped().await;
                        drop(ends);
                    });
                }
            }
            Out::Tls(mut stream) => {
                runtime.spawn(async move {
                    let _ = tokio::time::timeout(TLS_CLOSE_TIMEOUT, stream.shutdown()).await;
                    drop(ends);
                });
            }
            Out::Loopback(lane) => lane.finish(),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("peer", &self.ends.peer).finish_non_exhaustive()
    }
}

fn broken_write(error: &WriteError) -> SendError {
    SendError::Broken(match error {
        WriteError::Stopped(code) => format!("the peer reads no more: {}", codes::name(*code)),
        WriteError::ConnectionLost(error) => error.to_string(),
        other => other.to_string(),
    })
}

enum Inflow {
    Quic(RecvStream),
    Tls(ReadHalf<Tunnel>, BytesMut),
    Loopback(ReadEnd),
}

/// The receiving half. Dropping it tells the peer to stop sending.
pub struct Receiver {
    ends: Arc<Ends>,
    inflow: Inflow,
    inbox: Inbox,
}

impl Receiver {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &NodeId {
        &self.ends.peer
    }

    /// The next frame; `None` when the peer has finished. Cancel safe. A frame may share its memory
    /// with its neighbours: copy what you keep.
    ///
    /// # Errors
    /// As [`RecvError`] says; the channel is over then.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, RecvError> {
        self.recv_up_to(MESH_FRAME_BYTES).await
    }

    /// The next frame if all of it was read already, without waiting. `None`: go on with
    /// [`Receiver::recv`], which also tells of the end and of errors.
    pub fn try_recv(&mut self) -> Option<Bytes> {
        self.inbox.next(MESH_FRAME_BYTES).ok().flatten()
    }

    pub(crate) async fn recv_up_to(&mut self, limit: usize) -> Result<Option<Bytes>, RecvError> {
        loop {
            match self.inbox.next(limit) {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(TooLarge(bytes)) => {
                    self.stop_with(codes::MALFORMED);
                    return Err(RecvError::TooLarge(bytes));
                }
            }
            if !self.read().await? {
                return if self.inbox.is_empty() { Ok(None) } else { Err(RecvError::Torn) };
            }
        }
    }

    /// Reads on; false at the end of the stream.
    async fn read(&mut self) -> Result<bool, RecvError> {
        match &mut self.inflow {
            Inflow::Quic(stream) => {
                let mut chunks = [const { Bytes::new() }; CHUNKS_AT_ONCE];
                match stream.read_chunks(&mut chunks).await {
                    Ok(Some(count)) => {
                        chunks.into_iter().take(count).for_each(|chunk| self.inbox.put(chunk))
                    }
                    Ok(None) => return Ok(false),
                    Err(error) => return Err(broken_read(&error)),
                }
            }
            Inflow::Tls(stream, buffer) => {
                buffer.reserve(16 * 1024);
                if stream.read_buf(buffer).await.map_err(|error| torn_tunnel(&error))? == 0 {
                    return Ok(false);
                }
                self.inbox.put(buffer.split().freeze());
            }
            Inflow::Loopback(lane) => match lane.read().await.map_err(RecvError::Broken)? {
                Some(chunks) => chunks.into_iter().for_each(|chunk| self.inbox.put(chunk)),
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    fn stop_with(&mut self, code: VarInt) {
        match &mut self.inflow {
            Inflow::Quic(stream) => {
                let _ = stream.stop(code);
            }
            Inflow::Loopback(lane) => lane.stop(code),
            // Its sender learns it from the end of TLS.
            Inflow::Tls(..) => {}
        }
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("peer", &self.ends.peer).finish_non_exhaustive()
    }
}

fn broken_read(error: &ReadError) -> RecvError {
    RecvError::Broken(match error {
        ReadError::Reset(code) => format!("reset by the peer: {}", codes::name(*code)),
        ReadError::ConnectionLost(error) => error.to_string(),
        other => other.to_string(),
    })
}

fn torn_tunnel(error: &io::Error) -> RecvError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        RecvError::Torn
    } else {
        RecvError::Broken(error.to_string())
    }
}
