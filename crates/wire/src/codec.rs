//! How everything that is stored or sent is written, so that two minor versions understand each
//! other.
//!
//! - A **numbered** form ([`Numbered`]: frames, commands, queries, answers, events) is a kind,
//!   flags, a length and its fields. A reader that does not know the kind keeps it whole
//!   ([`Unknown`]).
//! - A **record** ([`record!`](crate::record): drafts, actors, views, rows) is a length and its
//!   fields.
//! - Fields are postcard, in order, and grow only at their end. A reader skips the fields that it
//!   does not know. A field that the writer did not have is read as its default: mark it
//!   `#[serde(default)]` in a record, or read it with [`Reader::later`] in a numbered form.
//!
//! A message whose draft, or itself, is written again keeps what it does not know ([`Later`]). A
//! change is not written again but passed on as it came ([`Recorded`](crate::change::Recorded)).
//!
//! A frame between nodes has no length of its own: the mesh delimits it.

use bytes::Bytes;
use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The flag of a kind that a reader may ignore when it does not know it.
pub const SKIPPABLE: u8 = 1;

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not even a kind and flags.
    #[error("shorter than its head")]
    Short,
    /// Lacks a field that every version has, or holds something else in its place.
    #[error("malformed fields: {0}")]
    Fields(String),
}

/// A numbered form of a newer version: kept, so that it can be passed on byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its number.
    pub kind: u16,
    /// See [`SKIPPABLE`].
    pub flags: u8,
    /// The bytes of its fields.
    pub fields: Bytes,
}

impl Unknown {
    /// Without flags.
    #[must_use]
    pub fn new(kind: u16, fields: impl Into<Bytes>) -> Self {
        Self { kind, flags: 0, fields: fields.into() }
    }

    /// Whether a reader that does not know it may ignore it.
    #[must_use]
    pub fn is_skippable(&self) -> bool {
        self.flags & SKIPPABLE != 0
    }

    /// Writes the fields as they came.
    pub fn pack(&self, out: &mut Vec<u8>) -> Head {
        out.extend_from_slice(&self.fields);
        Head { kind: self.kind, flags: self.flags }
    }
}

/// What stands before the fields of a numbered form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub kind: u16,
    /// See [`SKIPPABLE`].
    pub flags: u8,
}

/// Writes fields behind what `out` holds, and returns the head that belongs to them.
pub fn pack<T: Serialize + ?Sized>(kind: u16, fields: &T, out: &mut Vec<u8>) -> Head {
    write(fields, out);
    Head { kind, flags: 0 }
}

/// As [`pack`], for a kind whose fields are those of a record.
pub fn pack_record<T: Record>(kind: u16, record: &T, out: &mut Vec<u8>) -> Head {
    record.write_fields(out);
    Head { kind, flags: 0 }
}

/// An enum whose variants have numbers.
pub trait Numbered: Sized {
    /// Writes the fields behind what `out` holds.
    fn pack(&self, out: &mut Vec<u8>) -> Head;

    /// Reads the fields of a kind; none when this version does not know it.
    ///
    /// # Errors
    /// When a field is missing or malformed.
    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError>;

    /// Keeps a kind that this version does not know.
    fn unknown(unknown: Unknown) -> Self;

    /// Reads the fields of a known or unknown kind.
    ///
    /// # Errors
    /// When a field of a known kind is missing or malformed.
    fn read(Head { kind, flags }: Head, fields: &[u8]) -> Result<Self, CodecError> {
        let known = Self::unpack(kind, &mut Reader::new(fields))?;
        Ok(known.unwrap_or_else(|| {
            Self::unknown(Unknown { kind, flags, fields: Bytes::copy_from_slice(fields) })
        }))
    }
}

/// Reads fields from their start; what is left is of a later version.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of these bytes.
    #[must_use]
    pub fn new(fields: &'a [u8]) -> Self {
        Self { rest: fields }
    }

    /// The fields that every version has.
    ///
    /// # Errors
    /// When they are not there.
    pub fn fields<T: Deserialize<'a>>(&mut self) -> Result<T, CodecError> {
        let (value, rest) =
            postcard::take_from_bytes(self.rest).map_err(|error| malformed(&error))?;
        self.rest = rest;
        Ok(value)
    }

    /// All fields of a record, which are the fields of this kind.
    ///
    /// # Errors
    /// See [`read`].
    pub fn record<T: Record>(&mut self) -> Result<T, CodecError> {
        T::read_fields(std::mem::take(&mut self.rest))
    }

    /// A field added by a later version: its default when an older one wrote the bytes.
    ///
    /// # Errors
    /// When something is there, but not this.
    pub fn later<T: Deserialize<'a> + Default>(&mut self) -> Result<T, CodecError> {
        if self.rest.is_empty() { Ok(T::default()) } else { self.fields() }
    }
}

fn malformed(error: &postcard::Error) -> CodecError {
    CodecError::Fields(error.to_string())
}

/// Writes fields behind what `out` holds.
pub fn write<T: Serialize + ?Sized>(fields: &T, out: &mut Vec<u8>) {
    let whole = postcard::to_extend(fields, std::mem::take(out));
    *out = whole.expect("plain data in memory always serializes");
}

/// Reads the fields of a struct. Skips fields of a later version; fields that an older version did
/// not write are their default, where they are marked `#[serde(default)]`.
///
/// # Errors
/// When a field that every version has is missing, or one is malformed.
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    T::deserialize(Fields { rest: bytes }).map_err(|error| malformed(&error))
}

/// A struct that is stored or sent by itself, or inside another form. Made by
/// [`record!`](crate::record).
pub trait Record: Sized {
    /// Its fields, without a length.
    fn write_fields(&self, out: &mut Vec<u8>);

    /// The inverse: see [`read`].
    ///
    /// # Errors
    /// See [`read`].
    fn read_fields(bytes: &[u8]) -> Result<Self, CodecError>;
}

/// The fields of a record that this version does not know. A record that is written again in
/// another form keeps them: this is its last field, with `#[serde(default)]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Later(Bytes);

impl Later {
    /// As they came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Later {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = to.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| bytes.serialize_element(byte))?;
        bytes.end()
    }
}

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Rest;
        impl<'de> Visitor<'de> for Rest {
            type Value = Later;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the rest of a record")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Later, A::Error> {
                let mut rest = Vec::new();
                // Any byte is a byte: it fails only behind the last one.
                while let Ok(Some(byte)) = bytes.next_element::<u8>() {
                    rest.push(byte);
                }
                Ok(Later(rest.into()))
            }
        }
        from.deserialize_tuple(usize::MAX, Rest)
    }
}

/// Makes records of structs that derive serde's traits with `#[serde(remote = "Self")]`: see
/// [`codec`](crate::codec).
#[macro_export]
macro_rules! record {
    ($($type:ident),+ $(,)?) => {$(
        const _: () = {
            struct Written<'a>(&'a $type);
            impl serde::Serialize for Written<'_> {
                fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    // Not the trait's: the one that `remote` made.
                    $type::serialize(self.0, to)
                }
            }
            struct Read($type);
            impl<'de> serde::Deserialize<'de> for Read {
                fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    $type::deserialize(from).map(Self)
                }
            }
            impl $crate::codec::Record for $type {
                fn write_fields(&self, out: &mut Vec<u8>) {
                    $crate::codec::write(&Written(self), out);
                }
                fn read_fields(bytes: &[u8]) -> Result<Self, $crate::codec::CodecError> {
                    $crate::codec::read::<Read>(bytes).map(|read| read.0)
                }
            }
            impl serde::Serialize for $type {
                fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    let mut fields = Vec::with_capacity(128);
                    $crate::codec::Record::write_fields(self, &mut fields);
                    to.serialize_bytes(&fields)
                }
            }
            impl<'de> serde::Deserialize<'de> for $type {
                fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    let fields = <&'de [u8] as serde::Deserialize>::deserialize(from)?;
                    $crate::codec::Record::read_fields(fields).map_err(serde::de::Error::custom)
                }
            }
        };
    )+};
}

/// Writes numbered forms inside other forms: kind, flags, length, fields.
macro_rules! numbered {
    ($($type:ident),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $crate::codec::serialize_numbered(self, to)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::codec::deserialize_numbered(from)
            }
        }
    )+};
}
pub(crate) use numbered;

pub(crate) fn serialize_numbered<T: Numbered, S: Serializer>(
    form: &T,
    to: S,
) -> Result<S::Ok, S::Error> {
    let mut fields = Vec::with_capacity(128);
    let Head { kind, flags } = form.pack(&mut fields);
    (kind, flags, AsBytes(&fields)).serialize(to)
}

pub(crate) fn deserialize_numbered<'de, T: Numbered, D: Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    let (kind, flags, fields) = <(u16, u8, &'de [u8])>::deserialize(from)?;
    T::read(Head { kind, flags }, fields).map_err(de::Error::custom)
}

struct AsBytes<'a>(&'a [u8]);

impl Serialize for AsBytes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

/// Head and fields of a form that is sent by itself, as a frame.
pub(crate) fn to_frame<T: Numbered>(form: &T) -> Bytes {
    let mut frame = Vec::with_capacity(128);
    frame.extend_from_slice(&[0; 3]);
    let Head { kind, flags } = form.pack(&mut frame);
    frame[..2].copy_from_slice(&kind.to_be_bytes());
    frame[2] = flags;
    frame.into()
}

/// The inverse of [`to_frame`].
pub(crate) fn from_frame<T: Numbered>(frame: &[u8]) -> Result<T, CodecError> {
    let ([high, low, flags], fields) = frame.split_first_chunk().ok_or(CodecError::Short)?;
    T::read(Head { kind: u16::from_be_bytes([*high, *low]), flags: *flags }, fields)
}

/// Reads a struct field by field: at the end of the bytes, serde takes the defaults.
struct Fields<'de> {
    rest: &'de [u8],
}

impl<'de> Deserializer<'de> for Fields<'de> {
    type Error = postcard::Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, postcard::Error> {
        visitor.visit_seq(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

impl<'de> SeqAccess<'de> for Fields<'de> {
    type Error = postcard::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, postcard::Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut field = postcard::Deserializer::from_bytes(self.rest);
        let value = seed.deserialize(&mut field)?;
        self.rest = field.finalize()?;
        Ok(Some(value))
    }
}
