//! The names of things. Every id is checked where it is parsed, so the rest of the code may trust it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;

use crate::limits;

/// An id that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct IdError {
    /// Which id was expected.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A residency zone, by the number that the world file gives it. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ZoneId(pub u16);

/// A region, by the number that the world file gives it. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RegionId(pub u16);

/// How far an acknowledged message is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// A quorum inside the home datacenter.
    Region,
    /// A quorum across the zone's datacenters.
    MultiRegion,
}

impl Durability {
    /// As it stands in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::MultiRegion => "multi-region",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The term of one owner of one shard; only ever grows. 0 is before the first owner.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A place in a shard log. The first slot is 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Slot(pub u64);

impl Slot {
    /// The slot after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A slot together with the epoch that wrote it. Marks, cursors and projections order by (epoch, slot): after a fork the
/// successor's slots start lower than what was lost, and must still win.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Position {
    /// The term that wrote the slot.
    pub epoch: Epoch,
    /// The slot.
    pub slot: Slot,
}

/// A slice of the conversations of one (zone, home region, durability class).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardId {
    /// The residency zone.
    pub zone: ZoneId,
    /// The home region.
    pub home: RegionId,
    /// The durability class.
    pub durability: Durability,
    /// Which slice.
    pub n: u16,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "z{}-r{}-{}-{}", self.zone.0, self.home.0, self.durability, self.n)
    }
}

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

/// A conversation. Carries the zone, the durability class, the birth region and the birth shard, so that an edge finds
/// the owner without asking anyone.
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

/// Lower-case RFC 4648 base32 without padding.
static BASE32: std::sync::LazyLock<data_encoding::Encoding> = std::sync::LazyLock::new(|| {
    let mut spec = data_encoding::Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("32 distinct symbols")
});

/// A message, derived from what its sender called it: the same after a retry, a takeover or a salvage.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// The id of the message that `sender` sent as `client_msg_id`.
    #[must_use]
    pub fn derive(
        conversation: &ConversationId,
        sender: &UserId,
        client_msg_id: &ClientMsgId,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(conversation.to_bytes());
        hash.update((sender.as_str().len() as u64).to_be_bytes());
        hash.update(sender.as_str().as_bytes());
        hash.update(client_msg_id.as_str().as_bytes());
        let mut out = [0; 16];
        out.copy_from_slice(&hash.finalize()[..16]);
        Self(out)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "msg_{}", BASE32.encode(&self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Declares a checked string id.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $type(SmolStr);

        impl $type {
            /// Checks and takes the text.
            ///
            /// # Errors
            /// When it is empty, too long, or has a character that it may not have.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                let check: fn(&str) -> Result<(), &'static str> = $check;
                check(text).map_err(|why| IdError { what: $what, why })?;
                Ok(Self(SmolStr::new(text)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = SmolStr::deserialize(deserializer)?;
                Self::new(text.as_str()).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn opaque(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("empty");
    }
    if text.len() > limits::NAME_BYTES {
        return Err("longer than 128 bytes");
    }
    Ok(())
}

fn label(text: &str) -> Result<(), &'static str> {
    opaque(text)?;
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("has a character other than a-z, 0-9 and -");
    }
    Ok(())
}

name! {
    /// A tenant. Tenants never see each other.
    TenantId, "tenant", opaque
}
name! {
    /// A user: opaque, 1..128 bytes, unique inside a tenant.
    UserId, "user id", opaque
}
name! {
    /// A device of a user: opaque, 1..128 bytes.
    DeviceId, "device id", opaque
}
name! {
    /// What a sender calls his message: 1..64 of `A-Za-z0-9_-`, remembered 30 days.
    ClientMsgId, "client_msg_id", |text| {
        if text.is_empty() {
            return Err("empty");
        }
        if text.len() > limits::CLIENT_MSG_ID_CHARS {
            return Err("longer than 64 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err("has a character other than A-Z, a-z, 0-9, _ and -");
        }
        Ok(())
    }
}
name! {
    /// The name of a node inside its region and role, such as `1`.
    NodeName, "node name", label
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Ends WebSockets; holds no durable state.
    Edge,
    /// Sequences, persists, feeds.
    Core,
}

/// A node: its region, role and name, as its certificate proves them. Printed and parsed as `r1/core/2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId {
    /// The region it may speak for.
    pub region: RegionId,
    /// The role it may speak for.
    pub role: NodeRole,
    /// Its name inside the region and role.
    pub name: NodeName,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            NodeRole::Edge => "edge",
            NodeRole::Core => "core",
        };
        write!(f, "r{}/{role}/{}", self.region.0, self.name)
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let err = |why| IdError { what: "node id", why };
        let mut parts = text.split('/');
        let (Some(region), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(err("is not of the form r1/core/2"));
        };
        let region = region
            .strip_prefix('r')
            .and_then(|n| n.parse().ok())
            .ok_or(err("has no region number"))?;
        let role = match role {
            "edge" => NodeRole::Edge,
            "core" => NodeRole::Core,
            _ => return Err(err("has a role other than edge and core")),
        };
        Ok(Self { region: RegionId(region), role, name: NodeName::new(name)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_conversation() -> impl Strategy<Value = ConversationId> {
        (0..3u8, any::<(u16, u16, u16, bool, [u8; 16])>()).prop_map(
            |(kind, (zone, home, n, multi, unique))| {
                let kind =
                    [ConversationKind::Group, ConversationKind::Direct, ConversationKind::User]
                        [kind as usize];
                let durability = if multi { Durability::MultiRegion } else { Durability::Region };
                let shard = ShardId { zone: ZoneId(zone), home: RegionId(home), durability, n };
                ConversationId { kind, shard, unique }
            },
        )
    }

    proptest! {
        #[test]
        fn a_conversation_id_survives_text_bytes_and_postcard(id in any_conversation()) {
            prop_assert_eq!(id.to_string().parse::<ConversationId>().unwrap(), id);
            prop_assert_eq!(ConversationId::from_bytes(&id.to_bytes()).unwrap(), id);
            let packed = postcard::to_stdvec(&id).unwrap();
            prop_assert_eq!(packed.len(), CONVERSATION_BYTES);
            prop_assert_eq!(postcard::from_bytes::<ConversationId>(&packed).unwrap(), id);
        }

        #[test]
        fn garbage_is_never_a_panic(text in ".{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = text.parse::<ConversationId>();
            let _ = format!("cnv_{text}").parse::<ConversationId>();
            let _ = text.parse::<NodeId>();
            let _ = UserId::new(&text);
            let _ = ClientMsgId::new(&text);
            let _ = ConversationId::from_bytes(&bytes);
        }
    }

    #[test]
    fn a_direct_key_is_the_same_for_both_and_no_other_pair() {
        let t = TenantId::new("demo").unwrap();
        let [a, b, ab, c] = ["a", "b", "ab", "c"].map(|u| UserId::new(u).unwrap());
        assert_eq!(ConversationId::direct_key(&t, &a, &b), ConversationId::direct_key(&t, &b, &a));
        assert_ne!(ConversationId::direct_key(&t, &a, &b), ConversationId::direct_key(&t, &a, &c));
        assert_ne!(ConversationId::direct_key(&t, &ab, &c), ConversationId::direct_key(&t, &a, &b));
        assert_ne!(
            ConversationId::user_key(&t, &a),
            ConversationId::user_key(&TenantId::new("eu").unwrap(), &a)
        );
    }

    #[test]
    fn a_node_id_survives_text() {
        let id: NodeId = "r3/edge/west-1".parse().unwrap();
        assert_eq!(id.to_string(), "r3/edge/west-1");
        for bad in [
            "",
            "r3/edge",
            "x3/edge/1",
            "r3/both/1",
            "r3/edge/A",
            "r3/edge/1/2",
            "r99999999/edge/1",
        ] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }
}
