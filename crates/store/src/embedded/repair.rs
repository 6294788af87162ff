//! Anti-entropy: a replica takes from the others what it missed.
//!
//! Keys of a zone are one range of each table, so two replicas are compared by walking both ranges
//! side by side; where the other has a cell that beats ours, it is taken. Nothing is ever removed,
//! and no zone is walked in which one of the two may not have data. The walk reads all of a zone's
//! rows on both sides (some 100,000 in well under a second, when they are in memory); a store that
//! outgrows that outgrows the machine.

use bytes::Bytes;
use fjall::Slice;
use wire::ZoneId;

use super::engine::Engine;
use crate::cell::{self, Cell, Table, zone_range};
use crate::quorum::ReplicaError;

/// Cells taken over at once.
const CHUNK_CELLS: usize = 1024;
const CHUNK_BYTES: usize = 1024 * 1024;

type Rows<'a> =
    std::iter::Peekable<Box<dyn Iterator<Item = Result<(Bytes, Slice), ReplicaError>> + 'a>>;

/// Finds everything of the zone that `theirs` has and that beats what `ours` has, and hands it to
/// `take` in chunks. Returns how many cells that were. Rows of theirs that are damaged are left
/// out.
pub(super) fn missing(
    ours: &Engine,
    theirs: &Engine,
    zone: ZoneId,
    mut take: impl FnMut(Vec<Cell>) -> Result<(), ReplicaError>,
) -> Result<u64, ReplicaError> {
    let (from, to) = zone_range(zone);
    let mut count = 0;
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for table in Table::ALL {
        let mut mine = walk(ours, table, &from, &to);
        for row in walk(theirs, table, &from, &to) {
            let (key, value) = row?;
            if !is_missing(&mut mine, &key, &value)? {
                continue;
            }
            count += 1;
            bytes += key.len() + value.len();
            chunk.push(Cell { table, key, value: Bytes::copy_from_slice(&value) });
            if chunk.len() >= CHUNK_CELLS || bytes >= CHUNK_BYTES {
                take(std::mem::take(&mut chunk))?;
                bytes = 0;
            }
        }
    }
    if !chunk.is_empty() {
        take(chunk)?;
    }
    Ok(count)
}

fn walk<'a>(engine: &'a Engine, table: Table, from: &[u8], to: &[u8]) -> Rows<'a> {
    let rows: Box<dyn Iterator<Item = _>> = Box::new(engine.raw_rows(table, from, to));
    rows.peekable()
}

/// Whether our rows, walked up to `key`, lack it or have less.
fn is_missing(mine: &mut Rows<'_>, key: &[u8], value: &[u8]) -> Result<bool, ReplicaError> {
    while mine.next_if(|row| row.as_ref().is_ok_and(|(ours, _)| **ours < *key)).is_some() {}
    let ours = match mine.peek() {
        Some(Ok((ours, value))) if **ours == *key => Some(value.clone()),
        Some(Err(error)) => return Err(error.clone()),
        _ => None,
    };
    if ours.as_ref().is_some_and(|ours| **ours == *value) {
        return Ok(false);
    }
    let Ok(theirs) = cell::peek(key, value) else { return Ok(false) };
    Ok(match ours {
        None => true,
        Some(ours) => cell::peek(key, &ours).map_or(true, |ours| cell::beats(theirs, ours)),
    })
}
