//! The simulator: production edges, cores and SDK clients, unchanged, on virtual time. From the
//! ground up:
//!
//! | modules | what |
//! |---|---|
//! | [`hooks`], [`machine`], [`fabric`], [`net`] | clock and randomness, a machine with one process, the links between machines, sockets |
//! | [`datacenters`], [`nodes`], [`site`] | the store's replicas on a machine of their own, production nodes, and the world of both |
//! | [`fault`], [`inject`] | the faults, and their injection |
//! | [`scenario`], [`draw`] | a run described in a file, or drawn from a seed |
//! | [`workload`] | the simulated clients and their load |
//! | [`operators`] | moves of conversations under load |
//! | [`run`], [`explore`] | one run from beginning to end, and many side by side |
//! | [`ledger`], [`observe`], [`timeline`], [`panics`] | the record of clients, operators and logs |
//! | [`verdict`], [`outcome`], [`report`] | invariants, figures, and the report page |
//! | [`mutant`] | the protocol with a step broken on purpose, to test the verdict |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod datacenters;
pub mod draw;
pub mod explore;
pub mod fabric;
pub mod fault;
pub mod hooks;
pub mod inject;
pub mod ledger;
pub mod machine;
pub mod mutant;
pub mod net;
pub mod nodes;
pub mod observe;
pub mod operators;
pub mod outcome;
pub mod panics;
pub mod report;
pub mod run;
pub mod scenario;
pub mod site;
pub mod timeline;
pub mod verdict;
pub mod workload;
