//! The durable log and its projections: one contract, three stores, one conformance suite.
//!
//! In the story: `core-region` appends a frame here before it acknowledges anything, and projects it here afterwards. An
//! edge never knows this crate.
//!
//! | module | what |
//! |---|---|
//! | [`contract`] | what every store promises: [`Store`], [`StoreError`] |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod contract;

mod cell;
mod quorum;
mod rows;

pub use contract::{Heads, Mark, Store, StoreError};
