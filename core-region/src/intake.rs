//! Where frames of edges and of other cores enter, and where replies and the feed leave: the first
//! step of a message in its home region, and the last.
//!
//! One task accepts channels. A shard's channel becomes a reader, which decodes, checks who may ask
//! what ([`gate`]) and hands over to the owner task, and a writer, which empties the stream's
//! [`outbox`]. Neither decides anything about a conversation. A malformed frame closes its channel.
//! A full shard makes its readers wait, and so the mesh pushes back.

pub(crate) mod control;
pub(crate) mod gate;
pub(crate) mod outbox;
mod stream;

use std::sync::Arc;

use mesh::Mesh;
use node::Tasks;
use tokio::sync::watch;
use topology::World;
use tracing::Instrument;
use wire::stream::Purpose;

use self::control::HandoffSenders;
use crate::limits::Limits;
use crate::ownership::state::ShardTable;

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
            // The mesh refuses these.
            Purpose::Unknown(_) => {}
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
