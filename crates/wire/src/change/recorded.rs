use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Change;
use crate::codec::{CodecError, Record as _};

/// A change that was decided, and its bytes as the node that decided it wrote them. It is stored
/// and passed on as these bytes: it is encoded once, and keeps fields of a newer version that its
/// reader does not know.
#[derive(Clone)]
pub struct Recorded {
    change: Change,
    bytes: Bytes,
}

impl Recorded {
    /// Keeps the bytes.
    ///
    /// # Errors
    /// See [`Change::from_bytes`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self, CodecError> {
        Ok(Self { change: Change::from_bytes(&bytes)?, bytes })
    }

    /// [`Change::to_bytes`], perhaps with more behind it.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The change, without its bytes.
    #[must_use]
    pub fn into_change(self) -> Change {
        self.change
    }
}

impl From<Change> for Recorded {
    fn from(change: Change) -> Self {
        let bytes = change.to_bytes().into();
        Self { change, bytes }
    }
}

impl Deref for Recorded {
    type Target = Change;

    fn deref(&self) -> &Change {
        &self.change
    }
}

/// The bytes say all.
impl PartialEq for Recorded {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Recorded {}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.change.fmt(f)
    }
}

/// The form of [`Change`] inside other forms.
impl Serialize for Recorded {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Recorded {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = <&'de [u8]>::deserialize(from)?;
        let change = Change::read_fields(bytes).map_err(de::Error::custom)?;
        Ok(Self { change, bytes: Bytes::copy_from_slice(bytes) })
    }
}
