//! The timed lease of one incarnation of a core's process. Shards with `fence = "lease"` and
//! single-region durability acknowledge by it.
//!
//! A core keeps it alive ([`Renewal`](super::Renewal)). A claimant that must be sure that the core
//! has stopped watches the lease for a while and revokes it
//! ([`LeaseRevoker`](super::LeaseRevoker)). Each incarnation has one row, in one table for each
//! zone, and only conditional writes at SERIAL change it. An incarnation whose lease is revoked
//! never acknowledges again; the process goes on with a new one. Rows may be deleted, but only
//! after a time far longer than any write can take: a registration that lands late must not revive
//! a revoked incarnation.
//!
//! **The clock** counts the time in which the machine is suspended: `CLOCK_BOOTTIME` on Linux, not
//! what `std::time::Instant` reads there (L8). Where a hypervisor stops guests without their clock,
//! no lease can be trusted.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::NodeId;

use super::lease::Nonce;

/// A reading of this machine's clock: time since it was started, suspended or not. Only differences
/// mean anything, and only on the machine that read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uptime(pub Duration);

impl Uptime {
    /// The reading at the end of a span that begins here.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// How often an incarnation was renewed; 0 when it is not registered. A beat is never used twice.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Beat(pub u64);

impl Beat {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The row of one incarnation, keyed by the node's region and the incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CoreLease {
    pub node: NodeId,
    /// Drawn anew at each start.
    pub incarnation: Nonce,
    /// The last renewal.
    pub beat: Beat,
    /// Revoked for ever.
    pub broken: bool,
}

impl CoreLease {
    /// The row after a registration, where this incarnation had none.
    #[must_use]
    pub fn registered(node: NodeId, incarnation: Nonce) -> Self {
        Self { node, incarnation, beat: Beat(1), broken: false }
    }

    /// The row after a renewal from `beat`. None when `beat` is not the last one, or the lease is
    /// revoked.
    #[must_use]
    pub fn renewed(&self, beat: Beat) -> Option<Self> {
        (self.beat == beat && !self.broken).then(|| Self { beat: beat.next(), ..self.clone() })
    }

    /// The row after a claimant that saw `beat` revoked it. None when it was renewed since.
    #[must_use]
    pub fn broken_at(&self, beat: Beat) -> Option<Self> {
        (self.beat == beat).then(|| Self { broken: true, ..self.clone() })
    }
}

/// How far off the clocks of a zone may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockError {
    /// The most that any clock gains or loses, in millionths of the time that passes.
    pub rate_ppm_max: u32,
    /// The smallest step of a clock.
    pub granularity: Duration,
}

/// How long leases hold. The same for all cores of a zone: change it with all of them stopped, or
/// grow the margin first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    lease: Duration,
    margin: Duration,
}

/// A timing that would be unsafe, or useless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// With clocks this bad, an owner could still acknowledge while a claimant already reads the
    /// log.
    #[error(
        "a lease of {lease:?} needs a margin of at least {needed:?}, not {margin:?}: raise it, or shorten the lease"
    )]
    MarginTooSmall {
        lease: Duration,
        margin: Duration,
        /// The smallest safe margin.
        needed: Duration,
    },
    /// Nothing could ever be acknowledged.
    #[error("a lease of {lease:?} is over before its margin of {margin:?}: shorten the margin")]
    NothingLeft { lease: Duration, margin: Duration },
}

impl Timing {
    /// A lease T with a margin m. An owner acknowledges for T - m by its clock, and a claimant
    /// waits T + m by its own. With every rate off by at most r, the owner stops first iff (T -
    /// m)(1 + r) <= (T + m)(1 - r), which is m >= r T.
    ///
    /// # Errors
    /// When the margin is smaller than that, or as long as the lease.
    pub fn new(lease: Duration, margin: Duration, clocks: ClockError) -> Result<Self, TimingError> {
        let drift_ns = (lease.as_nanos() * u128::from(clocks.rate_ppm_max)).div_ceil(1_000_000);
        let drift = Duration::from_nanos(u64::try_from(drift_ns).unwrap_or(u64::MAX));
        let needed = drift.saturating_add(clocks.granularity);
        if margin < needed {
            return Err(TimingError::MarginTooSmall { lease, margin, needed });
        }
        if margin >= lease {
            return Err(TimingError::NothingLeft { lease, margin });
        }
        Ok(Self { lease, margin })
    }

    /// How long the owner may acknowledge by a beat, from the first attempt to write it.
    #[must_use]
    pub fn holds(self) -> Duration {
        self.lease - self.margin
    }

    /// How long a claimant waits before it may revoke a lease, from the reply that showed the beat.
    #[must_use]
    pub fn claim_wait(self) -> Duration {
        self.lease.saturating_add(self.margin)
    }

    /// When the next beat is due, from the first attempt to write this one.
    #[must_use]
    pub fn renewal(self) -> Duration {
        self.lease / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const CLOCKS: ClockError =
        ClockError { rate_ppm_max: 10_000, granularity: Duration::from_millis(1) };

    #[test]
    fn the_margin_covers_what_clocks_gain_over_a_lease() {
        let needed = Duration::from_millis(101);
        let short = Duration::from_millis(100);
        let error = TimingError::MarginTooSmall { lease: 10 * S, margin: short, needed };
        assert_eq!(Timing::new(10 * S, short, CLOCKS), Err(error));
        let timing = Timing::new(10 * S, needed, CLOCKS).unwrap();
        assert_eq!((timing.holds(), timing.claim_wait()), (10 * S - needed, 10 * S + needed));
        assert_eq!(
            Timing::new(S, S, CLOCKS),
            Err(TimingError::NothingLeft { lease: S, margin: S })
        );
        let forever = Timing::new(Duration::MAX, S, CLOCKS);
        assert!(matches!(forever, Err(TimingError::MarginTooSmall { .. })));
    }

    #[test]
    fn a_slow_owner_is_done_before_a_fast_claimant() {
        let timing = Timing::new(10 * S, Duration::from_millis(101), CLOCKS).unwrap();
        // By true time, with the owner's clock 1 % slow and the claimant's 1 % fast.
        let owner = timing.holds().as_secs_f64() / 0.99;
        let claimant = timing.claim_wait().as_secs_f64() / 1.01;
        assert!(owner < claimant, "{owner} {claimant}");
    }

    #[test]
    fn renewing_and_breaking_exclude_each_other() {
        let row = CoreLease::registered("r1/core/1".parse().unwrap(), Nonce(3));
        let renewed = row.renewed(Beat(1)).unwrap();
        assert_eq!(renewed.renewed(Beat(1)), None, "a beat is never used twice");
        assert_eq!(renewed.broken_at(Beat(1)), None, "it was renewed since");
        let broken = row.broken_at(Beat(1)).unwrap();
        assert_eq!(broken.renewed(Beat(1)), None);
        assert_eq!(broken.broken_at(Beat(1)), Some(broken.clone()), "it may be done again");
    }
}
