//! What the owner of a shard says.

use bytes::Bytes;

use super::{UNSUPPORTED, frame};
use crate::change::Home;
use crate::codec::{CodecError, Head, Numbered, Reader, Unknown, numbered, pack, write};
use crate::command::{Answer, Delivery, Refusal};
use crate::ids::{ConversationId, NodeId};

/// A frame from the owner of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromOwner {
    /// The answer to a request.
    Reply {
        /// The request's number.
        rid: u64,
        /// What it came to.
        result: Result<Answer, Refusal>,
    },
    /// Changes of watched conversations, in `ver` order within each.
    Feed {
        /// Oldest first.
        deliveries: Vec<Delivery>,
    },
    /// This watch fell too far behind and was dropped. Watch again after the last `ver` seen.
    Lagged {
        /// The conversation.
        conversation: ConversationId,
    },
    /// The conversation is in another shard. Ask there, and watch there after the last `ver` seen.
    Moved {
        /// The request that this answers; none: the watch has ended here.
        rid: Option<u64>,
        /// The conversation.
        conversation: ConversationId,
        /// Where it is. Of several that a node has heard of, the one with the highest generation
        /// counts.
        placement: Home,
    },
    /// The last frame of the stream.
    End(StreamEnd),
    /// The other side sent a frame of a kind that the owner does not know.
    Unsupported {
        /// That kind.
        kind: u16,
    },
    /// A frame of a newer owner.
    Unknown(Unknown),
}

/// Why an owner ends a shard stream. Whatever it had not answered, it did not and will not do in
/// this term; whether an unanswered command was committed is unknown until its owner is asked
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Not this node; perhaps that one.
    NotOwner {
        /// The owner as far as this node knows.
        owner: Option<NodeId>,
    },
    /// The node is going away, or its term has ended.
    Stopping,
    /// For a reason of a newer owner.
    Unknown(Unknown),
}

frame!(FromOwner);
numbered!(StreamEnd);

/// The number of [`FromOwner::Feed`].
const FEED: u16 = 17;

impl Numbered for FromOwner {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Reply { rid, result } => pack(16, &(rid, result), out),
            Self::Feed { deliveries } => pack(FEED, deliveries, out),
            Self::Lagged { conversation } => pack(18, conversation, out),
            Self::End(end) => pack(19, end, out),
            Self::Moved { rid, conversation, placement } => {
                pack(20, &(rid, conversation, placement), out)
            }
            Self::Unsupported { kind } => pack(UNSUPPORTED, kind, out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            16 => {
                let (rid, result) = fields.fields()?;
                Self::Reply { rid, result }
            }
            FEED => Self::Feed { deliveries: fields.fields()? },
            18 => Self::Lagged { conversation: fields.fields()? },
            19 => Self::End(fields.fields()?),
            20 => {
                let (rid, conversation, placement) = fields.fields()?;
                Self::Moved { rid, conversation, placement }
            }
            UNSUPPORTED => Self::Unsupported { kind: fields.fields()? },
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl Numbered for StreamEnd {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::NotOwner { owner } => pack(1, owner, out),
            Self::Stopping => pack(2, &(), out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            1 => Self::NotOwner { owner: fields.fields()? },
            2 => Self::Stopping,
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

/// A [`FromOwner::Feed`] put together from deliveries that were encoded once
/// ([`Delivery::to_bytes`]) and are shared by all streams that get them.
#[must_use]
pub fn feed_frame(encoded: &[Bytes]) -> Bytes {
    let bytes = encoded.iter().map(Bytes::len).sum::<usize>();
    let mut frame = Vec::with_capacity(16 + bytes);
    frame.extend_from_slice(&FEED.to_be_bytes());
    frame.push(0);
    // A postcard sequence is its length and then its elements, one after the other.
    write(&encoded.len(), &mut frame);
    for delivery in encoded {
        frame.extend_from_slice(delivery);
    }
    Bytes::from(frame)
}
