//! Cores on real mesh nodes over loopback, asked by a test edge that speaks frames: what they
//! promise together, and what they promise when one of them dies.
#![allow(clippy::unwrap_used)]

mod core {

    mod chaos;
    mod consumers;
    pub(crate) mod edge;
    mod failover;
    mod feed;
    pub(crate) mod harness;
    mod life;
    mod moves;
    mod newer;
    mod notes;
    mod rebuild;
    mod restart;
    mod store_shim;
    mod takeover;
}
