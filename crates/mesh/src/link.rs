//! One direct connection with one peer, from its greeting to its loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quinn::Connection;
use tokio::sync::Notify;
use wire::NodeId;
use wire::stream::Hello;
use wire::version::Features;

use crate::codes;

/// A superseded link is not closed before this: the peer may just be opening something on it.
const RETIRE_GRACE: Duration = Duration::from_secs(2);

/// A connection whose peer is proven and has said hello.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) connection: Connection,
    /// The dialler's name for it.
    pub(crate) id: u64,
    /// The one of the two with the smaller name dialled it.
    pub(crate) dialled_by_smaller: bool,
    /// Of the peer.
    pub(crate) incarnation: u64,
    /// Of the peer.
    pub(crate) features: Features,
    healthy: AtomicBool,
    uses: AtomicUsize,
    unused: Notify,
}

impl Link {
    pub(crate) fn new(
        peer: NodeId,
        connection: Connection,
        id: u64,
        dialled_by_smaller: bool,
        theirs: &Hello,
    ) -> Self {
        Self {
            peer,
            connection,
            id,
            dialled_by_smaller,
            incarnation: theirs.incarnation,
            features: theirs.features.clone(),
            healthy: AtomicBool::new(true),
            uses: AtomicUsize::new(0),
            unused: Notify::new(),
        }
    }

    /// Something was heard on it lately.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire) && self.connection.close_reason().is_none()
    }

    /// Returns what it was before.
    pub(crate) fn set_healthy(&self, healthy: bool) -> bool {
        self.healthy.swap(healthy, Ordering::AcqRel)
    }

    /// The smoothed round trip.
    pub(crate) fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// One more user.
    pub(crate) fn hold(self: &Arc<Self>) -> Use {
        self.uses.fetch_add(1, Ordering::AcqRel);
        Use(self.clone())
    }

    /// Waits until nobody uses it.
    pub(crate) async fn unused(&self) {
        loop {
            let told = self.unused.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.uses.load(Ordering::Acquire) == 0 {
                return;
            }
            told.await;
        }
    }

    /// Closes it once nobody uses it, because another one is kept.
    pub(crate) async fn retire(self: Arc<Self>) {
        tokio::time::sleep(RETIRE_GRACE).await;
        self.unused().await;
        self.connection.close(codes::SUPERSEDED, b"superseded");
    }
}

/// While it lives, the link is in use.
#[derive(Debug)]
pub(crate) struct Use(Arc<Link>);

impl Use {
    pub(crate) fn peer(&self) -> &NodeId {
        &self.0.peer
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if self.0.uses.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.unused.notify_waiters();
        }
    }
}
