//! Minor versions of the mesh's protocol.
//!
//! A major version is agreed in TLS ([`ALPN`]); minors live side by side, as nodes are upgraded one by one. What an
//! older node would misunderstand is not done while there is one: see [`Minor`].

use bytes::Bytes;
use serde::Deserialize;

use crate::ErrorCode;
use crate::codec::Unknown;
use crate::command::{Command, MeshCommand, Refusal};
use crate::stream::{FromOwner, ToOwner};

/// TLS application protocol of the mesh: its major version.
pub const ALPN: &[u8] = b"hearth-mesh/1";

/// A kind that no version has.
const NO_KIND: u16 = u16::MAX;

/// A minor version that this code can speak.
///
/// | version | what it added |
/// |---|---|
/// | 0 | |
/// | 1 | a conversation moves ([`FromOwner::Moved`], [`MeshCommand::Move`], [`MeshCommand::AcceptTransfer`]) |
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

    /// What a node of this version writes where this code would write `frame`.
    #[must_use]
    pub fn written(self, frame: Bytes) -> Bytes {
        if self == Self::NEWEST {
            return frame;
        }
        match FromOwner::from_bytes(&frame) {
            // Who asked asks again, and finds it where it is once they may be told.
            Ok(FromOwner::Moved { rid: Some(rid), .. }) => {
                let mut refusal = Refusal::new(
                    ErrorCode::HomeUnavailable,
                    "it has moved, which this node may not tell",
                );
                refusal.retry_after_ms = Some(1_000);
                FromOwner::Reply { rid, result: Err(refusal) }.to_bytes()
            }
            Ok(FromOwner::Moved { rid: None, conversation, .. }) => {
                FromOwner::Lagged { conversation }.to_bytes()
            }
            _ => frame,
        }
    }

    /// What a node of this version finds in `frame`: kinds and commands that it does not have are unknown.
    #[must_use]
    pub fn read(self, frame: Bytes) -> Bytes {
        if self == Self::NEWEST {
            return frame;
        }
        if let Ok(FromOwner::Moved { .. }) = FromOwner::from_bytes(&frame) {
            return FromOwner::Unknown(Unknown::new(NO_KIND, Bytes::new())).to_bytes();
        }
        match ToOwner::from_bytes(&frame) {
            Ok(ToOwner::Command {
                rid,
                actor,
                conversation,
                command:
                    Command::Mesh(MeshCommand::Move { .. } | MeshCommand::AcceptTransfer { .. }),
            }) => {
                let command = Command::Unknown(Unknown::new(NO_KIND, Bytes::new()));
                ToOwner::Command { rid, actor, conversation, command }.to_bytes()
            }
            _ => frame,
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
