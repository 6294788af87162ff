//! The shard's protocol (DESIGN 3.1, 3.2) as machines without I/O: they say what to do next and are told what came of it.
//!
//! A core that should own a shard drives a [`takeover::Takeover`] to a [`Term`], makes an [`owner::Owner`] of it,
//! and serves until it is stopped. No message passes between owners: the conditional writes of the [`lease`] decide who
//! may, the fence tells the one who no longer may. No clock is trusted, except where a zone or a class asks for the timed
//! lease of a process: [`core_lease`], which [`renewal`] keeps alive and a claimant breaks. What a takeover left behind in
//! a lost region [`salvage`] brings back.
//!
//! **Marks** (checkpoint, committed, a consumer's cursor) are [`Position`](wire::Position)s and *exclusive*: `(epoch, slot)` says, in the
//! term `epoch`, "everything before `slot`". They order by (epoch, slot).

pub mod core_lease;
pub mod lease;
mod lease_revoker;
pub mod owner;
pub mod renewal;
pub mod salvage;
mod starts;
mod tail;
pub mod takeover;
mod term;

pub use core_lease::{Beat, ClockError, CoreLease, Timing, Uptime};
pub use lease::{Acting, Cas, FenceMode, Fork, Lease, Nonce};
pub use owner::Owner;
pub use renewal::Renewal;
pub use salvage::Salvage;
pub use starts::Starts;
pub use takeover::{Claimant, Incarnation, Op, OpResult, Takeover, TakeoverError};
pub use term::{AckBy, Loss, Term};
