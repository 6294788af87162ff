//! The real sockets.

use std::io;
use std::net::SocketAddr;

use crate::{Listener, Net, Stream, Udp};

/// Connections that the kernel holds until we accept them. A reconnect storm fills it; beyond it
/// the kernel drops the SYN, and the client retries a second later.
const BACKLOG: u32 = 4096;

/// Bytes asked for the UDP buffers; the kernel cuts it to its own maximum. The usual default
/// overflows when a peer sends one window in a burst.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The operating system's sockets. TCP has `TCP_NODELAY` set: every frame is written whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsNet;

#[async_trait::async_trait]
impl Net for OsNet {
    fn udp(&self, bind: SocketAddr) -> io::Result<Udp> {
        Ok(Udp::Os { socket: udp_socket(bind)?, gate: None })
    }

    async fn listen(&self, bind: SocketAddr) -> io::Result<Listener> {
        let socket = match bind {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        // A node restarted on its port need not wait for the connections of its former process.
        socket.set_reuseaddr(true)?;
        socket.bind(bind)?;
        Ok(Listener::from(socket.listen(BACKLOG)?))
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        let stream = tokio::net::TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Stream::from(stream))
    }

    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }
}

/// A bound, non-blocking UDP socket with large buffers.
pub(crate) fn udp_socket(bind: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(bind)?;
    socket.set_nonblocking(true)?;
    let tuned = socket2::SockRef::from(&socket);
    for (side, result) in [
        ("receive", tuned.set_recv_buffer_size(UDP_BUFFER_BYTES)),
        ("send", tuned.set_send_buffer_size(UDP_BUFFER_BYTES)),
    ] {
        if let Err(error) = result {
            tracing::debug!(%error, side, "udp buffer stays at its default");
        }
    }
    Ok(socket)
}
