//! What nodes ask of each other that concerns no conversation.

use super::{UNSUPPORTED, frame};
use crate::codec::{CodecError, Head, Numbered, Reader, Unknown, pack};
use crate::command::Refusal;
use crate::ids::ShardId;

/// A request of one node to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeRequest {
    /// From core to core: I am giving this shard up, it is yours to claim.
    Handover {
        /// Named by the reply; unique on the stream.
        rid: u64,
        /// The shard.
        shard: ShardId,
    },
    /// A request of a newer node.
    Unknown(Unknown),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeReply {
    /// What became of a request.
    Done {
        /// The request's number.
        rid: u64,
        /// Done, or why not.
        result: Result<(), Refusal>,
    },
    /// The request was of a kind that this node does not know.
    Unsupported {
        /// That kind.
        kind: u16,
    },
    /// An answer of a newer node.
    Unknown(Unknown),
}

frame!(NodeRequest);
frame!(NodeReply);

impl Numbered for NodeRequest {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Handover { rid, shard } => pack(32, &(rid, shard), out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            32 => {
                let (rid, shard) = fields.fields()?;
                Self::Handover { rid, shard }
            }
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl Numbered for NodeReply {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Done { rid, result } => pack(33, &(rid, result), out),
            Self::Unsupported { kind } => pack(UNSUPPORTED, kind, out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            33 => {
                let (rid, result) = fields.fields()?;
                Self::Done { rid, result }
            }
            UNSUPPORTED => Self::Unsupported { kind: fields.fields()? },
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}
