//! The simulator: production edges, cores and SDK clients, unchanged, on virtual time. From the
//! ground up:
//!
//! | modules | what |
//! |---|---|
//! | [`hooks`], [`machine`], [`fabric`], [`net`] | clocks and randomness, a machine with one process on it, the links between machines, sockets on them |
//! | [`datacenters`], [`nodes`], [`site`] | the store's replicas on a machine of their own, production nodes put together, and all of it as one world |
//! | [`fault`], [`inject`] | what can go wrong, and how it is done to a site |
//! | [`scenario`], [`draw`] | a run described in a file, or drawn from a seed |
//! | [`workload`] | the simulated clients and their load |
//! | [`operators`] | those who move conversations meanwhile |
//! | [`run`], [`explore`] | one run from beginning to end, and many side by side |
//! | [`ledger`], [`observe`], [`timeline`], [`panics`] | what clients, operators and logs saw |
//! | [`verdict`], [`outcome`], [`report`] | what held, in figures, and as a page |
//! | [`mutant`] | the protocol with a step broken on purpose: would the verdict notice? |

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
