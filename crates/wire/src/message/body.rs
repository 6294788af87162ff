//! The content of a message, by how it can be read.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::codec::{CodecError, Head, Numbered, Reader, Unknown, numbered, pack, pack_record};

/// The content of a message. A new kind adds a variant here, and every match on it answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In the clear: in memory and between nodes.
    Text(String),
    /// At rest: encrypted under a key of the zone.
    Sealed(Sealed),
    /// Encrypted end to end: no node can read it.
    Opaque(Opaque),
    /// Written by a newer node: kept and passed on.
    Unknown(Unknown),
}

/// An AEAD ciphertext of a body, with what its reader needs beside the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Sealed {
    /// Names the key. Once the key is deleted, nobody can read the body.
    pub key_id: SmolStr,
    /// Never used twice with one key.
    pub nonce: Bytes,
    /// Ends with the tag.
    pub ciphertext: Bytes,
}

/// Bytes that only the members' devices can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Opaque {
    /// Names how devices read it.
    pub scheme: SmolStr,
    /// 1..16384 bytes.
    pub content: Bytes,
}

crate::record!(Sealed, Opaque);

impl Body {
    /// The text, if it is in the clear.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Sealed(_) | Self::Opaque(_) | Self::Unknown(_) => None,
        }
    }

    /// The name of a kind that a client cannot be shown as text.
    #[must_use]
    pub fn unreadable(&self) -> Option<&'static str> {
        match self {
            Self::Text(_) => None,
            Self::Sealed(_) => Some("sealed"),
            Self::Opaque(_) => Some("opaque"),
            Self::Unknown(_) => Some("unknown"),
        }
    }

    /// Its number, and all its bytes in order: two bodies are the same when these are.
    #[must_use]
    pub fn parts(&self) -> (u16, [&[u8]; 3]) {
        match self {
            Self::Text(text) => (1, [text.as_bytes(), &[], &[]]),
            Self::Sealed(Sealed { key_id, nonce, ciphertext }) => {
                (2, [key_id.as_bytes(), nonce, ciphertext])
            }
            Self::Opaque(Opaque { scheme, content }) => (3, [scheme.as_bytes(), content, &[]]),
            Self::Unknown(unknown) => (unknown.kind, [&unknown.fields, &[], &[]]),
        }
    }

    /// An upper estimate of its bytes, without encoding it.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let (_, parts) = self.parts();
        parts.iter().map(|part| part.len() + 4).sum::<usize>() + 12
    }
}

impl<T: Into<String>> From<T> for Body {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl Numbered for Body {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Text(text) => {
                out.reserve(text.len() + 4);
                pack(1, text, out)
            }
            Self::Sealed(sealed) => pack_record(2, sealed, out),
            Self::Opaque(opaque) => pack_record(3, opaque, out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            1 => Self::Text(fields.fields()?),
            2 => Self::Sealed(fields.record()?),
            3 => Self::Opaque(fields.record()?),
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

numbered!(Body);
