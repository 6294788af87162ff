//! The world: which regions there are, what may rest where, and who serves what.
//!
//! A [`World`] is read from a TOML file and checked as a whole, so everyone who holds one may trust
//! it. From it and the set of live cores, [`placement`] says which core serves a shard and who may
//! take it over; edges and cores compute the same answer without asking each other. All of it is
//! pure: no clock, no sockets, no files but the text that is passed in.
//!
//! | module | what it answers |
//! |---|---|
//! | [`file`](mod@file) | what a world file may say, and what is wrong with this one |
//! | [`mistakes`] | how mistakes in a file are told: line, problem, cure |
//! | [`world`] | regions, zones, tenants, links: lookups, delays, where an edge may serve |
//! | [`births`](world) | under which id, in which shard, a conversation is born (methods of [`World`]) |
//! | [`placement`] | which core of which region serves a shard, given who is alive |
//!
//! Placement only *proposes*. Two nodes with different views may propose differently; the
//! conditional claim in the store decides, and the loser follows.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod file;
pub mod mistakes;
pub mod placement;
pub mod world;

pub use placement::Live;
pub use world::{Fence, IdentityProvider, Jwks, Link, Region, Serve, Tenant, Transit, World, Zone};
