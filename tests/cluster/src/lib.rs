//! What tests stand on when one process and one disk are not enough: hosts apart from each other, and a real Cassandra
//! cluster of three datacenters on them.
//!
//! | module | what |
//! |---|---|
//! | [`hosts`] | where the processes of each region run, and the networks between them, which can be cut |
//! | [`cassandra`] | a datacenter in each region |
//! | [`reaper`] | sees to it that nothing outlives the tests |
//!
//! `cargo run -p hearth-test-cluster` starts the same cluster by hand and keeps it until Ctrl-C.
//!
//! Only processes that were started here are ever signalled, by their ids.

#![allow(clippy::missing_panics_doc, reason = "this crate is tests through and through")]
#![allow(
    clippy::disallowed_types,
    reason = "the processes are real, and so are the sockets to them"
)]
#![allow(clippy::disallowed_methods, reason = "nothing here runs on an async worker")]

pub mod cassandra;
pub mod hosts;
pub mod reaper;

pub use cassandra::Cluster;
pub use hosts::{Hosts, Network};
pub use reaper::Reaper;

/// Says why something is not tested here; in CI, where nothing may be skipped, it fails instead.
pub fn skip(why: &str) {
    assert!(std::env::var_os("HEARTH_CI").is_none(), "nothing may be skipped in CI: {why}");
    eprintln!("SKIPPED: {why}");
}
