//! Frames between nodes, by direction. The mesh delimits them; [`codec`](crate::codec) says how
//! they grow.
//!
//! | stream | asks | answers |
//! |---|---|---|
//! | of a shard | [`ToOwner`]: commands, queries, watches | [`FromOwner`]: replies and the feed |
//! | control | [`NodeRequest`] | [`NodeReply`] |
//!
//! Every stream begins with a [`StreamHeader`]; the first stream of a link carries [`Notice`]s.
//!
//! A frame of a kind that the reader does not know is ignored when its sender marked it
//! [skippable](crate::codec::SKIPPABLE); otherwise the reader answers `Unsupported`, and the sender
//! falls back.

mod control;
mod from_owner;
mod opening;
mod to_owner;

pub use control::{NodeReply, NodeRequest};
pub use from_owner::{FromOwner, StreamEnd, feed_frame};
pub use opening::{HEADER_BYTES_MAX, Hello, Notice, Purpose, REPORTED_LINKS_MAX, StreamHeader};
pub use to_owner::ToOwner;

/// The number of `Unsupported`, in every direction.
const UNSUPPORTED: u16 = 0;

/// Gives a kind of frame its bytes.
macro_rules! frame {
    ($type:ident) => {
        impl $type {
            /// Head and fields.
            #[must_use]
            pub fn to_bytes(&self) -> bytes::Bytes {
                $crate::codec::to_frame(self)
            }

            /// The inverse of `to_bytes`.
            ///
            /// # Errors
            /// When the bytes are not a frame, or a known kind lacks a field.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, $crate::codec::CodecError> {
                $crate::codec::from_frame(bytes)
            }
        }
    };
}
use frame;
