//! How much anybody may ask: token buckets for each user, and one for each tenant. From the
//! [gate](crate::gate) and the [session](crate::session), before anything goes to a home.
//!
//! The buckets stand in this edge alone, so a user who spreads over edges has as many of them.
//! Their sizes are the tenant's ([`TenantLimits`]). A bucket that is full again is forgotten.

mod places;

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock, MonotonicClock};
use governor::state::{InMemoryState, NotKeyed, keyed::HashMapStateStore};
use governor::{NotUntil, Quota, RateLimiter};
use topology::World;
use topology::world::TenantLimits;
use wire::command::{Actor, Refusal};
use wire::{ErrorCode, TenantId, UserId};

pub(crate) use places::{Place, Places, device_type};

/// A client that was told to wait less would ask again before its next frames are here, and have
/// them taken out of order.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// How many seconds of [`TenantLimits::frames_per_second`] may come at once.
const FRAMES_BURST_SECONDS: u32 = 4;

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, MonotonicClock>;
type Single = RateLimiter<NotKeyed, InMemoryState, MonotonicClock>;

/// See the module.
pub(crate) struct Rates {
    tenants: HashMap<TenantId, Buckets>,
}

/// The buckets of one tenant.
struct Buckets {
    limits: TenantLimits,
    sends: Keyed<UserId>,
    all_sends: Option<Single>,
    conversations: Keyed<UserId>,
    members: Keyed<UserId>,
    requests: Keyed<UserId>,
    frames: Keyed<UserId>,
}

fn many(n: u16) -> NonZeroU32 {
    NonZeroU32::new(u32::from(n)).unwrap_or(NonZeroU32::MIN)
}

fn keyed<K: Hash + Eq + Clone>(quota: Quota) -> Keyed<K> {
    RateLimiter::new(quota, HashMapStateStore::default(), MonotonicClock)
}

impl Buckets {
    fn new(limits: &TenantLimits) -> Self {
        let sends = Quota::per_second(many(limits.sends_per_second));
        let conversations = Quota::per_minute(many(limits.conversations_per_minute));
        let frames = many(limits.frames_per_second);
        let frames_burst = frames.saturating_mul(many(FRAMES_BURST_SECONDS as u16));
        let all_sends = limits.tenant_sends_per_second.map(|sends| {
            let quota = Quota::per_second(many(sends));
            RateLimiter::new(quota, InMemoryState::default(), MonotonicClock)
        });
        Self {
            sends: keyed(sends.allow_burst(many(limits.sends_burst))),
            all_sends,
            conversations: keyed(conversations.allow_burst(many(limits.conversations_burst))),
            members: keyed(Quota::per_hour(many(limits.members_added_per_hour))),
            requests: keyed(Quota::per_minute(many(limits.requests_per_minute))),
            frames: keyed(Quota::per_second(frames).allow_burst(frames_burst)),
            limits: limits.clone(),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A message.
    Send,
    /// A frame of a session that is none.
    Frame,
    /// A request over HTTP, whatever it asks for.
    Request,
    /// A conversation.
    Conversation,
    /// So many users are added to one.
    Members(u32),
}

impl Rates {
    pub(crate) fn new(world: &World) -> Self {
        let tenants = world.tenants.iter();
        let buckets = tenants.map(|tenant| (tenant.id.clone(), Buckets::new(&tenant.limits)));
        Self { tenants: buckets.collect() }
    }

    /// The limits of a tenant.
    pub(crate) fn limits(&self, tenant: &TenantId) -> TenantLimits {
        self.tenants.get(tenant).map_or_else(TenantLimits::default, |found| found.limits.clone())
    }

    /// Counts what a user asks.
    ///
    /// # Errors
    /// `rate_limited`, with the time after which it would be taken: nothing is counted then.
    pub(crate) fn take(&self, actor: &Actor, asked: Asked) -> Result<(), Refusal> {
        // A tenant that the world does not know is refused elsewhere.
        let Some(buckets) = self.tenants.get(&actor.tenant) else { return Ok(()) };
        let user = &actor.user;
        let (taken, kind, what) = match asked {
            Asked::Send => {
                let taken = one(&buckets.sends, user).and_then(|()| match &buckets.all_sends {
                    Some(all) => all.check().map_err(|wait| wait_of(&wait)),
                    None => Ok(()),
                });
                (taken, "send", "messages")
            }
            Asked::Frame => (one(&buckets.frames, user), "frame", "frames"),
            Asked::Request => (one(&buckets.requests, user), "request", "requests"),
            Asked::Conversation => {
                (one(&buckets.conversations, user), "conversation", "new conversations")
            }
            Asked::Members(n) => (several(&buckets.members, user, n), "members", "new members"),
        };
        taken.map_err(|wait| refused(wait.max(RETRY_MIN), kind, what))
    }

    /// Forgets the buckets that are full.
    pub(crate) fn tidy(&self) {
        for buckets in self.tenants.values() {
            for bucket in [
                &buckets.sends,
                &buckets.conversations,
                &buckets.members,
                &buckets.requests,
                &buckets.frames,
            ] {
                bucket.retain_recent();
                bucket.shrink_to_fit();
            }
        }
    }
}

fn one<K: Hash + Eq + Clone>(bucket: &Keyed<K>, key: &K) -> Result<(), Duration> {
    bucket.check_key(key).map_err(|wait| wait_of(&wait))
}

/// More than the bucket holds is as much as it holds: the request was within its own limits.
fn several(bucket: &Keyed<UserId>, key: &UserId, n: u32) -> Result<(), Duration> {
    let Some(n) = NonZeroU32::new(n) else { return Ok(()) };
    match bucket.check_key_n(key, n) {
        Ok(taken) => taken.map_err(|wait| wait_of(&wait)),
        Err(governor::InsufficientCapacity(most)) => {
            let most = NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN);
            match bucket.check_key_n(key, most) {
                Ok(taken) => taken.map_err(|wait| wait_of(&wait)),
                Err(_) => Ok(()),
            }
        }
    }
}

fn wait_of(wait: &NotUntil<Instant>) -> Duration {
    wait.wait_time_from(MonotonicClock.now())
}

/// The answer to what is too much.
pub(crate) fn refused(wait: Duration, kind: &'static str, what: &str) -> Refusal {
    metrics::counter!("hearth_edge_rate_limited_total", "kind" => kind).increment(1);
    let refusal =
        Refusal::new(ErrorCode::RateLimited, format!("too many {what} in a short time; wait"));
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Refusal { retry_after_ms: Some(wait_ms), ..refusal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(user: &str) -> Actor {
        let (tenant, user) = (TenantId::new("demo").unwrap(), UserId::new(user).unwrap());
        Actor { tenant, user, device: None }
    }

    fn taken(rates: &Rates, user: &str, asked: Asked, times: u32) -> u32 {
        (0..times).map(|_| u32::from(rates.take(&actor(user), asked).is_ok())).sum()
    }

    #[test]
    fn a_user_has_a_burst_of_each_kind_and_takes_nothing_from_others() {
        let rates = Rates::new(&World::default_world());
        // A slow machine may have refilled some.
        assert!((60..100).contains(&taken(&rates, "ann", Asked::Send, 500)));
        assert!((50..52).contains(&taken(&rates, "ann", Asked::Conversation, 500)));
        assert_eq!(taken(&rates, "bob", Asked::Send, 60), 60);
        assert_eq!(taken(&rates, "ann", Asked::Request, 600), 600);
        assert_eq!(taken(&rates, "ann", Asked::Members(1_000), 100), 10);
        let wait = rates.take(&actor("ann"), Asked::Members(1_000)).unwrap_err();
        assert_eq!(wait.code, ErrorCode::RateLimited);
        assert!(wait.retry_after_ms.is_some_and(|ms| (300_000..361_000).contains(&ms)), "{wait:?}");
    }

    #[test]
    fn a_tenant_may_have_a_bound_of_its_own_and_full_buckets_are_forgotten() {
        let mut world = World::default_world();
        world.tenants[0].limits.tenant_sends_per_second = Some(5);
        let rates = Rates::new(&world);
        let sent: u32 = (0..50).map(|n| taken(&rates, &format!("u{n}"), Asked::Send, 1)).sum();
        assert!((5..40).contains(&sent), "{sent}");
        let buckets = &rates.tenants[&world.tenants[0].id];
        assert_eq!(buckets.sends.len(), 50);
        while !buckets.sends.is_empty() {
            rates.tidy();
        }
    }
}
