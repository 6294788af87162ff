//! One shard on one core: elsewhere until this core should serve it, then claimed, served, and
//! handed over or lost; and again from the start. A restarted core claims like any other.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use conversation::shard::owner::Stopped;
use conversation::shard::{AckBy, Cas, Claimant, FenceMode, Nonce, TakeoverError, Term};
use futures_util::FutureExt;
use node::Backoff;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use topology::world::Fence;
use tracing::Instrument;
use wire::stream::StreamEnd;
use wire::{Durability, Epoch, NodeId, NodeRole, ShardId, Slot};

use super::claim::{Claim, ClaimError};
use super::state::{ShardState, TermHandle};
use super::{DesiredOwner, OwnershipOptions, handover};
use crate::owner::{Ended, OwnerOptions, OwnerTask, ShutdownNotice};
use crate::replication::salvage::Salvager;
use crate::status::Progress;

/// A live owner is given this long to hand over before the shard is taken from it.
const RELEASE_WAIT_TIMEOUT: Duration = Duration::from_secs(3);
/// A successor must be desired for this long before it is given the shard: gossip flickers.
const SUCCESSOR_SETTLE: Duration = Duration::from_millis(100);
/// As [`SUCCESSOR_SETTLE`], while this core drains: the others of its region may be about to
/// announce that they drain too.
const SUCCESSOR_SETTLE_DRAINING: Duration = Duration::from_millis(700);
/// After a handoff the shard stays here for this long: the previous owner may have heard first.
const HANDOFF_GRACE: Duration = Duration::from_secs(5);
/// Two cores that keep taking a shard from each other have shorter terms.
const TERM_STABLE_AFTER: Duration = Duration::from_secs(10);
/// A term that is given up commits and projects within this time, or is dropped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// An owner that still serves the shard keeps our probe stream open at least this long.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// This read of the lease only helps others to find the owner faster.
const OWNER_HINT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) struct RunnerOptions {
    pub(super) shard: ShardId,
    pub(super) shared: OwnershipOptions,
    pub(super) desired_owner: watch::Receiver<DesiredOwner>,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) handoff: mpsc::Receiver<NodeId>,
    pub(super) state: watch::Sender<ShardState>,
    pub(super) progress: Arc<Progress>,
}

/// See the module.
pub(super) struct Runner {
    shard: ShardId,
    shared: OwnershipOptions,
    desired_owner: watch::Receiver<DesiredOwner>,
    /// This core wants to own no shard.
    draining: watch::Receiver<bool>,
    handoff: mpsc::Receiver<NodeId>,
    state: watch::Sender<ShardState>,
    progress: Arc<Progress>,
    backoff: Backoff,
    /// Until then this core serves although another is desired.
    handoff_until: Option<Instant>,
}

/// Why this core ends a term.
enum Why {
    Successor(NodeId),
    Stopping,
}

impl Runner {
    pub(super) fn new(options: RunnerOptions) -> Self {
        let RunnerOptions { shard, shared, desired_owner, draining, handoff, state, progress } =
            options;
        let backoff = Backoff::new(Duration::from_millis(100), shared.limits.backoff_max);
        Self {
            shard,
            shared,
            desired_owner,
            draining,
            handoff,
            state,
            progress,
            backoff,
            handoff_until: None,
        }
    }

    /// Runs until the core stops.
    pub(super) async fn run(self) {
        let span = tracing::info_span!(
            "shard",
            region = self.shared.node.region.0,
            node = %self.shared.node,
            shard = %self.shard
        );
        self.live().instrument(span).await;
    }

    async fn live(mut self) {
        let stopping = self.shared.tasks.stopping();
        loop {
            let wanted = stopping.run_until_cancelled(self.wait_until_desired()).await;
            if wanted.is_none() {
                return self.elsewhere(None);
            }
            self.state.send_replace(ShardState::Claiming);
            let claim = tokio::select! {
                () = stopping.cancelled() => return self.elsewhere(None),
                claim = Self::prepare(&self.shared, self.shard, &mut self.handoff) => claim,
                () = unwanted(&mut self.desired_owner, self.handoff_until) => {
                    tracing::debug!("another core is desired now, claiming nothing");
                    continue;
                }
                never = Self::ask_holder_to_release(&self.shared, self.shard) => match never {},
            };
            // If another core is desired by now, it is handed over after the claim.
            let taken = match claim {
                Ok(claim) => tokio::select! {
                    taken = stopping.run_until_cancelled(claim.finish()) => taken,
                    never = Self::ask_holder_to_release(&self.shared, self.shard) => match never {},
                },
                Err(error) => Some(Err(error)),
            };
            match taken {
                None => return self.elsewhere(None),
                Some(Ok(term)) => self.serve(term).await,
                Some(Err(error)) => {
                    self.elsewhere(self.log_claim_error(&error));
                    stopping.run_until_cancelled(self.backoff.pause()).await;
                }
            }
        }
    }

    /// Waits until this core should serve the shard, by its own view or by a handoff.
    async fn wait_until_desired(&mut self) {
        loop {
            let owner = match &*self.desired_owner.borrow_and_update() {
                DesiredOwner::ThisCore => return,
                DesiredOwner::Unknown => None,
                DesiredOwner::Other(owner) => Some(Some(owner.clone())),
                DesiredOwner::Nobody => Some(None),
            };
            if let Some(owner) = owner {
                self.elsewhere(owner);
            }
            tokio::select! {
                changed = self.desired_owner.changed() => if changed.is_err() { std::future::pending::<()>().await },
                Some(handoff_from) = self.handoff.recv() => {
                    tracing::debug!(%handoff_from, "the owner hands the shard over to this core");
                    self.handoff_until = Some(Instant::now() + HANDOFF_GRACE);
                    return;
                }
            }
        }
    }

    fn elsewhere(&self, owner: Option<NodeId>) {
        self.state.send_replace(ShardState::Elsewhere { owner });
    }

    /// Gets ready to claim, once the present owner has released the shard or has had its time.
    async fn prepare(
        shared: &OwnershipOptions,
        shard: ShardId,
        handoff: &mut mpsc::Receiver<NodeId>,
    ) -> Result<Claim, ClaimError> {
        let began = Instant::now();
        let mut lease = shared.store.lease(shard).await.ok();
        let owner = lease.as_ref().and_then(|lease| lease.owner.clone());
        if let Some(owner) = owner.filter(|owner| *owner != shared.node) {
            let mut membership = shared.mesh.membership();
            tokio::select! {
                _ = membership.wait_for(|membership| !membership.is_alive(&owner)) => {}
                () = handover::wait_until_released(&shared.mesh, shard, &owner) => {}
                Some(_) = handoff.recv() => {}
                () = tokio::time::sleep(RELEASE_WAIT_TIMEOUT) => {
                    tracing::info!(%owner, "the owner does not release the shard, taking it");
                }
            }
            // Read anew: whether it was released decides whether its timed lease must be waited
            // for.
            lease = lease.filter(|lease| lease.fence_mode == FenceMode::Read);
        }
        metrics::histogram!("hearth_takeover_step_seconds", "step" => "wait")
            .record(began.elapsed());
        let claimant = claimant(shared, shard).await;
        Claim::new(shared.store.clone(), shard, shared.node.clone(), claimant, lease.as_ref())?
            .prepare()
            .await
    }

    /// Breaks a deadlock: a live process may keep renewing a lease for a shard it no longer serves.
    /// Its release was not confirmed, or it was restarted in the middle of a claim; after a
    /// failover all cores of the region that was left do. While we wait for that lease, ask its
    /// holder to reclaim the shard and hand it over.
    async fn ask_holder_to_release(shared: &OwnershipOptions, shard: ShardId) -> Infallible {
        loop {
            tokio::time::sleep(2 * shared.limits.lease.claim_wait()).await;
            let Ok(lease) = shared.store.lease(shard).await else { continue };
            let is_alive = |node: &NodeId| {
                *node != shared.node && shared.mesh.membership().borrow().is_alive(node)
            };
            let left =
                lease.left_by(shard.durability, shared.node.region).map(|acting| acting.region);
            let owner = lease
                .owner
                .filter(|owner| is_alive(owner) && left.is_none_or(|left| owner.region == left));
            if let Some(owner) = &owner {
                // An owner that serves the shard keeps the probe stream open.
                let serves = tokio::time::timeout(
                    PROBE_TIMEOUT,
                    handover::wait_until_released(&shared.mesh, shard, owner),
                )
                .await;
                if serves.is_err() {
                    continue;
                }
            }
            let cores = shared.world.nodes().into_iter().filter(|node| node.role == NodeRole::Core);
            let mut neighbours = cores.filter(|node| Some(node.region) == left && is_alive(node));
            if let Some(holder) = owner.or_else(|| neighbours.next()) {
                tracing::info!(%holder, "timed lease is still renewed, asking its holder to hand over");
                handover::tell(&shared.mesh, shard, &holder).await;
            }
        }
    }

    /// Logs it. Returns the owner, if another core has the shard.
    fn log_claim_error(&self, error: &ClaimError) -> Option<NodeId> {
        match error {
            ClaimError::Lost(TakeoverError::Superseded { epoch, owner }) => {
                tracing::info!(epoch = epoch.0, ?owner, "another core took the shard first");
                owner.clone()
            }
            error => {
                tracing::error!(%error, "claim failed, retrying");
                None
            }
        }
    }

    /// Serves the shard for one term.
    async fn serve(&mut self, term: Term) {
        let began = Instant::now();
        let (epoch, nonce) = (term.epoch, term.nonce);
        let timed = term.ack_by != AckBy::Fence;
        let forks = term.forks.clone();
        let (inputs_out, inputs) = mpsc::channel(self.shared.limits.inputs_per_shard);
        let serving = OwnerTask::begin(self.options(), &term, inputs);
        drop(term);
        let Self { shard, shared, .. } = &*self;
        let (node, store) = (shared.node.clone(), shared.store.clone());
        let progress = self.progress.clone();
        let salvager = Salvager {
            shard: *shard,
            node,
            store,
            progress,
            inputs: inputs_out.clone(),
            epoch,
            nonce,
        };
        self.state.send_replace(ShardState::Serving(TermHandle { inputs: inputs_out }));
        let (why_out, mut why) = oneshot::channel();
        let stopping = self.shared.tasks.stopping();
        let (desired_owner, state) = (&mut self.desired_owner, &self.state);
        let (handoff_until, draining) = (self.handoff_until, self.draining.clone());
        let (late_out, late) = oneshot::channel::<()>();
        let drain = async move {
            let wanted = successor_wanted(desired_owner, handoff_until, &draining);
            let reason = tokio::select! {
                successor = wanted => Why::Successor(successor),
                () = stopping.cancelled() => Why::Stopping,
            };
            state.send_modify(ShardState::hand_over);
            // Both ends live as long as this term.
            let _ = why_out.send(reason);
            let _ = late_out.send(());
        };
        let too_late = async move {
            if late.await.is_ok() {
                tokio::time::sleep(DRAIN_TIMEOUT).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            ended = AssertUnwindSafe(serving.run(drain)).catch_unwind() => ended.ok(),
            () = too_late => None,
            never = salvager.run(forks).then(|()| std::future::pending()) => never,
        };
        if began.elapsed() > TERM_STABLE_AFTER {
            self.backoff.reset();
        }
        match ended {
            Some((Ended::Drained(end), notice)) => {
                let why = why.try_recv().ok();
                if let Some(end) = end.filter(|_| timed) {
                    self.release(epoch, nonce, end).await;
                }
                self.hand_over(why, notice).await;
            }
            Some((Ended::Fenced(stopped), notice)) => self.fenced(epoch.0, stopped, notice).await,
            None => {
                // It panicked, or the store did not answer in time: as a crash. The streams see the
                // queue close.
                tracing::error!(epoch = epoch.0, "term ended abnormally");
                self.elsewhere(None);
                self.backoff.pause().await;
            }
        }
        self.handoff_until = None;
    }

    fn options(&self) -> OwnerOptions {
        let zone = self.shared.world.zone(self.shard.zone);
        OwnerOptions {
            shard: self.shard,
            zone: zone.map(|zone| zone.regions.clone()).unwrap_or_default(),
            node: self.shared.node.clone(),
            store: self.shared.store.clone(),
            limits: self.shared.limits.clone(),
            tasks: self.shared.tasks.clone(),
            shard_client: self.shared.shard_client.clone(),
            progress: self.progress.clone(),
            consumers: self.shared.consumers.clone(),
            timed_lease: self.shared.lease_renewers.of(self.shard.zone),
        }
    }

    /// Records the release, so that the successor need not wait for the timed lease to run out.
    async fn release(&self, epoch: Epoch, nonce: Nonce, end: Slot) {
        let released = tokio::time::timeout(
            RELEASE_TIMEOUT,
            self.shared.store.release(self.shard, epoch, nonce, end),
        )
        .await;
        if !matches!(released, Ok(Ok(Cas::Applied))) {
            tracing::info!(
                ?released,
                "release not confirmed, the successor waits for the timed lease"
            );
        }
    }

    async fn hand_over(&mut self, why: Option<Why>, notice: ShutdownNotice) {
        let Some(Why::Successor(successor)) = why else {
            tracing::info!("stopped serving");
            self.elsewhere(None);
            return notice.end(&StreamEnd::Stopping);
        };
        // First the successor, which may wait for it; then the edges, which go there at once.
        self.elsewhere(Some(successor.clone()));
        handover::tell(&self.shared.mesh, self.shard, &successor).await;
        tracing::info!(%successor, "handed the shard over");
        notice.end(&StreamEnd::NotOwner { owner: Some(successor) });
    }

    async fn fenced(&mut self, epoch: u64, stopped: Stopped, notice: ShutdownNotice) {
        let lease =
            tokio::time::timeout(OWNER_HINT_TIMEOUT, self.shared.store.lease(self.shard)).await;
        let owner = lease.ok().and_then(Result::ok).and_then(|lease| lease.owner);
        let owner = owner.filter(|owner| *owner != self.shared.node);
        let what = if stopped.fence.is_some() {
            "another owns the shard"
        } else {
            "the timed lease was broken"
        };
        tracing::warn!(epoch, %stopped, ?owner, what, "fenced, acknowledging nothing more");
        metrics::counter!("hearth_terms_fenced_total").increment(1);
        self.elsewhere(owner.clone());
        notice.end(&StreamEnd::NotOwner { owner });
        // If the views differ, let the other core serve for a while before taking it back.
        self.backoff.pause().await;
    }
}

/// The claimant, and how its term acknowledges. A single-region shard uses the timed lease wherever
/// another region could take it over (R1), a multi-region one what the zone says. Waits until the
/// lease is registered (L4).
async fn claimant(shared: &OwnershipOptions, shard: ShardId) -> Claimant {
    let untimed = Claimant::untimed(Nonce(rand::random()), shared.node.region, shard.durability);
    let Some(mut held) = shared.lease_renewers.of(shard.zone) else { return untimed };
    let by_lease = shared.world.zone(shard.zone).is_some_and(|zone| zone.fence == Fence::Lease);
    if shard.durability == Durability::MultiRegion && !by_lease {
        // Older leases of this process may have to be broken, from when the zone said otherwise.
        return Claimant { incarnation: held.borrow().incarnation, ..untimed };
    }
    // Closed only with the core.
    let incarnation = held
        .wait_for(|held| held.incarnation.is_some())
        .await
        .map_or(None, |held| held.incarnation);
    Claimant { fence_mode: FenceMode::Lease, incarnation, ..untimed }
}

/// Resolves when another core has been desired for a while and the handoff grace is over.
async fn successor_wanted(
    desired_owner: &mut watch::Receiver<DesiredOwner>,
    handoff_until: Option<Instant>,
    draining: &watch::Receiver<bool>,
) -> NodeId {
    if let Some(until) = handoff_until {
        // The grace ends early only when this core becomes the desired owner.
        let own = desired_owner.wait_for(|desired_owner| *desired_owner == DesiredOwner::ThisCore);
        // Closed only with the core.
        let _ = tokio::time::timeout_at(until, own).await;
    }
    loop {
        let Some(successor) = other_than_me(desired_owner).await else {
            // Closed only with the core.
            return std::future::pending().await;
        };
        let other =
            |desired_owner: &DesiredOwner| *desired_owner != DesiredOwner::Other(successor.clone());
        let steady = if *draining.borrow() { SUCCESSOR_SETTLE_DRAINING } else { SUCCESSOR_SETTLE };
        if tokio::time::timeout(steady, desired_owner.wait_for(other)).await.is_err() {
            return successor;
        }
    }
}

/// Resolves when this core is no longer desired, unless it was handed the shard.
async fn unwanted(
    desired_owner: &mut watch::Receiver<DesiredOwner>,
    handoff_until: Option<Instant>,
) {
    if let Some(until) = handoff_until {
        tokio::time::sleep_until(until).await;
    }
    if desired_owner
        .wait_for(|desired_owner| *desired_owner != DesiredOwner::ThisCore)
        .await
        .is_err()
    {
        std::future::pending::<()>().await;
    }
}

async fn other_than_me(desired_owner: &mut watch::Receiver<DesiredOwner>) -> Option<NodeId> {
    let wanted = desired_owner
        .wait_for(|desired_owner| matches!(desired_owner, DesiredOwner::Other(_)))
        .await
        .ok()?;
    if let DesiredOwner::Other(successor) = &*wanted { Some(successor.clone()) } else { None }
}
