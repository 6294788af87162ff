//! The one shape of everything a replica keeps: a cell, which is a key, a stamp and bytes.
//!
//! Where two cells have one key, the higher stamp wins. With equal stamps the greater bytes win, so
//! replicas that saw the same writes in different orders agree. Reads, late writes and repair need
//! nothing but this merge.
//!
//! ## Keys
//! All integers are big endian, so keys sort as their numbers do. A key starts with the zone: a
//! replica holds each zone as one range of each table, and repair and residency look at nothing
//! else.
//!
//! | table | key | stamp | value |
//! |---|---|---|---|
//! | log | shard, slot 8, epoch 8 | (epoch, slot) | the frame |
//! | lease | shard | (boot, count): versions of the conditional writes | [`Lease`](conversation::shard::Lease) |
//! | lease | zone 2, region 2, 2, incarnation 16 | as above | [`CoreLease`](conversation::shard::CoreLease) |
//! | fence | shard | (epoch, 0) | nothing |
//! | mark | shard, kind 1, consumer's name or region | the mark itself | nothing |
//! | mark | shard, 4, region 2 | (0, milliseconds since 1970) | these milliseconds 8 |
//! | projection | zone 2, kind 1, conversation 23, rest (`quorum::rows`) | [`stamp`](conversation::moving::stamp) of the change | the row |
//!
//! where *shard* is zone 2, home 2, class 1, number 2.
//!
//! ## Values
//! checksum 8 (XXH3-64 over key and rest), epoch 8, slot 8, bytes. The checksum covers the key, so
//! it finds a value under another's key as well as a flipped bit.

use bytes::Bytes;
use conversation::shard::Nonce;
use wire::{Durability, Epoch, Position, RegionId, ShardId, Slot, ZoneId};
use xxhash_rust::xxh3::Xxh3;

use crate::contract::{CoreKey, Mark};

/// The tables of a replica, each a keyspace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Table {
    Log,
    Lease,
    Fence,
    Mark,
    Projection,
}

impl Table {
    pub(crate) const ALL: [Self; 5] =
        [Self::Log, Self::Lease, Self::Fence, Self::Mark, Self::Projection];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Lease => "lease",
            Self::Fence => "fence",
            Self::Mark => "mark",
            Self::Projection => "projection",
        }
    }

    /// Whether a key is only ever written with one content: such a write needs no look at what is
    /// there.
    pub(crate) fn is_write_once(self) -> bool {
        self == Self::Log
    }
}

/// A cell on its way to a replica. Sealed once, for all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) table: Table,
    pub(crate) key: Bytes,
    /// As it stands on disk.
    pub(crate) value: Bytes,
}

impl Cell {
    pub(crate) fn new(table: Table, key: Vec<u8>, stamp: Position, bytes: &[u8]) -> Self {
        let value = seal(&key, stamp, bytes).into();
        Self { table, key: key.into(), value }
    }
}

/// The content of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) stamp: Position,
    pub(crate) bytes: Bytes,
}

impl Stored {
    /// Whether this one wins when both are known.
    pub(crate) fn beats(&self, other: &Self) -> bool {
        beats((self.stamp, &self.bytes), (other.stamp, &other.bytes))
    }
}

/// Whether the first of two contents of one key wins when both are known.
pub(crate) fn beats(a: (Position, &[u8]), b: (Position, &[u8])) -> bool {
    a > b
}

/// Bytes of a replica that nobody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row whose checksum does not match")]
pub(crate) struct BadChecksum;

const HEAD: usize = 24;

/// Epoch and slot, as they stand in a value.
pub(crate) const STAMP_BYTES: usize = 16;

/// The stamp of a value that was just sealed. Not checked: see [`peek`].
pub(crate) fn stamp_bytes(value: &[u8]) -> Option<&[u8]> {
    value.get(HEAD - STAMP_BYTES..HEAD)
}

/// The value of a cell as it stands on disk.
fn seal(key: &[u8], stamp: Position, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + bytes.len());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&stamp.epoch.0.to_be_bytes());
    out.extend_from_slice(&stamp.slot.0.to_be_bytes());
    out.extend_from_slice(bytes);
    let sum = checksum(key, &out[8..]);
    out[..8].copy_from_slice(&sum.to_be_bytes());
    out
}

/// The inverse of [`seal`].
pub(crate) fn unseal(key: &[u8], value: &[u8]) -> Result<Stored, BadChecksum> {
    let (stamp, bytes) = peek(key, value)?;
    Ok(Stored { stamp, bytes: Bytes::copy_from_slice(bytes) })
}

/// As [`unseal`], without a copy.
pub(crate) fn peek<'a>(key: &[u8], value: &'a [u8]) -> Result<(Position, &'a [u8]), BadChecksum> {
    let (sum, rest) = value.split_first_chunk::<8>().ok_or(BadChecksum)?;
    if checksum(key, rest) != u64::from_be_bytes(*sum) {
        return Err(BadChecksum);
    }
    split_stamp(rest).ok_or(BadChecksum)
}

fn split_stamp(rest: &[u8]) -> Option<(Position, &[u8])> {
    let (epoch, rest) = rest.split_first_chunk::<8>()?;
    let (slot, bytes) = rest.split_first_chunk::<8>()?;
    Some((
        Position {
            epoch: Epoch(u64::from_be_bytes(*epoch)),
            slot: Slot(u64::from_be_bytes(*slot)),
        },
        bytes,
    ))
}

fn checksum(key: &[u8], rest: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(key);
    hash.update(rest);
    hash.digest()
}

/// The zone to which a key belongs.
pub(crate) fn zone_of(key: &[u8]) -> Option<ZoneId> {
    Some(ZoneId(u16::from_be_bytes(*key.first_chunk::<2>()?)))
}

/// The bounds of everything of a zone: from the first key to before the second.
pub(crate) fn zone_range(zone: ZoneId) -> (Vec<u8>, Vec<u8>) {
    let from = zone.0.to_be_bytes().to_vec();
    let to = match zone.0.checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        None => vec![0xff; 3],
    };
    (from, to)
}

/// The key of a shard's lease and fence, and the start of its keys in log and mark.
pub(crate) fn shard_key(shard: ShardId) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    key.extend_from_slice(&shard.zone.0.to_be_bytes());
    key.extend_from_slice(&shard.home.0.to_be_bytes());
    key.push(match shard.durability {
        Durability::Region => 0,
        Durability::MultiRegion => 1,
    });
    key.extend_from_slice(&shard.n.to_be_bytes());
    key
}

/// The start of the keys of a region's core leases. No shard has it: classes are 0 and 1.
pub(crate) fn cores_key(zone: ZoneId, region: RegionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(21);
    key.extend_from_slice(&zone.0.to_be_bytes());
    key.extend_from_slice(&region.0.to_be_bytes());
    key.push(2);
    key
}

pub(crate) fn core_key(of: CoreKey) -> Vec<u8> {
    let mut key = cores_key(of.zone, of.region);
    key.extend_from_slice(&of.incarnation.0.to_be_bytes());
    key
}

/// Whether a region is failed over. No shard and no core has it.
pub(crate) fn failed_over_key(zone: ZoneId, region: RegionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(5);
    key.extend_from_slice(&zone.0.to_be_bytes());
    key.extend_from_slice(&region.0.to_be_bytes());
    key.push(3);
    key
}

/// The incarnation in the key of a core lease.
pub(crate) fn core_incarnation(key: &[u8]) -> Option<Nonce> {
    Some(Nonce(u128::from_be_bytes(*key.get(5..)?.first_chunk()?)))
}

pub(crate) fn log_key(shard: ShardId, at: Position) -> Vec<u8> {
    let mut key = shard_key(shard);
    key.extend_from_slice(&at.slot.0.to_be_bytes());
    key.extend_from_slice(&at.epoch.0.to_be_bytes());
    key
}

/// The position in a key of the log.
pub(crate) fn log_position(key: &[u8]) -> Option<Position> {
    let rest = key.get(7..)?;
    let (slot, rest) = rest.split_first_chunk::<8>()?;
    let epoch = rest.first_chunk::<8>()?;
    Some(Position {
        epoch: Epoch(u64::from_be_bytes(*epoch)),
        slot: Slot(u64::from_be_bytes(*slot)),
    })
}

pub(crate) fn mark_key(shard: ShardId, mark: &Mark) -> Vec<u8> {
    let mut key = shard_key(shard);
    match mark {
        Mark::Checkpoint => key.push(0),
        Mark::Committed => key.push(1),
        Mark::Consumer(name) => {
            key.push(2);
            key.extend_from_slice(name.as_bytes());
        }
        Mark::Follower(region) => {
            key.push(3);
            key.extend_from_slice(&region.0.to_be_bytes());
        }
    }
    key
}

/// Beside the marks, whose kinds are below 4.
pub(crate) fn fresh_as_of_key(shard: ShardId, region: RegionId) -> Vec<u8> {
    let mut key = shard_key(shard);
    key.push(4);
    key.extend_from_slice(&region.0.to_be_bytes());
    key
}

/// The first key after all that start with `prefix`.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0xff; 32]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(epoch: u64, slot: u64, bytes: &'static [u8]) -> Stored {
        Stored {
            stamp: Position { epoch: Epoch(epoch), slot: Slot(slot) },
            bytes: Bytes::from_static(bytes),
        }
    }

    #[test]
    fn the_higher_stamp_stays_and_equal_stamps_agree_on_one() {
        assert!(stored(2, 0, b"a").beats(&stored(1, 9, b"z")));
        assert!(!stored(1, 9, b"z").beats(&stored(2, 0, b"a")));
        let (a, b) = (stored(1, 1, b"a"), stored(1, 1, b"b"));
        assert!(b.beats(&a) && !a.beats(&b) && !a.beats(&a));
    }

    #[test]
    fn every_key_lies_in_its_zone_and_log_keys_sort_by_slot_then_epoch() {
        let shard = ShardId {
            zone: ZoneId(7),
            home: RegionId(1),
            durability: Durability::MultiRegion,
            n: 3,
        };
        let at = |slot, epoch| log_key(shard, Position { epoch: Epoch(epoch), slot: Slot(slot) });
        let keys = [at(0, 1), at(0, 2), at(1, 1), at(255, 1), at(256, 1)];
        assert!(keys.is_sorted());
        let (from, to) = zone_range(ZoneId(7));
        for key in
            keys.iter().chain([&shard_key(shard), &mark_key(shard, &Mark::Consumer("push".into()))])
        {
            assert!(*key >= from && *key < to);
            assert_eq!(zone_of(key), Some(ZoneId(7)));
        }
        assert_eq!(log_position(&at(9, 4)).unwrap(), Position { epoch: Epoch(4), slot: Slot(9) });
        assert!(zone_range(ZoneId(u16::MAX)).1 > vec![0xff, 0xff, 0xff - 1]);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_in_a_value_or_a_value_under_another_key_is_found(
            key in proptest::collection::vec(any::<u8>(), 1..30),
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let cell = Stored { stamp: Position { epoch: Epoch(3), slot: Slot(4) }, bytes: bytes.into() };
            let mut value = seal(&key, cell.stamp, &cell.bytes);
            prop_assert_eq!(unseal(&key, &value).unwrap(), cell);
            let mut other = key.clone();
            other.push(0);
            prop_assert!(unseal(&other, &value).is_err());
            let at = at.index(value.len());
            value[at] ^= 1 << bit;
            prop_assert!(unseal(&key, &value).is_err());
        }

        #[test]
        fn everything_that_starts_with_a_prefix_lies_before_its_end(
            prefix in proptest::collection::vec(any::<u8>(), 1..6), rest in proptest::collection::vec(any::<u8>(), 0..6),
        ) {
            let key = [prefix.clone(), rest].concat();
            prop_assert!(key < after_prefix(&prefix));
        }
    }
}
