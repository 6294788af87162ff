//! A QUIC stream without frames: what a relay carries, and what lies below the TLS of a relayed
//! channel.

use std::io::Cursor;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncReadExt as _, Chain, Join};

/// Both directions, and what was read already.
pub(crate) struct RawStream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    pub(crate) ahead: Bytes,
}

/// The same as one byte stream.
pub(crate) type Pipe = Join<Chain<Cursor<Bytes>, RecvStream>, SendStream>;

impl RawStream {
    pub(crate) fn into_pipe(self) -> Pipe {
        tokio::io::join(Cursor::new(self.ahead).chain(self.recv), self.send)
    }
}
