//! The stores that need no server: the conformance suite on both, and what each must survive.

#![allow(clippy::unwrap_used)]

#[path = "store/crash.rs"]
mod crash;
#[path = "store/disk.rs"]
mod disk;
#[path = "store/embedded.rs"]
mod embedded;
#[path = "store/healing.rs"]
mod healing;
#[path = "store/simulated.rs"]
mod simulated;
