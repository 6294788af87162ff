//! What two versions of the program agree on, so that nodes are upgraded one by one.
//!
//! A major version is agreed in TLS ([`ALPN`]). Within it every node tells its [`Features`] when a
//! link or a stream is opened. A frame that an older node lacks names its feature
//! ([`needs`](crate::stream::ToOwner::needs)). The sender asks whether the peer has it. If not, the
//! sender refuses or waits; it sends nothing that the peer would misunderstand.

mod needs;

use std::collections::BTreeSet;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::ErrorCode;
use crate::command::Refusal;

/// TLS application protocol of the mesh: its major version.
pub const ALPN: &[u8] = b"hearth-mesh/1";

/// Features in one set; a set with more is malformed.
pub const FEATURES_MAX: usize = 256;

/// After this the refused may ask again: an upgrade takes minutes.
const UPGRADE_RETRY_MS: u64 = 1_000;

/// What this program can do and an older one of the same major version cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// A conversation moves to another home.
    Moves,
}

impl Feature {
    /// All that this program knows.
    pub const ALL: [Self; 1] = [Self::Moves];

    /// Its number on the wire. Numbers are never reused.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Moves => 1,
        }
    }

    /// Its name in configs, logs and refusals.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Moves => "moves",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The features of a node. Features of a newer program stay in the set and are never asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Features(BTreeSet<u16>);

impl Features {
    /// Everything that this program can do.
    #[must_use]
    pub fn all() -> Self {
        Feature::ALL.into_iter().collect()
    }

    /// Everything but these, as an older program has it.
    #[must_use]
    pub fn all_but(withheld: &[Feature]) -> Self {
        Feature::ALL.into_iter().filter(|feature| !withheld.contains(feature)).collect()
    }

    /// Whether the node has it.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.0.contains(&feature.number())
    }

    /// What both nodes have.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// The feature among what a frame `needs` that is not in the set.
    #[must_use]
    pub fn lack(&self, needs: Option<Feature>) -> Option<Feature> {
        needs.filter(|feature| !self.has(*feature))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self(features.into_iter().map(Feature::number).collect())
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let numbers = BTreeSet::<u16>::deserialize(from)?;
        if numbers.len() > FEATURES_MAX {
            return Err(D::Error::custom("too many features"));
        }
        Ok(Self(numbers))
    }
}

/// Names; numbers where this program knows none.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, number) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "," };
            match Feature::ALL.into_iter().find(|feature| feature.number() == *number) {
                Some(feature) => write!(f, "{separator}{feature}")?,
                None => write!(f, "{separator}{number}")?,
            }
        }
        Ok(())
    }
}

/// The refusal in place of a frame that the other node is too old for. The same request succeeds
/// once that node is upgraded.
#[must_use]
pub fn lacking(feature: Feature) -> Refusal {
    let message = format!("a node on the way lacks the feature \"{feature}\"; try again later");
    let mut refusal = Refusal::new(ErrorCode::HomeUnavailable, message);
    refusal.retry_after_ms = Some(UPGRADE_RETRY_MS);
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn a_feature_of_a_newer_node_is_kept_and_never_asked_for() {
        let numbers: BTreeSet<u16> = [Feature::Moves.number(), 999].into();
        let mut bytes = Vec::new();
        codec::write(&numbers, &mut bytes);
        let read: Features = postcard::from_bytes(&bytes).unwrap();
        assert!(read.has(Feature::Moves));
        assert_eq!(read.to_string(), "moves,999");
        assert_eq!(postcard::to_stdvec(&read).unwrap(), bytes);
    }

    #[test]
    fn a_set_without_a_feature_is_that_of_an_older_node() {
        let older = Features::all_but(&[Feature::Moves]);
        assert!(!older.has(Feature::Moves) && Features::all().has(Feature::Moves));
        assert_eq!(
            (older.lack(None), older.lack(Some(Feature::Moves))),
            (None, Some(Feature::Moves))
        );
        assert_eq!(older.shared_with(&Features::all()), older);
        assert!(lacking(Feature::Moves).code.is_retryable());
    }

    #[test]
    fn features_without_end_are_malformed() {
        let numbers: BTreeSet<u16> = (0..=256).collect();
        let bytes = postcard::to_stdvec(&numbers).unwrap();
        assert!(postcard::from_bytes::<Features>(&bytes).is_err());
    }

    #[test]
    fn numbers_and_names_of_features_are_their_own() {
        let numbers: BTreeSet<u16> = Feature::ALL.map(Feature::number).into();
        let names: BTreeSet<&str> = Feature::ALL.map(Feature::name).into();
        assert_eq!((numbers.len(), names.len()), (Feature::ALL.len(), Feature::ALL.len()));
    }
}
