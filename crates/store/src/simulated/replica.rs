//! One replica: what can be read, what is synced, and what is not yet.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::ZoneId;

use crate::cell::{self, Cell, Stored, Table, zone_of};
use crate::quorum::{ReplicaError, Scan};

type Rows = BTreeMap<(Table, Bytes), Bytes>;

#[derive(Debug, Default)]
pub(super) struct Replica {
    pub(super) is_up: bool,
    /// Grows with every crash: a sync that was begun before it ends nowhere.
    pub(super) incarnation: u64,
    /// As read.
    rows: Rows,
    /// As a crash of the machine leaves it, at least.
    synced: Rows,
    /// Written since, in order.
    unsynced: Vec<Cell>,
}

impl Replica {
    pub(super) fn empty() -> Self {
        Self { is_up: true, ..Self::default() }
    }

    pub(super) fn write(&mut self, cells: &[Cell]) {
        for cell in cells {
            put(&mut self.rows, cell);
            self.unsynced.push(cell.clone());
        }
    }

    /// How much there is to sync now.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The first `count` unsynced cells are on disk.
    pub(super) fn sync(&mut self, count: usize) {
        for cell in self.unsynced.drain(..count.min(self.unsynced.len())) {
            put(&mut self.synced, &cell);
        }
    }

    /// What remains of the unsynced cells: the first `kept`.
    pub(super) fn crash(&mut self, kept: usize) {
        self.is_up = false;
        self.incarnation += 1;
        self.sync(kept);
        self.unsynced.clear();
        self.rows = self.synced.clone();
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Stored>, ReplicaError> {
        let key = Bytes::copy_from_slice(key);
        self.rows.get(&(table, key.clone())).map(|value| unseal(&key, value)).transpose()
    }

    pub(super) fn scan(&self, scan: &Scan) -> Result<Vec<(Bytes, Stored)>, ReplicaError> {
        if scan.from >= scan.to {
            return Ok(Vec::new());
        }
        let key = |key: &[u8]| (scan.table, Bytes::copy_from_slice(key));
        let rows = self.rows.range(key(&scan.from)..key(&scan.to)).take(scan.limit);
        rows.map(|((_, key), value)| Ok((key.clone(), unseal(key, value)?))).collect()
    }

    /// Loses the keys from the first to before the second, on disk as well.
    pub(super) fn forget(&mut self, table: Table, from: &[u8], to: &[u8]) {
        let is_kept = |its: Table, key: &Bytes| its != table || &key[..] < from || &key[..] >= to;
        self.rows.retain(|(its, key), _| is_kept(*its, key));
        self.synced.retain(|(its, key), _| is_kept(*its, key));
        self.unsynced.retain(|cell| is_kept(cell.table, &cell.key));
    }

    /// All cells of a zone.
    pub(super) fn cells(&self, zone: ZoneId) -> Vec<Cell> {
        let rows = self.rows.iter().filter(|((_, key), _)| zone_of(key) == Some(zone));
        rows.map(|((table, key), value)| Cell {
            table: *table,
            key: key.clone(),
            value: value.clone(),
        })
        .collect()
    }

    /// Takes what is missing here. Returns how many cells that were.
    pub(super) fn take(&mut self, cells: Vec<Cell>) -> usize {
        let missing: Vec<Cell> = cells.into_iter().filter(|cell| wins(&self.rows, cell)).collect();
        self.write(&missing);
        missing.len()
    }

    pub(super) fn has_synced(&self, table: Table, key: &Bytes) -> bool {
        self.synced.contains_key(&(table, key.clone()))
    }

    /// All log rows that can be read.
    pub(super) fn log(&self) -> impl Iterator<Item = Stored> {
        let rows = self.rows.iter().filter(|((table, _), _)| *table == Table::Log);
        rows.filter_map(|((_, key), value)| unseal(key, value).ok())
    }

    pub(super) fn holds(&self, needle: &[u8]) -> bool {
        let found = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        self.rows.iter().chain(&self.synced).any(|((_, key), value)| found(key) || found(value))
    }
}

fn put(rows: &mut Rows, cell: &Cell) {
    if wins(rows, cell) {
        rows.insert((cell.table, cell.key.clone()), cell.value.clone());
    }
}

fn wins(rows: &Rows, cell: &Cell) -> bool {
    let Some(present) = rows.get(&(cell.table, cell.key.clone())) else { return true };
    match (cell::peek(&cell.key, &cell.value), cell::peek(&cell.key, present)) {
        (Ok(new), Ok(present)) => cell::beats(new, present),
        (new, _) => new.is_ok(),
    }
}

fn unseal(key: &[u8], value: &[u8]) -> Result<Stored, ReplicaError> {
    cell::unseal(key, value).map_err(|error| ReplicaError::Damaged(error.to_string()))
}
