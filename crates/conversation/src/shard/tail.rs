//! Part of the log, read from a slot on, page by page, and kept up to the first hole.

use wire::Slot;

use super::starts::Starts;
use crate::log::LogRow;

/// Rows of the first read. It grows only when one slot holds more rows than this.
pub(super) const TAIL_PAGE_ROWS: usize = 512;

/// The rows kept so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tail {
    from: Slot,
    rows: Vec<LogRow>,
    limit: usize,
}

impl Tail {
    pub(super) fn new(from: Slot) -> Self {
        Self { from, rows: Vec::new(), limit: TAIL_PAGE_ROWS }
    }

    /// Where the tail begins.
    pub(super) fn from(&self) -> Slot {
        self.from
    }

    /// Where the tail ends, and where to read on.
    pub(super) fn end(&self) -> Slot {
        self.rows.last().map_or(self.from, |row| row.at.slot.next())
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn rows(&self) -> &[LogRow] {
        &self.rows
    }

    pub(super) fn into_rows(self) -> Vec<LogRow> {
        self.rows
    }

    /// Keeps the rows that continue the tail and count by these starts. Returns whether a later
    /// page could hold more.
    pub(super) fn extend(&mut self, page: Vec<LogRow>, starts: &Starts) -> bool {
        let full = page.len() >= self.limit;
        let last = page.last().map(|row| row.at.slot);
        let before = self.end();
        for row in page {
            if row.at.slot == self.end() && starts.owns(row.at) {
                self.rows.push(row);
            }
        }
        // A full page may have been cut inside its last slot, so only a hole before that slot is a
        // hole.
        let more = full && last.is_some_and(|last| last <= self.end());
        if more && self.end() == before {
            self.limit *= 2;
        }
        more
    }
}
