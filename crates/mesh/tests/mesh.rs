//! Mesh nodes over real QUIC on loopback: channels, links that break, membership, and detours
//! around a cut.

#![allow(clippy::unwrap_used)]

#[path = "mesh/channels.rs"]
mod channels;
#[path = "mesh/links.rs"]
mod links;
#[path = "mesh/loopback.rs"]
mod loopback;
#[path = "mesh/membership.rs"]
mod membership;
#[path = "mesh/relay.rs"]
mod relay;
#[path = "mesh/support.rs"]
mod support;
