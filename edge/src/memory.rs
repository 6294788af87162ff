//! The memory for pages of history that wait for readers: a budget over all of an edge, fair to its
//! users. From the [API](crate::api) and the [backfill](crate::backfill), before they ask a home.
//!
//! A page is held from the question until the client has taken it. When the budget is used up, the
//! next question waits; when a user has their share, their next question waits, and nobody else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::command::Actor;
use wire::{TenantId, UserId};

/// What a semaphore counts.
const UNIT_BYTES: usize = 1_024;
/// A user's share of the budget is one of so many.
const SHARES: usize = 16;

/// See the module.
pub(crate) struct Budget {
    total: Arc<Semaphore>,
    total_units: u32,
    share_units: u32,
    shares: Mutex<HashMap<(TenantId, UserId), Weak<Semaphore>>>,
}

/// Memory that is held. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Held {
    share: OwnedSemaphorePermit,
    total: OwnedSemaphorePermit,
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

impl Budget {
    /// Of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let total_units = units(bytes).min(Semaphore::MAX_PERMITS as u32).max(1);
        Self {
            total: Arc::new(Semaphore::new(total_units as usize)),
            total_units,
            share_units: units(bytes / SHARES).clamp(1, total_units),
            shares: Mutex::default(),
        }
    }

    /// Waits for so much memory in a user's name; for all of their share if that is less. Cancel
    /// safe.
    pub(crate) async fn hold(&self, actor: &Actor, bytes: usize) -> Option<Held> {
        let units = units(bytes).clamp(1, self.share_units);
        // Their own share first: whoever waits for that stands in nobody's way.
        let share = self.share(actor).acquire_many_owned(units).await.ok()?;
        let total = self.total.clone().acquire_many_owned(units).await.ok()?;
        Some(Held { share, total })
    }

    fn share(&self, actor: &Actor) -> Arc<Semaphore> {
        let mut shares = self.lock();
        let key = (actor.tenant.clone(), actor.user.clone());
        let known = shares.entry(key).or_default();
        known.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(self.share_units as usize));
            *known = Arc::downgrade(&new);
            new
        })
    }

    /// Forgets the shares that nobody uses, and reports what is held, bytes.
    pub(crate) fn tidy(&self) -> usize {
        self.lock().retain(|_, share| share.strong_count() > 0);
        let free = self.total.available_permits();
        (self.total_units as usize).saturating_sub(free) * UNIT_BYTES
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(TenantId, UserId), Weak<Semaphore>>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// So many bytes came: what was held beyond them is free. More than was held is not counted.
    pub(crate) fn keep(&mut self, bytes: usize) {
        for permit in [&mut self.share, &mut self.total] {
            let surplus = permit.num_permits().saturating_sub(units(bytes) as usize);
            drop(permit.split(surplus));
        }
    }

    /// The bytes of a response, which hold the memory until the last of them has left.
    pub(crate) fn with(mut self, response: Vec<u8>) -> Bytes {
        struct Kept(Vec<u8>, #[expect(dead_code, reason = "held, not read")] Held);
        impl AsRef<[u8]> for Kept {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        self.keep(response.len());
        Bytes::from_owner(Kept(response, self))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const MIB: usize = 1_024 * 1_024;

    fn actor(user: &str) -> Actor {
        let (tenant, user) = (TenantId::new("t").unwrap(), UserId::new(user).unwrap());
        Actor { tenant, user, device: None }
    }

    #[test]
    fn a_user_waits_for_their_own_share_and_all_for_the_whole() {
        let budget = Budget::new(16 * MIB);
        let hold = |user: &str, bytes| budget.hold(&actor(user), bytes).now_or_never().flatten();
        let mut page = hold("ann", MIB).unwrap();
        assert!(hold("ann", 1).is_none(), "her share is used up");
        page.keep(MIB / 2);
        let half = hold("ann", MIB / 2).unwrap();
        let others: Vec<Held> = (0..15).map(|n| hold(&format!("u{n}"), 9 * MIB).unwrap()).collect();
        assert!(hold("late", 1).is_none(), "all is used up");
        assert_eq!(budget.tidy(), 16 * MIB);
        drop(half);
        assert!(hold("late", MIB / 2).is_some());
        drop((page, others));
        assert_eq!((budget.tidy(), budget.lock().len()), (0, 0));
    }

    #[test]
    fn a_response_holds_its_memory_until_its_last_bytes_are_gone() {
        let budget = Budget::new(16 * MIB);
        let page = budget.hold(&actor("ann"), MIB).now_or_never().flatten().unwrap();
        let mut bytes = page.with(vec![7; MIB / 4]);
        assert_eq!(budget.tidy(), MIB / 4);
        let last = bytes.split_off(MIB / 4 - 1);
        drop(bytes);
        assert_eq!((budget.tidy(), last[0]), (MIB / 4, 7));
        drop(last);
        assert_eq!(budget.tidy(), 0);
    }
}
