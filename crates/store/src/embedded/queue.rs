//! The writes that wait for a replica's commit thread, in two lanes.
//!
//! **Urgent**: log rows, fences and leases. Somebody waits for their sync, so they never queue behind rows.
//! **Background**: projections, marks and copies, in the order in which they came. A checkpoint promises that
//! every projection written before it is durable, so it stays behind them in this lane, although it
//! is synced.
//!
//! Each lane is bounded in writes and bytes. A full lane refuses ([`ReplicaError::Overloaded`]).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::cell::Table;
use crate::quorum::{ReplicaError, Sync, Write};

/// Bounds of one lane.
const LANE_BYTES: usize = 64 * 1024 * 1024;
const LANE_WRITES: usize = 16 * 1024;

/// An urgent batch is closed at this many bytes; one write always fits.
const URGENT_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// A background batch is closed at these: it delays the urgent write that comes while it is
/// written.
const BACKGROUND_BATCH_BYTES: usize = 1024 * 1024;
const BACKGROUND_BATCH_CELLS: usize = 256;
/// A longer backlog makes larger batches: at least one part in this many.
const BACKLOG_PARTS: usize = 4;

/// A write, and whoever waits for it.
pub(super) struct Pending {
    pub(super) write: Arc<Write>,
    /// Dropped without an answer when the replica dies.
    pub(super) done: Done,
}

/// Whom a write's end concerns.
pub(super) enum Done {
    /// A waiting future.
    Tell(oneshot::Sender<Result<(), ReplicaError>>),
    /// Something to be dropped at the end, well or not.
    Drop(Box<dyn std::any::Any + Send>),
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    lanes: Mutex<Lanes>,
    news: Condvar,
}

#[derive(Default)]
struct Lanes {
    urgent: Lane,
    background: Lane,
    end: Option<End>,
    /// The thread sleeps until news come.
    sleeps: bool,
}

/// How a queue ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// What waits is written first.
    Closed,
    /// What waits is forgotten.
    Dead,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Pending>,
    bytes: usize,
    cells: usize,
}

impl Queue {
    /// Lets a write wait for the thread.
    pub(super) fn push(&self, pending: Pending) -> Result<(), ReplicaError> {
        let mut lanes = self.lock();
        if lanes.end.is_some() {
            return Err(ReplicaError::Gone);
        }
        let lane =
            if is_urgent(&pending.write) { &mut lanes.urgent } else { &mut lanes.background };
        if lane.bytes > LANE_BYTES || lane.waiting.len() >= LANE_WRITES {
            return Err(ReplicaError::Overloaded);
        }
        lane.bytes += bytes(&pending.write);
        lane.cells += pending.write.cells.len();
        lane.waiting.push_back(pending);
        self.wake(lanes);
        Ok(())
    }

    /// Takes nothing more. The first end stays, but death overrules a close.
    pub(super) fn end(&self, end: End) {
        let mut lanes = self.lock();
        if lanes.end != Some(End::Dead) {
            lanes.end = Some(end);
        }
        let forgotten: Option<(Lane, Lane)> = (end == End::Dead)
            .then(|| (std::mem::take(&mut lanes.urgent), std::mem::take(&mut lanes.background)));
        self.wake(lanes);
        drop(forgotten);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().end == Some(End::Dead)
    }

    /// Blocks until a write waits. False when none will come any more.
    pub(super) fn wait(&self) -> bool {
        let mut lanes = self.lock();
        loop {
            if !lanes.urgent.waiting.is_empty() || !lanes.background.waiting.is_empty() {
                return true;
            }
            if lanes.end.is_some() {
                return false;
            }
            lanes.sleeps = true;
            lanes = self.news.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds urgent writes to a batch that holds so many bytes; whether it has room for more.
    pub(super) fn take_urgent(&self, batch: &mut Vec<Pending>, batch_bytes: &mut usize) -> bool {
        let lane = &mut self.lock().urgent;
        while *batch_bytes < URGENT_BATCH_BYTES {
            let Some((pending, bytes)) = lane.pop() else { return true };
            *batch_bytes += bytes;
            batch.push(pending);
        }
        false
    }

    /// Blocks until an urgent write waits, or until then. False: none came.
    pub(super) fn wait_urgent(&self, until: Instant) -> bool {
        let mut lanes = self.lock();
        loop {
            if !lanes.urgent.waiting.is_empty() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || lanes.end.is_some() {
                return false;
            }
            lanes.sleeps = true;
            lanes = self.news.wait_timeout(lanes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the next background writes. One that is synced ends the batch: it covers all before
    /// it.
    pub(super) fn take_background(&self, batch: &mut Vec<Pending>) {
        let lane = &mut self.lock().background;
        let cells_max = BACKGROUND_BATCH_CELLS.max(lane.cells / BACKLOG_PARTS);
        let (mut cells, mut batch_bytes) = (0, 0);
        while cells < cells_max && batch_bytes < BACKGROUND_BATCH_BYTES {
            let Some((pending, bytes)) = lane.pop() else { return };
            cells += pending.write.cells.len();
            batch_bytes += bytes;
            let is_synced = pending.write.sync != Sync::Memory;
            batch.push(pending);
            if is_synced {
                return;
            }
        }
    }

    fn wake(&self, mut lanes: MutexGuard<'_, Lanes>) {
        let sleeps = std::mem::take(&mut lanes.sleeps);
        drop(lanes);
        if sleeps {
            self.news.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn pop(&mut self) -> Option<(Pending, usize)> {
        let pending = self.waiting.pop_front()?;
        let bytes = bytes(&pending.write);
        self.bytes -= bytes;
        self.cells -= pending.write.cells.len();
        Some((pending, bytes))
    }
}

fn bytes(write: &Write) -> usize {
    write.cells.iter().map(|cell| cell.key.len() + cell.value.len()).sum()
}

/// Marks are synced behind the projections that they vouch for.
fn is_urgent(write: &Write) -> bool {
    write.sync != Sync::Memory
        && write
            .cells
            .iter()
            .all(|cell| matches!(cell.table, Table::Log | Table::Lease | Table::Fence))
}

#[cfg(test)]
mod tests {
    use wire::{Durability, Epoch, Position, Slot, ZoneId};

    use super::*;
    use crate::cell::Cell;

    fn pending(table: Table, sync: Sync, n: u8) -> Pending {
        let stamp = Position { epoch: Epoch(1), slot: Slot(u64::from(n)) };
        let cells = vec![Cell::new(table, vec![0, 1, n], stamp, &[])];
        let write = Arc::new(Write { zone: ZoneId(1), cells, sync });
        Pending { write, done: Done::Drop(Box::new(())) }
    }

    fn numbers(batch: &[Pending]) -> Vec<u8> {
        batch.iter().map(|pending| pending.write.cells[0].key[2]).collect()
    }

    const DISK: Sync = Sync::Disk(Durability::Region);

    #[test]
    fn a_log_row_overtakes_projections_and_a_checkpoint_does_not() {
        let queue = Queue::default();
        for pending in [
            pending(Table::Projection, Sync::Memory, 1),
            pending(Table::Mark, DISK, 2),
            pending(Table::Projection, Sync::Memory, 3),
            pending(Table::Log, DISK, 4),
            pending(Table::Log, Sync::Memory, 5),
        ] {
            queue.push(pending).unwrap();
        }
        let (mut urgent, mut bytes) = (Vec::new(), 0);
        assert!(queue.take_urgent(&mut urgent, &mut bytes));
        assert_eq!(numbers(&urgent), [4]);
        let mut background = Vec::new();
        queue.take_background(&mut background);
        assert_eq!(numbers(&background), [1, 2], "the sync ends the batch");
        background.clear();
        queue.take_background(&mut background);
        assert_eq!(numbers(&background), [3, 5], "a copy that nobody waits for");
    }

    #[test]
    fn a_full_lane_refuses_and_the_other_does_not() {
        let queue = Queue::default();
        for _ in 0..LANE_WRITES {
            queue.push(pending(Table::Projection, Sync::Memory, 1)).unwrap();
        }
        let refused = queue.push(pending(Table::Projection, Sync::Memory, 1));
        assert_eq!(refused, Err(ReplicaError::Overloaded));
        queue.push(pending(Table::Log, DISK, 1)).unwrap();
    }

    #[test]
    fn a_closed_queue_hands_out_what_waits_and_a_dead_one_forgets_it() {
        let queue = Queue::default();
        queue.push(pending(Table::Log, DISK, 1)).unwrap();
        queue.end(End::Closed);
        assert_eq!(queue.push(pending(Table::Log, DISK, 2)), Err(ReplicaError::Gone));
        assert!(queue.wait() && !queue.is_dead());
        queue.end(End::Dead);
        assert!(!queue.wait() && queue.is_dead());
        queue.end(End::Closed);
        assert!(queue.is_dead());
    }
}
