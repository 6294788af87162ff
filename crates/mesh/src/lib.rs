//! How nodes reach each other: proven identities, one QUIC link for each pair, channels of frames
//! on it, gossip about which nodes are alive, and a detour through a third region when a link is
//! cut.
//!
//! # The life of a link
//! A node knows a peer by name and address (`peer_table`): the operator names it, or gossip tells
//! of it. One of the two dials (`dial`), the other accepts (`accept`). Both show certificates
//! (`tls`, `proof`), say hello, and must be what they proved (`handshake`). If both dialled, the
//! peer table keeps one of the two links. A kept link is served (`link_driver`): its streams
//! (`streams`), its gossip (`gossip`), and a check that the peer is heard. When it is lost, `dial`
//! starts again.
//!
//! # The life of a channel
//! [`Mesh::open`] takes the direct link, or a relay chosen by measured round trips (`routes`,
//! `open`, `relay`): then the two ends speak TLS with each other through it. The peer's
//! [`Mesh::accept`] yields who it is, what for, and a [`Channel`] of length-delimited frames
//! (`frames`), bounded by the transport's flow control. A channel to the node itself has the same
//! frames and bounds, and stays in memory (`loopback`).
//!
//! # Not done here
//! What the frames say. Who owns what: gossip only suspects. Retrying what was sent on a channel
//! that broke.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # use hearth_mesh as mesh;
//! use std::sync::Arc;
//! let ca = mesh::MeshCa::create()?;
//! let (me, peer) = ("r1/edge/1".parse()?, "r2/core/1".parse()?);
//! let mut options = mesh::MeshOptions::new(me, ca.issue(&"r1/edge/1".parse()?)?,
//! "0.0.0.0:0".parse()?, Arc::new(net::OsNet));
//! options.peers = vec![("r2/core/1".parse()?, "192.0.2.7:4433".parse()?)];
//! let node = mesh::Mesh::start(options)?;
//! let (mut sender, mut receiver) = node.open(&peer,
//! wire::stream::Purpose::Control).await?.split();
//! sender.send("a frame".into()).await?;
//! let answer = receiver.recv().await?;
//! # Ok(()) }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accept;
mod ca;
mod channel;
mod codes;
mod context;
mod dial;
mod error;
mod frames;
mod gossip;
mod handshake;
#[cfg(test)]
mod hostile_peer_tests;
mod link;
mod link_driver;
mod loopback;
mod membership;
mod node;
mod open;
mod options;
mod peer_table;
mod proof;
mod raw_stream;
mod relay;
mod routes;
mod socket;
mod streams;
mod tls;
mod transport;

pub use ca::{CaError, Identity, IssuedPem, MeshCa};
pub use channel::{Channel, FEED_BYTES_MAX, Receiver, Sender};
pub use error::{OpenError, RecvError, SendError, StartError};
pub use membership::{Membership, NodeState};
pub use node::{LinkStatus, Mesh};
pub use options::{MeshOptions, PoolTimings, Timings};
pub use proof::IdentityError;
pub use transport::{CHANNELS_PER_LINK, LINK_SEND_BYTES, LINK_WINDOW_BYTES, STREAM_WINDOW_BYTES};
