//! Drives a takeover over the store: claims, fences, reads, rewrites and seals as [`Takeover`]
//! says, then projects the tail, so that everything before the term stands in the projections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use conversation::log::{LogFrame, LogFrameError, LogRow};
use conversation::shard::{
    Cas, Claimant, Lease, Op, OpResult, Takeover, TakeoverError, Term, Uptime,
};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use store::{CoreKey, Mark, Store, StoreError};
use wire::{NodeId, ShardId, Slot};

use crate::clock;
use crate::owner::projector::project_frames;

/// Rows rewritten or projected at once.
const ROWS_AT_ONCE: usize = 64;
/// Frames that are projected together, and how many such batches at once.
const BATCH_FRAMES: usize = 64;
const BATCHES_AT_ONCE: usize = 4;
/// Pause after an operation with an unknown outcome.
const RETRY_BACKOFF: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Another core has it, or the log is damaged.
    #[error(transparent)]
    Lost(#[from] TakeoverError),
    /// A row of the tail cannot be read by this version.
    #[error("the tail of the log cannot be read: {0}")]
    Tail(#[from] LogFrameError),
}

/// A claim on a shard. It retries for as long as the store does not answer.
///
/// Dropped before the claim itself, it has changed nothing. From then on it should run to its end
/// while the process lives: otherwise a later claimant cannot tell it from an owner that
/// acknowledges by a live lease.
pub(crate) struct Claim {
    store: Arc<dyn Store>,
    shard: ShardId,
    me: NodeId,
    takeover: Takeover,
    /// Where the log was read last.
    read_from: Option<Slot>,
    began: Instant,
    last: Instant,
}

impl Claim {
    /// For `me`, over `observed` if the lease was read just now.
    ///
    /// # Errors
    /// When the claim cannot succeed.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        shard: ShardId,
        me: NodeId,
        claimant: Claimant,
        observed: Option<&Lease>,
    ) -> Result<Self, ClaimError> {
        let takeover = match observed {
            Some(lease) => Takeover::over(lease, claimant)?,
            None => Takeover::new(claimant),
        };
        let now = Instant::now();
        Ok(Self { store, shard, me, takeover, read_from: None, began: now, last: now })
    }

    /// Does everything before the claim itself: waits until a dead owner can acknowledge no more.
    ///
    /// # Errors
    /// When the claim failed.
    pub(crate) async fn prepare(mut self) -> Result<Self, ClaimError> {
        while let Some(todo) = self.takeover.next().filter(|todo| !matches!(todo, Op::Claim { .. }))
        {
            self.step(todo).await?;
        }
        Ok(self)
    }

    /// Does all the rest. Dropped, it leaves the shard as after a crash in the middle.
    ///
    /// # Errors
    /// When the claim failed.
    pub(crate) async fn finish(mut self) -> Result<Term, ClaimError> {
        while let Some(todo) = self.takeover.next() {
            self.step(todo).await?;
        }
        let Self { store, shard, takeover, began, last, .. } = self;
        let term = takeover.finished().ok_or(TakeoverError::Misled)?;
        project_tail(&store, shard, &term).await?;
        metrics::histogram!("hearth_takeover_step_seconds", "step" => "project")
            .record(last.elapsed());
        metrics::histogram!("hearth_takeover_seconds").record(began.elapsed());
        tracing::info!(
            epoch = term.epoch.0,
            start = term.start.0,
            tail = term.tail.len(),
            took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "took the shard"
        );
        Ok(term)
    }

    async fn step(&mut self, todo: Op) -> Result<(), ClaimError> {
        let step = name(&todo);
        if let Op::WaitUntil { .. } = todo {
            tracing::info!("the owner acknowledges by a timed lease, waiting until it has run out");
        }
        if let Op::ReadTail { from, .. } = todo
            && self.read_from.replace(from) == Some(from)
        {
            // Rows are still being replicated here.
            tokio::time::sleep(RETRY_BACKOFF).await;
        }
        let done = match perform(&self.store, self.shard, &self.me, todo).await {
            Ok(done) => done,
            Err(error) => {
                tracing::debug!(%error, step, "takeover step: outcome unknown, retrying");
                tokio::time::sleep(RETRY_BACKOFF).await;
                OpResult::Unknown
            }
        };
        self.takeover.on(done)?;
        let now = Instant::now();
        metrics::histogram!("hearth_takeover_step_seconds", "step" => step).record(now - self.last);
        self.last = now;
        Ok(())
    }
}

fn name(todo: &Op) -> &'static str {
    match todo {
        Op::ReadLease => "read_lease",
        Op::ReadCores { .. } | Op::WaitUntil { .. } | Op::BreakCores { .. } => "break",
        Op::Claim { .. } => "claim",
        Op::WriteFence { .. } => "fence",
        Op::ReadMarks { .. } => "marks",
        Op::ReadTail { .. } => "tail",
        Op::Rewrite { .. } => "rewrite",
        Op::Seal { .. } => "seal",
    }
}

async fn perform(
    store: &Arc<dyn Store>,
    shard: ShardId,
    me: &NodeId,
    todo: Op,
) -> Result<OpResult, StoreError> {
    Ok(match todo {
        Op::ReadLease => OpResult::Lease(store.lease(shard).await?),
        Op::ReadCores { region } => {
            let leases = store.core_leases(shard.zone, region).await?;
            OpResult::Cores { leases, replied_at: clock::now() }
        }
        Op::WaitUntil { until } => OpResult::Clock(waited(until).await),
        Op::BreakCores { region, lives } => {
            let mut all = Cas::Applied;
            for (incarnation, beat) in lives {
                let of = CoreKey { zone: shard.zone, region, incarnation };
                if store.break_core(of, beat).await? == Cas::Refused {
                    all = Cas::Refused;
                }
            }
            OpResult::Cas(all)
        }
        Op::Claim { observed, nonce, fence_mode } => {
            OpResult::Cas(store.claim(shard, observed, me, nonce, fence_mode).await?)
        }
        Op::WriteFence { epoch } => {
            store.write_fence(shard, epoch).await?;
            OpResult::Fenced
        }
        Op::ReadMarks { across } => {
            let checkpoint = if across { Mark::Follower(me.region) } else { Mark::Checkpoint };
            let (checkpoint, committed) = tokio::try_join!(
                store.mark(shard, &checkpoint),
                store.mark(shard, &Mark::Committed)
            )?;
            OpResult::Marks { checkpoint, committed }
        }
        Op::ReadTail { from, limit } => OpResult::Tail(store.read_log(shard, from, limit).await?),
        Op::Rewrite { rows } => {
            rewrite(store, shard, rows).await?;
            OpResult::Rewritten
        }
        Op::Seal { epoch, nonce, start } => {
            OpResult::Cas(store.seal(shard, epoch, nonce, start).await?)
        }
    })
}

/// A fail point of the simulator's mutants; it does nothing elsewhere.
async fn waited(until: Uptime) -> Uptime {
    fail::fail_point!("lease-not-waited-for", |_| until);
    clock::until(until).await
}

async fn rewrite(
    store: &Arc<dyn Store>,
    shard: ShardId,
    rows: Vec<LogRow>,
) -> Result<(), StoreError> {
    let writes = rows.into_iter().map(|row| store.append(shard, row.at, row.frame));
    stream::iter(writes).buffer_unordered(ROWS_AT_ONCE).try_collect().await
}

/// Projects in any order: each row is stamped with its frame's place, which a merge keeps.
async fn project_tail(
    store: &Arc<dyn Store>,
    shard: ShardId,
    term: &Term,
) -> Result<(), LogFrameError> {
    let frames = term.tail.iter().map(LogFrame::from_row).collect::<Result<Vec<_>, _>>()?;
    stream::iter(frames.chunks(BATCH_FRAMES))
        .for_each_concurrent(BATCHES_AT_ONCE, |frames| project_frames(store, shard, frames))
        .await;
    Ok(())
}
