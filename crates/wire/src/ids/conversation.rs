//! A conversation's id, and the derived ids of direct conversations and user streams.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::{BASE32, Durability, IdError, RegionId, ShardId, TenantId, UserId, ZoneId};

/// What kind of conversation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConversationKind {
    /// Named, with roles.
    Group,
    /// Two users, registered once under a key made of both.
    Direct,
    /// A user's own stream: joined, left, own cursors. One member.
    User,
}

/// A conversation. Carries the zone, the durability class, the birth region and the birth shard, so
/// that an edge finds the owner without asking anyone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationId {
    /// What kind.
    pub kind: ConversationKind,
    /// The shard in which it was born.
    pub shard: ShardId,
    /// Random for a group, derived for a direct conversation and for a user's own stream.
    pub unique: [u8; 16],
}

const CONVERSATION_BYTES: usize = 23;
const CONVERSATION_PREFIX: &str = "cnv_";

impl ConversationId {
    /// The 16 bytes that name the direct conversation of two users, whoever asks first.
    #[must_use]
    pub fn direct_key(tenant: &TenantId, a: &UserId, b: &UserId) -> [u8; 16] {
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        derive(&["direct", tenant.as_str(), first.as_str(), second.as_str()])
    }

    /// The 16 bytes that name a user's own stream.
    #[must_use]
    pub fn user_key(tenant: &TenantId, user: &UserId) -> [u8; 16] {
        derive(&["user", tenant.as_str(), user.as_str()])
    }

    /// The binary form: 23 bytes, version and kind and class first. Also the key in stores.
    #[must_use]
    pub fn to_bytes(self) -> [u8; CONVERSATION_BYTES] {
        let kind = match self.kind {
            ConversationKind::Group => 0u8,
            ConversationKind::Direct => 1,
            ConversationKind::User => 2,
        };
        let class = match self.shard.durability {
            Durability::Region => 0u8,
            Durability::MultiRegion => 1,
        };
        let mut out = [0; CONVERSATION_BYTES];
        out[0] = 0x10 | (kind << 1) | class;
        out[1..3].copy_from_slice(&self.shard.zone.0.to_be_bytes());
        out[3..5].copy_from_slice(&self.shard.home.0.to_be_bytes());
        out[5..7].copy_from_slice(&self.shard.n.to_be_bytes());
        out[7..].copy_from_slice(&self.unique);
        out
    }

    /// The inverse of [`ConversationId::to_bytes`].
    ///
    /// # Errors
    /// When the length, the version, the kind or the class is not one we know.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdError> {
        let err = |why| IdError { what: "conversation id", why };
        let bytes: &[u8; CONVERSATION_BYTES] = bytes.try_into().map_err(|_| err("wrong length"))?;
        if bytes[0] >> 4 != 1 {
            return Err(err("unknown version"));
        }
        let kind = match (bytes[0] >> 1) & 0b111 {
            0 => ConversationKind::Group,
            1 => ConversationKind::Direct,
            2 => ConversationKind::User,
            _ => return Err(err("unknown kind")),
        };
        let durability =
            if bytes[0] & 1 == 0 { Durability::Region } else { Durability::MultiRegion };
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let mut unique = [0; 16];
        unique.copy_from_slice(&bytes[7..]);
        let shard =
            ShardId { zone: ZoneId(word(1)), home: RegionId(word(3)), durability, n: word(5) };
        Ok(Self { kind, shard, unique })
    }
}

/// SHA-256 over length-prefixed parts, cut to 16 bytes: no two lists of parts share an input.
fn derive(parts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut out = [0; 16];
    out.copy_from_slice(&digest[..16]);
    out
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CONVERSATION_PREFIX)?;
        let mut text = [0u8; 37];
        BASE32.encode_mut(&self.to_bytes(), &mut text);
        f.write_str(std::str::from_utf8(&text).expect("base32 is ASCII"))
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ConversationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let err = |why| IdError { what: "conversation id", why };
        let rest = text.strip_prefix(CONVERSATION_PREFIX).ok_or(err("does not start with cnv_"))?;
        if rest.len() != 37 {
            return Err(err("wrong length"));
        }
        let bytes = BASE32.decode(rest.as_bytes()).map_err(|_| err("not base32"))?;
        Self::from_bytes(&bytes)
    }
}

impl Serialize for ConversationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.to_bytes().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ConversationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        } else {
            let bytes = <[u8; CONVERSATION_BYTES]>::deserialize(deserializer)?;
            Self::from_bytes(&bytes).map_err(D::Error::custom)
        }
    }
}
