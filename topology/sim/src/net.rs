//! The sockets of simulated nodes: turmoil-net's, behind the [`net::Net`] that production nodes ask
//! for theirs. quinn, rustls, axum and the WebSockets above it are the real ones.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use net::tcp::VirtualListener;
use net::{Listener, Net, Stream, Udp, VirtualUdp};
use turmoil_net::shim::tokio::net::{TcpListener, TcpStream, UdpSocket};

/// The sockets of the current machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimNet;

#[async_trait]
impl Net for SimNet {
    fn udp(&self, bind: SocketAddr) -> io::Result<Udp> {
        let bound = UdpSocket::bind(bind)
            .now_or_never()
            .unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()));
        Ok(Udp::Virtual(Box::new(Datagrams(bound?))))
    }

    async fn listen(&self, bind: SocketAddr) -> io::Result<Listener> {
        Ok(Listener::virtual_listener(Listening(TcpListener::bind(bind).await?)))
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        Ok(Stream::virtual_io(TcpStream::connect(to).await?))
    }

    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let known = host.parse::<IpAddr>().map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(vec![SocketAddr::new(known, port)])
    }
}

#[derive(Debug)]
struct Datagrams(UdpSocket);

impl VirtualUdp for Datagrams {
    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        // A datagram too large for the link is lost, as at a router that may not fragment.
        let _ = self.0.try_send_to(datagram, to);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        // The future holds no state, so a new one each time is equivalent.
        pin!(self.0.recv_from(buf)).poll(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct Listening(TcpListener);

#[async_trait]
impl VirtualListener for Listening {
    async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        Ok((Stream::virtual_io(stream), from))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
