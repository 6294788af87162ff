//! Rows that are written once in a term: messages, changes and dedupe rows.
//!
//! Such a row is inserted without a look at what is there. Its stamp ends its key in the engine, so
//! every version has a place of its own and none can overwrite another, in whatever order they
//! arrive: the owner's, a zombie's late one, one of a forked epoch that a repair brings. Readers
//! take the version with the highest stamp, which is the last in key order.
//!
//! ```text
//! key in the engine := key of the cell, epoch 8, slot 8
//! ```
//!
//! The key of one cell may start another's. Their versions still do not mix: the byte behind the
//! shorter key is the first of an epoch, which is zero, and no key goes on with a zero byte.
//!
//! Trap: a version that is beaten stays in the files. Whatever erases a message must remove its
//! earlier versions here.

use bytes::Bytes;

use crate::cell::{Cell, STAMP_BYTES, Table, stamp_bytes};
use crate::rows::Kind;

/// Place of the kind in a projection's key, behind the zone.
const KIND_AT: usize = 2;

/// Whether all versions of this cell are kept.
pub(super) fn are_kept(table: Table, key: &[u8]) -> bool {
    const KINDS: [u8; 3] = [Kind::Message as u8, Kind::Change as u8, Kind::Dedupe as u8];
    table == Table::Projection && key.get(KIND_AT).is_some_and(|kind| KINDS.contains(kind))
}

/// The key of a cell in the engine.
pub(super) fn engine_key(cell: &Cell) -> Bytes {
    match stamp_bytes(&cell.value) {
        Some(stamp) if are_kept(cell.table, &cell.key) => [&cell.key, stamp].concat().into(),
        _ => cell.key.clone(),
    }
}

/// The key of the cell that has this key in the engine.
pub(super) fn cell_key(table: Table, engine_key: &[u8]) -> &[u8] {
    match engine_key.len().checked_sub(STAMP_BYTES) {
        Some(end) if are_kept(table, engine_key) => &engine_key[..end],
        _ => engine_key,
    }
}

/// The bounds, both inclusive, of all versions of a cell. Other cells' may lie between them.
pub(super) fn bounds(key: &[u8]) -> [Vec<u8>; 2] {
    [[key, &[0; STAMP_BYTES]].concat(), [key, &[0xff; STAMP_BYTES]].concat()]
}

#[cfg(test)]
mod tests {
    use wire::{Epoch, Position, Slot, ZoneId};

    use super::super::commit::Commit;
    use super::super::engine::{Engine, Sizes};
    use super::super::{merge, repair};
    use super::*;
    use crate::cell::zone_range;
    use crate::quorum::Scan;

    const SIZES: Sizes = Sizes { cache_bytes: 1 << 20, memtable_bytes: 1 << 20 };

    fn row(kind: Kind, rest: &[u8], (epoch, slot): (u64, u64), bytes: &str) -> Cell {
        let key = [&[0, 1, kind as u8], rest].concat();
        let stamp = Position { epoch: Epoch(epoch), slot: Slot(slot) };
        Cell::new(Table::Projection, key, stamp, bytes.as_bytes())
    }

    fn write(engine: &Engine, cells: &[Cell]) {
        let number = engine.last_commit().unwrap().number + 1;
        merge::write(engine, cells.iter(), Commit { number, synced_before: 0 }, false).unwrap();
    }

    fn read(engine: &Engine, limit: usize) -> Vec<String> {
        let (from, to) = zone_range(ZoneId(1));
        let rows = engine.scan(&Scan { table: Table::Projection, from, to, limit }).unwrap();
        rows.iter().map(|(_, stored)| String::from_utf8(stored.bytes.to_vec()).unwrap()).collect()
    }

    #[test]
    fn in_whatever_order_versions_arrive_the_highest_stamp_is_read() {
        for kind in [Kind::Message, Kind::Change, Kind::Dedupe, Kind::Head] {
            let dir = tempfile::tempdir().unwrap();
            let (engine, _) = Engine::open(dir.path(), SIZES).unwrap();
            // A newer edit, then a zombie's late projection, in one batch and in two.
            write(&engine, &[row(kind, b"a", (5, 1), "edited"), row(kind, b"a", (4, 9), "late")]);
            write(&engine, &[row(kind, b"a", (4, 8), "later")]);
            write(&engine, &[row(kind, b"b", (4, 7), "other")]);
            assert_eq!(read(&engine, 10), ["edited", "other"], "{kind:?}");
            assert_eq!(read(&engine, 1), ["edited"], "versions do not count as rows");
            let key = row(kind, b"a", (0, 0), "").key;
            let found = engine.get(Table::Projection, &key).unwrap().unwrap();
            assert_eq!((found.stamp.epoch, &found.bytes[..]), (Epoch(5), &b"edited"[..]));
            write(&engine, &[row(kind, b"a", (6, 0), "after the fork")]);
            assert_eq!(read(&engine, 1), ["after the fork"]);
        }
    }

    #[test]
    fn a_repair_takes_the_newest_version_and_no_row_of_an_older_fork() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, _) = Engine::open(ours.path(), SIZES).unwrap();
        let (theirs, _) = Engine::open(theirs.path(), SIZES).unwrap();
        let rows = |epoch, bytes: &str| {
            [Kind::Message, Kind::Change, Kind::Dedupe]
                .map(|kind| row(kind, b"a", (epoch, 3), bytes))
        };
        write(&ours, &rows(7, "serves"));
        write(&theirs, &rows(6, "lost"));
        let from_them = |taken: &mut Vec<Cell>, ours: &Engine, theirs: &Engine| {
            repair::missing(ours, theirs, ZoneId(1), |cells| {
                taken.extend(cells);
                Ok(())
            })
        };
        let mut taken = Vec::new();
        assert_eq!(from_them(&mut taken, &ours, &theirs), Ok(0));
        assert_eq!(from_them(&mut taken, &theirs, &ours), Ok(3));
        assert_eq!(taken, rows(7, "serves"));
        write(&theirs, &taken);
        assert_eq!(read(&theirs, 9), ["serves"; 3]);
    }

    #[test]
    fn a_key_that_starts_another_key_is_told_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _) = Engine::open(dir.path(), SIZES).unwrap();
        write(&engine, &[row(Kind::Dedupe, b"m12", (9, 9), "long")]);
        let short = row(Kind::Dedupe, b"m1", (1, 1), "short");
        assert_eq!(engine.get(Table::Projection, &short.key).unwrap(), None);
        write(&engine, &[short.clone(), row(Kind::Dedupe, b"m1", (2, 1), "again")]);
        let found = engine.get(Table::Projection, &short.key).unwrap().unwrap();
        assert_eq!(&found.bytes[..], b"again");
        assert_eq!(read(&engine, 9), ["again", "long"]);
    }
}
