//! The only place that opens sockets: UDP for the mesh, TCP for the edges, and the lookup of names.
//!
//! Everything above asks a [`Net`] for its sockets, so the same node runs on real ones ([`OsNet`]),
//! on real ones with planned conditions ([`ConditionedNet`]: `hearth up` with its delays and cuts),
//! and on a simulator's. The seam lies *below* QUIC: quinn, rustls and the gossip are the real ones
//! everywhere.
//!
//! | module | what |
//! |---|---|
//! | [`tcp`] | [`Stream`] and [`Listener`]: a plain TCP socket costs no box and no call through a table |
//! | [`udp`] | [`Udp`]: an OS socket that the mesh may drive with segmentation offload, or a [`VirtualUdp`] |
//! | [`conditions`] | cuts, delays and losses between regions, changed while the nodes run |
//! | [`conditioned`] | a [`Net`] that obeys them |
//!
//! It never knows quinn's types, and holds no rule about who may talk to whom.

#![cfg_attr(test, allow(clippy::unwrap_used))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the only place that opens sockets"
)]

pub mod conditioned;
pub mod conditions;
mod os;
pub mod tcp;
pub mod udp;

use std::io;
use std::net::SocketAddr;

pub use conditioned::ConditionedNet;
pub use conditions::{Conditions, Gate};
pub use os::OsNet;
pub use tcp::{Listener, Stream};
pub use udp::{Udp, VirtualUdp};

/// Where a node gets its sockets.
///
/// Call it inside a tokio runtime, which drives the sockets.
#[async_trait::async_trait]
pub trait Net: Send + Sync + 'static {
    /// A bound UDP socket for the mesh. Port 0 takes a free one.
    ///
    /// # Errors
    /// As the OS says: address in use, not ours, no permission.
    fn udp(&self, bind: SocketAddr) -> io::Result<Udp>;

    /// A listening TCP socket. Port 0 takes a free one.
    ///
    /// # Errors
    /// As the OS says.
    async fn listen(&self, bind: SocketAddr) -> io::Result<Listener>;

    /// A TCP connection. Cancel safe: dropping the future drops the attempt. There is no deadline
    /// here.
    ///
    /// # Errors
    /// As the OS says: refused, unreachable, timed out.
    async fn connect(&self, to: SocketAddr) -> io::Result<Stream>;

    /// The addresses of a host name, in the resolver's order; never empty.
    ///
    /// # Errors
    /// When the name has none or the resolver fails.
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}
