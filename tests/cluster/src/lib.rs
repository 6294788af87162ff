//! Hosts that are apart from each other, and a real Cassandra cluster of three datacenters on them:
//! for tests to which one process and one disk are not enough.
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

use std::collections::BTreeSet;
use std::env;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

pub mod cassandra;
pub mod hosts;
pub mod reaper;

pub use cassandra::Cluster;
pub use hosts::{Hosts, Network};
pub use reaper::Reaper;

/// Switches the tests on a real cluster on: `1`. They take minutes and JDK 17, so `cargo test
/// --workspace` leaves them out. `HEARTH_CQL`, which names a running cluster, switches them on too.
pub const SWITCH: &str = "HEARTH_CLUSTER";

/// Whether the tests on a real cluster are wanted. If not, says how to run them.
#[must_use]
pub fn is_wanted() -> bool {
    let wanted = env::var_os("HEARTH_CQL").is_some() || env::var(SWITCH).is_ok_and(|it| it == "1");
    if !wanted {
        skip("tests on a real Cassandra cluster: set HEARTH_CLUSTER=1, or run `tests/all`");
    }
    wanted
}

/// Says, once, why something is not tested here. In CI, where nothing may be skipped, it fails
/// instead.
///
/// # Panics
/// With `HEARTH_CI` set.
pub fn skip(why: &str) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    assert!(env::var_os("HEARTH_CI").is_none(), "nothing may be skipped in CI: {why}");
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(why.to_owned()) {
        // Not `eprintln!`, which the test harness swallows when the test passes.
        _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
    }
}
