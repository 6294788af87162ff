//! What any process of the mesh needs and no rule depends on.
//!
//! | module | what |
//! |---|---|
//! | [`telemetry`] | logs to stderr, metrics to whoever scrapes them |
//! | [`tasks`] | tasks that somebody watches, and their bounded end |
//! | [`admin`] | `/healthz`, `/readyz`, `/metrics` on a port of its own |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod tasks;
pub mod telemetry;

pub use admin::{Admin, AdminOptions, Readiness};
pub use tasks::{Stopped, Tasks, interrupted};
pub use telemetry::LogFormat;
