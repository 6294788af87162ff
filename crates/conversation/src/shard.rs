//! The shard's protocol (DESIGN 3.1, 3.2) as state machines without I/O: each says what to do next
//! and is told the result.
//!
//! A core that should own a shard drives a [`takeover::Takeover`] to a [`Term`], makes an
//! [`owner::Owner`] of it, and serves until it is stopped. Owners exchange no messages. The
//! conditional writes of the [`lease`] decide who may write; the fence tells an old owner that its
//! term is over. No clock is trusted, except where a zone or a durability class asks for the timed
//! lease of a process ([`core_lease`]): [`renewal`] keeps it alive, and a claimant revokes it.
//! [`salvage`] brings back what a takeover left behind in a lost region.
//!
//! **Marks** (checkpoint, committed, a consumer's cursor) are [`Position`](wire::Position)s and
//! *exclusive*: in the term `epoch`, `(epoch, slot)` means "everything before `slot`". They order
//! by (epoch, slot).

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
