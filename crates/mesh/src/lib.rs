//! How nodes reach each other.
pub mod ca;
mod channel;
mod error;
mod membership;
mod options;
mod node;

pub use ca::{Identity, MeshCa};
pub use channel::{Channel, Receiver, Sender};
pub use error::{OpenError, RecvError, SendError, StartError};
pub use membership::{Membership, NodeState};
pub use node::{LinkStatus, Mesh};
pub use options::{MeshOptions, Timings, PoolTimings};
