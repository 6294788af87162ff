//! How a link and its streams begin: the header of every stream, and the notices on the control
//! stream of a link.
//!
//! A header or a purpose that the reader does not know refuses its stream; the link lives on. A
//! notice that it does not know is passed over.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::frame;
use crate::codec::{CodecError, Head, Numbered, Reader, Unknown, numbered, pack, pack_record};
use crate::ids::{NodeId, ShardId};
use crate::version::Features;

/// Longest header or notice, bytes.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Most links named in one report.
pub const REPORTED_LINKS_MAX: usize = 1024;

/// First frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamHeader {
    /// The control stream of a link: its first, opened by the dialler.
    Control,
    /// A channel for a user of the mesh.
    Open {
        /// What for.
        purpose: Purpose,
        /// What the opener can do.
        features: Features,
    },
    /// Carry the rest of this stream to that node, over your own link.
    Relay(NodeId),
    /// The rest comes through me from this node, which proves itself.
    Relayed(NodeId),
    /// A header of a newer node.
    Unknown(Unknown),
}

/// What a channel is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Commands, queries and the feed of one shard.
    Shard(ShardId),
    /// Requests between two nodes that concern no conversation.
    Control,
    /// A purpose of a newer node: the mesh refuses the channel.
    Unknown(Unknown),
}

/// On the control stream, both ways; the first is a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Who I say I am.
    Hello(Hello),
    /// My healthy links: to whom, and the measured round trip in microseconds.
    Links(Vec<(NodeId, u32)>),
    /// A notice of a newer node.
    Unknown(Unknown),
}

/// A node's claim on a new link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Hello {
    /// Must be what the certificate proves.
    pub node: NodeId,
    /// What it can do.
    pub features: Features,
    /// It goes away soon.
    pub draining: bool,
    /// The number of its start: larger at every one.
    pub incarnation: u64,
    /// Where it can be dialled.
    pub addr: SocketAddr,
    /// The dialler's name for this connection; the acceptor repeats it.
    pub connection: u64,
    /// The last connection with you that I know to be lost.
    pub lost: Option<u64>,
}

crate::record!(Hello);
frame!(StreamHeader);
frame!(Notice);
numbered!(Purpose);

impl Numbered for StreamHeader {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Control => pack(1, &(), out),
            Self::Open { purpose, features } => pack(2, &(purpose, features), out),
            Self::Relay(target) => pack(3, target, out),
            Self::Relayed(origin) => pack(4, origin, out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            1 => Self::Control,
            2 => {
                let (purpose, features) = fields.fields()?;
                Self::Open { purpose, features }
            }
            3 => Self::Relay(fields.fields()?),
            4 => Self::Relayed(fields.fields()?),
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl Numbered for Purpose {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Shard(shard) => pack(1, shard, out),
            Self::Control => pack(2, &(), out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            1 => Self::Shard(fields.fields()?),
            2 => Self::Control,
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl Numbered for Notice {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Hello(hello) => pack_record(1, hello, out),
            Self::Links(links) => pack(2, links, out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            1 => Self::Hello(fields.record()?),
            2 => {
                let links: Vec<(NodeId, u32)> = fields.fields()?;
                if links.len() > REPORTED_LINKS_MAX {
                    let why = format!("{} links in one report", links.len());
                    return Err(CodecError::Fields(why));
                }
                Self::Links(links)
            }
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}
