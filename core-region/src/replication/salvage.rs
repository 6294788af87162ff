//! Salvages the frames that a lost region still holds, while the shard is served elsewhere
//! ([`Salvage`], R7). Each stranded change is offered to the owner task like a request; the task
//! appends again only what it does not have.
//!
//! A lost region does not answer for as long as it takes: the fork stays open, and is retried.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use conversation::log::{LogFrame, LogFrameError, LogRow};
use conversation::shard::salvage::{Bring, Brought};
use conversation::shard::{Fork, Nonce, Salvage};
use node::Backoff;
use store::{Store, StoreError};
use tokio::sync::mpsc;
use wire::change::{Change, Recorded};
use wire::command::Refusal;
use wire::{ConversationId, Epoch, NodeId, ShardId};

use crate::intake::outbox::{Out, Outbox};
use crate::owner::input::{Ask, Input};
use crate::status::Progress;

/// Changes offered and not answered.
const OFFERED_MAX: usize = 256;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Salvages for one term.
pub(crate) struct Salvager {
    pub(crate) shard: ShardId,
    pub(crate) node: NodeId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) progress: Arc<Progress>,
    /// Of the owner task.
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) epoch: Epoch,
    /// Of the claim.
    pub(crate) nonce: Nonce,
}

/// Why a step failed. It is retried.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a stranded row cannot be read: {0}")]
    Row(#[from] LogFrameError),
    #[error("a stranded change was refused: {0:?}")]
    Refused(Refusal),
    #[error("the term is over")]
    Over,
}

impl Salvager {
    /// Salvages these forks, oldest first. Dropped, it leaves the present one open, for the next
    /// owner.
    pub(crate) async fn run(self, forks: Vec<Fork>) {
        for fork in forks {
            self.salvage(fork).await;
        }
    }

    async fn salvage(&self, fork: Fork) {
        let (from, start) = (fork.from, fork.start);
        tracing::info!(
            from = from.0,
            start = start.0,
            "salvage of a fork begins as soon as that region answers"
        );
        let mut salvage = Salvage::new(self.epoch, self.nonce, fork);
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        // By conversation: from which number on its old numbers name other messages now.
        let mut first_seqs = HashMap::new();
        while let Some(step) = salvage.next() {
            let brought = match self.perform(step, &mut first_seqs).await {
                Ok(brought) => {
                    backoff.reset();
                    brought
                }
                Err(error) => {
                    tracing::debug!(%error, from = from.0, "salvage step failed, retrying");
                    backoff.pause().await;
                    Brought::Unknown
                }
            };
            if let Err(unfinished) = salvage.on(brought) {
                return tracing::info!(%unfinished, "salvage ends unfinished");
            }
        }
        self.progress.salvaged();
        tracing::info!(from = from.0, start = start.0, "salvaged: nothing is missing any more");
    }

    async fn perform(
        &self,
        step: Bring,
        first_seqs: &mut HashMap<ConversationId, u64>,
    ) -> Result<Brought, NotYet> {
        let Self { shard, store, .. } = self;
        Ok(match step {
            Bring::WriteFence { region, epoch } => {
                store.at(region).write_fence(*shard, epoch).await?;
                Brought::Fenced
            }
            Bring::ReadOld { region, from, limit } => {
                Brought::Old(store.at(region).read_log(*shard, from, limit).await?)
            }
            Bring::Recover { rows } => {
                self.recover(&rows, first_seqs).await?;
                Brought::Recovered
            }
            Bring::Close { fork, epoch, nonce } => {
                Brought::Cas(store.close_fork(*shard, epoch, nonce, fork).await?)
            }
            Bring::ReadLease => Brought::Lease(store.lease(*shard).await?),
        })
    }

    /// Offers all changes of these rows, in order, and waits for each answer: by then it is
    /// acknowledged, or was here.
    async fn recover(
        &self,
        rows: &[LogRow],
        first_seqs: &mut HashMap<ConversationId, u64>,
    ) -> Result<(), NotYet> {
        let frames = rows.iter().map(LogFrame::from_row).collect::<Result<Vec<_>, _>>()?;
        let mut stranded: VecDeque<Change> =
            frames.into_iter().flat_map(|frame| frame.changes).map(Recorded::into_change).collect();
        let outbox = Arc::new(Outbox::new(self.node.clone(), OFFERED_MAX, 0));
        let (mut open, mut taken) = (0, VecDeque::new());
        while open > 0 || !stranded.is_empty() {
            while open < OFFERED_MAX
                && let Some(stranded) = stranded.pop_front()
            {
                let ask = Ask::Recover {
                    rid: 0,
                    first_seq: first_seq(first_seqs, &stranded),
                    stranded: stranded.into(),
                };
                outbox.admit().await;
                self.inputs
                    .send(Input { from: outbox.clone(), ask })
                    .await
                    .map_err(|_| NotYet::Over)?;
                open += 1;
            }
            if !outbox.take(&mut taken).await {
                return Err(NotYet::Over);
            }
            for out in taken.drain(..) {
                match out {
                    Out::Reply { outcome: Ok(_), .. } => open -= 1,
                    Out::Reply { outcome: Err(refusal), .. } => {
                        return Err(NotYet::Refused(refusal));
                    }
                    _ => return Err(NotYet::Over),
                }
            }
        }
        Ok(())
    }
}

/// The number of the first message of its conversation that was stranded, this one included.
fn first_seq(first_seqs: &mut HashMap<ConversationId, u64>, stranded: &Change) -> u64 {
    match stranded.event.message() {
        Some(message) => *first_seqs.entry(stranded.conversation).or_insert(message.seq),
        None => first_seqs.get(&stranded.conversation).copied().unwrap_or(u64::MAX),
    }
}
