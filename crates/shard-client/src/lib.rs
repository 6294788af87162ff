//! For everybody who talks to the owner of a shard: finds the owner, keeps requests in order until
//! they are answered, and sends them again to the next owner.
//!
//! | module | what |
//! |---|---|
//! | [`owner_view`] | the owner of each shard, as far as this node can tell |
//! | [`connect`] | opens a stream to an owner, and notices its death |
//! | [`pending`] | requests in order, answered by number, sent again on the next stream; pure |
//! | [`client`] | the client of a core: commands that are sent until they are answered |
//!
//! An edge has a driver of its own over the first three, because its streams also carry the feed of
//! what its sessions watch.
//!
//! A request may arrive twice. Its owner knows a retry by what the request names, not by its
//! number.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod client;
pub mod connect;
pub mod owner_view;
pub mod pending;

pub use client::{Request, Response, ShardClient, system_actor};
pub use owner_view::OwnerView;
pub use pending::Pending;
