//! The way to the owner of one shard: one stream of the mesh, opened when something is to be said,
//! and opened anew, perhaps elsewhere, when it breaks.
//!
//! Who owns the shard is guessed from the [placement](shard_client::owner_view); a core that was
//! guessed wrongly says whom it holds for the owner, and that one is tried next. A stream is served
//! by one term of one owner, in order. After it ends, whatever was not answered is sent again and
//! every conversation is watched again after the last change delivered: the owner, not this edge,
//! knows what was done already.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mesh::{Mesh, Receiver, Sender};
use runtime::Backoff;
use shard_client::{OwnerView, connect};
use tokio::sync::{Notify, watch};
use wire::command::{Answer, Refusal};
use wire::stream::{FromOwner, StreamEnd, ToOwner};
use wire::{NodeId, ShardId, version};

use super::requests::Requests;
use super::{LinkStatus, Route, unavailable};
use crate::delivery::Interest;
use crate::delivery::effects::Effects;

/// Frames handed to the transport at once.
const FRAMES_PER_FLUSH: usize = 256;
/// Frames taken from the transport before their effects are applied.
const FRAMES_PER_TURN: usize = 64;
/// Between failed attempts. A takeover is short, so is the longest pause.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(250));
/// A hint is followed at once so many times in a row, then with a pause.
const HINTS_IN_A_ROW: u32 = 3;
/// How often deadlines are looked at.
const EXPIRE_INTERVAL: Duration = Duration::from_millis(500);

/// The state of a link, shared between its task and those who use it.
pub(crate) struct Link {
    shard: ShardId,
    requests: Mutex<Requests>,
    interest: Mutex<Interest>,
    owner: Mutex<Option<NodeId>>,
    /// There is something to send.
    work: Notify,
}

impl Link {
    pub(crate) fn new(shard: ShardId, requests_max: usize) -> Self {
        Self {
            shard,
            requests: Mutex::new(Requests::new(requests_max)),
            interest: Mutex::default(),
            owner: Mutex::default(),
            work: Notify::new(),
        }
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner has answered a request, with `result`.
    pub(super) fn answered(&self, rid: u64, result: Result<Answer, Refusal>) {
        let (to, others_wait) = self.requests().answered(rid);
        if others_wait {
            self.wake();
        }
        if let Some(to) = to {
            to(result);
        }
    }

    /// Works on the interest, then has sent what the owner must be told.
    pub(crate) fn interest<T>(&self, work: impl FnOnce(&mut Interest) -> T) -> T {
        let mut interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut interest);
        let has_frames = interest.has_frames();
        drop(interest);
        if has_frames {
            self.wake();
        }
        result
    }

    /// There is something to send.
    pub(crate) fn wake(&self) {
        self.work.notify_one();
    }

    pub(crate) fn status(&self) -> LinkStatus {
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (pending, watched) = (self.requests().len(), self.watched());
        LinkStatus { shard: self.shard, owner, pending, watched }
    }

    fn set_owner(&self, owner: Option<NodeId>) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = owner;
    }

    /// Wakes nobody: what is still to be unwatched is no reason to open a stream, and none to look
    /// again.
    fn is_needed(&self) -> bool {
        !self.requests().is_empty() || self.watched() > 0
    }

    fn watched(&self) -> usize {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Answers those whose time is over.
    fn expire(&self) {
        let expired = self.requests().expired(Instant::now());
        for to in expired {
            metrics::counter!("hearth_edge_home_unavailable_total").increment(1);
            to(Err(unavailable()));
        }
    }
}

/// How a stream came to its end.
enum Ended {
    /// Its owner ended it.
    By(StreamEnd),
    /// It broke, or its owner is said to be dead.
    Broken,
}

/// Runs for ever.
pub(super) async fn run(
    route: Arc<Route>,
    link: Arc<Link>,
    mesh: Mesh,
    mut placement: watch::Receiver<Arc<OwnerView>>,
) {
    let mut hint: Option<NodeId> = None;
    let mut hints = 0;
    let mut backoff = BACKOFF;
    loop {
        while !link.is_needed() {
            link.work.notified().await;
        }
        let guess = placement.borrow_and_update().owner(&link.shard).cloned();
        if let Some(owner) = hint.take().or(guess) {
            let opened = connect::open(&mesh, &placement, &owner, link.shard).await;
            if let Some(channel) = opened {
                link.set_owner(Some(owner.clone()));
                let (ended, served) =
                    serve(&route, &link, channel.split(), &owner, placement.clone()).await;
                link.set_owner(None);
                if served {
                    backoff.reset();
                    hints = 0;
                }
                if let Ended::By(StreamEnd::NotOwner { owner: Some(other) }) = ended
                    && other != owner
                    && hints < HINTS_IN_A_ROW
                {
                    hints += 1;
                    hint = Some(other);
                    continue;
                }
            }
        }
        link.expire();
        tokio::select! {
            () = backoff.pause() => {}
            _ = placement.changed() => {}
        }
        hints = 0;
    }
}

/// Serves one stream to its end. The second value: whether the owner has said anything before that.
async fn serve(
    route: &Arc<Route>,
    link: &Link,
    (sender, receiver): (Sender, Receiver),
    owner: &NodeId,
    placement: watch::Receiver<Arc<OwnerView>>,
) -> (Ended, bool) {
    link.requests().begin_stream();
    link.interest(Interest::begin_stream);
    let mut served = false;
    let ended = tokio::select! {
        () = write(link, sender) => Ended::Broken,
        ended = read(route, link, receiver, &mut served) => ended,
        // Only a guess: if the owner lives, it says so when it is asked again.
        () = connect::died(placement, owner) => Ended::Broken,
        () = expire(link) => Ended::Broken,
    };
    if let Ended::Broken = ended {
        tracing::debug!(shard = %link.shard, %owner, "stream to the shard owner broke, opening another");
    }
    (ended, served)
}

/// Writes what waits, several frames at once, until the stream breaks.
async fn write(link: &Link, mut sender: Sender) {
    loop {
        let ((requests, refused), more) = {
            let mut requests = link.requests();
            let unsent = requests.unsent(FRAMES_PER_FLUSH, |needs| sender.lacks(needs));
            (unsent, requests.has_unsent())
        };
        for (to, feature) in refused {
            to(Err(version::lacking(feature)));
        }
        let (watches, more_watches) =
            link.interest(|interest| (interest.frames(FRAMES_PER_FLUSH), interest.has_frames()));
        if requests.is_empty() && watches.is_empty() && !more {
            link.work.notified().await;
            // Requests of the same moment leave in one packet.
            tokio::task::yield_now().await;
            continue;
        }
        for frame in watches.iter().map(ToOwner::to_bytes).chain(requests) {
            if let Err(error) = sender.feed(frame).await {
                tracing::debug!(%error, shard = %link.shard, "cannot write to the shard owner");
                return;
            }
        }
        if sender.flush().await.is_err() {
            return;
        }
        if more || more_watches {
            link.wake();
        }
    }
}

/// Handles what comes, until the stream ends.
async fn read(route: &Arc<Route>, link: &Link, mut receiver: Receiver, served: &mut bool) -> Ended {
    loop {
        let Ok(Some(bytes)) = receiver.recv().await else { return Ended::Broken };
        let mut effects = Effects::new(route.limits.outbox());
        let mut next = Some(bytes);
        let mut left = FRAMES_PER_TURN;
        let mut ended = None;
        while let Some(bytes) = next {
            match FromOwner::from_bytes(&bytes) {
                Ok(FromOwner::End(end)) => ended = Some(Ended::By(end)),
                Ok(frame) => {
                    *served = true;
                    handle(route, link, frame, &mut effects);
                }
                Err(error) => {
                    tracing::warn!(%error, shard = %link.shard, "malformed frame from the shard owner, opening a new stream");
                    ended = Some(Ended::Broken);
                }
            }
            left -= 1;
            next = if left > 0 && ended.is_none() { receiver.try_recv() } else { None };
        }
        // Whatever ended the stream: a session that was paused needs its backfill.
        route.apply(effects);
        if let Some(ended) = ended {
            return ended;
        }
    }
}

fn handle(route: &Arc<Route>, link: &Link, frame: FromOwner, effects: &mut Effects) {
    match frame {
        FromOwner::Reply { rid, result } if rid % 2 == 0 => link.answered(rid, result),
        FromOwner::Reply { rid, result } => {
            link.interest(|interest| interest.watching(rid, result, effects))
        }
        FromOwner::Feed { deliveries } => link.interest(|interest| {
            for delivery in deliveries {
                interest.delivered(delivery, &route.encoder, effects);
            }
        }),
        FromOwner::Moved { rid, conversation, placement } => {
            route.moved(link, rid, conversation, placement)
        }
        FromOwner::Lagged { conversation } => {
            link.interest(|interest| interest.lagged(&conversation))
        }
        FromOwner::Unsupported { kind } => {
            tracing::warn!(kind, shard = %link.shard, "the owner does not know a kind of frame");
        }
        FromOwner::Unknown(unknown) => {
            tracing::debug!(kind = unknown.kind, shard = %link.shard, "ignoring a frame of a newer owner");
        }
        // Seen to by the caller.
        FromOwner::End(_) => {}
    }
}

async fn expire(link: &Link) {
    loop {
        tokio::time::sleep(EXPIRE_INTERVAL).await;
        link.expire();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use wire::{Durability, RegionId, ZoneId};

    use super::*;

    /// What the simulator found: the last watcher had left while the owner was away, and the task
    /// of the link never slept again.
    #[test]
    fn a_link_that_has_only_to_unwatch_sleeps() {
        let shard = ShardId {
            zone: ZoneId(1),
            home: RegionId(1),
            durability: Durability::MultiRegion,
            n: 0,
        };
        let link = Link::new(shard, 8);
        *link.interest.lock().unwrap() = Interest::to_unwatch(shard);
        assert!(!link.is_needed());
        assert_eq!(link.status().watched, 0);
        assert!(
            link.work.notified().now_or_never().is_none(),
            "whoever looks whether it is needed must not wake it"
        );
        assert!(link.interest(|interest| interest.has_frames()));
        assert!(link.work.notified().now_or_never().is_some(), "an open stream is told");
    }
}
