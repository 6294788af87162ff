//! UDP as the mesh needs it.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::conditions::Gate;

/// A bound UDP socket.
#[derive(Debug)]
pub enum Udp {
    /// The operating system's, non-blocking. The mesh drives it with segmentation offload.
    Os {
        /// The socket.
        socket: std::net::UdpSocket,
        /// Asked about the source of every datagram received. None: all pass.
        gate: Option<Gate>,
    },
    /// Any other socket: one datagram a call.
    Virtual(Box<dyn VirtualUdp>),
}

impl Udp {
    /// Where it is bound.
    ///
    /// # Errors
    /// As the socket says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Os { socket, .. } => socket.local_addr(),
            Self::Virtual(socket) => socket.local_addr(),
        }
    }
}

/// A UDP socket other than the operating system's: one that delays, or a simulator's.
pub trait VirtualUdp: Send + Sync + Debug + 'static {
    /// Sends, or drops as a router does when its queue is full. It never blocks and never returns
    /// `WouldBlock`.
    ///
    /// # Errors
    /// When the socket is broken for good. A datagram that is lost is not an error.
    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()>;

    /// The next datagram: its length and its source. Anything that does not fit into `buf` is cut
    /// off. One task polls.
    ///
    /// # Errors
    /// When the socket is broken for good.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>>;

    /// Where it is bound.
    ///
    /// # Errors
    /// When the socket is broken.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
