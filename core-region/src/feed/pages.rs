//! Pages of a shard log, read once for all that lag behind the ring.

use std::collections::VecDeque;
use std::sync::Arc;

use conversation::log::LogRow;
use tokio::sync::Mutex;
use wire::Slot;

use super::log_tail::{CommittedLog, read_despite_damage};

/// Log rows read at once.
pub(super) const ROWS_MAX: usize = 64;
/// Pages kept: those that lag are seldom at the same place.
const PAGES_MAX: usize = 4;

/// The latest pages of one term. Only full pages without a hole are kept: those never change.
#[derive(Default)]
pub(super) struct Pages {
    latest: Mutex<VecDeque<(Slot, Arc<Vec<LogRow>>)>>,
}

impl Pages {
    /// The rows from this slot on. One read at a time: who comes meanwhile finds the page here.
    pub(super) async fn read(&self, log: &CommittedLog, from: Slot) -> Arc<Vec<LogRow>> {
        let mut latest = self.latest.lock().await;
        if let Some((_, rows)) = latest.iter().find(|(first, _)| *first == from) {
            return rows.clone();
        }
        let read = || log.store.read_log(log.shard, from, ROWS_MAX);
        let rows = Arc::new(read_despite_damage(read).await);
        metrics::counter!("hearth_log_pages_read_total").increment(1);
        if is_settled(&rows, from, *log.committed.borrow()) {
            latest.push_back((from, rows.clone()));
            if latest.len() > PAGES_MAX {
                latest.pop_front();
            }
        }
        rows
    }
}

fn is_settled(rows: &[LogRow], from: Slot, committed: Slot) -> bool {
    let mut next = from;
    for row in rows {
        if row.at.slot > next {
            return false;
        }
        next = row.at.slot.next();
    }
    rows.len() == ROWS_MAX && next <= committed
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::{Epoch, Position};

    use super::*;

    #[test]
    fn only_a_full_page_of_committed_rows_without_a_hole_is_kept() {
        let row = |slot| LogRow {
            at: Position { epoch: Epoch(1), slot: Slot(slot) },
            frame: Bytes::new(),
        };
        let full: Vec<_> = (5..5 + ROWS_MAX as u64).map(row).collect();
        assert!(is_settled(&full, Slot(5), Slot(1_000)));
        assert!(!is_settled(&full, Slot(5), Slot(6)), "not committed");
        assert!(!is_settled(&full, Slot(4), Slot(1_000)), "the first is missing");
        assert!(!is_settled(&full[..3], Slot(5), Slot(1_000)), "more may follow");
        let mut holed = full;
        holed.remove(7);
        holed.push(row(5 + ROWS_MAX as u64));
        assert!(!is_settled(&holed, Slot(5), Slot(1_000)));
    }
}
