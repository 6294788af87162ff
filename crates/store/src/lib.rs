//! The durable log and its projections: one contract, three stores, one conformance suite.
//!
//! In the story: `core-region` appends a frame here before it acknowledges anything, and projects it here afterwards. An
//! edge never knows this crate.
//!
//! | module | what |
//! |---|---|
//! | [`contract`] | what every store promises: [`Store`], which is [`Leases`], [`Log`], [`Marks`] and [`Projections`] |
//! | [`layer`] | something between a store and its callers, for tests and the simulator |
//! | [`conformance`] | the suite that every store passes |
//! | [`embedded`] | one machine: a fjall database for each region, our own group commit, checks and repair |
//! | [`scylla`] | many machines: a ScyllaDB or Cassandra cluster with a datacenter in each region |
//! | [`simulated`] | in memory, on virtual time, in any weather: for the checker and the simulator |

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
