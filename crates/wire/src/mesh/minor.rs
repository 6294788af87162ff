//! Minor versions of the mesh's protocol, and how this code speaks one that came before its own.
//!
//! The nodes of a mesh are upgraded one by one. Until the last one is, those that run the new code speak the old version
//! ([`Minor`], of the configuration): what it does not have is neither sent nor understood, and what needs it is refused.

use bytes::Bytes;
use serde::Deserialize;

use super::{Frame, RawFrame, whole};
use crate::ErrorCode;
use crate::command::{Answer, Command, Refusal};

/// A kind that no version has.
const NO_KIND: u16 = u16::MAX;

/// A minor version that this code can speak.
///
/// | version | what it added |
/// |---|---|
/// | 0 | |
/// | 1 | a conversation moves ([`Frame::Moved`], [`Command::Move`], [`Command::AcceptTransfer`]); a watch says of which epoch the last change is ([`Frame::Watch`]), and is told of which the head is |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "u8")]
pub struct Minor(u8);

impl Minor {
    /// The first one.
    pub const OLDEST: Self = Self(0);
    /// Since then conversations move.
    pub const MOVES: Self = Self(1);
    /// What this code speaks unless it is told otherwise.
    pub const NEWEST: Self = Self(1);

    /// Its number, as nodes tell it to each other.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// What a node of this version writes where this code would write `frame`. Anything else than a [`Frame`] tenures as it is.
    #[must_use]
    pub fn written(self, frame: Bytes) -> Bytes {
        if self == Self::NEWEST {
            return frame;
        }
        match Frame::from_bytes(frame.clone()) {
            // Who asked asks again, and finds it where it is once he may be told.
            Ok(Frame::Moved { rid: Some(rid), .. }) => {
                let mut refusal = Refusal::new(
                    ErrorCode::HomeUnavailable,
                    "it has moved, which this node may not tell",
                );
                refusal.retry_after_ms = Some(1_000);
                Frame::Reply { rid, result: Err(refusal) }.to_bytes()
            }
            Ok(Frame::Moved { rid: None, conversation, .. }) => {
                Frame::Lagged { conversation }.to_bytes()
            }
            Ok(parsed) => without_later_fields(parsed).unwrap_or(frame),
            Err(_) => frame,
        }
    }

    /// What a node of this version finds in `frame`: fields that it does not have are missing, kinds and commands that
    /// it does not have are unknown.
    #[must_use]
    pub fn read(self, frame: Bytes) -> Bytes {
        if self == Self::NEWEST {
            return frame;
        }
        match Frame::from_bytes(frame.clone()) {
            Ok(Frame::Moved { .. }) => {
                RawFrame { kind: NO_KIND, skippable: false, body: Bytes::new() }.to_bytes()
            }
            Ok(Frame::Command {
                command: Command::Move { .. } | Command::AcceptTransfer { .. },
                ..
            }) => RawFrame { kind: 1, skippable: false, body: Bytes::new() }.to_bytes(),
            Ok(parsed) => without_later_fields(parsed).unwrap_or(frame),
            Err(_) => frame,
        }
    }
}

/// A minor version that this code cannot speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this program speaks {oldest} to {newest}, not {number}", oldest = Minor::OLDEST.0, newest = Minor::NEWEST.0)]
pub struct NotSpoken {
    number: u8,
}

impl TryFrom<u8> for Minor {
    type Error = NotSpoken;

    fn try_from(number: u8) -> Result<Self, NotSpoken> {
        if number <= Self::NEWEST.0 { Ok(Self(number)) } else { Err(NotSpoken { number }) }
    }
}

/// The frame as it was at first; none: it is that already.
fn without_later_fields(frame: Frame) -> Option<Bytes> {
    match frame {
        Frame::Watch { rid, conversation, after_ver, users, after_epoch: Some(_) } => {
            Some(whole(3, &(rid, conversation, after_ver, users)))
        }
        Frame::Reply { rid, result: result @ Ok(Answer::Watching { head_epoch: Some(_), .. }) } => {
            Some(whole(16, &(rid, result)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Home;
    use crate::command::Actor;
    use crate::ids::{
        ConversationId, ConversationKind, Durability, Epoch, RegionId, ShardId, TenantId, UserId,
        ZoneId,
    };

    fn shard() -> ShardId {
        ShardId { zone: ZoneId(1), home: RegionId(2), durability: Durability::MultiRegion, n: 3 }
    }

    fn conversation() -> ConversationId {
        ConversationId { kind: ConversationKind::Group, shard: shard(), unique: [7; 16] }
    }

    fn watch(after_epoch: Option<Epoch>) -> Frame {
        Frame::Watch {
            rid: 3,
            conversation: conversation(),
            after_ver: Some(1),
            users: vec![],
            after_epoch,
        }
    }

    fn watching(head_epoch: Option<Epoch>) -> Frame {
        let members = vec![UserId::new("ann").unwrap()];
        Frame::Reply {
            rid: 4,
            result: Ok(Answer::Watching { head_ver: 9, head_seq: 8, members, head_epoch }),
        }
    }

    fn moved(rid: Option<u64>) -> Frame {
        Frame::Moved {
            rid,
            conversation: conversation(),
            placement: Home { generation: 2, shard: shard() },
        }
    }

    fn command(command: Command) -> Frame {
        let actor = Actor {
            tenant: TenantId::new("demo").unwrap(),
            user: UserId::new("ann").unwrap(),
            device: None,
        };
        Frame::Command { rid: 1, actor, conversation: conversation(), command }
    }

    #[test]
    fn the_newest_is_what_this_code_speaks() {
        assert_eq!(Minor::try_from(Minor::NEWEST.number()), Ok(Minor::NEWEST));
        assert!(Minor::try_from(Minor::NEWEST.number() + 1).is_err());
        for frame in [watch(Some(Epoch(2))), watching(Some(Epoch(2))), moved(Some(1))] {
            let bytes = frame.to_bytes();
            assert_eq!(Minor::NEWEST.written(bytes.clone()), bytes);
            assert_eq!(Minor::NEWEST.read(bytes.clone()), bytes);
        }
    }

    #[test]
    fn fields_that_the_oldest_does_not_have_are_not_there() {
        for (frame, older) in
            [(watch(Some(Epoch(2))), watch(None)), (watching(Some(Epoch(2))), watching(None))]
        {
            for heard in
                [Minor::OLDEST.written(frame.to_bytes()), Minor::OLDEST.read(frame.to_bytes())]
            {
                assert!(heard.len() < older.to_bytes().len(), "without the place of the field");
                assert_eq!(Frame::from_bytes(heard).unwrap(), older);
            }
        }
    }

    #[test]
    fn the_oldest_knows_nothing_of_moves() {
        let reply = Frame::from_bytes(Minor::OLDEST.written(moved(Some(6)).to_bytes())).unwrap();
        let Frame::Reply { rid: 6, result: Err(refusal) } = reply else { panic!("{reply:?}") };
        assert_eq!(
            (refusal.code, refusal.retry_after_ms),
            (ErrorCode::HomeUnavailable, Some(1_000))
        );
        let lagged = Frame::from_bytes(Minor::OLDEST.written(moved(None).to_bytes())).unwrap();
        assert_eq!(lagged, Frame::Lagged { conversation: conversation() });
        let unknown = Frame::from_bytes(Minor::OLDEST.read(moved(Some(6)).to_bytes())).unwrap();
        assert_eq!(unknown, Frame::Unsupported { kind: NO_KIND });
        for later in
            [Command::Move { to: shard() }, Command::AcceptTransfer { n: 1, ver: 2, from: shard() }]
        {
            assert!(Frame::from_bytes(Minor::OLDEST.read(command(later).to_bytes())).is_err());
        }
    }

    #[test]
    fn what_it_has_it_speaks_as_it_is() {
        let open = command(Command::OpenDirect { with: UserId::new("bob").unwrap() }).to_bytes();
        for bytes in [open, watch(None).to_bytes(), Bytes::from_static(b"no frame")] {
            let older = Minor::OLDEST.written(bytes.clone());
            assert_eq!(Minor::OLDEST.read(bytes.clone()), older);
            assert_eq!(Frame::from_bytes(older).ok(), Frame::from_bytes(bytes).ok());
        }
    }
}
