//! The durable log and its projections: one contract, three stores, one conformance suite.
//!
//! `core-region` appends a frame here before it acknowledges anything, and projects it afterwards.
//! An edge never knows this crate.
//!
//! | module | what |
//! |---|---|
//! | [`contract`] | the promises of every store: [`Store`] |
//! | [`layer`] | something between a store and its callers, for tests and the simulator |
//! | [`conformance`] | the suite that every store passes |
//! | [`embedded`] | one machine: a fjall database for each region, with checks and repair |
//! | [`scylla`] | many machines: a ScyllaDB or Cassandra cluster with a datacenter in each region |
//! | [`simulated`] | in memory, on virtual time: for the checker and the simulator |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod conformance;
#[warn(missing_docs)]
pub mod contract;
pub mod embedded;
pub mod layer;
pub mod scylla;
pub mod simulated;

mod cell;
mod quorum;
mod rows;

pub use contract::{
    ConversationRef, CoreKey, Heads, Leases, Log, Mark, Marks, Projections, ScanPage, Store,
    StoreError,
};
pub use layer::{Layer, Layered, Operation};
