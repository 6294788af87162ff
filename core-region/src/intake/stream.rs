//! One shard stream, from its first frame, which names the shard, to its last, which ends the term
//! or the peer. One term serves a stream, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh::{Channel, Receiver, Sender};
use tokio::sync::mpsc;
use wire::change::Home;
use wire::codec::CodecError;
use wire::command::Refusal;
use wire::limits::MESH_FRAME_BYTES;
use wire::stream::{FromOwner, StreamEnd, ToOwner, feed_frame};
use wire::{ConversationId, ErrorCode, NodeId, ShardId, version};

use super::outbox::{Out, Outbox};
use super::{Intake, gate};
use crate::owner::input::{Ask, Input};

/// A feed frame is closed when it holds this many bytes of deliveries; one delivery always fits.
const FEED_FRAME_BYTES: usize = 128 * 1024;
/// How long the last frames of a stream may take to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the stream to its end.
pub(super) async fn run(intake: Arc<Intake>, shard: ShardId, peer: NodeId, channel: Channel) {
    let limits = &intake.limits;
    let (sender, receiver) = channel.split();
    let outbox =
        Arc::new(Outbox::new(peer, limits.outstanding_per_stream, limits.feed_bytes_per_stream));
    let writer = tokio::spawn(write(outbox.clone(), sender));
    // A core that stops ends its terms, and they end their streams, after the last answer.
    match serve(&intake, shard, &outbox, receiver).await {
        // If the term has put its own end into the outbox, this one is dropped.
        Over::Term(end) => outbox.end(end),
        Over::Peer => outbox.abandon(),
    }
    let abort = writer.abort_handle();
    if tokio::time::timeout(CLOSE_TIMEOUT, writer).await.is_err() {
        abort.abort();
    }
}

/// Why a stream is over.
enum Over {
    /// This node no longer serves the shard, or never did.
    Term(StreamEnd),
    /// The other end is gone or broke the rules.
    Peer,
}

async fn serve(intake: &Intake, shard: ShardId, outbox: &Arc<Outbox>, receiver: Receiver) -> Over {
    if !gate::may_open(&intake.world, &shard, outbox.peer()) {
        tracing::warn!("refused a stream to a node that may not carry this zone");
        return Over::Term(StreamEnd::NotOwner { owner: None });
    }
    let term = match intake.shard_table.term(&shard, &intake.limits).await {
        Ok(term) => term,
        Err(not_here) => return Over::Term(StreamEnd::NotOwner { owner: not_here.owner }),
    };
    let attach = Input { from: outbox.clone(), ask: Ask::Attach };
    if term.inputs.send(attach).await.is_err() {
        return Over::Term(StreamEnd::Stopping);
    }
    let over = read(intake, shard, outbox, receiver, &term.inputs).await;
    if matches!(over, Over::Peer) {
        // A closed term has forgotten the stream already.
        let _ = term.inputs.send(Input { from: outbox.clone(), ask: Ask::Detach }).await;
    }
    over
}

async fn read(
    intake: &Intake,
    shard: ShardId,
    outbox: &Arc<Outbox>,
    mut receiver: Receiver,
    inputs: &mpsc::Sender<Input>,
) -> Over {
    let ended = inputs.closed();
    tokio::pin!(ended);
    loop {
        let received = tokio::select! {
            biased;
            () = &mut ended => return Over::Term(StreamEnd::Stopping),
            received = receiver.recv() => received,
        };
        let bytes = match received {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Over::Peer,
            Err(error) => {
                tracing::debug!(%error, "stream broken");
                return Over::Peer;
            }
        };
        let ask = match vetted(intake, shard, outbox, bytes) {
            Ok(Some(ask)) => ask,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%error, "malformed frame, closing the stream");
                return Over::Peer;
            }
        };
        if !matches!(ask, Ask::Unwatch { .. }) {
            tokio::select! {
                () = &mut ended => return Over::Term(StreamEnd::Stopping),
                () = outbox.admit() => {}
            }
        }
        if inputs.send(Input { from: outbox.clone(), ask }).await.is_err() {
            return Over::Term(StreamEnd::Stopping);
        }
    }
}

/// What the frame asks of the owner task, if anything. What may not be asked is refused here.
fn vetted(
    intake: &Intake,
    shard: ShardId,
    outbox: &Outbox,
    bytes: Bytes,
) -> Result<Option<Ask>, CodecError> {
    let frame = ToOwner::from_bytes(&bytes)?;
    let verdict = gate::is_known(intake.mesh.features(), &frame)
        .and_then(|()| gate::check(&intake.world, &shard, outbox.peer(), &frame));
    Ok(match frame {
        ToOwner::Command { rid, actor, conversation, command } => passed(outbox, rid, verdict)
            .then_some(Ask::Command { rid, actor, conversation, command }),
        ToOwner::Query { rid, actor, conversation, query } => {
            passed(outbox, rid, verdict).then_some(Ask::Query { rid, actor, conversation, query })
        }
        ToOwner::Watch { rid, conversation, after_ver, users, after_epoch } => {
            passed(outbox, rid, verdict).then_some(Ask::Watch {
                rid,
                conversation,
                after_ver,
                users,
                after_epoch,
            })
        }
        ToOwner::Unwatch { conversation } => Some(Ask::Unwatch { conversation }),
        ToOwner::Unsupported { kind } => {
            tracing::debug!(kind, "the peer does not know a kind of frame");
            None
        }
        ToOwner::Unknown(unknown) => {
            if !unknown.is_skippable() {
                tracing::debug!(kind = unknown.kind, "a frame of a newer node");
                outbox.unsupported(unknown.kind);
            }
            None
        }
    })
}

fn passed(outbox: &Outbox, rid: u64, verdict: Result<(), Refusal>) -> bool {
    match verdict {
        Ok(()) => true,
        Err(refusal) => {
            outbox.refuse(rid, refusal);
            false
        }
    }
}

/// Empties the outbox until it is closed or the peer is gone.
async fn write(outbox: Arc<Outbox>, mut sender: Sender) {
    let mut taken = VecDeque::new();
    while outbox.take(&mut taken).await {
        if let Err(error) = write_all(&mut sender, &mut taken).await {
            tracing::debug!(%error, "stream broken");
            outbox.abandon();
            return;
        }
    }
    // Best effort: the peer may have closed first.
    let _ = sender.finish().await;
}

async fn write_all(sender: &mut Sender, taken: &mut VecDeque<Out>) -> Result<(), mesh::SendError> {
    let mut feed = Feed::default();
    for out in taken.drain(..) {
        let frame = match out {
            Out::Delivery(bytes) => {
                feed.add(sender, bytes).await?;
                continue;
            }
            Out::Reply { rid, outcome, .. } => reply(rid, outcome),
            Out::Moved { rid, conversation, placement } => {
                moved(sender, rid, conversation, placement)
            }
            Out::Lagged(conversation) => FromOwner::Lagged { conversation }.to_bytes(),
            Out::Unsupported(kind) => FromOwner::Unsupported { kind }.to_bytes(),
            Out::End(end) => FromOwner::End(end).to_bytes(),
        };
        feed.close(sender).await?;
        sender.feed(frame).await?;
    }
    feed.close(sender).await?;
    sender.flush().await
}

/// An end without moves cannot follow: its request waits, and its watch starts again, until one of
/// the two is upgraded.
fn moved(
    sender: &Sender,
    rid: Option<u64>,
    conversation: ConversationId,
    placement: Home,
) -> Bytes {
    let moved = FromOwner::Moved { rid, conversation, placement };
    let frame = match (sender.lacks(moved.needs()), rid) {
        (None, _) => moved,
        (Some(feature), Some(rid)) => {
            FromOwner::Reply { rid, result: Err(version::lacking(feature)) }
        }
        (Some(_), None) => FromOwner::Lagged { conversation },
    };
    frame.to_bytes()
}

fn reply(rid: u64, outcome: super::outbox::Outcome) -> Bytes {
    let bytes = FromOwner::Reply { rid, result: outcome }.to_bytes();
    if bytes.len() <= MESH_FRAME_BYTES {
        return bytes;
    }
    tracing::error!(bytes = bytes.len(), "an answer is larger than a mesh frame, refusing it");
    let result = Err(Refusal::new(ErrorCode::Internal, "the answer is too large"));
    FromOwner::Reply { rid, result }.to_bytes()
}

/// Deliveries on their way into one frame.
#[derive(Default)]
struct Feed {
    encoded: Vec<Bytes>,
    bytes: usize,
}

impl Feed {
    async fn add(&mut self, sender: &mut Sender, delivery: Bytes) -> Result<(), mesh::SendError> {
        if self.bytes + delivery.len() > FEED_FRAME_BYTES {
            self.close(sender).await?;
        }
        self.bytes += delivery.len();
        self.encoded.push(delivery);
        Ok(())
    }

    async fn close(&mut self, sender: &mut Sender) -> Result<(), mesh::SendError> {
        if self.encoded.is_empty() {
            return Ok(());
        }
        let frame = feed_frame(&self.encoded);
        self.encoded.clear();
        self.bytes = 0;
        sender.feed(frame).await
    }
}
