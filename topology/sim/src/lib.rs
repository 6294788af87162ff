//! The simulator: production edges, cores and SDK clients, unchanged, on virtual time.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod carry;
pub mod datacenters;
pub mod draw;
pub mod explore;
pub mod fabric;
pub mod fault;
pub mod hooks;
pub mod ledger;
pub mod machine;
pub mod mutant;
pub mod net;
pub mod nodes;
pub mod observe;
pub mod outcome;
pub mod panics;
pub mod report;
pub mod run;
pub mod scenario;
pub mod site;
pub mod timeline;
pub mod town;
pub mod verdict;
