//! Where the frames of edges and of other cores enter, and where answers and the feed leave: the first step of a message
//! in its home region, and the last.
//!
//! One task accepts channels. A shard's channel becomes a reader, which decodes, checks who may ask what ([`gate`]) and
//! hands over to the shard's task, and a writer, which empties the stream's [`outbox`]. Neither decides anything about a
//! conversation. Garbage closes the channel it came on; a full shard makes its readers wait, and so the mesh push back.

pub(crate) mod control;
pub(crate) mod gate;
pub(crate) mod outbox;
mod stream;

use std::sync::Arc;

use mesh::Mesh;
use tokio::sync::watch;
use topology::World;
use tracing::Instrument;
use wire::change::Change;
use wire::command::{Actor, Command, Query};
use wire::stream::Purpose;
use wire::{ConversationId, Epoch, UserId};

use self::control::HandoffSenders;
use self::outbox::Outbox;
use crate::limits::Limits;
use crate::ownership::state::ShardTable;
use crate::tasks::Tasks;

/// What a stream hands to the shard's task.
pub(crate) struct Input {
    /// Where the answer goes.
    pub(crate) from: Arc<Outbox>,
    /// What.
    pub(crate) ask: Ask,
}

/// See [`Input`]. What comes from other nodes has passed the [`gate`].
pub(crate) enum Ask {
    /// The stream is there: it wants to hear when the term ends.
    Attach,
    /// The stream is gone.
    Detach,
    /// See [`wire::stream::ToOwner::Command`].
    Command {
        /// Unique on the stream.
        rid: u64,
        /// Who asks.
        actor: Actor,
        /// Of which conversation.
        conversation: ConversationId,
        /// What.
        command: Command,
    },
    /// From [`crate::replication::salvage`]: what a region that was left still holds, to be appended again unless it is here.
    Recover {
        /// Unique on the stream, or not asked for.
        rid: u64,
        /// As it was committed there.
        stranded: Box<Change>,
        /// Of the first message of the conversation that was stranded.
        first_seq: u64,
    },
    /// See [`wire::stream::ToOwner::Query`].
    Query {
        /// Unique on the stream.
        rid: u64,
        /// Who asks; none: an edge, for itself.
        actor: Option<Actor>,
        /// Of which conversation.
        conversation: ConversationId,
        /// What.
        query: Query,
    },
    /// See [`wire::stream::ToOwner::Watch`].
    Watch {
        /// Unique on the stream.
        rid: u64,
        /// Which.
        conversation: ConversationId,
        /// Start after this `ver`; none: after the head.
        after_ver: Option<u64>,
        /// Which of these are members?
        users: Vec<UserId>,
        /// Of the change `after_ver`, as the edge has it.
        after_epoch: Option<Epoch>,
    },
    /// See [`wire::stream::ToOwner::Unwatch`].
    Unwatch {
        /// Which.
        conversation: ConversationId,
    },
}

impl Ask {
    /// The number of a request that is answered from what the conversation is.
    pub(crate) fn rid(&self) -> Option<u64> {
        match self {
            Self::Command { rid, .. }
            | Self::Recover { rid, .. }
            | Self::Query { rid, .. }
            | Self::Watch { rid, .. } => Some(*rid),
            Self::Attach | Self::Detach | Self::Unwatch { .. } => None,
        }
    }
}

/// What every task of the intake shares.
pub(crate) struct Intake {
    pub(crate) world: Arc<World>,
    pub(crate) mesh: Mesh,
    pub(crate) shard_table: Arc<ShardTable>,
    pub(crate) handoffs: HandoffSenders,
    pub(crate) limits: Arc<Limits>,
    pub(crate) tasks: Tasks,
    /// This core takes no more shards.
    pub(crate) draining: watch::Receiver<bool>,
}

/// Accepts channels until the mesh ends or the core stops.
pub(crate) async fn run(intake: Arc<Intake>) {
    let stopping = intake.tasks.stopping();
    while let Some(Some((peer, purpose, channel))) =
        stopping.run_until_cancelled(intake.mesh.accept()).await
    {
        let intake_of_channel = intake.clone();
        match purpose {
            Purpose::Shard(shard) => {
                let span = tracing::debug_span!("stream", %shard, %peer);
                intake.tasks.spawn(
                    "stream",
                    stream::run(intake_of_channel, shard, peer, channel).instrument(span),
                );
            }
            Purpose::Control => {
                let span = tracing::debug_span!("control", %peer);
                intake.tasks.spawn(
                    "control",
                    control::run(intake_of_channel, peer, channel).instrument(span),
                );
            }
        }
    }
}
