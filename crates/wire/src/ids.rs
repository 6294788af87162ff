//! Ids. Each is checked where it is parsed, so the rest of the code may trust it.

mod conversation;
mod message;
mod node;
mod principal;
mod shard;

use crate::limits;

pub use conversation::{ConversationId, ConversationKind};
pub use message::{ClientMsgId, MessageId};
pub use node::{NodeId, NodeName, NodeRole};
pub use principal::{DeviceId, TenantId, UserId};
pub use shard::{Durability, Epoch, Position, RegionId, ShardId, Slot, ZoneId};

/// An id that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct IdError {
    /// Which id was expected.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Lower-case RFC 4648 base32 without padding.
static BASE32: std::sync::LazyLock<data_encoding::Encoding> = std::sync::LazyLock::new(|| {
    let mut spec = data_encoding::Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("32 distinct symbols")
});

/// Declares a checked string id.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $type(smol_str::SmolStr);

        impl $type {
            /// Checks and takes the text.
            ///
            /// # Errors
            /// When it is empty, too long, or has a character that it may not have.
            pub fn new(text: impl AsRef<str>) -> Result<Self, $crate::ids::IdError> {
                let text = text.as_ref();
                let check: fn(&str) -> Result<(), &'static str> = $check;
                check(text).map_err(|why| $crate::ids::IdError { what: $what, why })?;
                Ok(Self(smol_str::SmolStr::new(text)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::ids::IdError;
            fn from_str(text: &str) -> Result<Self, $crate::ids::IdError> {
                Self::new(text)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <smol_str::SmolStr as serde::Deserialize>::deserialize(deserializer)?;
                Self::new(text.as_str()).map_err(serde::de::Error::custom)
            }
        }
    };
}

use name;

fn opaque(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("empty");
    }
    if text.len() > limits::NAME_BYTES {
        return Err("longer than 128 bytes");
    }
    if text.chars().any(is_unprintable) {
        return Err(
            "has a control character, one that turns the direction of text, or no character",
        );
    }
    Ok(())
}

/// Whether a character has no place in a name: it changes how the rest of a line is shown, or is no
/// character.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    let turns_direction = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    let breaks_lines = matches!(c, '\u{2028}' | '\u{2029}');
    let is_none = matches!(c, '\u{fdd0}'..='\u{fdef}') || (c as u32) & 0xfffe == 0xfffe;
    c.is_control() || turns_direction || breaks_lines || is_none
}

fn label(text: &str) -> Result<(), &'static str> {
    opaque(text)?;
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("has a character other than a-z, 0-9 and -");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_would_be_shown_as_another_is_none() {
        for bad in ["a\nb", "a\u{202e}nimda", "\u{1b}[31m", "a\u{ffff}", "\u{fdd0}", "a\u{2028}b"] {
            assert!(UserId::new(bad).is_err(), "{bad:?}");
            assert!(DeviceId::new(bad).is_err() && TenantId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["ann", "Jürgen", "علي", "\u{1f469}\u{200d}\u{1f467}", "a b", "ann@example.org"]
        {
            assert!(UserId::new(good).is_ok(), "{good:?}");
        }
    }

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
            prop_assert_eq!(packed.len(), 23);
            prop_assert_eq!(postcard::from_bytes::<ConversationId>(&packed).unwrap(), id);
        }

        #[test]
        fn garbage_is_never_a_panic(
            text in ".{0,80}",
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
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
