//! Frames that are committed: handed to those that follow the log and to the projector, and counted
//! until they are projected.

use std::collections::VecDeque;
use std::sync::Arc;

use conversation::log::LogFrame;
use tokio::sync::watch;
use wire::Slot;

use crate::feed::log_tail::Publisher;
use crate::owner::projector::Projector;

/// The committed frames of one term.
pub(in crate::owner) struct Committed {
    projector: Projector,
    publisher: Publisher,
    projected: watch::Receiver<Slot>,
    /// In slot order.
    unprojected: VecDeque<Arc<LogFrame>>,
    changes_unprojected: usize,
}

impl Committed {
    pub(in crate::owner) fn new(projector: Projector, publisher: Publisher) -> Self {
        let projected = projector.projected().watch();
        let unprojected = VecDeque::new();
        Self { projector, publisher, projected, unprojected, changes_unprojected: 0 }
    }

    /// Takes the next committed frame.
    pub(in crate::owner) fn take(&mut self, frame: Arc<LogFrame>) {
        self.changes_unprojected += frame.changes.len();
        self.unprojected.push_back(frame.clone());
        // Before the projector moves the committed mark: see `LogTail::next`.
        self.publisher.publish(&frame);
        self.projector.take(frame);
    }

    /// Changes that are committed and not projected, as far as was looked.
    pub(in crate::owner) fn changes_unprojected(&self) -> usize {
        self.changes_unprojected
    }

    /// Resolves when more is projected. Cancel safe.
    pub(in crate::owner) async fn projected(&mut self) {
        // Closed only with the core.
        if self.projected.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The slot before which everything is projected, and the frames that came to be so.
    pub(in crate::owner) fn take_projected(&mut self) -> (Slot, Vec<Arc<LogFrame>>) {
        let projected = *self.projected.borrow_and_update();
        let count = self.unprojected.partition_point(|frame| frame.slot < projected);
        let frames: Vec<_> = self.unprojected.drain(..count).collect();
        let changes: usize = frames.iter().map(|frame| frame.changes.len()).sum();
        self.changes_unprojected -= changes;
        (projected, frames)
    }

    /// Waits until all of it is projected and the checkpoint says so. The followers of the log are
    /// told that the term is over after that.
    pub(in crate::owner) async fn finish(self) {
        let Self { projector, publisher, .. } = self;
        projector.finish().await;
        drop(publisher);
    }
}
