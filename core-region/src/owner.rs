//! The owner of a shard: one task that serves it in one term. Requests come in through one bounded
//! queue, are decided on top of everything decided before, and gather in a frame. Frames go to the
//! log several at a time; the replies and deliveries of a frame leave when it is committed, in slot
//! order, and not before (DESIGN 3.1):
//!
//! append at (slot, epoch) at quorum -> then a read of the fence, started after the append
//! succeeded, or of the clock against the timed lease, or both, as the zone and the durability
//! class say -> no newer epoch, and the lease holds: acknowledge, feed, project. A newer epoch, or
//! a broken lease: stop, acknowledge nothing. Unknown outcome: the same frame into the same slot
//! again.
//!
//! The rules stand in [`conversation`]; the parts here do their I/O.
//!
//! | module | what it does |
//! |---|---|
//! | [`task`] | the select loop: requests in, commits and projections forward |
//! | [`requests`] | the queue of each conversation, in order |
//! | [`cache`], [`entry`] | the conversations in memory, bounded by count and bytes |
//! | [`load`], [`dedupe_lookup`] | what requests wait for from the store |
//! | [`dispatch`] | hands one request to the part that answers it |
//! | [`decide`], [`query`], [`watch`] | those parts |
//! | [`relocation`], [`moves`] | conversations that leave this shard or come to it |
//! | [`commit`] | frames being filled and written |
//! | [`projector`] | writes committed frames to the projections, behind the acks |
//! | [`reads`] | pages from the projections |

mod cache;
mod commit;
mod decide;
mod dedupe_lookup;
mod dispatch;
mod entry;
pub(crate) mod input;
mod load;
mod moves;
pub(crate) mod projector;
mod query;
mod reads;
mod relocation;
mod requests;
mod task;
mod watch;

use std::sync::Arc;

use conversation::shard::owner::Stopped;
use node::Tasks;
use store::Store;
use tokio::sync::{mpsc, watch as tokio_watch};
use wire::stream::StreamEnd;
use wire::{NodeId, RegionId, ShardId, Slot};

use crate::consumers::Consumers;
use crate::intake::outbox::Outbox;
use crate::limits::Limits;
use crate::owner::input::{Ask, Input};
use crate::ownership::lease_renewal::TimedLease;
use crate::status::Progress;
use shard_client::ShardClient;

pub(crate) use task::OwnerTask;

/// What a term is served with.
pub(crate) struct OwnerOptions {
    pub(crate) shard: ShardId,
    /// The regions of its zone.
    pub(crate) zone: Vec<RegionId>,
    pub(crate) node: NodeId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) tasks: Tasks,
    pub(crate) shard_client: ShardClient,
    pub(crate) consumers: Consumers,
    pub(crate) progress: Arc<Progress>,
    /// Of this process; none where none is kept.
    pub(crate) timed_lease: Option<tokio_watch::Receiver<TimedLease>>,
}

/// How a term ended.
pub(crate) enum Ended {
    /// Another owner has come. What was not acknowledged never is, by this one.
    Fenced(Stopped),
    /// As asked: everything decided is committed and projected, and the checkpoint says so. All
    /// that was ever acknowledged stands before this slot, and this owner acknowledges nothing
    /// more.
    Drained(Option<Slot>),
}

/// Those who are still to hear that the term has ended.
pub(crate) struct ShutdownNotice {
    streams: Vec<Arc<Outbox>>,
    inputs: mpsc::Receiver<Input>,
}

impl ShutdownNotice {
    /// Ends all streams of the term.
    pub(crate) fn end(mut self, end: &StreamEnd) {
        for stream in self.streams {
            stream.end(end.clone());
        }
        self.inputs.close();
        while let Ok(input) = self.inputs.try_recv() {
            if matches!(input.ask, Ask::Attach) {
                input.from.end(end.clone());
            }
        }
    }
}
