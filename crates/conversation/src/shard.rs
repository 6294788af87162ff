//! The shard's protocol (DESIGN 3.1) as machines without I/O: they say what to do next and are told what came of it.
//!
//! A core that should own a shard drives a [`takeover::Takeover`] to a [`takeover::Term`], makes an [`owner::Owner`] of it,
//! and serves until it is stopped. No clock is trusted and no message passes between owners: the conditional writes of
//! the [`lease`] decide who may, the fence tells the one who no longer may.
//!
//! **Marks** (checkpoint, committed, a consumer's cursor) are [`Position`](wire::Position)s and *exclusive*: `(epoch, slot)` says, in the
//! term `epoch`, "everything before `slot`". They order by (epoch, slot).

pub mod lease;
pub mod owner;
pub mod takeover;

pub use lease::{Cas, FenceMode, Lease, Nonce, Starts};
pub use owner::Owner;
pub use takeover::{Do, Done, Lost, Takeover, Term};
