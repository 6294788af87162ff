//! Operations beside sending: membership changes, reads of history, and the final read of all of
//! it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use client::Http;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::sleep;
use wire::client::http::ChangeMembers;
use wire::{ConversationId, UserId};

use super::population::Resident;
use super::{Phase, Talk, Workload};

/// A group owner's membership changes.
pub struct Edits {
    /// Changes a second.
    pub per_s: f64,
    /// Seed of the random choices.
    pub seed: u64,
    /// The record of invitations.
    pub invitations: Invitations,
}

/// Invitations of guests: user, conversation, virtual milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Invitations {
    inner: Arc<Mutex<Vec<(UserId, ConversationId, u64)>>>,
}

impl Invitations {
    fn add(&self, user: &UserId, conversation: ConversationId, now_ms: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.push((user.clone(), conversation, now_ms));
    }

    /// Whether the user was invited within this time.
    #[must_use]
    pub fn any(
        &self,
        user: &UserId,
        conversation: ConversationId,
        within_ms: std::ops::RangeInclusive<u64>,
    ) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner
            .iter()
            .any(|(who, which, at)| (who, which) == (user, &conversation) && within_ms.contains(at))
    }
}

/// A group owner adds and removes the guest, at random.
pub async fn edit(
    workload: Workload,
    owner: Resident,
    guest: UserId,
    groups: Vec<ConversationId>,
    edits: Edits,
) {
    let Edits { per_s, seed, invitations } = edits;
    let mut rng = SmallRng::seed_from_u64(seed);
    let http = Http::new(&workload.options(
        &owner.tenant,
        &owner.user,
        &Arc::new(AtomicUsize::new(0)),
        rng.random(),
    ));
    let mut inside = vec![false; groups.len()];
    workload.wait_for(Phase::Load).await;
    while *workload.phase.borrow() == Phase::Load && !groups.is_empty() {
        sleep(pause(per_s, &mut rng)).await;
        let n = rng.random_range(0..groups.len());
        let who = vec![guest.to_string()];
        let change = if inside[n] {
            ChangeMembers { remove: who, ..ChangeMembers::default() }
        } else {
            invitations.add(&guest, groups[n], workload.now_ms());
            ChangeMembers { add: who, ..ChangeMembers::default() }
        };
        match http.change_members(groups[n], &change).await {
            Ok(_) => {
                inside[n] = !inside[n];
                workload.ledger.count(|counts| counts.edits += 1);
            }
            // Retried later, unchanged: a change is all or nothing, and a repeated one is no error.
            Err(error) => tracing::debug!(%error, "membership change failed, retrying later"),
        }
    }
}

/// Reads a page of a random conversation, from the nearest edge that answers.
pub async fn read(workload: Workload, who: Resident, talks: Vec<Talk>, per_s: f64, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let http = Http::new(&workload.options(
        &who.tenant,
        &who.user,
        &Arc::new(AtomicUsize::new(0)),
        rng.random(),
    ));
    workload.wait_for(Phase::Load).await;
    let mut n = 0;
    while *workload.phase.borrow() == Phase::Load {
        sleep(pause(per_s, &mut rng)).await;
        let mine = |talk: &&Talk| talk.members.contains(&who.user);
        let mine: Vec<&Talk> = talks.iter().filter(mine).collect();
        let Some(talk) = mine.choose(&mut rng) else { return };
        let after = rng.random_bool(0.5).then(|| rng.random_range(0..20));
        let limit = rng.random_range(1..50);
        if let Ok(page) = http.history(talk.id, None, after, limit).await {
            n += 1;
            workload.ledger.count(|counts| counts.reads += 1);
            for message in &page.messages {
                workload.ledger.shown(
                    &format!("page {n} of {}", who.user),
                    talk.id,
                    message,
                    workload.now_ms(),
                );
            }
        }
    }
}

fn pause(per_s: f64, rng: &mut SmallRng) -> Duration {
    Duration::from_secs_f64(rng.random_range(0.5..1.5) / per_s.max(0.001))
        .min(Duration::from_secs(3_600))
}

/// Progress of the final read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    inner: Arc<Mutex<(usize, Vec<String>)>>,
}

impl Reading {
    /// Number of finished reads, and the errors.
    #[must_use]
    pub fn so_far(&self) -> (usize, Vec<String>) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads all of a conversation from one region's edges, and is counted as an observer who must see
/// everything.
pub async fn read_all(workload: Workload, who: Resident, talk: Talk, seed: u64, reading: Reading) {
    let options = workload.options(&who.tenant, &who.user, &Arc::new(AtomicUsize::new(0)), seed);
    let observer = format!("the history as {} reads it", who.user);
    workload.ledger.watches(&observer, talk.id);
    let read = Http::new(&options).history_after(talk.id, 0).await;
    let mut inner = reading.inner.lock().unwrap_or_else(PoisonError::into_inner);
    inner.0 += 1;
    match read {
        Ok(messages) => {
            for message in &messages {
                workload.ledger.shown(&observer, talk.id, message, workload.now_ms());
            }
        }
        Err(error) => inner.1.push(format!("{observer}, {}: {error}", talk.id)),
    }
}
