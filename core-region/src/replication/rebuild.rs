//! Rebuilds log frames from projections when the log has been trimmed ([`conversation::rebuild`]).
//! A scan over all conversations finds those that may have a change in the gap; each of them is
//! read from where the gap began.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use conversation::log::LogFrame;
use conversation::rebuild::{Gap, Rebuilt};
use store::{ConversationRef, Store, StoreError};
use wire::{ConversationId, Position};

/// A committed row that is missing for this long was trimmed.
pub(crate) const REBUILD_AFTER: Duration = Duration::from_secs(5);
const CHANGES_AT_ONCE: usize = 256;

/// The frames of one gap, in the order in which their conversations are found.
pub(crate) struct Rebuild {
    store: Arc<dyn Store>,
    gap: Gap,
    met: VecDeque<ConversationRef>,
    walk: Walk,
    reading: Option<Reading>,
    frames: VecDeque<LogFrame>,
    /// Frames made so far.
    count: u64,
}

#[derive(Clone, Copy)]
enum Walk {
    Begins,
    GoesOnAfter(ConversationId),
    IsDone,
}

/// A conversation that is being read.
struct Reading {
    conversation: ConversationId,
    rebuilt: Rebuilt,
    /// Everything up to it was read.
    ver: u64,
    /// The last change to read.
    head_ver: u64,
}

/// Why there is no next frame now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotNow {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("change {ver} of {conversation} is not there")]
    Missing { conversation: ConversationId, ver: u64 },
}

impl Rebuild {
    /// From the projections of this store.
    pub(crate) fn new(store: Arc<dyn Store>, gap: Gap) -> Self {
        tracing::warn!(
            shard = %gap.shard,
            from = gap.from.0,
            until = gap.until.0,
            "log rows are trimmed, rebuilding them from the projections"
        );
        metrics::counter!("hearth_consumer_rebuilds_total").increment(1);
        let (met, frames) = (VecDeque::new(), VecDeque::new());
        Self { store, gap, met, walk: Walk::Begins, reading: None, frames, count: 0 }
    }

    /// Where the consumer goes on in the log when there is no frame left.
    pub(crate) fn end(&self) -> Position {
        self.gap.end()
    }

    /// The next frame; none at the end. After an error it may be called again, and misses nothing.
    /// Not cancel safe: a dropped future may take frames with it; begin a new rebuild then.
    pub(crate) async fn next(&mut self) -> Result<Option<LogFrame>, NotNow> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                self.count += 1;
                return Ok(Some(frame));
            }
            if self.reading.is_some() {
                self.read_on().await?;
            } else if let Some(&met) = self.met.front() {
                self.reading = Some(self.begin(met).await?);
                self.met.pop_front();
            } else if !self.walk_on().await? {
                tracing::info!(
                    shard = %self.gap.shard,
                    frames = self.count,
                    "trimmed log rows are rebuilt"
                );
                return Ok(None);
            }
        }
    }

    /// Scans one page of conversations. Returns false at the end.
    async fn walk_on(&mut self) -> Result<bool, StoreError> {
        let after = match self.walk {
            Walk::Begins => None,
            Walk::GoesOnAfter(after) => Some(after),
            Walk::IsDone => return Ok(false),
        };
        let stretch = self.store.conversations(self.gap.shard, after).await?;
        self.walk = stretch.next.map_or(Walk::IsDone, Walk::GoesOnAfter);
        self.met.extend(
            stretch.met.into_iter().filter(|met| met.moved || self.gap.may_hold(&met.head)),
        );
        Ok(true)
    }

    /// A conversation that has moved is read from its beginning; of another the last pages are
    /// skimmed until one begins before the gap.
    async fn begin(&self, met: ConversationRef) -> Result<Reading, StoreError> {
        let (conversation, head_ver) = (met.head.conversation, met.head.head_ver);
        let mut ver = if met.moved { 0 } else { head_ver };
        while ver > 0 {
            ver = ver.saturating_sub(CHANGES_AT_ONCE as u64);
            let first = self.store.placed_changes(conversation, ver, 1).await?;
            if first.first().is_some_and(|(at, _)| self.gap.is_before(*at)) {
                break;
            }
        }
        Ok(Reading { conversation, rebuilt: Rebuilt::new(conversation), ver, head_ver })
    }

    async fn read_on(&mut self) -> Result<(), NotNow> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        let Reading { conversation, ver, head_ver, .. } = *reading;
        let left = usize::try_from(head_ver - ver).unwrap_or(usize::MAX);
        if left > 0 {
            let page =
                self.store.placed_changes(conversation, ver, left.min(CHANGES_AT_ONCE)).await?;
            if page.is_empty() {
                return Err(NotNow::Missing { conversation, ver: ver + 1 });
            }
            for (at, change) in page {
                reading.ver = change.ver;
                self.frames.extend(reading.rebuilt.take(&self.gap, at, change));
            }
        }
        if reading.ver >= head_ver
            && let Some(reading) = self.reading.take()
        {
            self.frames.extend(reading.rebuilt.end());
        }
        Ok(())
    }
}
