//! The program as operators run it: a process a node, over a real Cassandra cluster. And the store
//! over that cluster.
//!
//! All tests share one cluster and take turns on it. `HEARTH_CLUSTER=1` switches them on.

#![allow(clippy::unwrap_used)]

#[path = "deployed/cql.rs"]
mod cql;
#[path = "deployed/processes.rs"]
mod processes;
