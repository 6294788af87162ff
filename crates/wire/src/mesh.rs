//! Frames between nodes: length-delimited by the carrier, each with a numbered kind and a postcard body.
//!
//! **Versions.** A major version is agreed in TLS (ALPN, [`ALPN`]); minors live side by side, as nodes are upgraded one
//! by one. The rules that make an older node understand a newer one:
//! - a body grows only at its end: an older node reads the fields it knows and skips the rest; a newer node reads the
//!   missing ones as their default ([`Reader::later`]);
//! - a new kind is sent as [`RawFrame::skippable`] when an older node may ignore it; otherwise the older node answers
//!   [`Frame::Unsupported`] and the sender falls back.
//! - what an older node would misunderstand is not done while there is one: see [`Minor`].

mod minor;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::change::Home;
use crate::command::{Actor, Answer, Command, Delivery, Query, Refusal};
use crate::ids::{ConversationId, Epoch, NodeId, ShardId, UserId};

pub use minor::Minor;

/// TLS application protocol of the mesh: its major version.
pub const ALPN: &[u8] = b"hearth-mesh/1";

/// A frame before its kind is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// What it is.
    pub kind: u16,
    /// An older node may ignore it.
    pub skippable: bool,
    /// Its postcard body.
    pub body: Bytes,
}

/// Bytes that are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too short for a head.
    #[error("frame shorter than its head")]
    Short,
    /// A body that its kind does not allow.
    #[error("frame of kind {kind}: malformed body")]
    Body {
        /// The kind.
        kind: u16,
    },
}

impl RawFrame {
    /// Head and body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(3 + self.body.len());
        out.put_u16(self.kind);
        out.put_u8(u8::from(self.skippable));
        out.put_slice(&self.body);
        out.freeze()
    }

    /// The inverse.
    ///
    /// # Errors
    /// When there is no whole head.
    pub fn from_bytes(mut bytes: Bytes) -> Result<Self, FrameError> {
        if bytes.len() < 3 {
            return Err(FrameError::Short);
        }
        let body = bytes.split_off(3);
        Ok(Self {
            kind: u16::from_be_bytes([bytes[0], bytes[1]]),
            skippable: bytes[2] & 1 == 1,
            body,
        })
    }
}

/// Reads a body from its start; what is not read is of a later version.
pub struct Reader<'a> {
    kind: u16,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of this frame's body.
    #[must_use]
    pub fn new(frame: &'a RawFrame) -> Self {
        Self { kind: frame.kind, rest: &frame.body }
    }

    /// The fields that every version has.
    ///
    /// # Errors
    /// When they are not there.
    pub fn fields<T: Deserialize<'a>>(&mut self) -> Result<T, FrameError> {
        let (value, rest) = postcard::take_from_bytes(self.rest)
            .map_err(|_| FrameError::Body { kind: self.kind })?;
        self.rest = rest;
        Ok(value)
    }

    /// Fields added by a later minor version: the default when an older node wrote the frame.
    ///
    /// # Errors
    /// When something is there, but not this.
    pub fn later<T: Deserialize<'a> + Default>(&mut self) -> Result<T, FrameError> {
        if self.rest.is_empty() { Ok(T::default()) } else { self.fields() }
    }
}

/// First frame on a stream: what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Commands, queries and the feed of one shard.
    Shard(ShardId),
    /// Requests between two nodes that concern no conversation.
    Control,
}

/// Why an owner ends a shard stream. Whatever it had not answered, it did not and will not do in this term; whether an
/// unanswered command was committed is unknown until its owner is asked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamEnd {
    /// Not this node; perhaps that one.
    NotOwner {
        /// The owner as far as this node knows.
        owner: Option<NodeId>,
    },
    /// The node is going away, or its term has ended.
    Stopping,
}

/// A frame of this version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// Edge to owner: do this.
    Command {
        /// Told apart by this in the reply; unique on the stream.
        rid: u64,
        /// Who asks.
        actor: Actor,
        /// Of which conversation.
        conversation: ConversationId,
        /// What.
        command: Command,
    },
    /// Edge to owner: tell me this.
    Query {
        /// As above.
        rid: u64,
        /// Who asks; none when the edge asks for itself.
        actor: Option<Actor>,
        /// Of which conversation.
        conversation: ConversationId,
        /// What.
        query: Query,
    },
    /// Edge to owner: send me the changes of this conversation. Watching again is allowed, and asks about more users.
    Watch {
        /// As above.
        rid: u64,
        /// Which.
        conversation: ConversationId,
        /// Start after this `ver`; none: after the head.
        after_ver: Option<u64>,
        /// Which of these are members?
        users: Vec<UserId>,
        /// Of the change `after_ver` as the edge has it; none: it does not know. After a fork another change may stand there,
        /// and the watch starts where they part.
        after_epoch: Option<Epoch>,
    },
    /// Edge to owner: no more.
    Unwatch {
        /// Which.
        conversation: ConversationId,
    },
    /// Owner to edge: the answer.
    Reply {
        /// To what.
        rid: u64,
        /// What it came to.
        result: Result<Answer, Refusal>,
    },
    /// Owner to edge: changes of watched conversations, in `ver` order within each.
    Feed {
        /// Oldest first.
        deliveries: Vec<Delivery>,
    },
    /// Owner to edge: this watch fell too far behind and was dropped. Watch again after the last `ver` seen.
    Lagged {
        /// Which.
        conversation: ConversationId,
    },
    /// Owner to edge: that conversation is in another shard. Ask there, and watch there after the last `ver` seen. (Minor 1.)
    Moved {
        /// To what; none: the watch has ended here.
        rid: Option<u64>,
        /// Which.
        conversation: ConversationId,
        /// Where. The one with the highest `n` that an edge has heard of is where it asks.
        placement: Home,
    },
    /// Owner to edge, the last frame on a shard stream.
    End(StreamEnd),
    /// Core to core: I am giving this shard up, it is yours to claim.
    Handover {
        /// As above.
        rid: u64,
        /// Which shard.
        shard: ShardId,
    },
    /// To a frame of a kind this node does not know.
    Unsupported {
        /// That kind.
        kind: u16,
    },
    /// A kind of a newer node that may be ignored.
    Skipped {
        /// That kind.
        kind: u16,
    },
}

impl Frame {
    /// Head and body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Command { rid, actor, conversation, command } => {
                whole(1, &(rid, actor, conversation, command))
            }
            Self::Query { rid, actor, conversation, query } => {
                whole(2, &(rid, actor, conversation, query))
            }
            Self::Watch { rid, conversation, after_ver, users, after_epoch } => {
                whole(3, &(rid, conversation, after_ver, users, after_epoch))
            }
            Self::Unwatch { conversation } => whole(4, conversation),
            Self::Reply { rid, result } => match result {
                Ok(Answer::Watching { head_epoch, .. }) => whole(16, &(rid, result, head_epoch)),
                result => whole(16, &(rid, result)),
            },
            Self::Feed { deliveries } => whole(17, deliveries),
            Self::Lagged { conversation } => whole(18, conversation),
            Self::End(end) => whole(19, end),
            Self::Moved { rid, conversation, placement } => {
                whole(20, &(rid, conversation, placement))
            }
            Self::Handover { rid, shard } => whole(32, &(rid, shard)),
            Self::Unsupported { kind } => whole(0, kind),
            Self::Skipped { kind } => {
                RawFrame { kind: *kind, skippable: true, body: Bytes::new() }.to_bytes()
            }
        }
    }

    /// The inverse. A kind that this version does not know is [`Frame::Skipped`] or [`Frame::Unsupported`], as its
    /// sender marked it: answer the latter with itself.
    ///
    /// # Errors
    /// When the bytes are not a frame, or a known kind lacks a field.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, FrameError> {
        let raw = RawFrame::from_bytes(bytes)?;
        let mut body = Reader::new(&raw);
        Ok(match raw.kind {
            0 => Self::Unsupported { kind: body.fields()? },
            1 => {
                let (rid, actor, conversation, command) = body.fields()?;
                Self::Command { rid, actor, conversation, command }
            }
            2 => {
                let (rid, actor, conversation, query) = body.fields()?;
                Self::Query { rid, actor, conversation, query }
            }
            3 => {
                let (rid, conversation, after_ver, users) = body.fields()?;
                Self::Watch { rid, conversation, after_ver, users, after_epoch: body.later()? }
            }
            4 => Self::Unwatch { conversation: body.fields()? },
            16 => {
                let (rid, mut result) = body.fields()?;
                if let Ok(Answer::Watching { head_epoch, .. }) = &mut result {
                    *head_epoch = body.later()?;
                }
                Self::Reply { rid, result }
            }
            17 => Self::Feed { deliveries: body.fields()? },
            18 => Self::Lagged { conversation: body.fields()? },
            19 => Self::End(body.fields()?),
            20 => {
                let (rid, conversation, placement) = body.fields()?;
                Self::Moved { rid, conversation, placement }
            }
            32 => {
                let (rid, shard) = body.fields()?;
                Self::Handover { rid, shard }
            }
            kind if raw.skippable => Self::Skipped { kind },
            kind => Self::Unsupported { kind },
        })
    }
}

/// Head and body of a kind that no node may ignore.
fn whole<T: Serialize>(kind: u16, body: &T) -> Bytes {
    let mut head = Vec::with_capacity(128);
    head.extend_from_slice(&kind.to_be_bytes());
    head.push(0);
    Bytes::from(postcard::to_extend(body, head).expect("plain data in memory always serializes"))
}

/// A [`Frame::Feed`] put together from deliveries that were encoded once ([`Delivery::to_bytes`]) and are shared by all
/// streams that get them.
#[must_use]
pub fn feed_frame(encoded: &[Bytes]) -> Bytes {
    let bytes = encoded.iter().map(Bytes::len).sum::<usize>();
    let mut head = Vec::with_capacity(16 + bytes);
    head.extend_from_slice(&17u16.to_be_bytes());
    head.push(0);
    // A postcard sequence is its length and then its elements, one after the other.
    let mut frame =
        postcard::to_extend(&encoded.len(), head).expect("plain data in memory always serializes");
    for delivery in encoded {
        frame.extend_from_slice(delivery);
    }
    Bytes::from(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::change::{Change, Event, Message};
    use crate::ids::{
        ClientMsgId, ConversationKind, Durability, Epoch, RegionId, TenantId, ZoneId,
    };

    fn conversation() -> ConversationId {
        let shard = ShardId {
            zone: ZoneId(1),
            home: RegionId(2),
            durability: Durability::MultiRegion,
            n: 3,
        };
        ConversationId { kind: ConversationKind::Group, shard, unique: [7; 16] }
    }

    fn change(event: Event) -> Change {
        Change { conversation: conversation(), ver: 9, epoch: Epoch(2), ts_ms: 3, event }
    }

    fn message() -> Message {
        Message {
            seq: 8,
            sender: UserId::new("ann").unwrap(),
            device: None,
            client_msg_id: ClientMsgId::new("m-1").unwrap(),
            body: "hello".into(),
            reply_to: None,
            thread: None,
            mentions: vec![],
            meta: None,
            recovered: false,
        }
    }

    /// What a node of the next minor version would send: its fields at the end of ours.
    fn with_later_field(frame: &Frame) -> Bytes {
        let mut bytes = frame.to_bytes().to_vec();
        bytes.extend(postcard::to_stdvec(&("a field of 1.1", 42u64)).unwrap());
        bytes.into()
    }

    fn frames() -> Vec<Frame> {
        let actor = Actor {
            tenant: TenantId::new("demo").unwrap(),
            user: UserId::new("ann").unwrap(),
            device: None,
        };
        let command = Command::OpenDirect { with: UserId::new("bob").unwrap() };
        let query = Query::Changes { after_ver: 4, limit: 50 };
        let delivery = Delivery { change: change(Event::Message(message())), view: None };
        vec![
            Frame::Command { rid: 1, actor: actor.clone(), conversation: conversation(), command },
            Frame::Query { rid: 2, actor: Some(actor), conversation: conversation(), query },
            Frame::Watch {
                rid: 3,
                conversation: conversation(),
                after_ver: Some(1),
                users: vec![],
                after_epoch: Some(Epoch(2)),
            },
            Frame::Unwatch { conversation: conversation() },
            Frame::Reply { rid: 4, result: Ok(Answer::Noted) },
            Frame::Feed { deliveries: vec![delivery] },
            Frame::Lagged { conversation: conversation() },
            Frame::End(StreamEnd::NotOwner { owner: None }),
            Frame::Moved {
                rid: Some(6),
                conversation: conversation(),
                placement: Home { generation: 2, shard: conversation().shard },
            },
            Frame::Handover { rid: 5, shard: conversation().shard },
            Frame::Unsupported { kind: 99 },
        ]
    }

    #[test]
    fn every_frame_survives() {
        for frame in frames() {
            assert_eq!(Frame::from_bytes(frame.to_bytes()).unwrap(), frame);
        }
    }

    #[test]
    fn a_feed_of_encoded_deliveries_is_the_feed() {
        let deliveries: Vec<Delivery> = (0..200)
            .map(|_| Delivery { change: change(Event::Message(message())), view: None })
            .collect();
        let encoded: Vec<Bytes> = deliveries.iter().map(Delivery::to_bytes).collect();
        assert_eq!(feed_frame(&encoded), Frame::Feed { deliveries }.to_bytes());
        assert_eq!(feed_frame(&[]), Frame::Feed { deliveries: vec![] }.to_bytes());
    }

    #[test]
    fn an_older_node_understands_a_frame_with_fields_of_a_newer_one() {
        for frame in frames() {
            assert_eq!(Frame::from_bytes(with_later_field(&frame)).unwrap(), frame);
        }
    }

    #[test]
    fn a_newer_node_understands_a_frame_of_an_older_one() {
        let old = RawFrame::from_bytes(Frame::Unwatch { conversation: conversation() }.to_bytes())
            .unwrap();
        let mut body = Reader::new(&old);
        assert_eq!(body.fields::<ConversationId>().unwrap(), conversation());
        assert_eq!(body.later::<(Option<String>, u64)>().unwrap(), (None, 0));

        let new = RawFrame::from_bytes(with_later_field(&Frame::Unwatch {
            conversation: conversation(),
        }))
        .unwrap();
        let mut body = Reader::new(&new);
        let _: ConversationId = body.fields().unwrap();
        assert_eq!(body.later::<(String, u64)>().unwrap(), ("a field of 1.1".into(), 42));
    }

    #[test]
    fn a_kind_of_a_newer_node_is_skipped_or_refused_as_it_says() {
        let raw = |skippable| {
            RawFrame { kind: 4711, skippable, body: Bytes::from_static(b"whatever") }.to_bytes()
        };
        assert_eq!(Frame::from_bytes(raw(true)).unwrap(), Frame::Skipped { kind: 4711 });
        assert_eq!(Frame::from_bytes(raw(false)).unwrap(), Frame::Unsupported { kind: 4711 });
    }

    #[test]
    fn a_change_of_a_newer_node_keeps_its_place() {
        let unknown = change(Event::Unknown { kind: 4711, body: Bytes::from_static(b"sealed") });
        assert_eq!(Change::from_bytes(&unknown.to_bytes()).unwrap(), unknown);
        let mut newer = postcard::to_stdvec(&message()).unwrap();
        newer.extend([1, 2, 3]);
        let newer = change(Event::Unknown { kind: 2, body: newer.into() });
        assert_eq!(
            Change::from_bytes(&newer.to_bytes()).unwrap(),
            change(Event::Message(message()))
        );
    }

    proptest! {
        #[test]
        fn garbage_is_never_a_panic(kind in 0u16..40, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Frame::from_bytes(bytes.clone().into());
            let _ = Frame::from_bytes(RawFrame { kind, skippable: false, body: bytes.clone().into() }.to_bytes());
            let _ = Change::from_bytes(&bytes);
        }

        #[test]
        fn a_cut_frame_is_never_a_panic(which in 0usize..11, cut in 0usize..400) {
            let whole = frames()[which].to_bytes();
            let _ = Frame::from_bytes(whole.slice(..cut.min(whole.len())));
        }
    }
}
