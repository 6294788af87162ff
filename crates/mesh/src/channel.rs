//! A stream of frames between two nodes.

use bytes::Bytes;
use wire::NodeId;

use crate::error::{RecvError, SendError};

/// A two-way stream of frames with one peer, whose identity is proven.
pub struct Channel {
    sender: Sender,
    receiver: Receiver,
}

impl Channel {
    /// Who is at the other end: proven by its certificate, also when relayed.
    #[must_use]
    pub fn peer(&self) -> &NodeId {
        &self.sender.peer
    }

    /// Does it pass through a third region?
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        false
    }

    /// Both halves; the channel lives until both are gone.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

/// The sending half. Dropping it ends the stream after what was flushed: the peer reads all that and then `None`.
pub struct Sender {
    peer: NodeId,
}

impl Sender {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &NodeId {
        &self.peer
    }

    /// Takes one frame; it travels with the next [`Sender::flush`], or now when much is waiting. Waits while the peer
    /// does not read. Cancel safe: the frame is taken at the first poll, once.
    ///
    /// # Errors
    /// As [`SendError`] says.
    #[allow(clippy::unused_async)]
    pub async fn feed(&mut self, _frame: Bytes) -> Result<(), SendError> {
        Ok(())
    }

    /// Hands everything taken to the transport. Waits while the peer does not read. Cancel safe: go on with another flush.
    ///
    /// # Errors
    /// As [`SendError`] says.
    #[allow(clippy::unused_async)]
    pub async fn flush(&mut self) -> Result<(), SendError> {
        Ok(())
    }

    /// [`Sender::feed`] and [`Sender::flush`].
    ///
    /// # Errors
    /// As [`SendError`] says.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), SendError> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// Flushes and ends the stream: the peer reads everything, then `None`.
    ///
    /// # Errors
    /// As [`SendError`] says.
    pub async fn finish(mut self) -> Result<(), SendError> {
        self.flush().await
    }

    /// Ends the stream at once; what is under way may be lost, and the peer reads an error.
    pub fn reset(self) {}
}

/// The receiving half. Dropping it tells the peer to stop sending.
pub struct Receiver {
    _peer: NodeId,
}

impl Receiver {
    /// The next frame; `None` when the peer has finished. Cancel safe.
    ///
    /// # Errors
    /// As [`RecvError`] says.
    #[allow(clippy::unused_async)]
    pub async fn recv(&mut self) -> Result<Option<Bytes>, RecvError> {
        Ok(None)
    }

    /// The next frame if it is here already. `None`: wait with [`Receiver::recv`], which also tells about the end.
    pub fn try_recv(&mut self) -> Option<Bytes> {
        None
    }
}
