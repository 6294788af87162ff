//! TCP streams and listeners, real or virtual.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// A byte stream of a virtual network.
pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Io for T {}

/// A connected byte stream. The usual one is a plain TCP socket without a box around it.
pub struct Stream(Inner);

enum Inner {
    Tcp(TcpStream),
    Virtual(Box<dyn Io>),
}

impl Stream {
    /// Around a stream of a virtual network.
    #[must_use]
    pub fn virtual_io(io: impl Io) -> Self {
        Self(Inner::Virtual(Box::new(io)))
    }

    /// The socket, when it is one of the operating system's, for its options.
    #[must_use]
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match &self.0 {
            Inner::Tcp(stream) => Some(stream),
            Inner::Virtual(_) => None,
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(Inner::Tcp(stream))
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Inner::Tcp(stream) => stream.fmt(f),
            Inner::Virtual(_) => f.write_str("Stream::Virtual"),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Inner::Virtual(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Inner::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Inner::Virtual(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Inner::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Inner::Virtual(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Inner::Tcp(stream) => stream.is_write_vectored(),
            Inner::Virtual(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Inner::Virtual(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Inner::Virtual(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

/// A listener of a virtual network.
#[async_trait::async_trait]
pub trait VirtualListener: Send + Sync + 'static {
    /// The next connection and its source. Cancel safe.
    ///
    /// # Errors
    /// When that one connection or the listener failed.
    async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)>;

    /// Where it listens.
    ///
    /// # Errors
    /// When the listener is broken.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A listening socket.
pub struct Listener(Listening);

enum Listening {
    Tcp(TcpListener),
    Virtual(Box<dyn VirtualListener>),
}

impl Listener {
    /// Around a listener of a virtual network.
    #[must_use]
    pub fn virtual_listener(listener: impl VirtualListener) -> Self {
        Self(Listening::Virtual(Box::new(listener)))
    }

    /// The next connection, with `TCP_NODELAY` set, and its source. Cancel safe.
    ///
    /// # Errors
    /// When that one connection failed before we accepted it, or the process is out of descriptors.
    /// Pause and call again: the listener itself is intact.
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match &mut self.0 {
            Listening::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::from(stream), from))
            }
            Listening::Virtual(listener) => listener.accept().await,
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the OS says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Listening::Tcp(listener) => listener.local_addr(),
            Listening::Virtual(listener) => listener.local_addr(),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self(Listening::Tcp(listener))
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Listener").field(&self.local_addr().ok()).finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use crate::{Net, OsNet};

    #[tokio::test]
    async fn bytes_cross_a_real_stream_without_delay_of_small_writes() {
        let mut listener = OsNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut near = OsNet.connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, from) = listener.accept().await.unwrap();
        assert_eq!(from, near.as_tcp().unwrap().local_addr().unwrap());
        assert!(
            near.as_tcp().unwrap().nodelay().unwrap() && far.as_tcp().unwrap().nodelay().unwrap()
        );
        near.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_a_missing_one_is_an_error() {
        assert!(OsNet.lookup("localhost", 7).await.unwrap().iter().all(|a| a.port() == 7));
        assert!(OsNet.lookup("no-such-host.invalid", 7).await.is_err());
    }
}
