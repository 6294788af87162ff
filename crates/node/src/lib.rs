//! What any process of the mesh needs and no rule depends on.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | config files: fields declared once, read, refused, shown in an example |
//! | [`addresses`] | where the nodes are |
//! | [`telemetry`] | logs to stderr, metrics to whoever scrapes them |
//! | [`Tasks`], [`Backoff`], [`retry`], [`clock`] | supervised tasks, attempts and the wall clock, from `runtime` |
//! | [`signals`] | what the operating system asks of it |
//! | [`admin`] | `/healthz`, `/readyz`, `/status`, `/metrics` on a port of its own; what operators may ask |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod addresses;
pub mod admin;
pub mod config;
pub mod signals;
pub mod telemetry;

pub use addresses::{Address, Addresses, HostPort};
pub use admin::operator::{Operator, Order, Reloaded, Steering};
pub use admin::{Admin, AdminOptions, Readiness};
pub use runtime::{Backoff, Stopped, Tasks, clock, retry};
pub use signals::{Signal, Signals};
pub use telemetry::LogFormat;
