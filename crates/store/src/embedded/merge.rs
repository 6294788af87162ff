//! One batch of cells on its way into the engine: of each key the cell that beats all others, in
//! key order.
//!
//! Neighbours in key order share their way through the memtable, so a sorted batch is cheaper to
//! insert.

use super::commit::Commit;
use super::engine::{self, Engine};
use super::versions;
use crate::cell::{self, Cell};
use crate::quorum::ReplicaError;

/// Writes as one commit what beats the present contents.
pub(super) fn write<'a>(
    engine: &Engine,
    cells: impl Iterator<Item = &'a Cell>,
    commit: Commit,
    to_disk: bool,
) -> Result<(), ReplicaError> {
    let mut cells: Vec<&Cell> = cells.collect();
    cells.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
    let mut batch = engine.batch(cells.len() + 1);
    for same in cells.chunk_by(|a, b| place(a) == place(b)) {
        let new = best(same)?;
        if is_inserted_unseen(new) || beats_present(engine, new)? {
            batch.insert(new);
        }
    }
    batch.commit(commit, to_disk).map_err(engine::damaged)
}

fn place(cell: &Cell) -> (u8, &[u8]) {
    (cell.table as u8, &cell.key)
}

/// Of cells with one key, of which there is at least one.
fn best<'a>(same: &[&'a Cell]) -> Result<&'a Cell, ReplicaError> {
    let mut best = same[0];
    for &other in &same[1..] {
        if beats(&other.key, &other.value, &best.value)? {
            best = other;
        }
    }
    Ok(best)
}

/// Whether nothing that stands under this key can matter: it is the same, or has a place of its
/// own.
fn is_inserted_unseen(new: &Cell) -> bool {
    new.table.is_write_once() || versions::are_kept(new.table, &new.key)
}

fn beats_present(engine: &Engine, new: &Cell) -> Result<bool, ReplicaError> {
    match engine.raw(new.table, &new.key)? {
        Some(present) => beats(&new.key, &new.value, &present),
        None => Ok(true),
    }
}

/// A present content that is damaged is beaten by anything.
fn beats(key: &[u8], new: &[u8], present: &[u8]) -> Result<bool, ReplicaError> {
    let new = cell::peek(key, new).map_err(|e| ReplicaError::Damaged(e.to_string()))?;
    Ok(cell::peek(key, present).map_or(true, |present| cell::beats(new, present)))
}
