//! The rules, without clock, I/O or async: `now` and every random number are passed in.
//!
//! Drivers (`core-region`, `edge`, the simulator, the tests) own sockets, tasks and clocks and hold
//! no rules. Everything that keeps a message once and in one order stands here, where it can be
//! tested alone, and where the model checker (`tests/model.rs`) runs the code that production runs.
//!
//! In the order of a message's life:
//!
//! | module | what it decides |
//! |---|---|
//! | [`sequencer`] | one conversation: is the command allowed, is it a duplicate, which `seq` and `ver` it gets |
//! | [`roles`] | who may add, remove, promote |
//! | [`dedupe`] | what an earlier send with the same `client_msg_id` became |
//! | [`log`] | what one slot of the shard log holds |
//! | [`shard`] | who may write the log (lease, takeover), and when an append may be acknowledged (owner) |
//! | [`moving`] | how a conversation goes from one shard to another |
//! | [`projection`] | the rows that a committed frame becomes |
//! | [`consumer`] | which rows of the log a consumer may read |
//! | [`request_queue`] | in which order the requests of one conversation are served |
//! | [`rebuild`] | the frames a consumer reads instead where the log has been trimmed |
//! | [`edge_cursor`] | which change an edge delivers next |
//! | [`delivery`] | which subscriber at an edge gets it, and when |
//! | [`invariants`] | what must hold over everything that clients saw |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod consumer;
pub mod dedupe;
pub mod delivery;
pub mod edge_cursor;
pub mod invariants;
pub mod log;
pub mod moving;
pub mod projection;
pub mod rebuild;
pub mod request_queue;
pub mod roles;
pub mod sequencer;
pub mod shard;
