//! The UDP socket under quinn: the operating system's with its offloads, or a virtual one; behind
//! both a gate for cuts, and a switch that makes the node fall silent as a crash does.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use net::{Gate, Udp, VirtualUdp};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

/// From then on nothing is sent or received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mute(Arc<AtomicBool>);

impl Mute {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The socket as quinn wants it.
pub(crate) fn wrap(udp: Udp, mute: Mute) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    Ok(match udp {
        Udp::Os { socket, gate } => {
            Arc::new(OsSocket { inner: TokioRuntime.wrap_udp_socket(socket)?, gate, mute })
        }
        Udp::Virtual(inner) => Arc::new(VirtualSocket { inner, mute }),
    })
}

#[derive(Debug)]
struct OsSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    gate: Option<Gate>,
    mute: Mute,
}

impl AsyncUdpSocket for OsSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.mute.is_set() {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        let silent = self.mute.is_set();
        for one in &mut meta[..received] {
            if silent || self.gate.as_ref().is_some_and(|gate| !gate.passes(one.addr)) {
                // quinn passes over an empty datagram.
                one.len = 0;
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[derive(Debug)]
struct VirtualSocket {
    inner: Box<dyn VirtualUdp>,
    mute: Mute,
}

impl AsyncUdpSocket for VirtualSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.mute.is_set() {
            return Ok(());
        }
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        transmit
            .contents
            .chunks(size)
            .try_for_each(|datagram| self.inner.send(transmit.destination, datagram))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut received = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta.iter_mut()) {
            match self.inner.poll_recv(cx, buf) {
                Poll::Ready(Ok((len, addr))) => {
                    let len = if self.mute.is_set() { 0 } else { len };
                    *meta = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
                    received += 1;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if received == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A virtual socket never blocks a sender.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
