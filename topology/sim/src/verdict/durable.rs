//! Compares the shard logs at the end with their projections: the log has no hole, each of its rows
//! is on disk at the quorum of its class, and the projections say what the log says, no more and no
//! less.

use std::collections::BTreeMap;
use std::sync::Arc;

use conversation::log::LogFrame;
use store::simulated::Simulated;
use store::{Store, StoreError};
use topology::World;
use wire::change::Change;
use wire::{ConversationId, Durability, ShardId, Slot};

use super::Logs;

/// Rows of one shard that are read at once.
const ROWS_AT_ONCE: usize = 4_096;

/// The rows that count, by shard.
pub type Frames = BTreeMap<ShardId, Vec<LogFrame>>;

/// The rows of a shard that count, in order, as its home region's quorum reads them.
pub(super) async fn read(
    store: Arc<dyn Store>,
    shard: ShardId,
) -> Result<Vec<LogFrame>, StoreError> {
    let starts = store.lease(shard).await?.starts;
    let mut frames: Vec<LogFrame> = Vec::new();
    let mut from = Slot(0);
    loop {
        let rows = store.read_log(shard, from, ROWS_AT_ONCE).await?;
        let owned = rows.iter().filter(|row| row.at.slot >= from && starts.owns(row.at));
        frames.extend(owned.filter_map(|row| LogFrame::from_row(row).ok()));
        match rows.last() {
            // Several epochs may share a slot, so the slot is read again; known rows are dropped
            // below.
            Some(last) if rows.len() == ROWS_AT_ONCE && last.at.slot > from => from = last.at.slot,
            _ => break,
        }
    }
    frames.dedup_by_key(|frame| frame.at());
    Ok(frames)
}

/// The broken invariants, by name.
pub(super) fn check(
    frames: &Frames,
    logs: &Logs,
    store: &Simulated,
    world: &World,
) -> Vec<(&'static str, String)> {
    let mut broken = Vec::new();
    let mut told: BTreeMap<ConversationId, Vec<&Change>> = BTreeMap::new();
    for (shard, frames) in frames {
        for (expected, frame) in frames.iter().enumerate() {
            if frame.slot.0 != expected as u64 {
                broken
                    .push(("hole", format!("slot {expected} of {shard} holds no row that counts")));
                break;
            }
        }
        let needed = match shard.durability {
            Durability::Region => 1,
            Durability::MultiRegion => {
                world.zone(shard.zone).map_or(1, |zone| zone.regions.len() / 2 + 1)
            }
        };
        let thin = frames.iter().find(|frame| store.copies(*shard, frame.at()) < needed);
        if let Some(frame) = thin {
            let copies = store.copies(*shard, frame.at());
            let what = format!(
                "slot {} (epoch {}) of {shard} is on {copies} replicas, not {needed}",
                frame.slot.0, frame.epoch.0
            );
            broken.push(("durable", what));
        }
        for change in frames.iter().flat_map(|frame| &frame.changes) {
            told.entry(change.conversation).or_default().push(change);
        }
    }
    for (id, projected) in logs {
        let mut told = told.remove(id).unwrap_or_default();
        // It may have been in several shards.
        told.sort_by_key(|change| change.ver);
        let differs =
            told.iter().copied().zip(projected).find(|(told, projected)| told != projected);
        if let Some((told, projected)) = differs {
            let what = format!(
                "the log says ver {} of {id} at epoch {}, the projections ver {} at epoch {}, and not the same",
                told.ver, told.epoch.0, projected.ver, projected.epoch.0
            );
            broken.push(("projected", what));
        } else if told.len() != projected.len() {
            let what = format!(
                "{id} has {} changes in the log and {} in the projections",
                told.len(),
                projected.len()
            );
            broken.push(("projected", what));
        }
    }
    broken
}
