//! What every driver needs around its tasks. It knows nothing of nodes; `node` exports it again.
//!
//! | module | what |
//! |---|---|
//! | [`tasks`] | supervised tasks: named, their panics reported, stopped in order and within a bound |
//! | [`backoff`] | jittered pauses that grow between attempts |
//! | [`retry`] | an operation repeated until it succeeds, with a backoff |
//! | [`clock`] | the wall clock |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backoff;
pub mod clock;
pub mod retry;
pub mod tasks;

pub use backoff::Backoff;
pub use tasks::{Stopped, Tasks};
