//! How the fields of a row become bytes: a record of [`wire::codec`].
//!
//! A field that a later version adds stands at the end and is marked `#[serde(default)]`. Older
//! versions ignore it, and newer ones read its default where an older one wrote the row.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wire::codec;

pub(super) fn encode<T: Serialize>(row: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(128);
    codec::write(row, &mut bytes);
    bytes.into()
}

/// None when the bytes are no such row.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    codec::read(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        n: u64,
        name: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        n: u64,
        name: String,
        #[serde(default)]
        more: Option<String>,
        #[serde(default)]
        list: Vec<u32>,
    }

    #[test]
    fn fields_added_later_read_as_defaults_and_are_ignored_by_older_versions() {
        let old = Old { n: 300, name: "tea".into() };
        let new: New = decode(&encode(&old)).unwrap();
        assert_eq!((new.n, new.name.as_str(), &new.more), (300, "tea", &None));
        assert_eq!(new.list, Vec::<u32>::new());
        let new = New { more: Some("x".into()), list: vec![7], ..new };
        assert_eq!(decode::<Old>(&encode(&new)), Some(old));
        assert_eq!(decode::<New>(&encode(&new)), Some(new));
    }

    #[test]
    fn a_row_that_was_cut_inside_a_text_is_no_row() {
        assert_eq!(decode::<Old>(b""), None);
        assert_eq!(decode::<Old>(&[1, 3, b't']), None);
    }
}
