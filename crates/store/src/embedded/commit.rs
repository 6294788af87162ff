//! The record that ends every batch in fjall's journal: the number of the commit, and how far all
//! commits before it had been synced. Commits are numbered densely, so a hole in the journal shows.

use xxhash_rust::xxh3::xxh3_64;

/// The key of the record, alone in its keyspace. Long and odd enough to find it in raw bytes.
pub(super) const KEY: &[u8; 16] = b"\x00hearth\xc0mmit\xff\x01\x00\x00";

const BYTES: usize = 24;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Commit {
    /// From 1.
    pub(super) number: u64,
    /// The last one that was synced when this one was written.
    pub(super) synced_before: u64,
}

impl Commit {
    pub(super) fn to_bytes(self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[..8].copy_from_slice(&self.number.to_be_bytes());
        out[8..16].copy_from_slice(&self.synced_before.to_be_bytes());
        let sum = xxh3_64(&out[..16]);
        out[16..].copy_from_slice(&sum.to_be_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let word =
            |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        (xxh3_64(&bytes[..16]) == word(16))
            .then(|| Self { number: word(0), synced_before: word(8) })
    }
}
