//! What nodes say to each other before and beside the users' frames: the head of a stream, and the notices on the control
//! stream of a link.
//!
//! Each is one length-delimited frame: a kind, then a postcard body that may grow at its end. A head of an unknown kind is
//! refused, a notice of an unknown kind is passed over: so nodes are upgraded one by one.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wire::NodeId;
use wire::stream::Purpose;
use wire::version::Features;

/// Longest head or notice, bytes.
pub(crate) const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Most links named in one report.
pub(crate) const REPORTED_LINKS_MAX: usize = 1024;

/// First frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamHeader {
    /// The control stream of a link: its first, opened by the dialler.
    Control,
    /// A channel for a user of the mesh, from a node that has these features.
    Open(Purpose, Features),
    /// Carry the rest of this stream to that node, over your own link.
    Relay(NodeId),
    /// The rest comes through me from this node, which will prove itself.
    Relayed(NodeId),
}

/// On the control stream, both ways; the first is a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Who I say I am.
    Hello(Hello),
    /// My healthy links: to whom, and the measured round trip in microseconds.
    Links(Vec<(NodeId, u32)>),
    /// Of a later version.
    Unknown(u8),
}

/// A node's claim on a new link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Must be what the certificate proves.
    pub(crate) node: NodeId,
    /// What it can do.
    pub(crate) features: Features,
    /// It goes away soon.
    pub(crate) draining: bool,
    pub(crate) incarnation: u64,
    /// Where it can be dialled.
    pub(crate) addr: SocketAddr,
    /// The dialler's name for this connection; the acceptor repeats it.
    pub(crate) connection: u64,
    /// The last connection with you that I know to be lost.
    pub(crate) lost: Option<u64>,
}

/// Bytes that are neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("malformed head")]
    Malformed,
    #[error("head of unknown kind {0}")]
    Unknown(u8),
}

fn encode<T: Serialize>(kind: u8, body: &T) -> Bytes {
    Bytes::from(
        postcard::to_extend(body, vec![kind]).expect("plain data in memory always serializes"),
    )
}

/// The fields this version knows; what follows them is of a later one.
fn body<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, HeaderError> {
    postcard::take_from_bytes(bytes).map(|(value, _)| value).map_err(|_| HeaderError::Malformed)
}

impl StreamHeader {
    pub(crate) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Control => encode(0, &()),
            Self::Open(purpose, features) => encode(1, &(purpose, features)),
            Self::Relay(target) => encode(2, target),
            Self::Relayed(origin) => encode(3, origin),
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (kind, rest) = bytes.split_first().ok_or(HeaderError::Malformed)?;
        Ok(match kind {
            0 => Self::Control,
            1 => {
                let (purpose, features) = body(rest)?;
                Self::Open(purpose, features)
            }
            2 => Self::Relay(body(rest)?),
            3 => Self::Relayed(body(rest)?),
            kind => return Err(HeaderError::Unknown(*kind)),
        })
    }
}

impl Notice {
    pub(crate) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Hello(hello) => encode(0, hello),
            Self::Links(links) => encode(1, links),
            Self::Unknown(kind) => encode(*kind, &()),
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (kind, rest) = bytes.split_first().ok_or(HeaderError::Malformed)?;
        Ok(match kind {
            0 => Self::Hello(body(rest)?),
            1 => {
                let links: Vec<(NodeId, u32)> = body(rest)?;
                if links.len() > REPORTED_LINKS_MAX {
                    return Err(HeaderError::Malformed);
                }
                Self::Links(links)
            }
            kind => Self::Unknown(*kind),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::{Durability, RegionId, ShardId, ZoneId};

    use super::*;

    fn any_node() -> impl Strategy<Value = NodeId> {
        (any::<u16>(), any::<bool>(), "[a-z0-9-]{1,30}").prop_map(|(region, core, name)| {
            format!("r{region}/{}/{name}", if core { "core" } else { "edge" }).parse().unwrap()
        })
    }

    fn any_purpose() -> impl Strategy<Value = Purpose> {
        any::<Option<(u16, u16, u16, bool)>>().prop_map(|shard| match shard {
            None => Purpose::Control,
            Some((zone, home, n, multi)) => {
                let durability = if multi { Durability::MultiRegion } else { Durability::Region };
                Purpose::Shard(ShardId { zone: ZoneId(zone), home: RegionId(home), durability, n })
            }
        })
    }

    fn any_head() -> impl Strategy<Value = StreamHeader> {
        prop_oneof![
            Just(StreamHeader::Control),
            any_purpose().prop_map(|purpose| StreamHeader::Open(purpose, Features::all())),
            any_node().prop_map(StreamHeader::Relay),
            any_node().prop_map(StreamHeader::Relayed),
        ]
    }

    fn any_hello() -> impl Strategy<Value = Hello> {
        let addr = any::<(bool, u128, u16)>().prop_map(|(v4, ip, port)| {
            let v6 = std::net::Ipv6Addr::from(ip);
            if v4 {
                SocketAddr::from((std::net::Ipv4Addr::from(ip as u32), port))
            } else {
                (v6, port).into()
            }
        });
        (any_node(), any::<(bool, u64, u64, Option<u64>)>(), addr).prop_map(
            |(node, (draining, incarnation, connection, lost), addr)| Hello {
                node,
                features: Features::all(),
                draining,
                incarnation,
                addr,
                connection,
                lost,
            },
        )
    }

    fn any_notice() -> impl Strategy<Value = Notice> {
        prop_oneof![
            any_hello().prop_map(Notice::Hello),
            proptest::collection::vec((any_node(), any::<u32>()), 0..20).prop_map(Notice::Links),
        ]
    }

    proptest! {
        #[test]
        fn heads_and_notices_survive_the_wire_and_a_longer_body(head in any_head(), notice in any_notice(), tail: Vec<u8>) {
            prop_assert_eq!(StreamHeader::from_bytes(&head.to_bytes()), Ok(head.clone()));
            prop_assert_eq!(Notice::from_bytes(&notice.to_bytes()), Ok(notice.clone()));
            let later = |bytes: Bytes| [&bytes[..], &tail[..]].concat();
            prop_assert_eq!(StreamHeader::from_bytes(&later(head.to_bytes())), Ok(head));
            prop_assert_eq!(Notice::from_bytes(&later(notice.to_bytes())), Ok(notice));
        }

        #[test]
        fn garbage_and_torn_ones_are_errors_and_never_a_panic(
            bytes: Vec<u8>, head in any_head(), notice in any_notice(), cut in any::<prop::sample::Index>()
        ) {
            let _ = StreamHeader::from_bytes(&bytes);
            let _ = Notice::from_bytes(&bytes);
            let (head, notice) = (head.to_bytes(), notice.to_bytes());
            let _ = StreamHeader::from_bytes(&head[..cut.index(head.len())]);
            prop_assert!(Notice::from_bytes(&notice[..cut.index(notice.len())]).is_err());
        }
    }

    #[test]
    fn a_head_of_a_later_version_is_told_from_garbage() {
        assert_eq!(StreamHeader::from_bytes(&[77, 1, 2]), Err(HeaderError::Unknown(77)));
        assert_eq!(Notice::from_bytes(&[77, 1, 2]), Ok(Notice::Unknown(77)));
        assert_eq!(StreamHeader::from_bytes(&[]), Err(HeaderError::Malformed));
    }
}
